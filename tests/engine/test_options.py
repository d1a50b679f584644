"""Options and names that mean nothing are refused, before any file is touched."""

import math
import os
import re
import sys
from pathlib import Path

import pytest

import shearbolt
from shearbolt import OptionError
from shearbolt.compact import compact
from shearbolt.export import Loader
from shearbolt.options import file_name
from shearbolt.pagefile import PageFile
from shearbolt.salvage import repair, scan
from shearbolt.storage import OSStorage
from shearbolt.surgery import abandon_freelist

SIZES = ["alloc_size", "max_size", "initial_mmap_size", "cache_size"]


@pytest.mark.parametrize("value", [-1, -200_000, 1.5, 4096.0, math.nan, "1", None, b""])
@pytest.mark.parametrize("option", SIZES)
def test_a_size_is_a_whole_number_from_0_on(option, value, path):
    with pytest.raises(OptionError, match=f"^{option} is a number of bytes"):
        shearbolt.open(path, **{option: value})
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("timeout", math.nan, "a number of seconds"),
        ("timeout", -0.1, "a number of seconds"),
        ("timeout", "1", "a number of seconds"),
        ("freelist_type", None, "one of array, hashmap"),
        ("freelist_type", [], "one of array, hashmap"),
        ("freelist_type", "list", "one of array, hashmap"),
        ("page_size", 4096.0, "a power of two"),
        ("page_size", 0, "a power of two"),
        ("page_size", "4096", "a power of two"),
        ("perm", "600", "permission bits"),
        ("perm", -1, "permission bits"),
        ("perm", 0o10000, "permission bits"),
        ("open_file", "file", "something to call"),
        ("storage", "disk", "a shearbolt.storage.Storage"),
    ],
)
def test_an_option_that_means_nothing_is_named_with_what_is_wanted(
    option, value, wanted, path
):
    given = re.escape(repr(value))
    with pytest.raises(OptionError, match=f"^{option} is {wanted}.*not {given}"):
        shearbolt.open(path, **{option: value})
    assert not os.path.exists(path)


class Held:
    """A storage that can be hashed, but has no place for a weak reference."""

    __slots__ = ("held",)

    def __init__(self):
        self.held = OSStorage()

    def __getattr__(self, name):
        return getattr(self.held, name)


class Unhashable(Held):
    __slots__ = ("__weakref__",)
    __hash__ = None


@pytest.mark.parametrize("kind", [Held, Unhashable])
def test_a_storage_that_cannot_be_remembered_is_refused(kind, path):
    with pytest.raises(OptionError, match="this storage cannot be used"):
        shearbolt.open(path, storage=kind())
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "options",
    [
        dict.fromkeys(SIZES, 0),
        {"timeout": 0},
        {"timeout": math.inf},
        {"perm": 0o600, "page_size": 1024, "freelist_type": "hashmap"},
    ],
)
def test_the_least_that_means_something_is_taken(options, path):
    with shearbolt.open(path, no_sync=True, **options) as db, db.update() as tx:
        tx.create_bucket(b"b").update((b"%d" % i, bytes(100)) for i in range(2000))
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.check() == []


