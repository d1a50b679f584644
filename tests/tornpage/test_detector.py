"""The online detector: reports unsafe writes when they are made, and only those."""

from tornpage.disk import Change, Disk, observed
from tornpage.run.detector import Detector

NEEDED = range(512, 1024)


class Second:
    """Needs the second sector of /f, from the first sync on."""

    def __init__(self):
        self.armed = False
        self.told = []

    def made_of(self, path, start, stop, disk):
        hit = self.armed and path == "/f" and start < NEEDED.stop and stop > NEEDED[0]
        return "the second sector" if hit else ""

    def written(self, path, start, stop):
        self.told.append((path, start, stop))

    def synced(self, path, disk):
        self.armed = True


def write_through(disk, offset, data):
    """The plumbing of a store."""
    disk.open("/f").pwritev([data], offset)


def commit(disk, offset, data):
    write_through(disk, offset, data)


def watch(plumbing=frozenset()):
    detector = Detector(Second(), plumbing)
    disk = observed(Disk({"/f": bytes(2048)}), detector)
    return detector, disk


def test_a_write_to_needed_bytes_is_reported_with_the_line_that_made_it():
    detector, disk = watch()
    commit(disk, 600, b"early")
    assert not detector.touched, "nothing is durable yet, nothing is needed"
    disk.open("/f").fdatasync()
    commit(disk, 0, b"elsewhere")
    commit(disk, 500, b"x" * 13)
    (found,) = detector.touched
    assert found.site.startswith("test_detector.py:")
    assert (found.path, found.offset, found.length, found.index) == ("/f", 500, 13, 3)
    assert "test_detector.py" in str(found.violation().message)
    assert detector.checked == 3


def test_plumbing_is_not_to_blame():
    change = Change("write", "/f", chain=("pager.py:2", "tx.py:7", "app.py:1"))
    assert change.at() == "pager.py:2"
    assert change.at(frozenset({"pager.py"})) == "tx.py:7"
    assert change.at(frozenset({"pager.py", "tx.py", "app.py"})) == "pager.py:2"


def test_writing_what_is_there_already_hurts_nobody():
    detector, disk = watch()
    disk.open("/f").fdatasync()
    commit(disk, 512, bytes(512))
    assert not detector.touched
    commit(disk, 512, bytes(511) + b"x")
    assert len(detector.touched) == 1


def test_cutting_off_needed_bytes_is_reported():
    detector, disk = watch()
    file = disk.open("/f")
    file.fdatasync()
    file.ftruncate(1024)
    assert not detector.touched
    file.ftruncate(1000)
    assert [one.offset for one in detector.touched] == [1000]


def test_a_failed_change_is_no_change():
    detector, disk = watch()
    file = disk.open("/f")
    file.close()
    for call in (file.fdatasync, lambda: file.pwritev([b"x"], 0)):
        try:
            call()
        except OSError:
            continue
        raise AssertionError
    assert not detector._guard.armed
    assert not detector._guard.told


def test_the_disk_underneath_sees_the_same_run():
    def run(disk):
        file = disk.open("/g", create=True)
        file.pwritev([b"ab", b"c"], 5)
        file.ftruncate(4)
        file.fsync()
        disk.fsync_dir("/g")
        disk.rename("/g", "/h")
        disk.unlink("/h")
        disk.mark("done")
        return [one.op for one in disk.trace]

    plain, seen = Disk(), []

    class Listener:
        def before(self, change, disk):
            seen.append((change.op, change.index))

        def after(self, change, disk):
            assert len(disk.trace.operations()) == change.index + 1

    assert run(plain) == run(observed(Disk(), Listener()))
    ops = [one.op for one in plain.trace.operations()]
    assert seen == list(zip(ops, range(len(ops)), strict=True))
