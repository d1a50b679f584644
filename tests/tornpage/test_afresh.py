"""Recovery may lean on nothing that only the process that ran the program has."""

import dataclasses
import functools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import remembering
from remembering import children, plan
from toy_store import MUTANTS, Toy

from tornpage.certificate import Certificate, merge
from tornpage.certificate.as_text import render
from tornpage.certificate.token import Failure
from tornpage.explore.explorer import CrashPoint, Reached
from tornpage.model import CrashModel
from tornpage.run import Plan, cover, run
from tornpage.run import afresh as module
from tornpage.run.afresh import Afresh
from tornpage.run.experiment import Experiment, Finding
from tornpage.run.killrate import check_mutants
from tornpage.run.report import Gone, Origin, replay, report
from tornpage.run.verify import verify_file
from tornpage.run.worker import work
from tornpage.seen import Seen
from tornpage.subject import Violation

pytestmark = pytest.mark.usefixtures("processes")

REMEMBERING = ["module", "class", "lru_cache", "handle"]


def subject_of(name):
    return getattr(remembering, name)


@functools.cache
def unsynced(way):
    """What is found of a log that never syncs, for the tests that only look at it."""
    name = f"{way}_unsynced"
    return run(subject_of(name), plan(name))


# -- what is found ---------------------------------------------------------------------


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("way", REMEMBERING)
def test_a_store_that_never_syncs_and_remembers_is_violated(way):
    certificate = unsynced(way)
    assert certificate.verdict == "violated"
    (found,) = certificate.violations
    assert found.failure.afresh
    assert "in the one that had, the store remembers" in " ".join(found.story.split())
    assert "lost is operation 1 (create" in found.story


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("way", REMEMBERING)
def test_its_token_reproduces_it(way):
    (found,) = unsynced(way).violations
    failure = Failure.from_token(found.failure.token())
    assert failure == found.failure
    subject = subject_of(f"{way}_unsynced")
    assert replay(subject, failure) == found.story
    without = dataclasses.replace(failure, afresh=False)
    with pytest.raises(Gone):
        replay(subject, without)


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("way", REMEMBERING)
def test_one_that_syncs_and_remembers_is_unverifiable(way):
    name = f"{way}_synced"
    certificate = run(subject_of(name), plan(name))
    assert certificate.verdict == "unverifiable"
    (doubt,) = certificate.doubts()
    # What it asked, and returned, here and there, and what to do.
    call = (
        r"call 6 of recovery to the disk was none, but 'look up /db/' at \w+.py:\d+ in"
    )
    returned = r"recovery returned \['one', 'two'\], but \[\] in a process that has"
    wanted = returned if way == "class" else f"{call} .*; {returned}"
    assert re.search(wanted, doubt), doubt
    assert "have recover clear it" in doubt
    assert certificate.coverage.programs == 0


def test_one_that_clears_what_it_remembers_is_consistent():
    certificate = run(remembering.module_cleared, plan("module_cleared"))
    assert certificate.verdict == "consistent"


def test_a_store_that_remembers_nothing_is_told_without_it():
    unsynced = run(remembering.none_unsynced, plan("none_unsynced"))
    assert unsynced.verdict == "violated"
    assert not unsynced.violations[0].failure.afresh
    synced = run(remembering.none_synced, plan("none_synced"))
    assert synced.verdict == "consistent"


def test_a_strict_check_tells_no_story_about_what_only_the_process_remembers():
    """What was never acknowledged is there before it is written: that is no disk's."""
    certificate = run(remembering.strict_synced, plan("strict_synced"))
    assert certificate.verdict == "unverifiable"
    doubt, *_ = certificate.doubts()
    assert doubt.startswith("the program of seed 0: 'check' seems broken, but after")
    assert "have recover clear it" in doubt
    # So it is in a process that has run it before.
    again = run(remembering.strict_synced, plan("strict_synced"))
    assert again.doubts()[0].startswith("the program of seed 0: 'check' seems broken")


def test_what_the_disk_has_lost_is_found_below_a_strict_check():
    certificate = run(remembering.strict_unsynced, plan("strict_unsynced"))
    (found,) = certificate.violations
    assert found.failure.afresh
    assert replay(remembering.strict_unsynced, found.failure) == found.story


def test_without_that_the_story_is_about_a_disk(monkeypatch):
    monkeypatch.setattr(Afresh, "overturned", lambda *_: None)
    certificate = run(remembering.strict_synced, plan("strict_synced"))
    assert certificate.verdict == "violated"
    assert "An honest disk everywhere" in certificate.violations[0].story


