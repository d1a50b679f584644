"""Brute force builds the images that are counted here by hand, and no other ones.

It is what the explorer is compared with: an image that it does not build is one that
nobody misses.
"""

import contextlib
import errno

import pytest

from tornpage.disk import Disk
from tornpage.model import CrashModel
from tornpage.platter.brute import Device, arrives_in_pieces, platters
from tornpage.platter.damage import garbage
from tornpage.trace import Create, Sync, SyncDir


def left(files, program, model="", *, fails=()):
    """What a crash after this program may leave: files, and further names of them.

    `fails` are the numbers of the syncs that fail, from 0.
    """
    model = CrashModel.parse(model)
    disk = Disk(dict(files), model)
    asked = []

    def fail(*given):
        asked.append(given)
        return errno.EIO if len(asked) - 1 in fails else 0

    disk.fail_sync = fail
    program(disk)
    found = platters(Device(dict(files)), model, disk.trace.operations())
    return {
        (tuple(sorted(image.files.items())), image.links)
        for _, platter in found
        for image in platter.images(1_000)
    }


def only(*images):
    """Images without links."""
    return {(tuple(sorted(one.items())), frozenset()) for one in images}


A, B = b"A" * 512, b"B" * 512
BOTH = {"a": A, "b": B}


def renames(disk):
    disk.rename("a", "b")


def syncs_and_renames(disk):
    disk.open("a").fsync()
    disk.rename("a", "b")


TWICE = {((("a", A),), frozenset({("b", "a")}))}
ATOMIC = only(BOTH, {"b": A})


@pytest.mark.parametrize(
    ("model", "program", "images"),
    [
        ("", renames, ATOMIC),
        ("rename=split", renames, ATOMIC | only({"a": A}) | TWICE),
        ("rename=split", syncs_and_renames, ATOMIC | only({"a": A}) | TWICE),
        ("rename=synced", renames, ATOMIC | only({"a": A}) | TWICE),
        ("rename=synced", syncs_and_renames, ATOMIC | TWICE),
        # A sync that may have lied promises nothing of the rename behind it.
        (
            "rename=synced,sync=lying:1",
            syncs_and_renames,
            ATOMIC | only({"a": A}) | TWICE,
        ),
    ],
)
def test_a_rename_is_as_many_changes_as_the_model_says(model, program, images):
    assert left(BOTH, program, model) == images


def test_a_sync_of_a_file_brings_the_way_to_it():
    def program(disk):
        disk.mkdir("d")
        disk.mkdir("d/e")
        disk.open("d/e/f", create=True).fsync()

    whole = {"d/": b"", "d/e/": b"", "d/e/f": b""}
    assert left({}, program, "names=fsync,entries=free") == only(whole)
    assert len(left({}, program, "names=dirsync,entries=free")) == 4


def test_in_order_a_sync_of_a_directory_brings_what_was_written_before():
    def program(disk):
        disk.open("a").pwritev([B], 0)
        disk.open("n", create=True)
        disk.fsync_dir("n")
        disk.open("a").pwritev([b"C" * 512], 0)

    names = {"n": b""}
    new, newer = {"a": B, **names}, {"a": b"C" * 512, **names}
    assert left({"a": A}, program, "order=ordered") == only(new, newer)
    assert left({"a": A}, program) == only({"a": A, **names}, new, newer)


@pytest.mark.parametrize("order", ["any", "ordered"])
def test_what_a_failed_sync_left_no_later_one_writes(order):
    def program(disk):
        file = disk.open("a")
        file.pwritev([B], 0)
        with contextlib.suppress(OSError):
            file.fsync()
        file.fsync()

    assert left({"a": A}, program, f"order={order}", fails={0}) == only(
        {"a": A}, {"a": B}
    )

    def again(disk):
        program(disk)
        disk.open("a").pwritev([B[:511] + b"C"], 0)
        disk.open("a").fsync()

    assert left({"a": A}, again, f"order={order}", fails={0}) == only(
        {"a": B[:511] + b"C"}
    )


def test_only_a_sync_that_ends_well_comes_at_once():
    for result in ("failed", "silent", "read-only"):
        assert arrives_in_pieces(Sync("f", 1, "fsync", result=result))
    for result in ("ok", "reverted"):
        assert not arrives_in_pieces(Sync("f", 1, "fsync", result=result))
    assert not arrives_in_pieces(SyncDir("f"))
    assert arrives_in_pieces(Create("f", 1))


