"""A disk that is watched tells of every change, before and after it is made."""

from tornpage.disk import Disk, observed


class Listener:
    def __init__(self):
        self.heard = []

    def before(self, change, disk):
        assert change.index == len(disk.trace.operations())
        self.heard.append(("before", change.op, change.path))

    def after(self, change, disk):
        assert change.index == len(disk.trace.operations()) - 1
        self.heard.append(("after", change.op, change.path))


def test_every_change_is_told_of_by_the_word_that_the_trace_has_for_it():
    listener = Listener()
    disk = observed(Disk(), listener)
    disk.mkdir("d")
    file = disk.open("d/a", create=True)
    file.pwritev([b"1"], 0)
    file.ftruncate(0)
    file.fsync()
    file.fdatasync()
    disk.rename("d/a", "d/b")
    disk.fsync_dir("d/b")
    disk.unlink("d/b")
    disk.rmdir("d")
    done = [(one.op, one.path) for one in disk.trace.operations()]
    assert listener.heard == [
        (when, *one) for one in done for when in ("before", "after")
    ]
    assert {op for op, _ in done} == {
        "create", "mkdir", "rename", "rmdir", "sync", "syncdir", "truncate", "unlink",
        "write",
    }  # fmt: skip
