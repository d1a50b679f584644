"""The trace: what is recorded, and the way to paper and back."""

import dataclasses
import json

import pytest

from tornpage.disk import Disk
from tornpage.trace import (
    Create,
    Mark,
    Rename,
    Sync,
    SyncDir,
    Trace,
    TraceError,
    Truncate,
    Unlink,
    Write,
)


def every_operation():
    disk = Disk({"old": b"xyz"})
    file = disk.open("db", create=True)
    disk.mark("begin", txid=1, keys=["a", "b"], note=None)
    file.pwritev([b"\x00\xff", b"abc"], 10)
    file.ftruncate(4)
    file.fsync()
    file.fdatasync()
    disk.fsync_dir("db")
    disk.rename("db", "db2")
    disk.unlink("old")
    return disk.trace


def test_every_operation_is_recorded_in_order_and_reads_are_not():
    kinds = [type(one) for one in every_operation()]
    assert kinds == [Create, Mark, Write, Truncate, Sync, Sync, SyncDir, Rename, Unlink]


def test_a_record_names_the_line_that_issued_it():
    trace = every_operation()
    assert {one.site.partition(":")[0] for one in trace} == {"test_trace.py"}
    lines = [int(one.site.partition(":")[2]) for one in trace]
    assert lines == sorted(set(lines))


def test_a_write_of_many_buffers_is_one_record():
    (write,) = [one for one in every_operation() if isinstance(one, Write)]
    assert (write.path, write.offset, write.data) == ("db", 10, b"\x00\xffabc")


def test_paper_and_back_is_the_identity():
    trace = every_operation()
    text = trace.to_json_lines()
    assert len(text.splitlines()) == len(trace)
    assert all(json.loads(line)["op"] for line in text.splitlines())
    back = Trace.from_json_lines(text)
    assert back == trace
    assert back.to_json_lines() == text


def test_marks_are_no_operations_and_have_no_path():
    trace = every_operation()
    assert len(trace.operations()) == len(trace) - 1
    (mark,) = [one for one in trace if isinstance(one, Mark)]
    assert mark.path == ""
    assert mark["txid"] == 1
    assert mark["keys"] == ("a", "b")
    with pytest.raises(KeyError):
        mark["nothing"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"op": "explode"}',
        '{"op": "write", "path": "db"}',
        '{"op": "write", "path": "db", "inode": 1, "offset": 0, "data": "!"}',
        '{"op": "unlink", "path": "db", "sight": ""}',
    ],
)
def test_what_is_no_record_is_refused_with_its_line(line):
    good = Trace([Unlink("x")]).to_json_lines()
    with pytest.raises(TraceError, match="line 2"):
        Trace.from_json_lines([good, line])


def test_records_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        every_operation()[0].path = "other"


def test_a_line_written_before_syncs_had_results_is_a_sync_that_was_ok():
    line = '{"op": "sync", "path": "db", "inode": 1, "kind": "fsync", "site": "a:1"}'
    assert Trace.from_json_lines(line) == [Sync("db", 1, "fsync", "a:1", "ok")]
    line = '{"op": "syncdir", "path": "db", "site": "a:1"}'
    assert Trace.from_json_lines(line) == [SyncDir("db", "a:1", "ok")]


def test_results_of_syncs_go_to_paper_and_back_and_no_others_do():
    results = ("ok", "failed", "silent", "reported", "reverted", "read-only", "idle")
    trace = Trace([Sync("db", 1, "fsync", "", one) for one in results])
    assert Trace.from_json_lines(trace.to_json_lines()) == trace
    for wrong in (Sync("db", 1, "fsync", "", "maybe"), SyncDir("db", "", "reverted")):
        with pytest.raises(TraceError, match="has no result"):
            Trace.from_json_lines(Trace([wrong]).to_json_lines())