def test_an_image_knows_the_names_that_there_have_been():
    files = {"d/": b"", "d/e": A, "d/f": A, "k": A}
    start = Device(files, known=frozenset({"d/", "d/e", "d/g", "h"}))
    model = CrashModel()
    disk = Disk(start.files, model, start.known)
    disk.unlink("d/f")
    ((_, platter),) = platters(start, model, disk.trace.operations())
    assert {one.known for one in platter.images(9)} == {
        frozenset({"d/", "d/e", "d/f", "d/g", "h", "k"})
    }


def test_in_order_what_was_written_again_waits_for_its_own_place():
    def program(disk):
        file, other = disk.open("a"), disk.open("b")
        file.pwritev([B], 0)
        with contextlib.suppress(OSError):
            file.fsync()
        other.pwritev([A], 0)
        file.pwritev([b"C" * 512], 0)
        other.fsync()

    contents = (A, B, b"C" * 512)
    assert left(BOTH, program, "order=ordered", fails={0}) == only(
        *({"a": one, "b": A} for one in contents)
    )


def test_a_failed_sync_that_goes_back_leaves_what_the_last_one_made_durable():
    def program(disk):
        file = disk.open("a")
        file.pwritev([B], 0)
        file.fsync()
        file.pwritev([b"C" * 700], 0)
        with contextlib.suppress(OSError):
            file.fsync()

    start, durable = {"a": A[:500]}, {"a": B}
    assert left(start, program, "fail=revert", fails={1}) == only(durable)

    def goes_on(disk):
        program(disk)
        disk.open("a").pwritev([b"D" * 512], 0)

    found = left(start, goes_on, "fail=revert", fails={1})
    assert found == only(durable, {"a": b"D" * 512})


@pytest.mark.parametrize(
    ("at", "model", "zeros"),
    [
        (512, "size=free", True),
        (512, "size=with-block", True),
        (4096, "size=with-block", False),
        (512, "size=with-data", False),
    ],
)
def test_a_size_waits_for_the_data_that_the_model_says(at, model, zeros):
    start = b"A" * at
    found = left({"a": start}, lambda disk: disk.open("a").pwritev([B], at), model)
    images = only({"a": start}, {"a": start + B})
    assert found == images | (only({"a": start + bytes(512)}) if zeros else set())


@pytest.mark.parametrize("order", ["any", "append", "ordered"])
def test_appends_arrive_in_the_order_that_the_model_says(order):
    def program(disk):
        for at, data in enumerate((A, B)):
            disk.open("a").pwritev([data], 512 * at)

    gap = bytes(512)
    ordered = [b"", gap, A, A + gap, A + B]
    free = [*ordered, gap + gap, *([gap + B] * (order == "any"))]
    contents = ordered if order == "ordered" else free
    assert left({"a": b""}, program, f"order={order}") == only(
        *({"a": one} for one in contents)
    )


@pytest.mark.parametrize(("lies", "old"), [(0, False), (1, False), (2, True)])
def test_syncs_lie_as_often_as_the_model_says_and_no_more(lies, old):
    def program(disk):
        disk.open("a").pwritev([B], 0)
        disk.open("a").fsync()
        disk.open("a").fsync()

    model = f"sync=lying:{lies}" if lies else ""
    found = left({"a": A}, program, model)
    assert found == only({"a": B}, *([{"a": A}] * old))


def test_a_size_waits_for_no_data_that_was_within_the_old_one():
    def program(disk):
        disk.open("a").pwritev([B + B], 512)

    found = left({"a": A + A}, program, "size=with-data")
    contents = (A + A, A + B, A + A + B, A + B + B)
    assert found == only(*({"a": one} for one in contents))


def test_a_failed_sync_brings_no_rename():
    def program(disk):
        with contextlib.suppress(OSError):
            disk.open("a").fsync()
        disk.rename("a", "b")

    images = ATOMIC | only({"a": A}) | TWICE
    assert left(BOTH, program, "rename=synced", fails={0}) == images


def test_what_a_failed_sync_left_of_a_longer_file_may_be_garbage_for_good():
    def program(disk):
        file = disk.open("a")
        file.pwritev([B], 0)
        with contextlib.suppress(OSError):
            file.fsync()
        file.fsync()

    # Or the old size, which a second sync does not settle.
    contents = (B, bytes(512), garbage(0, 512), b"")
    assert left({"a": b""}, program, "extend=garbage", fails={0}) == only(
        *({"a": one} for one in contents)
    )