@pytest.mark.parametrize("name", ["good_of_the_run", "good_of_recovery"])
def test_a_store_that_remembers_what_is_torn_on_the_disk_is_violated(name):
    """A slot is written in place; what a crash tears is had from the process.

    Where everything is lost, or nothing, the slot is whole.
    """
    remembering.forget()
    (found,) = run(subject_of(name), plan(name)).violations
    assert found.failure.afresh
    assert "lost is operation 1 (write" in found.story
    assert "'lost'" in found.story
    assert replay(subject_of(name), found.failure) == found.story


def test_a_subject_on_a_plain_disk_is_looked_at_too():
    certificate = run(remembering.Plain(), plan("Plain"))
    assert certificate.verdict == "violated"
    assert certificate.violations[0].failure.afresh


def test_and_told_with_the_line_when_it_syncs():
    synced = run(remembering.PlainSynced(), plan("PlainSynced"))
    assert synced.verdict == "unverifiable"
    assert (
        "that loses all that it may, recovery returned one; two, but nothing in"
        in (synced.doubts()[0])
    )


class RaisesAlone(remembering.PlainSynced):
    """Recovery makes no file where there is none, and was never asked to here."""

    def recover(self, disk):
        if not disk.exists("log") and "log" not in self.kept:
            raise FileNotFoundError("log")
        return super().recover(disk)


def test_what_recovery_raises_only_afresh_is_a_doubt_and_no_loss_of_data():
    """It may be what the process lacks: a copy has no thread, and no file, of it."""
    certificate = run(RaisesAlone(), plan("PlainSynced"))
    assert certificate.verdict == "unverifiable"
    assert "but FileNotFoundError at test_afresh.py" in certificate.doubts()[0]


def test_in_a_process_that_has_run_programs_it_is_a_doubt_all_the_same():
    """What an earlier test has left looks like what this program leaves."""
    assert run(remembering.Plain(), plan("Plain")).verdict == "violated"
    for _ in range(2):
        certificate = run(remembering.Plain(), plan("Plain"))
        assert certificate.verdict == "unverifiable"
        assert "has not run the program" in certificate.doubts()[0]


def test_caches_that_do_no_harm_raise_no_doubt():
    certificate = run(remembering.harmless, plan("harmless"))
    assert certificate.verdict == "consistent"
    assert not certificate.unchecked


def test_a_right_store_is_compared_and_stays_consistent(monkeypatch):
    compared = []
    right = Afresh.difference
    monkeypatch.setattr(
        Afresh, "difference", lambda *given: compared.append(1) or right(*given)
    )
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=6))
    assert certificate.verdict == "consistent"
    # Those with operations or source lines that no earlier one had.
    assert 0 < len(compared) < 4


# -- planted faults: without the check nothing of it shows -----------------------------


@pytest.mark.parametrize(
    "name", [*(f"{way}_unsynced" for way in REMEMBERING), "Plain", "PlainSynced"]
)
def test_without_the_comparison_it_passes_for_consistent(name, monkeypatch):
    monkeypatch.setattr(Afresh, "difference", lambda *_: None)
    subject = subject_of(name)
    if isinstance(subject, type):
        subject = subject()
    assert run(subject, plan(name)).verdict == "consistent"


class Hashed(Toy):
    """Recovery does not read again what it has read: the answer is the same."""

    known = {}  # noqa: RUF012 - it is meant to be shared.

    def recover(self, disk):
        if not disk.exists("toy.db"):
            return super().recover(disk)
        head = disk.open("toy.db").pread(4096, 0)
        if head not in self.known:
            self.known[head] = super().recover(disk)
        return self.known[head]


def test_what_is_asked_of_the_disk_is_compared_and_not_outcomes_only():
    certificate = run(Hashed(), Plan(spec="toy_store:Toy", programs=1))
    assert certificate.verdict == "unverifiable"
    (doubt,) = certificate.doubts()
    assert re.search(r"was none, but 'look up toy.db' at toy_store.py", doubt)
    assert "recovery returned" not in doubt


# -- a recovery that cannot do without the process -------------------------------------


class Attached(Toy):
    """Recovery looks for the keys that the program has left in the subject."""

    keys = ()

    def run(self, program, disk):
        self.keys = {one[1] for one in program if one[0] == "put"}
        return super().run(program, disk)

    def recover(self, disk):
        found = super().recover(disk)
        return found if self.keys else ("open", 0, "{}")


