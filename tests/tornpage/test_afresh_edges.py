"""What decides that recovery is the same afresh, and of workers, at their edges.

Each was made because some operator of what compares could be another one, and the tests
that were run against it passed. What is asked of a copy of the process is made up here,
so that no process is begun.
"""

import os
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from toy_store import Toy

from tornpage.disk.witness import Call
from tornpage.explore.explorer import CrashPoint, Reached
from tornpage.model import CrashModel
from tornpage.run import Plan, afresh, pool
from tornpage.run.afresh import Afresh, _Crash, _Deed
from tornpage.run.experiment import Experiment, Finding, Raised
from tornpage.run.pool import Limits, Lost, Pool, PoolError
from tornpage.run.pristine import NoCopyError, Pristine, PristineError
from tornpage.subject import Violation

FIRST, LAST = CrashPoint(2), CrashPoint(5)


def pickled(value):
    found = afresh._pickled(value)
    assert found is not None
    return found


def deed(*calls, outcome="x", lines=("x",), lost=""):
    data = pickled(outcome)
    return _Deed(tuple(calls), data, data, lines, pickled([]), lost)


# -- the same or not -------------------------------------------------------------------


def test_outcomes_that_only_look_alike_are_not_the_same():
    assert afresh._same(pickled("a"), pickled("a"), alike=False)
    assert not afresh._same(pickled("a"), pickled("b"), alike=True)


def test_outcomes_that_are_equal_are_the_same_however_they_are_pickled():
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert pickled(one) != pickled(other)
    assert afresh._same(pickled(one), pickled(other), alike=False)


@pytest.mark.parametrize("alike", [False, True])
def test_what_cannot_be_pickled_is_the_same_if_it_looks_so(alike):
    for pair in ((None, pickled(1)), (pickled(1), None), (None, None)):
        assert afresh._same(*pair, alike=alike) == alike


def test_an_exception_is_the_same_if_it_is_of_a_kind_and_place():
    """Its message may have an address in it."""
    one = Raised("ValueError", "<x at 0x12>", "store.py:7")
    for other, same in (
        (Raised("ValueError", "<x at 0x34>", "store.py:7"), True),
        (Raised("ValueError", "<x at 0x12>", "store.py:8"), False),
        (Raised("TypeError", "<x at 0x12>", "store.py:7"), False),
        ("ValueError", False),
    ):
        assert afresh._same(pickled(one), pickled(other), alike=not same) == same


def test_what_is_not_itself_again_is_not_pickled():
    assert afresh._pickled([1]) is not None
    assert afresh._pickled(float("nan")) is None


def test_the_first_call_that_differs_is_told():
    read, other = Call("read a", "s.py:1"), Call("read b", "s.py:1")
    said = afresh._differ(deed(read, read, read), deed(read, other, other))
    assert said == (
        "call 2 of recovery to the disk was 'read a' at s.py:1, but 'read b' at s.py:1"
        " in a process that has not run the program"
    )
    assert afresh._differ(deed(read), deed(read)) == ""
    assert "was none, but 'read a'" in afresh._differ(deed(), deed(read))
    assert "was 'read a' at s.py:1, but none in" in afresh._differ(deed(read), deed())
    one, two = Call("write a", "s.py:1", 1), Call("write a", "s.py:1", 2)
    assert "but the same with other data in" in afresh._differ(deed(one), deed(two))


def test_calls_in_the_order_of_threads_are_not_compared():
    several = _Deed(None, *(getattr(deed(), one) for one in _Deed.__slots__[1:]))
    read = Call("read a", "s.py:1")
    for here, there in ((several, deed(read)), (deed(read), several)):
        assert afresh._differ(here, there) == ""


def test_what_cannot_be_pickled_is_compared_without_its_addresses():
    def shown(text):
        return replace(deed(), key=None, lines=(text,))

    assert not afresh._differ(shown("<x at 0x12>"), shown("<x at 0x34>"))
    said = afresh._differ(shown("<x at 0x12>"), shown("<y at 0x12>"))
    assert said.startswith("recovery returned <x at 0x12>, but <y at 0x12> in")


def test_a_recovery_that_could_not_be_followed_there_differs():
    said = afresh._differ(deed(), deed(lost="os.fork is not here"))
    assert said.endswith("not run the program: os.fork is not here")


# -- which crashes ---------------------------------------------------------------------


class Pending:
    """An explorer whose crash points have so much pending."""

    def __init__(self, counts):
        self.counts = counts

    def points(self):
        return iter(self.counts)

    def pending(self, point):
        return range(self.counts[point])


