"""Injected faults: each does what its line says, once or for ever, and is noted."""

import errno
import fcntl
from contextlib import suppress

import pytest

from tornpage.certificate import render
from tornpage.choices import Sampler
from tornpage.disk import Disk
from tornpage.faults import FaultyDisk, KilledError, Script, under_script
from tornpage.faults.script import CALLS
from tornpage.functions import subject_from
from tornpage.patch import patched
from tornpage.registry import spec_of
from tornpage.run import Plan, run


def faulty(text, files=None):
    return FaultyDisk(Disk(files or {"/f": b"abcdefgh"}), Script.parse(text))


def every_call(disk):
    """Make each call once, in the order of CALLS; yields (name, thunk)."""
    file = disk.open("/f")
    yield "open", lambda: disk.open("/f")
    yield "rename", lambda: disk.rename("/f", "/g")
    yield "link", lambda: disk.link("/g", "/h")
    yield "unlink", lambda: disk.unlink("/g")
    yield "mkdir", lambda: disk.mkdir("/d")
    yield "rmdir", lambda: disk.rmdir("/d")
    yield "fsync_dir", lambda: disk.fsync_dir("/f")
    yield "pread", lambda: file.pread(4, 0)
    yield "pwrite", lambda: file.pwritev([b"xy"], 0)
    yield "ftruncate", lambda: file.ftruncate(4)
    yield "fdatasync", file.fdatasync
    yield "fsync", file.fsync
    yield "size", file.size
    yield "lock", lambda: file.lock(True)


def make_every_call(disk):
    for _, call in every_call(disk):
        call()


def test_every_call_can_fail_and_a_failed_call_has_done_nothing():
    for name in CALLS:
        nth = 2 if name == "open" else 1
        disk = faulty(f"{name}#{nth}=EINTR")
        calls = dict(every_call(disk))
        before = len(disk.trace.operations())
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            calls[name]()
        assert caught.value.errno == errno.EINTR
        assert len(disk.trace.operations()) == before
        assert disk.trace[-1]["script"] == str(disk.script.faults[0])
        assert [one.call for one in disk.injected] == [name]
    assert list(dict(every_call(faulty("")))) == list(CALLS)


def test_any_counts_every_call_in_order():
    honest = faulty("")
    make_every_call(honest)
    assert honest.calls == ["open", *CALLS]
    for nth, name in enumerate(honest.calls, 1):
        disk = faulty(f"any#{nth}=EIO")
        with pytest.raises(OSError, match="Input/output error"):
            make_every_call(disk)
        assert (disk.injected[0].call, disk.injected[0].index) == (name, nth)


def test_transient_passes_and_persistent_stays():
    for text, wanted in (("pwrite#2=ENOSPC", "wewww"), ("pwrite#2=ENOSPC!", "weeee")):
        assert "".join(five_writes(faulty(text))) == wanted


def five_writes(disk):
    file = disk.open("/f")
    return [outcome(lambda: file.pwritev([b"x"], 0)) for _ in range(5)]


def outcome(call):
    try:
        call()
    except OSError:
        return "e"
    return "w"


def test_short_transfers_move_so_much_and_no_more():
    disk = faulty(
        "pwrite#1=short:3; pwrite#2=short:0; pread#1=short:2; pread#2=short:0"
    )
    file = disk.open("/f")
    assert file.pwritev([b"WX", b"YZ"], 1) == 3
    assert file.pwritev([b"WX"], 0) == 0
    assert file.pread(8, 0) == b"aW"
    # Nothing at all would mean end of file, which a short read does not.
    assert file.pread(8, 0) == b"a"
    assert faulty("pread#1=short:2").open("/f").pread(0, 0) == b""
    assert file.pread(8, 0) == b"aWXYefgh"
    assert [len(one.data) for one in disk.trace.operations()] == [3]


def test_a_busy_lock_is_somebody_elses():
    file = faulty("lock#1=busy").open("/f")
    assert [file.lock(True), file.lock(True)] == [False, True]