class Lost(Attached):
    def recover(self, disk):
        assert self.keys
        return super().recover(disk)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Attached, "returned"), (Lost, "to the disk was 'look up toy.db'")],
)
def test_that_is_a_doubt_and_no_loss_of_data(kind, said):
    certificate = run(kind(), Plan(spec="toy_store:Toy", programs=1))
    assert certificate.verdict == "unverifiable"
    assert f"recovery {said}" in certificate.doubts()[0]


class Random(Toy):
    """What it returns cannot go from one process to another."""

    def recover(self, disk):
        class Here(tuple):
            __slots__ = ()

            def __eq__(self, other):
                return tuple(self) == tuple(other)

            __hash__ = tuple.__hash__

        return Here(super().recover(disk))


def test_what_cannot_be_pickled_is_compared_as_it_is_shown():
    certificate = run(Random(), Plan(spec="toy_store:Toy", programs=3))
    assert certificate.verdict == "consistent"


@dataclasses.dataclass(frozen=True)
class Boxed:
    """What can be pickled, and not be had again, or as another one only."""

    found: tuple
    lossy: bool

    def __reduce__(self):
        return (Boxed, ((), self.lossy)) if self.lossy else (int, ("none",))


class Boxing(Toy):
    def __init__(self, *, lossy):
        super().__init__()
        self.lossy = lossy

    def recover(self, disk):
        return Boxed(super().recover(disk), self.lossy)

    def judge(self, history, marks, outcome):
        return super().judge(history, marks, outcome.found)

    def describe_outcome(self, outcome):
        return super().describe_outcome(outcome.found)


@pytest.mark.thorough(rows=8)
@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_what_cannot_be_had_again_is_no_hindrance(lossy, mutant):
    plan = Plan(spec="toy_store:Toy", programs=6, mutant=mutant)
    certificate = run(Boxing(lossy=lossy), plan)
    assert certificate.verdict == ("violated" if mutant else "consistent")


def test_what_is_another_one_there_is_told_by_its_values():
    lossy = Seen(("list", ()), ["a"])
    assert pickle.loads(pickle.dumps(lossy)) != lossy


# -- wherever programs are run ---------------------------------------------------------


def test_a_planted_bug_is_planted_there_too():
    for name in MUTANTS:
        found = run(Toy(), Plan(spec="toy_store:Toy", programs=6, mutant=name))
        assert found.verdict == "violated"
        assert not any(one.failure.afresh for one in found.violations)


def test_a_token_has_the_planted_bug_that_it_was_seen_with():
    planted = dataclasses.replace(plan("Plain"), mutant="again")
    (found,) = run(remembering.Plain(), planted).violations
    assert found.failure.mutant == "again"
    assert replay(remembering.Plain(), found.failure) == found.story
    rate = check_mutants(remembering.Plain(), plan("Plain"))
    assert rate.mutants["again"].verdict == "unverifiable"


def test_keep_going_ends_there_because_nothing_more_can_be_said():
    going = dataclasses.replace(plan("Plain"), programs=4, keep_going=True)
    certificate = run(remembering.Plain(), going)
    assert certificate.verdict == "violated"
    assert certificate.cut
    assert sum(many for _, many in certificate.seeds) == 1


def test_the_fixture_of_pytest_fails_the_test_with_it(tornpage):
    with pytest.raises(AssertionError, match="BROKEN: P"):
        tornpage.check(remembering.Plain())
    with pytest.raises(AssertionError, match=r"has\s+not run the program"):
        tornpage.check(remembering.PlainSynced())


def test_one_program_is_covered_so():
    certificate = cover(remembering.Plain(), plan("Plain"), ("one", "two"), None)
    assert certificate.verdict == "violated"
    assert not certificate.records


def command(*given, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "tornpage", *given],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_the_command_tells_it_and_replays_it(elsewhere):
    told = command("run", "remembering:Plain", cwd=elsewhere)
    assert told.returncode == 1
    words = told.stdout.splitlines()[-1].split()
    assert words[:2] == ["tornpage", "run"]
    again = command(*words[1:], cwd=elsewhere)
    assert again.returncode == 1
    assert again.stdout.startswith("BROKEN: P")
    assert told.stdout.endswith(again.stdout)


@pytest.mark.thorough
def test_the_story_told_is_not_of_what_recovery_remembers(elsewhere):
    told = command("run", "remembering:read_once_unsynced", cwd=elsewhere)
    assert "2 operations; not shrunk: anything smaller" in " ".join(told.stdout.split())
    again = command(*told.stdout.splitlines()[-1].split()[1:], cwd=elsewhere)
    assert (told.returncode, again.returncode) == (1, 1), again.stdout + again.stderr