NO_NAMES = ["a\0b", b"a\0b"]
if sys.platform != "win32":
    # There names are UTF-16, and may have half a character.
    NO_NAMES += ["\ud800", "a/\udfff.db"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_no_file_can_have_is_an_option_error(name, db, tmp_path):
    calls = [
        lambda: shearbolt.open(name),
        lambda: shearbolt.open(name, read_only=True),
        lambda: PageFile(name),
        lambda: scan(name),
        lambda: repair(db.path, name),
        lambda: repair(name, tmp_path / "out.db"),
        lambda: abandon_freelist(db.path, name),
        lambda: abandon_freelist(name, tmp_path / "out.db"),
    ]
    with db.view() as tx:
        for call in [*calls, lambda: tx.copy_file(name)]:
            with pytest.raises(OptionError, match=r"^path is a name"):
                call()
    assert os.listdir(tmp_path) == ["test.db"]


@pytest.mark.skipif(sys.platform == "win32", reason="names are UTF-16 there")
def test_names_that_are_no_text_are_taken(tmp_path):
    assert file_name(os.fsencode(tmp_path) + b"/\xff") == f"{tmp_path}/\udcff"
    assert file_name(tmp_path) == str(tmp_path)
    shearbolt.open(f"{tmp_path}/\udcff").close()
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff"]


@pytest.mark.parametrize("name", [5, None, 1.0, [Path("a")]])
def test_what_is_no_path_is_a_type_error(name, db):
    with pytest.raises(TypeError):
        shearbolt.open(name)
    with db.view() as tx, pytest.raises(TypeError):
        tx.copy_file(name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_new_database_is_its_owners_alone_unless_it_is_said(tmp_path):
    for options, mode in ({}, 0o600), ({"perm": 0o500}, 0o500):
        path = tmp_path / f"{mode}.db"
        shearbolt.open(path, **options).close()
        assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("perm", ["600", -1, None])
def test_permissions_of_a_copy_are_permission_bits(perm, db, tmp_path):
    with db.view() as tx, pytest.raises(OptionError, match="perm is permission bits"):
        tx.copy_file(tmp_path / "copy.db", perm=perm)


@pytest.mark.parametrize("size", [-1, "1", 1.5, None])
def test_the_size_of_a_transaction_is_a_number_of_bytes(size, db, tmp_path):
    with shearbolt.open(tmp_path / "target.db") as target:
        with pytest.raises(OptionError, match="tx_max_size is a number of bytes"):
            compact(db, target, size)
        with pytest.raises(OptionError, match="tx_max_size is a number of bytes"):
            Loader(target, tx_max_size=size)


def test_seconds_that_no_clock_can_count_are_refused(path):
    with pytest.raises(OptionError, match="a number of seconds, and not so large"):
        shearbolt.open(path, timeout=10**400)


@pytest.mark.parametrize("timeout", [math.nan, -1, "5", None])
def test_surgery_waits_for_a_number_of_seconds(timeout, db, tmp_path):
    with pytest.raises(OptionError, match="timeout is a number of seconds"):
        abandon_freelist(db.path, tmp_path / "out.db", timeout=timeout)


@pytest.mark.parametrize("size", [0, -1, 4096.0, "4096"])
def test_a_scan_takes_a_size_that_a_page_can_have(size, db):
    with pytest.raises(OptionError, match="page_size is from"):
        scan(db.path, page_size=size)


NUMBERS = {
    "max_size": (0, 1 << 40),
    "alloc_size": (0, 1 << 20),
    "max_batch_size": (-1, 0, 1000),
    "max_batch_delay": (-1, 0, 0.5, math.inf),
}
NO_NUMBERS = (None, "1", b"1", math.nan, [], object())


@pytest.mark.parametrize("option", NUMBERS)
def test_an_attribute_that_means_nothing_is_refused_when_it_is_set(option, db):
    """In a commit or a batch it would be somebody else's error, or a hang."""
    for value in NUMBERS[option]:
        setattr(db, option, value)
        assert getattr(db, option) == value
    values = [*NO_NUMBERS, *((-1, 1.5) if option.endswith("_size") else (10**400,))]
    if option == "max_batch_size":
        values.remove(-1)
    for value in values:
        with pytest.raises(OptionError, match=f"^{option} is a number of"):
            setattr(db, option, value)
        assert getattr(db, option) == NUMBERS[option][-1]


@pytest.mark.parametrize("name", ["nosync", "NoSync", "max_szie", "timeout", "_file_"])
def test_a_setting_that_there_is_not_is_refused(name, db):
    """A misspelt `no_sync` would be looked at by nobody, and missed by somebody."""
    with pytest.raises(AttributeError, match=name):
        setattr(db, name, True)
    for setting in ("no_sync", "no_freelist_sync", "no_grow_sync", "strict_mode"):
        setattr(db, setting, True)
    with db.update() as tx, pytest.raises(AttributeError, match="fill_precent"):
        tx.create_bucket(b"b").fill_precent = 1.0


@pytest.mark.parametrize("alloc_size", [0, 1, 4096, 1 << 40])
def test_growing_never_cuts_the_file_whatever_the_attribute_says(alloc_size, path):
    """`alloc_size` may be changed while the database is open."""
    with shearbolt.open(path, no_sync=True) as db:
        db.alloc_size = alloc_size
        with pytest.raises(OptionError):
            db.alloc_size = -200_000
        sizes = [0]
        for turn in range(12):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                bucket.update((b"%d-%d" % (turn, i), bytes(100)) for i in range(300))
            sizes.append(os.path.getsize(path))
            with db.view() as tx:
                assert sizes[-1] >= tx.size
        assert sizes == sorted(sizes)
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.check() == []
        assert len(tx.bucket(b"b")) == 12 * 300
