"""Runs: verdicts, bounds, interruption, the checker checked."""

import dataclasses
import gc
import itertools
import os
import re
import threading
from pathlib import Path

import pytest
import toy_store
from toy_store import MUTANTS, Blind, Idle, Toy, Unread

from tornpage.certificate import merge
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.run import Experiment, Plan, check_mutants, cover, report, run
from tornpage.run.killrate import row

PLAN = Plan(spec="toy_store:Toy", programs=3)


def test_a_correct_store_is_consistent_and_every_point_is_closed():
    certificate = run(Toy(), PLAN)
    assert certificate.verdict == "consistent"
    seen = certificate.coverage
    assert seen.programs == 3
    assert seen.closed == seen.crash_points > 30
    assert seen.closed_share == 1.0
    assert sum(seen.points.values()) == seen.crash_points
    # Two points for each operation, and one at the end of each program.
    assert seen.crash_points == 2 * sum(seen.operations.values()) + 3
    assert seen.faults["dropped"] > 0
    assert seen.faults["entry lost"] > 0
    assert seen.images > seen.largest > 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seed": "0"}, "seed is a whole number, not '0'"),
        ({"seed": float("nan")}, "seed is a whole number"),
        ({"programs": -1}, "programs is a number from 0 on, not -1"),
        ({"programs": float("inf")}, "programs is a number from 0 on"),
        ({"seconds": 0}, "seconds is a number above 0"),
        ({"seconds": float("inf")}, "seconds is a number above 0, and not infinite"),
        ({"seconds": float("nan")}, "seconds is a number above 0"),
        ({"seconds": 10**400}, "seconds is a number above 0"),
        ({"cap": 0}, "cap is a number from 1 on, not 0"),
        ({"cap": None}, "cap is a number from 1 on, not None"),
    ],
)
def test_a_plan_that_means_nothing_is_refused_when_it_is_made(wrong, says):
    """It ran without end, or ended in the middle: 'str' and 'int' cannot be added."""
    with pytest.raises(ValueError, match=f"^{says}"):
        Plan(**{"spec": "toy_store:Toy", "programs": 3, **wrong})


class Small(Toy):
    """Its commits fit into one sector: torn at any byte, they still close."""

    def generate(self, seed):
        return (("put", "a", "x"), ("commit",), ("put", "b", "yy"), ("commit",))


@pytest.mark.parametrize("model", ["tear=page", "tear=byte", "order=ordered"])
def test_a_correct_store_is_consistent_under_every_model(model):
    plan = dataclasses.replace(PLAN, programs=1, model=CrashModel.parse(model))
    assert run(Small(), plan).verdict == "consistent"


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_violated_and_shrunk(name):
    certificate = run(Toy(), dataclasses.replace(PLAN, programs=6, mutant=name))
    assert certificate.verdict == "violated"
    (found,) = certificate.violations
    assert found.shrunk_size <= 4
    assert found.shrunk_size <= found.found_size
    assert "local minimum" in found.shrinking
    assert certificate.coverage.violating == {found.property: 1}


def test_a_run_is_the_same_each_time():
    plan = dataclasses.replace(PLAN, mutant="no-checksum")
    first, second = (run(Toy(), plan, clock=lambda: 0) for _ in range(2))
    assert first == second


def test_a_planted_bug_is_gone_after_the_run():
    subject = Toy()
    run(subject, dataclasses.replace(PLAN, mutant="no-sync"))
    assert run(subject, PLAN).verdict == "consistent"


def test_without_keep_going_the_run_ends_at_the_first_violation():
    plan = dataclasses.replace(PLAN, programs=5, mutant="no-sync")
    certificate = run(Toy(), plan)
    assert sum(count for _, count in certificate.seeds) == 1
    assert len(certificate.violations) == 1


def test_with_keep_going_every_program_runs_and_each_property_is_told_once():
    plan = dataclasses.replace(PLAN, programs=5, mutant="no-sync", keep_going=True)
    certificate = run(Toy(), plan)
    assert certificate.seeds == ((0, 5),)
    assert certificate.coverage.programs == 5
    assert certificate.coverage.violating["P persistence"] > 1
    told = [violation.property for violation in certificate.violations]
    assert sorted(told) == sorted(set(told))


def test_a_program_without_operations_has_nothing_to_prove():
    certificate = run(Idle(), PLAN)
    assert certificate.verdict == "unverifiable"
    assert "nothing was exercised" in certificate.doubts()[0]


