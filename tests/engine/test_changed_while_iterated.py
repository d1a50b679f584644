"""A bucket that changes under a loop over it.

What lies ahead is seen as it is when the loop gets there: next comes the key behind the
last one (before it, in reverse), in the bucket as the loop's body has left it.
"""

import random

import pytest

import shearbolt
from tornpage.disk import Disk

WAYS = ("rewrite", "delete", "any", "bulk", "nested")


class Loop:
    """A loop over a bucket, and what is done in it."""

    def __init__(self, seed, bucket, content):
        self.draw = random.Random(seed)
        self.bucket = bucket
        self.content = content

    def put(self, key):
        value = b"n" * self.draw.choice((1, 40, 300))
        self.bucket.put(key, value)
        self.content[key] = value

    def delete(self, key):
        self.bucket.delete(key)
        self.content.pop(key, None)

    def any_key(self):
        return b"%04d" % self.draw.randrange(1000)

    def change(self, way, here):
        draw = self.draw
        if way == "rewrite":
            self.put(here)
        elif way == "delete" and draw.random() < 0.6:
            self.delete(here)
        elif way == "any":
            draw.choice((self.put, self.delete))(self.any_key())
        elif way == "bulk" and draw.random() < 0.03:
            keys = [self.any_key() for _ in range(draw.choice((3, 100)))]
            if draw.random() < 0.5:
                self.bucket.delete_many(keys)
                for key in keys:
                    self.content.pop(key, None)
            else:
                self.bucket.update((key, b"u" * 60) for key in keys)
                self.content.update((key, b"u" * 60) for key in keys)
        elif way == "nested" and draw.random() < 0.1:
            # Of another bucket in the same tree: nodes move, keys do not.
            self.bucket.create_bucket_if_not_exists(b"below").put(here, b"x" * 80)
            self.put(self.any_key())

    def run(self, way, reverse):
        last = None
        for key, value in self.bucket.items(reverse=reverse):
            assert (key, value) == self.following(last, reverse)
            self.change(way, key)
            last = key
        assert self.following(last, reverse) is None
        assert dict(self.bucket.items()) == self.content

    def following(self, last, reverse):
        """What comes behind a key now, in the loop's direction."""
        if last is None:
            ahead = self.content
        else:
            ahead = [one for one in self.content if one != last]
            ahead = [one for one in ahead if (one < last) == reverse]
        key = (max if reverse else min)(ahead, default=None)
        return None if key is None else (key, self.content[key])


@pytest.mark.seeds(2)
@pytest.mark.parametrize("way", WAYS)
def test_a_loop_goes_on_behind_the_key_it_gave_last(way, seed):
    for number in range(seed * 12, (seed + 1) * 12):
        draw = random.Random(number)
        with shearbolt.open("/db", page_size=1024, storage=Disk()) as db:
            content = {}
            with db.update() as tx:
                bucket = tx.create_bucket(b"b")
                for key in draw.sample(range(1000), draw.choice((0, 5, 50, 300))):
                    content[b"%04d" % key] = b"v" * draw.choice((1, 40, 300))
                bucket.update(content.items())
            for turn in range(2):
                with db.update() as tx:
                    loop = Loop(f"{number} {turn}", tx.bucket(b"b"), content)
                    if draw.random() < 0.3:
                        # Deletes that are gathered for the commit, ahead of the loop.
                        for key in draw.sample(sorted(content), len(content) // 3):
                            loop.delete(key)
                    loop.run(way, reverse=draw.random() < 0.5)
                with db.view() as tx:
                    assert dict(tx.bucket(b"b").items()) == content
                    assert not list(tx.check())
