"""SQLite on the simulated disk: it does what it does on the machine, and no more."""

import contextlib
import functools
import gc
import inspect
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from refusing import refusing

from tornpage.disk import Disk
from tornpage.disk.file import DiskFile
from tornpage.faults import FaultyDisk, Script
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.patch import UnsupportedCallError, patched, sqlite
from tornpage.registry import spec_of
from tornpage.run import Plan, run
from tornpage.threads import Schedules, turns_taken
from tornpage.trace import Sync, SyncDir, Truncate, Unlink, Write

pytestmark = [
    pytest.mark.skipif(
        not sqlite.reachable(), reason="this Python has SQLite inside, out of reach"
    ),
    # Who is stopped by an error, or by the end of a block, leaves connections open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MODES = (
    (),
    ("synchronous=EXTRA",),
    ("synchronous=OFF",),
    ("journal_mode=TRUNCATE",),
    ("journal_mode=PERSIST",),
    ("journal_mode=WAL",),
    ("journal_mode=WAL", "synchronous=NORMAL"),
    ("locking_mode=EXCLUSIVE", "journal_mode=WAL"),
    ("page_size=1024", "cache_size=2"),
)
modes = pytest.mark.parametrize("modes", MODES, ids=" ".join)


def connect(root, *given, **named):
    named.setdefault("isolation_level", None)
    connection = sqlite3.connect(f"{root}/x.sqlite", **named)
    for one in given:
        connection.execute(f"PRAGMA {one}")
    return connection


def content(root):
    with contextlib.closing(connect(root)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        return (
            sorted(connection.execute("SELECT k FROM t").fetchall()) if tables else []
        )


def work(root, given):
    """Some of everything, and what was seen on the way."""
    rng = random.Random(7)
    connection = connect(root, *given)
    yield connection.execute("PRAGMA journal_mode").fetchall()
    connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)")
    for key in range(12):
        row = (key, rng.randbytes(rng.choice((10, 900, 9_000))))
        connection.execute("INSERT INTO t VALUES (?, ?)", row)
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t WHERE k % 3 = 0")
    connection.execute("SAVEPOINT s")
    connection.execute("UPDATE t SET v = zeroblob(20000)")
    connection.execute("ROLLBACK TO s")
    yield connection.execute("SELECT k, length(v) FROM t").fetchall()
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t")
    connection.execute("ROLLBACK")
    yield connection.execute("SELECT count(*) FROM t").fetchall()
    connection.execute(f"ATTACH '{root}/y.sqlite' AS other")
    connection.execute("CREATE TABLE other.u AS SELECT * FROM t")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM other.u WHERE k = 1")
    connection.execute("DELETE FROM t WHERE k = 1")
    connection.execute("COMMIT")
    connection.execute("DETACH other")
    connection.execute("VACUUM")
    yield connection.execute("PRAGMA page_count").fetchall()
    connection.close()
    yield content(root)


def two_connections(root, given):
    """What one sees and may do while the other is about something."""
    first, second = (connect(root, *given, timeout=0) for _ in range(2))
    first.execute("CREATE TABLE t (k)")
    first.execute("INSERT INTO t VALUES (1)")
    second.execute("BEGIN")
    yield second.execute("SELECT k FROM t").fetchall()
    first.execute("BEGIN IMMEDIATE")
    first.execute("INSERT INTO t VALUES (2)")
    for statement in ("BEGIN IMMEDIATE", "INSERT INTO t VALUES (3)", "SELECT 1 FROM t"):
        yield _tried(second, statement)
    yield _tried(first, "COMMIT")
    yield second.execute("SELECT k FROM t").fetchall()
    second.execute("COMMIT")
    yield _tried(first, "COMMIT")
    yield second.execute("SELECT k FROM t").fetchall()
    first.close()
    second.execute("INSERT INTO t VALUES (4)")
    second.close()
    yield content(root)


def _tried(connection, statement):
    try:
        return connection.execute(statement).fetchall()
    except sqlite3.Error as error:
        return str(error)


@modes
def test_a_program_sees_on_the_disk_what_it_sees_on_the_machine(modes, tmp_path):
    real = list(work(tmp_path, modes))
    disk = Disk()
    with patched(disk) as root:
        assert list(work(root, modes)) == real
        for name in ("x.sqlite", "y.sqlite"):
            # Nothing in it is of chance: the same to the byte.
            simulated = Path(root, name).read_bytes()
            assert simulated == (tmp_path / name).read_bytes()
        assert sorted(os.listdir(root)) == sorted(os.listdir(tmp_path))