def test_a_recovery_that_reads_nothing_proves_nothing():
    certificate = run(Unread(), PLAN)
    assert certificate.coverage.crash_points > 30
    assert certificate.verdict == "unverifiable"
    assert "nothing was exercised" in certificate.doubts()[0]


def test_a_crash_point_that_hits_the_cap_is_unverifiable():
    certificate = run(Toy(), dataclasses.replace(PLAN, cap=2))
    assert certificate.verdict == "unverifiable"
    assert certificate.coverage.closed_share < 1
    assert "not closed" in certificate.doubts()[0]


def test_an_unclosed_point_is_named_with_the_reads_it_branched_on():
    certificate = run(Toy(), dataclasses.replace(PLAN, cap=2))
    missing = certificate.coverage.crash_points - certificate.coverage.closed
    assert 0 < len(certificate.unclosed) <= missing
    first = certificate.unclosed[0]
    assert (first.seed, first.executions) == (0, 2)
    assert first.where.startswith(("inside", "before", "at the end"))
    assert any("toy.db" in read for read in first.reads)
    assert str(first) in certificate.doubts()[1]


def test_a_closed_run_names_no_unclosed_point():
    assert run(Toy(), PLAN).unclosed == ()


class Clock:
    """A clock that goes on by so many seconds each time it is read."""

    def __init__(self, seconds):
        self.ticks = itertools.count(0, round(seconds * 1e9))

    def __call__(self):
        return next(self.ticks)


def test_time_bounds_the_number_of_programs_and_finishes_the_started_one():
    plan = dataclasses.replace(PLAN, programs=None, seconds=2.0)
    certificate = run(Toy(), plan, clock=Clock(0.02))
    assert certificate.verdict == "consistent"
    assert certificate.coverage.programs == certificate.seeds[0][1] < 20


def test_a_program_given_up_for_time_is_declared_not_covered():
    plan = dataclasses.replace(PLAN, programs=None, seconds=1.0)
    certificate = run(Toy(), plan, clock=Clock(0.9))
    assert certificate.verdict == "unverifiable"
    assert certificate.coverage.programs == 0
    assert any("given up" in doubt for doubt in certificate.doubts())


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ValueError, match="needs an end"):
        Plan(spec="toy")


def interrupt_after(points):
    def watch(counts):
        if counts.crash_points >= points:
            raise KeyboardInterrupt

    return watch


def test_ctrl_c_ends_early_with_what_was_covered():
    certificate = run(Toy(), PLAN, watch=interrupt_after(7))
    assert certificate.verdict == "unverifiable"
    assert certificate.coverage.crash_points == 7
    assert any("interrupted" in doubt for doubt in certificate.doubts())


def test_a_run_leaves_the_collector_as_it_was():
    before = gc.get_threshold()
    during = []
    run(Toy(), PLAN, watch=lambda _: during.append(gc.get_threshold()))
    assert gc.get_threshold() == before
    assert set(during) != {before}


class Interrupted(Toy):
    """Whoever watches has enough in the middle of the fifth recovery."""

    recoveries = 0

    def recover(self, disk):
        self.recoveries += 1
        if self.recoveries == 5:
            raise KeyboardInterrupt
        return super().recover(disk)


def test_ctrl_c_during_a_recovery_is_no_finding_about_it():
    certificate = run(Interrupted(), PLAN)
    assert certificate.violations == ()
    assert certificate.interrupted


class InterruptedShrinking(Toy):
    runs = 0

    def run(self, program, disk):
        self.runs += 1
        if self.runs == 4:
            raise KeyboardInterrupt
        return super().run(program, disk)


def test_ctrl_c_while_shrinking_keeps_the_violation():
    plan = dataclasses.replace(PLAN, mutant="no-sync")
    certificate = run(InterruptedShrinking(), plan)
    assert certificate.verdict == "violated"
    assert "interrupted" in certificate.violations[0].shrinking
    assert "Replay" in certificate.violations[0].story