def test_silent_faults_report_success():
    disk = faulty(
        "pwrite#1=lost; pwrite#2=at:6; pwrite#3=flip:0; pread#2=flip:9; pread#3=at:4"
    )
    file = disk.open("/f")
    assert [file.pwritev([b"XY"], at) for at in (0, 0, 2)] == [2, 2, 2]
    assert file.pread(8, 0) == b"abYYefXY"
    assert file.pread(2, 0) == b"a`"
    assert file.pread(4, 0) == b"efXY"


def test_a_stale_read_shows_what_the_last_write_replaced():
    file = faulty("pread#1=stale; pread#3=stale").open("/f")
    file.pwritev([b"111"], 0)
    file.pwritev([b"22"], 1)
    assert [file.pread(4, 0) for _ in range(3)] == [b"111d", b"122d", b"111d"]


def test_letters_count_what_is_written_back():
    disk = faulty("/f@1=wxW", {"/f": bytes(2048)})
    file = disk.open("/f")

    def write_and_sync(offset):
        file.pwritev([b"x"], offset)
        return outcome(file.fdatasync)

    # Sector 0 is nobody's business; sector 1 fails the second time.
    assert [write_and_sync(at) for at in (0, 512, 0, 600, 1023)] == list("wwwew")
    assert outcome(file.fdatasync) == "w"
    whole = faulty("/f=xW", {"/f": bytes(2048)}).open("/f")
    assert outcome(whole.fdatasync) == "w", "a clean file has nothing to write back"
    whole.pwritev([b"x"], 0)
    assert [outcome(whole.fsync), outcome(whole.fsync)] == ["e", "w"]


def test_a_fault_is_noted_with_the_line_that_met_it():
    disk = faulty("pwrite#2=EIO")
    file = disk.open("/f")
    file.pwritev([b"x"], 0)
    with pytest.raises(OSError, match="Input"):
        file.pwritev([b"y"], 0)
    (note,) = disk.injected
    assert (note.fault, note.call, note.index, note.operations) == (
        "pwrite#2=EIO", "pwrite", 3, 1,
    )  # fmt: skip
    assert note.site.startswith("test_faults.py:")


def test_lifted_faults_are_gone():
    disk = faulty("pwrite#1=EIO!")
    file = disk.open("/f")
    assert outcome(lambda: file.pwritev([b"x"], 0)) == "e"
    disk.lift()
    assert outcome(lambda: file.pwritev([b"x"], 0)) == "w"


def test_a_disk_without_faults_is_the_disk_itself():
    plain, front = Disk({"/f": b"abc"}), faulty("", {"/f": b"abc"})
    for disk in (plain, front):
        file = disk.open("/f")
        file.pwritev([b"x"], 1)
        file.fdatasync()
        disk.mark("acked", txid=1)
    assert [one.op for one in plain.trace] == [one.op for one in front.trace]
    assert front.trace[0].site.startswith("test_faults.py:")
    assert under_script(plain, Script()).model is plain.model


def test_another_process_counts_from_one():
    disk = Disk({"/f": b"abc"})
    for _ in range(2):
        process = FaultyDisk(disk, Script.parse("open#1=EMFILE"))
        assert outcome(lambda disk=process: disk.open("/f")) == "e"
        assert outcome(lambda disk=process: disk.open("/f")) == "w"


def test_a_killed_process_makes_no_call_any_more_whatever_its_handlers_try():
    for name in CALLS:
        disk = faulty(f"{name}#{2 if name == 'open' else 1}=kill")
        calls = dict(every_call(disk))
        before = len(disk.trace.operations())
        with pytest.raises(KilledError, match=f"killed before this {name}"):
            calls[name]()
        for other in CALLS:
            with pytest.raises(KilledError):
                calls[other]()
        disk.lift()
        with pytest.raises(KilledError):
            disk.open("/f")
        assert len(disk.trace.operations()) == before
        assert [(one.call, one.kills) for one in disk.injected] == [(name, True)]


def test_the_next_process_has_the_page_cache_and_neither_files_nor_locks():
    first = faulty("fdatasync#1=kill")
    file = first.open("/f")
    assert file.lock(True)
    file.pwritev([b"XY"], 0)
    with pytest.raises(KilledError):
        file.fdatasync()
    second = first.successor()
    assert second is not first
    with pytest.raises(KilledError):
        file.pread(1, 0)
    again = second.open("/f")
    assert again.lock(True)
    assert again.pread(8, 0) == b"XYcdefgh"
    again.fdatasync()
    assert [one.op for one in second.trace.operations()] == ["write", "sync"]