@pytest.mark.parametrize("modes", [(), ("journal_mode=WAL",)], ids=["", "wal"])
def test_two_connections_get_in_each_others_way_as_on_the_machine(modes, tmp_path):
    real = list(two_connections(tmp_path, modes))
    assert any("locked" in str(one) for one in real)
    with patched(Disk()) as root:
        assert list(two_connections(root, modes)) == real


TRACED = """
import contextlib, os, random, sqlite3, sys

{functions}

for number, modes in enumerate({modes}):
    os.mkdir(f"{{sys.argv[1]}}/real{{number}}")
    list(work(f"{{sys.argv[1]}}/real{{number}}", modes))
"""


@pytest.mark.interop
def test_the_calls_are_those_that_sqlite_makes_of_the_system(tmp_path):
    log = tmp_path / "log"
    traced = "trace=openat,pwrite64,fdatasync,fsync,ftruncate,unlink"
    tracing = ["strace", "-f", "-o", log, "-s", "0", "-e", traced]
    if not shutil.which("strace"):
        pytest.skip("apt-get install strace")
    if subprocess.run([*tracing, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here: allow ptrace")
    functions = "\n".join(map(inspect.getsource, (connect, content, work)))
    program = TRACED.format(functions=functions, modes=MODES)
    command = [*tracing, sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, check=True)
    traced = log.read_text("utf-8")
    for number, modes in enumerate(MODES):
        disk = Disk()
        # Some files have the names of others in them, so these are of one length.
        with patched(disk, str(tmp_path / f"disk{number}")) as root:
            list(work(root, modes))
        said = [_said(one) for one in disk.trace.operations()]
        ours = [one for one in said if one]
        assert ours == list(_calls(traced, str(tmp_path / f"real{number}")))
        assert len(ours) > 100


def _name(path):
    """The last part of it, without what SQLite draws at random."""
    return re.sub("-mj[0-9A-F]+", "-mj", os.path.basename(path))


def _said(record):
    name = _name(getattr(record, "path", ""))
    match record:
        case Write():
            return f"pwrite64 {name} {record.offset} {len(record.data)}"
        case Sync():
            return f"{record.kind} {name}"
        case SyncDir():
            return "sync of the folder"
        case Truncate():
            return f"ftruncate {name} {record.size}"
        case Unlink():
            return f"unlink {name}"
    return None


def _calls(log, folder):
    """What strace has seen, as `_said` has it; but for the index of a WAL."""
    names = {}
    for line in log.splitlines():
        found = re.match(r"\d+ +(\w+)\((.*)\) += (\d+)", line)
        if not found:
            continue
        call, given, result = found.groups()
        path = re.search('"([^"]*)"', given)
        if call == "openat":
            names[result] = path[1]
            continue
        known = names.get(given.split(",")[0], "")
        place = path[1] if call == "unlink" else known
        name = _name(place)
        if place == folder:
            yield "sync of the folder"
        elif not place.startswith(folder) or name.endswith("-shm"):
            continue
        elif call == "pwrite64":
            _, _, count, offset = given.split(", ")
            yield f"pwrite64 {name} {offset} {count}"
        elif call == "ftruncate":
            yield f"ftruncate {name} {given.split(', ')[1]}"
        else:
            yield f"{call} {name}"


# -- crashes -----------------------------------------------------------------------


def certificate(
    *given,
    model="tear=sector",
    name="x.sqlite",
    uri=False,
    page_size=512,
    column="k",
    keys=("a", "b"),
):
    def add(root, keys, ack):
        connection = sqlite3.connect(
            f"file:{root}/{name}" if uri else f"{root}/{name}",
            uri=uri,
            isolation_level=None,
        )
        for one in (f"page_size={page_size}", *given):
            connection.execute(f"PRAGMA {one}")
        connection.execute(f"CREATE TABLE t ({column})")
        ack()
        for key in keys:
            connection.execute("INSERT INTO t VALUES (?)", (key,))
            ack(key)

    def keeps(acked, in_flight, seen):
        seen = {key for (key,) in seen}
        if not set(acked) <= seen <= {*acked, *in_flight}:
            return f"{acked} had been stored, {seen} is left"
        return None

    subject = subject_from(
        "S", run=add, recover=content, check=keeps, work=list(keys), root="/db"
    )
    model = CrashModel.parse(model)
    return run(
        subject, Plan(spec=spec_of(subject), programs=1, model=model, shrink=False)
    )


@functools.cache
def found_with(*given):
    """The certificate of SQLite as it is; several tests look at it."""
    return certificate(*given)


# https://sqlite.org/pragma.html#pragma_synchronous says each of these.
@pytest.mark.thorough(rows=5)
@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ((), "violated"),
        (("synchronous=EXTRA",), "consistent"),
        (("synchronous=OFF",), "violated"),
        (("journal_mode=TRUNCATE",), "consistent"),
        (("journal_mode=PERSIST",), "consistent"),
        (("journal_mode=WAL",), "consistent"),
        (("journal_mode=WAL", "synchronous=NORMAL"), "violated"),
        (("journal_mode=WAL", "locking_mode=EXCLUSIVE"), "consistent"),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one) or "default",
)
def test_a_crash_loses_what_the_manual_says_it_may(given, verdict):
    found = found_with(*given)
    assert found.verdict == verdict
    assert found.coverage.crash_points > 6
    if not given:
        [violation] = found.violations
        said = " ".join(violation.story.split())
        assert "(/db/x.sqlite-journal) must be durable before the promise" in said
        assert "the unlink at test_patch_sqlite.py" in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "verdict"), [("x.sqlite", "violated"), ("x.sqlite?psow=0", "consistent")]
)
def test_sectors_that_are_torn_whole_hurt_only_who_was_told_that_they_are_not(
    name, verdict
):
    # https://sqlite.org/psow.html. A key of its own has an index: the database grows.
    found = certificate(
        "journal_mode=PERSIST",
        model="adversarial",
        name=name,
        uri="?" in name,
        page_size=1024,
        column="k TEXT PRIMARY KEY",
        keys=("a",),
    )
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("owner", "call", "given"),
    [
        (DiskFile, "fdatasync", "journal_mode=WAL"),
        (DiskFile, "fdatasync", "synchronous=EXTRA"),
        (Disk, "fsync_dir", "synchronous=EXTRA"),
    ],
)
def test_a_sync_that_does_not_reach_the_disk_is_noticed(
    owner, call, given, monkeypatch
):
    assert found_with(given).verdict == "consistent"
    monkeypatch.setattr(owner, call, lambda *_: None)
    assert certificate(given).verdict == "violated"


