"""How large a file is made: bbolt's sizes, and no more than may be."""

import errno
import os

import pytest

import shearbolt
from shearbolt.database.growth import DEFAULT_ALLOC_SIZE, Growth, map_size
from shearbolt.errors import MaxSizeReachedError, StorageError

PAGE = 4096
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("size", "mapped"),
    [
        (1, 32 * KIB),
        (32 * KIB, 32 * KIB),
        (32 * KIB + 1, 64 * KIB),
        (GIB, GIB),
        (GIB + 1, 2 * GIB),
        (2 * GIB + 1, 3 * GIB),
    ],
)
def test_a_map_doubles_up_to_a_gibibyte_and_then_grows_by_one(size, mapped):
    assert map_size(size, PAGE) == mapped


# What was mapped, how many bytes are needed, and the size of the file then.
STEPS = [
    (32 * KIB, 32 * KIB - 1, 32 * KIB),
    (32 * KIB, 32 * KIB, 32 * KIB),
    (32 * KIB, 32 * KIB + 1, 64 * KIB),
    (32 * KIB, 70 * KIB, 128 * KIB),
    (16 * MIB, 16 * MIB - 1, 16 * MIB),
    (16 * MIB, 16 * MIB + 1, 32 * MIB + 1),
]


@pytest.mark.parametrize(("mapped", "needed", "grown"), STEPS)
def test_a_file_becomes_as_large_as_bbolt_makes_it(mapped, needed, grown):
    growth = Growth(mapped, 0, PAGE)
    assert growth.has_room(needed) == (needed < mapped)
    growth.plan(needed, 0)
    assert growth.target(needed, 0, DEFAULT_ALLOC_SIZE) == grown


def test_what_is_more_than_may_be_is_refused_when_it_is_planned():
    growth = Growth(64 * KIB, 0, PAGE)
    # There is a page more in what is asked for than in what is needed.
    growth.plan(64 * KIB, 60 * KIB)
    growth = Growth(64 * KIB, 0, PAGE)
    with pytest.raises(MaxSizeReachedError):
        growth.plan(64 * KIB, 60 * KIB - 1)


@pytest.mark.parametrize("kind", ["array", "hashmap"])
def test_a_file_beside_an_open_reader_stops_growing(kind, tmp_path):
    """What was written since the reader began, and is not needed any more, is free.

    The freelist too: by those of all commits since it became longer, and so did they.
    """
    options = {"page_size": 1024, "no_sync": True, "freelist_type": kind}
    with shearbolt.open(tmp_path / "a.db", **options) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"a")
            bucket.update((b"%03d" % number, bytes(150)) for number in range(200))
        reader = db.begin()
        seen = dict(reader.bucket(b"a").items())
        sizes = []
        for number in range(600):
            with db.update() as tx:
                tx.bucket(b"a").put(b"%03d" % (number * 37 % 200), b"b" * (number % 99))
            sizes.append(tx.high_water_mark)
        # By then all 200 pages of before have a successor.
        assert sizes[300] == sizes[-1] < 400
        assert dict(reader.bucket(b"a").items()) == seen
        assert reader.check() == []
        reader.rollback()


def test_a_file_has_room_for_a_page_more_than_its_database(path):
    """As bbolt makes it: beyond the map by the next step, and not by its last page."""
    sizes = set()
    with shearbolt.open(path, page_size=1024, no_sync=True, alloc_size=1) as db:
        for number in range(60):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket[b"%02d" % number] = b"v" * 700
            used = db.durable.live.high_water_mark * db.page_size
            assert os.stat(path).st_size >= used + db.page_size
            sizes.add(os.stat(path).st_size)
    assert len(sizes) > 2


def test_a_file_larger_than_the_system_has_numbers_for_is_too_large_a_file(path):
    """Each of the two options may say it, and Python refuses to ask for their sum."""
    options = {"alloc_size": 1 << 70, "initial_mmap_size": 1 << 70}
    with shearbolt.open(path, no_sync=True, **options) as db:
        for _ in range(2):
            tx = db.begin(True)
            tx.create_bucket(b"b")
            with pytest.raises(StorageError, match="ftruncate: File too large") as told:
                tx.commit()
            assert (told.value.errno, told.value.path) == (errno.EFBIG, path)
        db.alloc_size = DEFAULT_ALLOC_SIZE
        with db.update() as tx:
            tx.create_bucket(b"b")[b"k"] = b"v"
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.bucket(b"b")[b"k"] == b"v"
        assert tx.check() == []