@pytest.mark.parametrize("part", ["case", "replay"])
def test_ctrl_c_while_shrinking_is_said_and_no_program_is_begun_after_it(
    part, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report._Judge, part, interrupted)
    plan = dataclasses.replace(PLAN, mutant="no-sync", keep_going=True, programs=9)
    certificate = run(Toy(), plan)
    (found,) = certificate.violations
    assert certificate.interrupted
    said = f"interrupted while shrinking the program of seed {found.seed}"
    assert certificate.cut == (said,)
    assert certificate.seeds == ((0, found.seed + 1),)
    # The story is of the smallest that is known by then.
    assert (found.shrunk_size == found.found_size) == (part == "case")
    assert "An honest disk everywhere" in found.story


def test_two_halves_merge_to_the_whole():
    whole = run(Toy(), dataclasses.replace(PLAN, programs=4), clock=lambda: 0)
    halves = [
        run(Toy(), dataclasses.replace(PLAN, programs=2, seed=seed), clock=lambda: 0)
        for seed in (0, 2)
    ]
    assert merge(*halves) == whole


def test_the_planted_bugs_are_all_caught_by_the_honest_checker():
    rows = []
    rate = check_mutants(
        Toy(),
        dataclasses.replace(PLAN, programs=6),
        seen=lambda name, found: rows.append(row(name, found)),
    )
    assert rate.caught == len(MUTANTS)
    assert rate.passed
    assert [line.split()[0] for line in rows[1:]] == list(MUTANTS)
    assert max(map(len, rows)) <= 80


def test_ctrl_c_ends_the_whole_check_of_the_planted_bugs():
    rate = check_mutants(Toy(), PLAN, watch=interrupt_after(7))
    assert rate.mutants == {}
    assert not rate.passed


def test_a_blind_checker_passes_a_run_and_is_noticed_by_the_planted_bugs():
    plan = dataclasses.replace(PLAN, programs=6)
    assert run(Blind(), plan).verdict == "consistent"
    rate = check_mutants(Blind(), plan)
    assert not rate.passed
    # What tornpage itself checks, that code returns, needs no judge.
    caught = {n for n, c in rate.mutants.items() if c.verdict == "violated"}
    assert caught == {"raises", "run-raises"}


def in_a_thread(call):
    # Here the disk is used as well: one thread alone is one, whichever it is.
    os.path.exists("/db/text")
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("part", ["run", "recovery", "neither"])
def test_threads_are_seen_in_the_run_and_in_recovery_alone(part):
    def maybe(where, call):
        return in_a_thread(call) if where == part else call()

    def write(root, work, ack):
        def written():
            with open(f"{root}/text", "w", encoding="ascii") as file:
                file.write(work[0])

        maybe("run", written)

    def recover(root):
        return maybe("recovery", lambda: os.path.exists(f"{root}/text"))

    subject = subject_from(
        "threaded",
        run=write,
        recover=recover,
        check=lambda *_: None,
        work=["text"],
        root="/db",
    )
    certificate = run(subject, dataclasses.replace(PLAN, programs=1))
    assert certificate.verdict == "consistent"
    assert ("threads several" in certificate.coverage.features) == (part != "neither")


class Moody(Toy):
    """Not deterministic: what it writes depends on how often it ran."""

    runs = 0

    def run(self, program, disk):
        self.runs += 1
        return super().run((*program, ("put", "z", "x" * self.runs), ("commit",)), disk)


def test_a_program_that_does_not_repeat_itself_is_unverifiable():
    certificate = run(Moody(), PLAN)
    assert certificate.verdict == "unverifiable"
    doubt = certificate.doubts()[0]
    assert "did other things when it was run again" in doubt
    assert "may use datetime.now" in doubt
    # And which, in the words of a story.
    assert re.search(
        r"line \d+ of its trace was write .* at toy_store.py:\d+, then", doubt
    )


def test_a_program_that_breaks_a_promise_in_many_ways_is_one_program_of_it():
    plan = dataclasses.replace(PLAN, mutant="no-sync", keep_going=True, shrink=False)
    certificate = run(Toy(), plan)
    assert certificate.coverage.violating == {"P persistence": 3}
    assert len(certificate.violations) == 1


class Unfollowed(Toy):
    def recover(self, disk):
        raise disk.refuse("os.teleport")


@pytest.mark.parametrize(("seed", "named"), [(4, "seed 4"), (None, "the corpus")])
def test_a_given_program_that_cannot_be_followed_is_declared(seed, named):
    certificate = cover(Unfollowed(), PLAN, Toy().generate(4), seed)
    assert certificate.verdict == "unverifiable"
    assert certificate.violations == ()
    assert certificate.coverage.programs == 0
    assert certificate.cut == (f"the program of {named} is not covered: os.teleport",)
    assert certificate.seeds == (() if seed is None else ((seed, 1),))