SAFE = (
    ("synchronous=EXTRA",),
    ("journal_mode=WAL",),
    ("journal_mode=PERSIST",),
    ("journal_mode=TRUNCATE",),
    ("auto_vacuum=FULL", "journal_mode=TRUNCATE"),
)


def drawn(rng):
    """Transactions of a few changes, and what comes behind each."""
    for _ in range(rng.randint(1, 2)):
        changes = [
            (rng.choice(("put", "put", "del")), rng.randrange(4), rng.choice((5, 700)))
            for _ in range(rng.randint(1, 2))
        ]
        yield changes, rng.choice(("", "", "rollback", "reopen", "checkpoint"))


@pytest.mark.seeds(3)
@pytest.mark.thorough(rows=1)
def test_a_store_that_is_right_is_found_right_whatever_it_does(seed):
    modes = SAFE[seed % len(SAFE)]
    program = list(drawn(random.Random(seed)))

    def opened(root):
        return connect(root, "page_size=512", *modes)

    def perform(root, work, ack):
        del work
        connection = opened(root)
        connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v UNIQUE)")
        ack({})
        for changes, then in program:
            connection.execute("BEGIN")
            for change, key, length in changes:
                if change == "put":
                    row = (key, "v" * length)
                    connection.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", row)
                else:
                    connection.execute("DELETE FROM t WHERE k = ?", (key,))
            rows = dict(connection.execute("SELECT * FROM t").fetchall())
            if then == "rollback":
                connection.execute("ROLLBACK")
                continue
            connection.execute("COMMIT")
            ack(rows)
            if then == "reopen":
                connection.close()
                connection = opened(root)
            elif then == "checkpoint":
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()

    def found(root):
        with contextlib.closing(connect(root)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if not connection.execute("SELECT * FROM sqlite_master").fetchall():
                return None
            seen = dict(connection.execute("SELECT * FROM t").fetchall())
            connection.execute("INSERT INTO t VALUES (99, 'behind')")
        with contextlib.closing(connect(root)) as connection:
            rows = dict(connection.execute("SELECT * FROM t").fetchall())
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert rows == {**seen, 99: "behind"}
        return seen

    def check(acked, in_flight, seen):
        if acked or seen is not None:
            assert seen in (*acked[-1:], *in_flight)

    subject = subject_from(
        "S", run=perform, recover=found, check=check, work=[*modes], root="/db"
    )
    model = CrashModel.parse("tear=sector")
    plan = Plan(spec=spec_of(subject), programs=1, model=model)
    certificate = run(subject, plan)
    assert certificate.verdict == "consistent", certificate.violations[0].story
    assert certificate.coverage.closed == certificate.coverage.crash_points


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("fdatasync#2=EIO", "disk I/O error"),
        ("pwrite#3=EIO", "disk I/O error"),
        ("pwrite#3=ENOSPC", "database or disk is full"),
        ("pread#1=EIO", "disk I/O error"),
    ],
)
def test_an_error_of_the_disk_is_sqlites_error(script, said):
    disk = FaultyDisk(Disk(), Script.parse(script))
    with patched(disk) as root, pytest.raises(sqlite3.OperationalError, match=said):
        list(work(root, ()))
    assert disk.injected