INSIDE = CrashPoint(3, inside=True)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({FIRST: 3, INSIDE: 9, LAST: 1}, (FIRST, LAST)),
        ({FIRST: 3, INSIDE: 9, LAST: 3}, (LAST,)),
        ({FIRST: 0, LAST: 0}, (LAST,)),
    ],
)
def test_points_are_between_operations_and_have_most_pending(counts, wanted):
    assert afresh._points(Pending(counts)) == wanted


@pytest.mark.parametrize("wholly", [False, True])
@pytest.mark.parametrize(
    ("counts", "points", "first", "second"),
    [
        ({FIRST: 3, LAST: 0}, (FIRST, LAST), None, (LAST, ())),
        ({LAST: 3}, (LAST,), None, (LAST, ())),
        ({FIRST: 0, LAST: 0}, (FIRST, LAST), (), (LAST, ())),
        ({LAST: 0}, (LAST,), (), None),
    ],
)
def test_all_that_is_lost_is_compared_and_all_that_is_there(
    counts, points, first, second, wholly
):
    """Nothing is made twice: where nothing is pending both are the same."""
    made = [*afresh._crashes(Pending(counts), points, wholly=wholly)]
    wanted = [_Crash(points[0], first)]
    if first is None:
        wanted.append(_Crash(points[0], None, torn=True))
    if wholly and second is not None:
        wanted.append(_Crash(*second))
    assert made == wanted


def group(*members):
    return SimpleNamespace(cell=SimpleNamespace(members=members))


def test_what_is_oldest_is_the_oldest_content_and_whole_before_torn():
    whole, torn, new = group((1, 1, 9)), group((0, 1, 9)), group((3, 3, 0))
    assert afresh._age(group((3, 3, 0), (1, 1, 9))) == afresh._age(whole) == (1, False)
    assert afresh._age(torn) == afresh._age(group((1, 0, 9))) == (1, True)
    for groups, wanted in (
        ((new, torn, whole), 2),
        ((new, whole, torn), 1),
        ((whole, new, torn), 0),
    ):
        chooser = afresh._Oldest()
        assert chooser.choose(3, ("data", "db", groups)) == wanted
        # Of all else the second answer is the dishonest one.
        assert chooser.choose(3, ("entry", "db", groups)) == 1
        assert [one.picked for one in chooser.log] == [wanted, 1]


def test_what_is_torn_is_each_file_behind_the_first_that_is_read_of_it():
    old, new = group((1, 1, 9)), group((3, 3, 0))
    chooser = afresh._Torn()
    asked = [
        ("size", "db", ()),
        ("data", "db", 0, 512, (new, old)),
        ("data", "db", 512, 512, (new, old)),
        ("data", "log", 512, 512, (new, old)),
        ("data", "db", 0, 512, (new, old)),
        ("data", "log", 0, 512, (new, old)),
        ("entry", "db"),
    ]
    assert [chooser.choose(2, label) for label in asked] == [0, 0, 1, 0, 1, 1, 0]
    assert (
        str(_Crash(FIRST, None, torn=True)) == f"at point {FIRST} that tears each file"
    )


# -- what is concluded -----------------------------------------------------------------


def asked(monkeypatch, broken, *, late=False, points=(FIRST, LAST)):
    """Copies after whose crashes these promises are broken, and what was asked."""
    made = Afresh.__new__(Afresh)
    made.late, made._wholly, questions = late, True, []

    def ask(_experiment, _mutant, crash, wait, *, alone=True):
        questions.append((crash.point, crash.tape, wait, alone))
        return deed(outcome=broken.get((crash.point, crash.tape), ()))

    monkeypatch.setattr(made, "_ask", ask, raising=False)
    monkeypatch.setattr(afresh, "_points", lambda _: points)
    experiment = SimpleNamespace(
        subject=None,
        explorer=object(),
        judge=lambda _, outcome: [Violation(name, "lost") for name in outcome],
    )
    return made, experiment, questions


@pytest.mark.parametrize(
    ("broken", "promise", "found"),
    [
        ({(FIRST, None): ["P"]}, None, (FIRST, "P")),
        ({(LAST, None): ["P"]}, None, (LAST, "P")),
        ({(LAST, None): ["P"]}, "P", (LAST, "P")),
        ({(FIRST, None): ["P", "Q"]}, "Q", (FIRST, "Q")),
        ({(FIRST, None): ["P"], (LAST, None): ["Q"]}, "Q", (LAST, "Q")),
        ({(LAST, None): ["P"]}, "Q", None),
        ({}, None, None),
        # One that cannot do without the process that ran the program.
        ({(LAST, None): ["P"], (LAST, ()): ["P"]}, None, None),
        ({(LAST, None): ["P"], (LAST, ()): ["Q"]}, "P", None),
        ({(LAST, ()): ["P"]}, None, None),
        ({(FIRST, ()): ["P"], (FIRST, None): ["P"], (LAST, None): ["P"]}, None,
         (LAST, "P")),
    ],
)  # fmt: skip
def test_a_promise_is_broken_afresh_if_what_was_lost_breaks_it(
    monkeypatch, broken, promise, found
):
    made, experiment, _ = asked(monkeypatch, broken)
    told = made.broken(experiment, None, promise)
    assert (told and (told.point, told.violation.property)) == found
    assert told is None or told.afresh