@pytest.mark.thorough
def test_workers_look_at_it_too(elsewhere):
    done = command(
        "fuzz", "remembering:PlainSynced", "-n", "2", "--seeds", "0..3", "--json", "c",
        cwd=elsewhere,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    certificate = Certificate.from_json(json.loads((elsewhere / "c").read_text()))
    assert any("has not run the program" in one for one in certificate.cut)
    unsynced = command(
        "fuzz", "remembering:Plain", "-n", "2", "--seeds", "0..3", cwd=elsewhere
    )
    assert unsynced.returncode == 1, unsynced.stdout + unsynced.stderr
    assert "BROKEN: P" in unsynced.stdout


@pytest.mark.thorough
def test_a_certificate_made_without_it_is_refuted(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    with monkeypatch.context() as off:
        off.setattr(Afresh, "difference", lambda *_: None)
        certificate = run(remembering.Plain(), plan("Plain"))
    path.write_text(json.dumps(certificate.to_json()))
    assert certificate.verdict == "consistent"
    assert verify_file(str(path)).verdict == "refuted"


# -- where it cannot be had ------------------------------------------------------------


def test_without_fork_the_certificate_says_so_and_does_not_fail(monkeypatch):
    monkeypatch.setattr("tornpage.run.pristine._fork", None)
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=2))
    assert certificate.verdict == "consistent"
    (clause,) = certificate.unchecked
    assert "cannot copy a process" in clause
    shown = " ".join(render(certificate).split())
    assert f"about {clause}, or about crashes outside" in shown
    assert Certificate.from_json(certificate.to_json()) == certificate
    other = run(Toy(), Plan(spec="toy_store:Toy", programs=2, seed=2))
    assert merge(certificate, other).unchecked == (clause,)


def test_a_certificate_of_before_can_be_read():
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=1))
    data = certificate.to_json()
    del data["unchecked"]
    assert Certificate.from_json(data) == certificate


def test_a_process_that_cannot_be_forked_is_no_failure(monkeypatch):
    for error in BlockingIOError(11, "a few too many"), ValueError("a few too many"):

        def refuse(error=error):
            raise error

        monkeypatch.setattr("tornpage.run.pristine._fork", refuse)
        certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=1))
        assert certificate.verdict == "consistent"
        assert "a few too many" in certificate.unchecked[0]


def test_a_process_without_descriptors_to_spare_is_no_failure(monkeypatch):
    real = os.pipe
    for spare in 0, 1:
        left = iter(range(spare))

        def pipe(left=left):
            if next(left, None) is None:
                raise OSError(24, "Too many open files")
            return real()

        present = os.listdir("/dev/fd")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe", pipe)
            certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=1))
        assert certificate.verdict == "consistent"
        assert "Too many open files" in certificate.unchecked[0]
        assert len(os.listdir("/dev/fd")) == len(present)


def forks(monkeypatch, most, *, at_once):
    """Let a process and its copies have so many copies, in all or at once."""
    original, real, made = os.getpid(), os.fork, []
    others = children()

    def fork():
        if at_once:
            known = {*psutil.Process(original).children(recursive=True)} - others
            made[:] = [one for one in known if one.status() != psutil.STATUS_ZOMBIE]
        if len(made) >= most:
            raise BlockingIOError(11, "a few too many")
        made.append(None)
        return real()

    monkeypatch.setattr("tornpage.run.pristine._fork", fork)


def test_a_copy_that_cannot_be_copied_is_no_failure(monkeypatch):
    forks(monkeypatch, 1, at_once=False)
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=3))
    assert certificate.verdict == "consistent"
    (clause,) = certificate.unchecked
    assert "could not be copied often enough" in clause


def test_room_for_two_more_processes_is_enough(monkeypatch):
    forks(monkeypatch, 2, at_once=True)
    (found,) = run(subject_of("module_unsynced"), plan("module_unsynced")).violations
    assert found.failure.afresh


def test_a_program_that_waits_for_no_child_hears_of_it_all_the_same():
    # As it is inherited from some supervisors.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        certificate = run(subject_of("module_unsynced"), plan("module_unsynced"))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert certificate.verdict == "violated"


def test_very_large_files_are_not_looked_at_and_it_is_said(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    certificate = run(Toy(), Plan(spec="toy_store:Toy", programs=1))
    assert certificate.verdict == "consistent"
    assert "files have more than" in certificate.unchecked[0]


class Hanging(Toy):
    def recover(self, disk):
        if os.getsid(0) != SESSION:
            time.sleep(100)
        return super().recover(disk)


SESSION = os.getsid(0)


def test_a_recovery_that_hangs_there_is_a_doubt(monkeypatch):
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "_WAIT_TIMES", 0)
    certificate = run(Hanging(), Plan(spec="toy_store:Toy", programs=1))
    assert certificate.verdict == "unverifiable"
    assert "did not answer" in certificate.doubts()[0]