class Departing(Toy):
    """A commit more at its end, in the first run or in the second, or another one."""

    runs = 0
    ends = ((), ())

    def run(self, program, disk):
        end = self.ends[self.runs % 2]
        self.runs += 1
        return super().run((*program, *end), disk)


ONE = (("put", "z", "one"), ("commit",))
TWO = (("put", "z", "two"), ("commit",))


@pytest.mark.parametrize(
    ("ends", "first", "second"),
    [
        ((ONE, TWO), "write", "the same with other data"),
        (((), ONE), "nothing", "mark"),
        ((ONE, ()), "mark", "nothing"),
    ],
)
def test_the_first_line_of_a_trace_that_departs_is_named(ends, first, second):
    subject = Departing()
    subject.ends = ends
    experiment = Experiment(subject, subject.generate(0), CrashModel(), cap=9)
    source = Path(toy_store.__file__).read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines()]
    places = {
        "write": "self.file.pwritev([head + check, body], slot * SLOT)",
        "mark": 'disk.mark("begin", txid=len(history))',
    }
    same = len(Experiment(Toy(), Toy().generate(0), CrashModel(), cap=9).disk.trace)
    # Where both write it is behind the mark before it.
    number = same + 1 + (first == "write")
    said = [re.escape(one) for one in (first, second)]
    for at, kind in enumerate((first, second)):
        if kind in places:
            line = lines.index(places[kind]) + 1
            said[at] = rf"{kind} .* at toy_store\.py:{line}"
    wanted = rf"line {number} of its trace was {said[0]}, then {said[1]}"
    assert re.fullmatch(wanted, experiment.departure())


def late_mood(root, work, ack):
    for one in work:
        with open(f"{root}/{one}", "w", encoding="ascii"):
            pass
        if one == 2:
            with open(f"{root}/{next(MOODS)}", "w", encoding="ascii"):
                pass


MOODS = itertools.count(10)


def test_a_later_program_that_does_not_repeat_itself_is_unverifiable():
    """What is not deterministic may be in code that the first program never came by."""
    subject = subject_from(
        "S",
        run=late_mood,
        recover=lambda root: os.listdir(root) and None,
        check=lambda acked, in_flight, seen: None,
        work=lambda rng: [rng.randrange(3)],
        root="/db",
    )
    kinds = [subject.generate(seed)[0] for seed in range(9)]
    assert kinds.index(2) > 1
    certificate = run(subject, Plan(spec="S", programs=9))
    assert certificate.verdict == "unverifiable"
    assert f"seed {kinds.index(2)} did other things" in certificate.doubts()[0]


def test_programs_that_come_by_the_same_places_are_run_twice_once(monkeypatch):
    again = []
    right = Experiment.departure
    monkeypatch.setattr(
        Experiment,
        "departure",
        lambda self: again.append(self.places()) or right(self),
    )
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=20))
    assert certificate.verdict == "consistent"
    assert len(again) == len(set(again)) < 5


class Forgetting(Toy):
    """Not deterministic: recovery reads less each time."""

    opened = 0

    def recover(self, disk):
        self.opened += 1
        if self.opened % 7 == 0:
            return ("open", 0, "{}")
        return super().recover(disk)

    def judge(self, history, marks, outcome):
        return ()


def test_a_recovery_that_does_not_repeat_itself_is_unverifiable():
    certificate = run(Forgetting(), PLAN)
    assert certificate.verdict == "unverifiable"
    assert "nothing but what it reads from the disk" in certificate.doubts()[0]


class Paranoid(Toy):
    """A sabotaged checker: it always complains."""

    def judge(self, history, marks, outcome):
        from tornpage.subject import Violation

        return (Violation("P persistence", "Surely something is wrong."),)


def test_a_checker_that_always_complains_is_noticed_without_a_planted_bug():
    rate = check_mutants(Paranoid(), PLAN)
    assert rate.caught == len(MUTANTS)
    assert not rate.passed
    assert "says little" in rate.summary()


def test_a_subject_without_planted_bugs_has_no_kill_rate():
    class Unmutated(Toy):
        def mutants(self):
            return {}

    assert not check_mutants(Unmutated(), PLAN).passed
