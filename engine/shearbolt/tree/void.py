"""Keys of which none is in a bucket: leaves that a transaction has emptied.

    |a b c|  |     |  |     |  |     |  |x y z|
           ^ [d ............................ x)     void: passed by once, then skipped

A leaf that loses its last key stays where it is up to the commit: a key may come into
it again, and the file is to be bbolt's to the byte. Who takes the first key of a
bucket, again and again, has all leaves that were emptied so far before it each time. So
it took 45 s to pop 40,000 pairs, four times as long for twice as many, and takes 3 s
now.

Whoever has passed some such leaves notes which keys are not there, one range a bucket.
Deleting keeps that true. A key that is put there ends it (`Tree.fill`). (Pairs that are
put together into a root that is a leaf do not come by: then there is no other leaf.)

What it is not: knowledge about pages. Where the next key is the tree says.

bbolt passes them by each time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PASSED", "Void"]

PASSED: Final = 2
"""When more leaves than these have none of the keys that are wanted it is noted."""


class Void(NamedTuple):
    """The keys with low <= key < high; a high of None is no end."""

    low: bytes
    high: bytes | None

    def covers(self, key: bytes) -> bool:
        """Whether a key would lie in it."""
        return self.low <= key and (self.high is None or key < self.high)

    def reaches(self, stop: bytes | None) -> bool:
        """Whether the keys before `stop`, None being the end, are in it, or some."""
        if stop is None or self.high is None:
            return self.high is None and (stop is None or self.low < stop)
        return self.low < stop <= self.high