def test_threads_that_may_be_why_it_hangs_are_named(monkeypatch):
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "_WAIT_TIMES", 0)
    ends = threading.Event()
    other = threading.Thread(target=ends.wait, name="janitor")
    other.start()
    try:
        certificate = run(Hanging(), Plan(spec="toy_store:Toy", programs=1))
    finally:
        ends.set()
        other.join()
    # Tests of runs that do not end leave threads, too.
    assert "janitor) is held there" in certificate.doubts()[0]


def test_points_are_those_with_most_pending_and_the_last():
    subject = Toy()
    made = Experiment(subject, subject.generate(0), CrashModel(), cap=100)
    most, last = module._points(made.explorer)
    points = [one for one in made.explorer.points() if not one.inside]
    assert last == points[-1]
    counts = [len(made.explorer.pending(one)) for one in points]
    assert len(made.explorer.pending(most)) == max(counts)


# -- made small ------------------------------------------------------------------------


@pytest.mark.parametrize("way", REMEMBERING)
def test_what_is_seen_afresh_is_made_as_small_as_anything_else(way):
    (found,) = unsynced(way).violations
    assert found.shrunk
    assert (found.found_size, found.shrunk_size) == (2, 1)
    assert "to a local minimum" in found.shrinking
    dishonest = [pick for pick in found.failure.at.partition(":")[2].split(".") if pick]
    assert sum(pick != "0" for pick in dishonest) == 1


def test_it_is_left_as_it_is_by_whoever_can_make_no_recovery_afresh():
    (found,) = run(remembering.Plain(), plan("Plain")).violations
    program = remembering.Plain().decode(found.failure.program)
    experiment = Experiment(remembering.Plain(), program, CrashModel(), cap=100)
    violation = Violation(found.property, found.message)
    finding = Finding(violation, CrashPoint(1), Reached((), (1,), ()), afresh=True)
    told, _ = report(Origin("x", CrashModel()), experiment, finding, seed=None)
    assert not told.shrunk


def test_nothing_is_made_small_by_what_recovery_remembers_of_other_crashes():
    """The directory is never synced, so it is broken; a story must not be of a cache.

    Whoever recovers sees the text for good that any recovery before has read, on an
    empty disk, too.
    """
    remembering.forget()
    name = "read_once_unsynced"
    subject = remembering.read_once_unsynced
    (found,) = run(subject, plan(name)).violations
    assert not found.shrunk
    assert "only what recovery remembers" in found.shrinking
    assert found.shrunk_size == found.found_size
    # Whoever replays it has a process that remembers nothing.
    remembering.forget()
    assert replay(subject, found.failure)


def test_no_order_is_looked_for_by_recoveries_that_remember():
    remembering.forget()
    subject = remembering.read_once_unsynced
    with Afresh(subject) as afresh:
        experiment = Experiment(subject, subject.generate(0), CrashModel(), cap=100)
        finding = experiment.first("check")
        # Whatever has arrived, this is what is seen here from now on.
        remembering.READ["/db"] = "two"
        origin = Origin("remembering:read_once_unsynced", CrashModel())
        told, _ = report(origin, experiment, finding, seed=0, afresh=afresh)
    assert not told.shrunk
    assert "In short" not in told.story


def test_a_worker_leaves_to_the_finder_what_it_remembers_itself():
    remembering.forget()
    subject = remembering.read_once_unsynced
    with Afresh(subject) as afresh:
        found = dataclasses.replace(plan("read_once_unsynced"), shrink=False)
        (violation,) = cover(
            subject, found, subject.generate(0), 0, afresh=afresh
        ).violations
        task = {"task": "shrink", "token": violation.failure.token(), "seed": 0}
        remembering.READ["/db"] = "two"
        assert work(subject, found, task, afresh=afresh)["violation"] is None


def test_a_worker_makes_it_small_too():
    subject = remembering.module_unsynced
    with Afresh(subject) as afresh:
        found = dataclasses.replace(plan("module_unsynced"), shrink=False)
        (violation,) = cover(
            subject, found, subject.generate(0), 0, afresh=afresh
        ).violations
        task = {"task": "shrink", "token": violation.failure.token(), "seed": 0}
        told = work(subject, found, task, afresh=afresh)["violation"]
        assert (violation.shrunk, told["shrunk"], told["shrunk_size"]) == (
            False,
            True,
            1,
        )
        assert work(subject, found, task)["violation"] is None