def test_short_transfers_are_gone_on_with(tmp_path):
    real = list(work(tmp_path, ()))
    disk = FaultyDisk(Disk(), Script.parse("pwrite#5=short:3; pread#4=short:1"))
    with patched(disk) as root:
        assert list(work(root, ())) == real


class Stopped(BaseException):
    """Comes from outside, as Ctrl-C does."""


def _stopping(kind, path, index):
    if index == 2:
        raise Stopped
    return 0


def test_what_ends_an_execution_from_inside_a_call_ends_the_block():
    disk = Disk()
    disk.fail_sync = _stopping

    def swallowing():
        with patched(disk) as root:
            with contextlib.suppress(sqlite3.Error):
                list(work(root, ()))
            # Whoever goes on reaches nothing any more.
            for name in ("x", "y"):
                with contextlib.suppress(sqlite3.Error):
                    sqlite3.connect(f"{root}/{name}").execute("CREATE TABLE t (k)")

    with pytest.raises(Stopped):
        swallowing()
    done = disk.trace.operations()
    assert len([one for one in done if isinstance(one, Sync)]) < 3
    assert not disk.exists("/db/y")


def test_what_comes_before_a_call_has_begun_is_not_lost():
    # The interpreter prints what leaves a callback, and goes on.
    calls = []

    def at_its_beginning(frame, event, _):
        if event == "call" and frame.f_code.co_name == "guarded":
            calls.append(frame)
            if len(calls) == 20:
                sys.setprofile(None)
                raise Stopped

    def followed():
        with patched(Disk()) as root, contextlib.suppress(sqlite3.Error):
            sys.setprofile(at_its_beginning)
            list(work(root, ()))

    try:
        with pytest.raises(Stopped):
            followed()
    finally:
        sys.setprofile(None)
    assert len(calls) == 20


# -- blocks ------------------------------------------------------------------------


def test_time_and_chance_are_those_of_last_time_and_others_after_a_crash():
    asked = "SELECT random(), datetime('now')"
    seen = []
    disks = [Disk(), Disk(), Disk().crash(None)]
    for disk in disks:
        with patched(disk) as root, contextlib.closing(connect(root)) as connection:
            seen.append(connection.execute(asked).fetchone())
        # Numbers that others draw in between change nothing.
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(asked)
    assert seen[0] == seen[1]
    assert seen[2][0] != seen[0][0]
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        chance, now = connection.execute(asked).fetchone()
    assert chance not in {seen[0][0], seen[2][0]}
    assert now > seen[0][1]


def test_waiting_for_a_lock_takes_no_time_when_nobody_could_release_it():
    disk = Disk()
    with patched(disk) as root:
        holder, waiter = connect(root), connect(root, timeout=3600)
        holder.execute("BEGIN EXCLUSIVE")
        assert "locked" in _tried(waiter, "BEGIN IMMEDIATE")
        assert disk.monotonic() > 3000
        waiter.close()
        holder.close()


def test_other_databases_are_the_machines_in_the_block_and_behind_it(tmp_path):
    def default():
        return sqlite.library().find(None).contents.zName

    before = default()
    with patched(Disk()) as root:
        connect(root).close()
        assert default() == b"tornpage" != before
        real = connect(tmp_path, "journal_mode=WAL")
        real.execute("CREATE TABLE t (k)")
        memory = sqlite3.connect(":memory:")
    real.execute("INSERT INTO t VALUES (1)")
    assert memory.execute("SELECT 1").fetchall() == [(1,)]
    memory.close()
    real.close()
    assert content(tmp_path) == [(1,)]
    assert default() == before


