"""Time and chance under the patch: a run that uses them can be made again."""

import os
import random
import tempfile
import threading
import time
import uuid
from time import time as kept

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.patch import patched
from tornpage.patch.surroundings import BEGINNING, DAY_SECONDS
from tornpage.run import Plan, run


def stamped(root, work, ack):
    """A store whose names and bytes are of the moment, and of chance."""
    for one in work:
        name = f"{one}.{time.time()}.{time.time_ns()}.{uuid.uuid4().hex}"
        with open(f"{root}/{name}", "w", encoding="ascii") as file:
            file.write(f"{time.ctime()} {random.random()} {kept()}")
            os.fsync(file.fileno())
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        ack(one)


def seen(root):
    return sorted(name.partition(".")[0] for name in os.listdir(root))


def kept_all(acked, in_flight, found):
    if set(acked) <= set(found) <= set(acked + in_flight):
        return None
    return f"{found} of {acked}"


STAMPED = subject_from(
    "STAMPED", run=stamped, recover=seen, check=kept_all, work=["a", "b"], root="/db"
)


def test_a_store_that_writes_times_and_drawn_names_has_a_verdict():
    certificate = run(STAMPED, Plan(spec="test_surroundings:STAMPED", programs=1))
    assert certificate.verdict == "consistent"


def asked():
    return (
        time.time(),
        time.time_ns(),
        time.localtime(),
        time.gmtime(),
        time.ctime(),
        time.asctime(),
        time.strftime("%Y %S"),
        os.urandom(8),
        uuid.uuid4(),
        random.random(),
        random.SystemRandom().random(),
        kept(),
    )


def test_each_block_tells_the_same_again():
    answers = []
    for _ in range(2):
        with patched(Disk()):
            answers.append(asked())
    assert answers[0] == answers[1]
    # Not because both are of the same second: it is another year on the machine.
    day = time.gmtime(BEGINNING)[:3], time.localtime(BEGINNING)[:3]
    found, [_, _, local, there, *texts] = answers[0], answers[0][:7]
    assert (there[:3], local[:3]) == day
    assert all(str(local.tm_year) in text for text in texts)
    assert found[1] // 10**9 == int(found[0])


def test_time_goes_on_with_each_look_and_from_one_life_to_the_next():
    looks = []
    for disk in (Disk(), Disk({"/db/x": b""}), Disk().crash(None)):
        with patched(disk):
            looks += [time.time(), time.time()]
    assert looks == sorted(set(looks))
    days = [(one - BEGINNING) // DAY_SECONDS for one in looks]
    assert days == [0, 0, 1, 1, 2, 2]


def test_recovery_draws_no_name_that_the_run_has_drawn():
    names = []
    for disk in (Disk(), Disk({"/db/x": b""}), Disk().crash(None)):
        with patched(disk):
            names += [uuid.uuid4(), os.urandom(16), random.random()]
    assert len(set(names)) == len(names)


def test_a_look_of_another_thread_takes_no_time():
    with patched(Disk()):
        before = time.time_ns()
        other = threading.Thread(target=lambda: [time.time() for _ in range(99)])
        other.start()
        other.join()
        assert time.time_ns() - before == 1000


def test_looks_before_an_operation_do_not_change_the_times_behind_it():
    times = []
    for looks in (0, 5, 5000):
        with patched(Disk()) as root:
            before = [time.time() for _ in range(looks)]
            os.mkdir(f"{root}/d")
            times.append(time.time())
        assert before == sorted(before)
        assert max([0, *before]) < times[0]
    assert len(set(times)) == 1


def test_who_waits_for_the_clock_gets_on(monkeypatch):
    real = iter(range(0, 10_000, 1))
    with patched(Disk()):
        monkeypatch.setattr(time, "monotonic", lambda: 1e9 + next(real))
        until = time.time() + 60
        for _ in range(100):
            if time.time() >= until:
                break
        else:
            pytest.fail("it stands still")


def test_a_time_that_is_given_is_that_time():
    with patched(Disk()):
        assert time.gmtime(0).tm_year == 1970
        assert time.strftime("%Y", time.gmtime(0)) == "1970"
        assert time.asctime(time.gmtime(0)).endswith("1970")
        with pytest.raises(TypeError):
            time.strftime()
        with pytest.raises(ValueError, match="negative"):
            os.urandom(-1)


def test_outside_of_blocks_all_is_the_machines():
    state = random.getstate()
    with patched(Disk()):
        random.random()
        inside = time.time()
    assert random.getstate() == state
    assert time.time() - inside > 20 * 365 * DAY_SECONDS
    assert kept() - inside > 20 * 365 * DAY_SECONDS
    assert os.urandom(8) != os.urandom(8)


def test_a_thread_that_is_not_under_test_has_the_machines_time():
    found = []
    go, stop = threading.Event(), threading.Event()

    def other():
        go.wait()
        found.append(time.time())
        stop.set()

    thread = threading.Thread(target=other)
    thread.start()
    with patched(Disk()):
        go.set()
        stop.wait()
    thread.join()
    assert found[0] > BEGINNING + 20 * 365 * DAY_SECONDS


def test_temporary_names_of_the_machine_are_still_given():
    with patched(Disk()), tempfile.NamedTemporaryFile() as file:
        assert not file.name.startswith("/db")