def test_where_programs_were_run_before_nothing_is_called_broken(monkeypatch):
    made, experiment, questions = asked(monkeypatch, {(LAST, None): ["P"]}, late=True)
    assert made.broken(experiment, None) is None
    assert not questions
    unlike = SimpleNamespace(explorer=None)
    assert asked(monkeypatch, {})[0].broken(unlike, None) is None


def test_a_copy_has_many_times_as_long_as_recovery_took_here(monkeypatch):
    """And the store's first program is looked at as a whole, the others at a point."""
    made, experiment, questions = asked(monkeypatch, {})
    clock = iter(range(100, 200, 2))
    monkeypatch.setattr(afresh.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(afresh, "_deed", lambda *_: deed(outcome=()))
    experiment.explorer = Pending({FIRST: 3, LAST: 0})
    for _ in range(2):
        assert made.difference(experiment, None) is None
    wait = afresh._WAIT_SECONDS + 2 * afresh._WAIT_TIMES
    first, last = (FIRST, None, wait, False), (LAST, (), wait, False)
    assert questions == [first, last, first]


@pytest.mark.parametrize(
    ("error", "doubt"), [(NoCopyError("none"), False), (PristineError("it hung"), True)]
)
def test_no_answer_is_a_doubt_and_no_copy_is_none(monkeypatch, error, doubt):
    made, experiment, _ = asked(monkeypatch, {})

    def ask(*_, **__):
        raise error

    monkeypatch.setattr(made, "_ask", ask, raising=False)
    monkeypatch.setattr(afresh, "_deed", lambda *_: deed(outcome=()))
    experiment.explorer = Pending({FIRST: 3, LAST: 0})
    found = made.difference(experiment, None)
    assert (found is not None) == doubt
    if found:
        assert found.clause.endswith("is not known: it hung")
        assert found.finding is None


def test_a_promise_that_is_broken_without_a_crash_is_not_asked_about(monkeypatch):
    made, _, questions = asked(monkeypatch, {})
    subject = Toy()
    experiment = Experiment(subject, subject.generate(0), CrashModel(), cap=9)
    made._pristine = SimpleNamespace(missing="")
    live = Finding(Violation("P", "x"))
    assert made.overturned(experiment, None, live) is None
    made._pristine = SimpleNamespace(missing="it is closed")
    reached = Reached(("open", 0, "{}"), (), ())
    crash = Finding(Violation("P", "x"), CrashPoint(3), reached)
    assert made.overturned(experiment, None, crash) is None
    assert not questions


def test_programs_are_compared_that_came_by_something_new():
    made = Afresh.__new__(Afresh)
    made.compared = set()

    def wants(*places, explorer=1):
        return made.wants(
            SimpleNamespace(explorer=explorer, places=lambda: frozenset(places))
        )

    assert [wants("a"), wants("a"), wants("a", "b"), wants("b"), wants("c")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert not wants("d", explorer=None)
    assert wants("d")


@pytest.mark.usefixtures("processes")
def test_nobody_watches_what_a_copy_does():
    """A debugger, or the coverage of tests, would be told of what is done there."""

    def watchers(_=None):
        return (
            sys.gettrace(),
            sys.getprofile(),
            threading.gettrace(),
            threading.getprofile(),
        )

    def watch(*_):
        return None

    before = watchers()
    sets = sys.settrace, sys.setprofile, threading.settrace, threading.setprofile
    try:
        for put in sets:
            put(watch)
        with Pristine(watchers) as copy:
            found = copy.ask(0, 10, alone=True)
    finally:
        for put, one in zip(sets, before, strict=True):
            put(one)
    assert found == (None,) * 4


@pytest.mark.usefixtures("processes")
def test_a_copy_leaves_no_descriptor_open():
    """After some hundreds there would be no room for more, and nothing compared."""
    with Pristine(lambda _: len(os.listdir("/dev/fd"))) as copy:
        counts = {copy.ask(0, 10, alone=True) for _ in range(4)}
    assert len(counts) == 1


# -- workers ---------------------------------------------------------------------------


class Worker:
    """One that is this process, or has ended."""

    output, killed_for, place = 0, "", 3

    def __init__(self, *, task=None, ready=True, since=0.0, killed_for=""):
        self.task, self.ready, self.since = task, ready, since
        self.killed_for = killed_for
        self.process = SimpleNamespace(
            pid=os.getpid(), wait=lambda _: None, kill=lambda: None
        )

    def kill(self, why=""):
        self.killed_for = why

    def end(self):
        return -9

    def forget(self):
        pass

    def complaint(self):
        return ""


@pytest.fixture
def workers(monkeypatch):
    """A pool of none, that is begun with its place only."""
    with Pool(Plan(spec="toy_store:Toy", programs=1), 0, code="mine") as made:
        made._selector.close()
        made._selector = SimpleNamespace(
            unregister=lambda _: None, select=lambda _: [], close=lambda: None
        )
        made.begun = []
        monkeypatch.setattr(made, "_start", made.begun.append)
        yield made
        made._workers.clear()


def test_a_pool_that_is_closed_has_no_descriptor_open():
    before = os.listdir("/dev/fd")
    with Pool(Plan(spec="toy_store:Toy", programs=1), 0) as made:
        assert len(os.listdir("/dev/fd")) > len(before)
    assert len(os.listdir("/dev/fd")) == len(before)
    assert not made.busy


def test_tasks_are_those_of_every_worker_that_has_one(workers):
    tasks = {0: {"n": 1}, 1: None, 2: {"n": 2}}
    workers._workers = {at: Worker(task=task) for at, task in tasks.items()}
    assert (workers.busy, workers.idle()) == (2, 1)
    assert workers.tasks() == [{"n": 1}, {"n": 2}]


def test_a_worker_with_other_code_is_refused(workers):
    worker = Worker(ready=False)
    with pytest.raises(PoolError, match="other code than its coordinator"):
        workers._greeted(worker, {"ready": True, "code": "another"})
    assert not worker.ready
    workers._greeted(worker, {"ready": True, "code": "mine"})
    assert worker.ready


@pytest.mark.parametrize(
    ("killed", "reason", "runaway"),
    [
        ("", "its worker was killed by SIGKILL", False),
        ("it ran away", "it ran away", 1),
    ],
)
def test_a_worker_that_is_gone_is_replaced_and_its_task_is_lost(
    workers, killed, reason, runaway
):
    task = {"n": 1}
    (lost,) = workers._buried(Worker(task=task, killed_for=killed))
    assert lost == Lost(task, reason, bool(runaway), 3)
    assert (workers.replaced, workers.begun) == (1, [3])
    assert not [*workers._buried(Worker())]
    assert workers.replaced == 2


def test_workers_that_do_not_start_are_given_up_the_third_time(workers):
    for _ in range(2):
        assert not [*workers._buried(Worker(ready=False))]
    workers._greeted(Worker(ready=False), {"ready": True, "code": "mine"})
    for _ in range(2):
        assert not [*workers._buried(Worker(ready=False))]
    with pytest.raises(PoolError, match="No worker can be started: its worker was"):
        workers._buried(Worker(ready=False))


@pytest.mark.parametrize(
    ("worker", "limits", "said"),
    [
        (Worker(task={}, since=100.0), Limits(), ""),
        (Worker(task={}, since=100.0), Limits(rss=1 << 20), "MiB of memory, 1 MiB are"),
        (Worker(task={}, since=100.0), Limits(files=1), "open files, 1 are"),
        (Worker(task={}, since=40.0), Limits(seconds=59.0), "60 s for one program, 59"),
        (Worker(task={}, since=40.0), Limits(seconds=60.0), ""),
        # It waits for a task, however long.
        (Worker(since=0.0), Limits(seconds=9.0), ""),
        (Worker(ready=False, since=39.0), Limits(), "did not start in 60 s"),
        (Worker(ready=False, since=40.0), Limits(), ""),
        # Why it was killed stays what it was.
        (Worker(task={}, killed_for="it hung"), Limits(files=1), "it hung"),
    ],
)
def test_a_worker_that_runs_away_is_killed_and_no_other(
    workers, monkeypatch, worker, limits, said
):
    monkeypatch.setattr(pool.time, "monotonic", lambda: 100.0)
    workers._limits, workers._workers = limits, {0: worker}
    workers._watch()
    assert said in worker.killed_for
    assert bool(worker.killed_for) == bool(said)
    assert (workers.peak_rss > 1 << 20) == (said != "it hung")


def test_workers_are_looked_at_now_and_then(workers, monkeypatch):
    looked = []
    monkeypatch.setattr(workers, "_watch", lambda: looked.append(now))
    for now in (100.0, 100.1, 100.4, 100.6, 100.9, 101.2):
        if now == 100.0:
            workers._watched = now
        monkeypatch.setattr(pool.time, "monotonic", lambda now=now: now)
        workers.wait(0)
    assert looked == [100.6, 101.2]