def test_what_is_left_open_touches_no_disk_any_more():
    disk = Disk()
    with patched(disk) as root:
        left = connect(root, "journal_mode=WAL")
        left.execute("CREATE TABLE t (k)")
        left.execute("BEGIN")
        left.execute("INSERT INTO t VALUES (1)")
    done = len(disk.trace.data)
    with patched(Disk({"/db/other": b"1"})) as root:
        assert _tried(left, "COMMIT") != []
        assert os.listdir(root) == ["other"]
        left.close()
        del left
        gc.collect()
        connect(root).close()
    assert len(disk.trace.data) == done


def test_where_sqlite_is_out_of_reach_its_use_is_refused(monkeypatch):
    monkeypatch.setattr("tornpage.patch.sqlite._vfs", lambda: None)
    disk = Disk()
    with refusing(disk) as root:
        with pytest.raises(UnsupportedCallError, match="SQLite inside"):
            connect(root)
        # In memory it touches nothing.
        sqlite3.connect(":memory:").close()
    assert disk.refused


@pytest.mark.parametrize(
    "address",
    [
        "file:/db/x",
        "file:///db/x?mode=rwc",
        "file://localhost/db/x#here",
        "file:%2Fdb/x",
        "file:////db/./x",
        "file:/db/x?mode=rwc&cache=private",
    ],
)
def test_every_way_to_write_an_address_is_one_of_the_disk(address):
    """Some were taken for a file of the machine, which a second run may not read."""
    for _ in range(2):
        disk = Disk()
        with (
            patched(disk, "/db"),
            contextlib.closing(sqlite3.connect(address, uri=True)) as connection,
        ):
            connection.execute("CREATE TABLE t (k)")
        assert disk.exists("/db/x")


@pytest.mark.parametrize("reached", [True, False])
def test_a_thread_that_was_there_before_reaches_the_disk_or_is_refused(
    monkeypatch, reached
):
    """Though nobody follows it: a path below the root is nobody else's."""
    begun, gone_on = threading.Event(), []

    def connecting():
        begun.wait()
        try:
            with contextlib.closing(connect("/db")) as connection:
                connection.execute("CREATE TABLE t (k)")
        except UnsupportedCallError as error:
            gone_on.append(error)

    other = threading.Thread(target=connecting)
    other.start()
    if not reached:
        monkeypatch.setattr("tornpage.patch.sqlite._vfs", lambda: None)
    disk = Disk()
    with patched(disk) if reached else refusing(disk):
        begun.set()
        other.join()
    assert disk.exists("/db/x.sqlite") == reached != bool(gone_on)


@pytest.mark.parametrize("query", ["vfs=unix", "mode=rwc&vfs=unix-none", "%76fs=unix"])
def test_a_vfs_of_the_machine_is_refused_for_a_file_of_the_disk(query):
    """The machine has no such file: it was a promise broken without a crash."""
    with refusing(Disk(), match="names the VFS"):
        sqlite3.connect(f"file:/db/x?{query}", uri=True)


def test_a_database_that_is_only_read_is_not_written():
    disk = Disk()
    with patched(disk) as root:
        list(work(root, ()))
        done = len(disk.trace.data)
        address = f"file:{root}/x.sqlite?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() > (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("DELETE FROM t")
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect(f"file:{root}/no.sqlite?mode=ro", uri=True)
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect(f"{root}/no/x.sqlite").execute("CREATE TABLE t (k)")
    assert len(disk.trace.data) == done


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_threads_are_switched_at_the_calls_of_sqlite_and_wait_for_each_other(mode):
    rows, at_calls = set(), []

    def once(turns):
        with patched(Disk()) as root, turns_taken(turns):
            with contextlib.closing(connect(root, f"journal_mode={mode}")) as first:
                first.execute("CREATE TABLE t (k)")

            def add(key):
                with contextlib.closing(connect(root)) as connection:
                    connection.execute("INSERT INTO t VALUES (?)", (key,))

            yield [lambda: add(1), lambda: add(2)]
            rows.add(tuple(content(root)))
        at_calls.append(len(turns.schedule.switches))

    for played in Schedules(once, (__file__,), switches=1, share=0.2):
        played.require_success()
    # Whoever finds the other one's lock sleeps, and the other one goes on.
    assert rows == {((1,), (2,))}
    assert sum(at_calls) > 10