def test_a_script_goes_on_where_the_killed_process_was():
    text = "fdatasync#1=kill; fdatasync#2=EIO; any#8=kill; /f=wX"
    first = faulty(text)
    file = first.open("/f")
    file.pwritev([b"X"], 0)
    with pytest.raises(KilledError):
        file.fdatasync()
    second = first.successor()
    file = second.open("/f")
    assert [outcome(file.fdatasync), outcome(file.fdatasync)] == ["e", "w"]
    file.pwritev([b"X"], 0)
    with pytest.raises(KilledError):
        file.pwritev([b"X"], 0)
    assert [one.index for one in second.injected] == [3, 5, 8]
    assert second.calls == first.calls
    third = second.successor()
    file = third.open("/f")
    assert outcome(file.fdatasync) == "e", "the letters count the second writing back"
    third.lift()
    assert outcome(third.successor().open("/f").fdatasync) == "w", "lifted is lifted"


def test_a_lock_of_the_process_that_somebody_else_has_is_busy():
    """lockf took no notice of the script: the store under test was never refused."""
    script = Script.parse("lock#2=busy; lock#3=EINTR")
    faulty = under_script(Disk({"/db/x": b""}), script)
    with patched(faulty) as root, open(f"{root}/x", "rb+") as file:
        for kind in fcntl.LOCK_EX, fcntl.LOCK_UN:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(InterruptedError):
            fcntl.lockf(file, fcntl.LOCK_SH)
        fcntl.lockf(file, fcntl.LOCK_EX)
    assert not faulty.unmet()


def test_what_of_a_script_no_call_has_met_is_told():
    script = Script.parse("pwrite#2=EIO; fdatasync#1=EIO; /db/x@0=X; /db/y=X")
    faulty = under_script(Disk({"/db/x": b""}), script)
    assert str(faulty.unmet()) == str(script)
    file = faulty.open("/db/x")
    file.pwritev([b"1"], 0)
    for call in file.fsync, lambda: file.pwritev([b"1"], 0):
        with pytest.raises(OSError, match="error"):
            call()
    assert str(faulty.unmet()) == "fdatasync#1=EIO; /db/y=X"


@pytest.mark.parametrize(
    ("text", "unmet"),
    [
        ("", False),
        ("pwrite#1=EINTR", False),
        ("pwrite#1=EINTR; pwrite#7=EIO", True),
        ("fdatasync#1=EIO", True),
        ("/f@0=X", False),
        ("/f@0=wwX", True),
        ("/f@0=wwW", False),
    ],
)
def test_a_certificate_says_that_a_script_was_not_met(text, unmet):
    """A run under a fault that never came was said to be consistent, and no more."""

    def running(disk, work, ack):
        for script in (text, ""):
            # The second is another process, in which nothing goes wrong.
            file = under_script(disk, Script.parse(script)).open("/f")
            with suppress(OSError):
                file.pwritev([b"1"], 0)
                file.fsync()

    subject = subject_from(
        "S",
        run=running,
        recover=lambda disk: disk.open("/f").pread(1, 0),
        check=lambda acked, in_flight, seen: None,
        work=["a"],
        files={"/f": b"0"},
    )
    certificate = run(subject, Plan(spec=spec_of(subject), programs=1))
    assert certificate.verdict == "consistent"
    said = " ".join(render(certificate).split())
    clause = "about what faults do that no call has met (the scripts of 1 program have"
    assert (clause in said) == unmet


def test_no_crash_is_behind_less_than_no_operation():
    """-1 was all but the last one."""
    disk = Disk({"/f": b"a"})
    disk.open("/f").pwritev([b"b"], 0)
    with pytest.raises(IndexError, match="behind -1"):
        disk.crash(Sampler(0), -1)
    assert disk.crash(Sampler(0), 0).open("/f").pread(1, 0) == b"a"
