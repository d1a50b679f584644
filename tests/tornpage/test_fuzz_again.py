"""What a run has found is there for the next one, however the run ended.

No processes: a pool that does each task when it is asked for what happened.
"""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
from toy_store import Toy

from tornpage.certificate import from_json
from tornpage.command import main
from tornpage.fuzz import Corpus, Fuzzer
from tornpage.fuzz import fuzzer as fuzzer_module
from tornpage.registry import load
from tornpage.run import Plan
from tornpage.run.fingerprint import program_id
from tornpage.run.plan_as_json import plan_from_json, plan_to_json
from tornpage.run.pool import Answer, Pool, PoolError
from tornpage.run.worker import work

pytestmark = pytest.mark.usefixtures("elsewhere")

TOY = "toy_store:Toy"
FOLDER = ".tornpage/corpus/toy_store-Toy-no-sync/programs"


def done(plan, task):
    """What a worker answers."""
    theirs = plan_from_json(plan_to_json(plan))
    return Answer(task, json.loads(json.dumps(work(load(plan.spec), theirs, task))), 0)


class Here:
    """A pool of one worker, which is this process."""

    peak_rss = replaced = 0
    last = None

    def __init__(self, plan, size, *, limits, code):
        self.plan, self.task, self.done = plan, None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def busy(self):
        return self.task is not None

    def idle(self):
        return not self.busy

    def tasks(self):
        return [self.task] if self.busy else []

    def give(self, task):
        self.task = task

    def wait(self, _):
        if self.done == self.last:
            raise PoolError("Worker 1 cannot be started: Cannot allocate memory.")
        self.done += 1
        answer, self.task = done(self.plan, self.task), None
        return [answer]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(fuzzer_module, "Pool", Here)
    return Here


def fuzz(capsys, *options):
    status = main(["fuzz", TOY, "--mutant", "no-sync", "-n", "1", *options])
    return status, capsys.readouterr()


def replays(said):
    return [line for line in said.out.splitlines() if "--replay" in line]


def test_the_next_run_shows_again_what_the_last_one_found(capsys):
    """It went on with other seeds, and what was found looked as if it were mended."""
    status, said = fuzz(capsys, "--programs", "3")
    assert status == 1
    assert replays(said)
    status, again = fuzz(capsys, "--programs", "1")
    assert status == 1
    assert "Found with the corpus" in again.out
    assert set(replays(said)) <= set(replays(again))


def test_what_was_found_is_kept_before_the_run_ends():
    plan = Plan(spec=TOY, programs=1, mutant="no-sync")
    with Corpus("corpus", plan) as corpus:
        fuzzer = Fuzzer(load(TOY), plan, corpus, workers=1)
        program = Toy().generate(0)
        task = {"task": "seed", "seed": 0}
        fuzzer._answered(done(plan, task))
        kept = f"{program_id(Toy().encode(program))}.json"
        assert os.listdir("corpus/programs") == [kept]


def test_of_many_failures_the_programs_of_those_that_are_told_are_held():
    """A store that is broken all over would have a corpus of nothing else."""
    plan = Plan(spec=TOY, programs=1, mutant="no-sync")
    task = {"task": "seed", "seed": 0}
    (one,) = from_json(done(plan, task).data["certificate"]).violations
    with Corpus(None, plan) as corpus:
        fuzzer = Fuzzer(load(TOY), plan, corpus, workers=1)
        for seed in (7, 2, 4, 5, 3, 6):
            failure = replace(one.failure, program=[["put", "a", str(seed)]])
            fuzzer._failed(replace(one, seed=seed, cause=str(seed), failure=failure))
        held = sorted(entry.program[0][2] for entry in corpus.programs())
    assert held == ["2", "3", "4"]
    assert len(held) == fuzzer_module.MOST_CAUSES


def test_which_programs_are_held_does_not_depend_on_who_was_first():
    plan = Plan(spec=TOY, programs=1, mutant="no-sync")
    tasks = [{"task": "seed", "seed": seed} for seed in range(8)]
    answers = [done(plan, task) for task in tasks]
    held = []
    for order in (answers, answers[::-1]):
        with Corpus(None, plan) as corpus:
            fuzzer = Fuzzer(load(TOY), plan, corpus, workers=1)
            for answer in order:
                fuzzer._answered(answer)
            held.append([entry.name for entry in corpus.programs()])
    assert held[0] == held[1]
    assert held[0]


def test_what_was_mended_goes(monkeypatch):
    monkeypatch.setenv("TOY_TURN", "no-sync")
    folder = ".tornpage/corpus/toy_fuzz-Turned/programs"
    assert main(["fuzz", "toy_fuzz:Turned", "--programs", "2", "--quiet"]) == 1
    held = os.listdir(folder)
    assert held
    monkeypatch.delenv("TOY_TURN")
    assert main(["fuzz", "toy_fuzz:Turned", "--programs", "6", "--quiet"]) == 0
    for name in {*held} & {*os.listdir(folder)}:
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            assert json.load(file)["features"], "it shows what no other one does"


# -- no more workers -------------------------------------------------------------------


def test_a_run_that_loses_its_workers_tells_what_it_has_found(capsys, monkeypatch):
    """It was a usage error after hours of work, and what was found was gone."""
    monkeypatch.setattr(Here, "last", 2)
    status, said = fuzz(capsys, "--programs", "9")
    assert status == 1
    assert replays(said)
    assert "could not go on: Worker 1 cannot be started: Cannot allocate" in said.err
    assert os.listdir(".tornpage/failures")


@pytest.mark.parametrize("seeds", [("--programs", "9"), ("--seeds", "0..8")])
def test_a_run_that_loses_its_workers_is_no_pass(capsys, monkeypatch, seeds):
    monkeypatch.setattr(Here, "last", 3)
    assert main(["fuzz", TOY, "-n", "1", "--json", "-", *seeds]) == 3
    said = capsys.readouterr().out
    assert '"verdict": "unverifiable"' in said
    assert "the run could not go on: Worker 1 cannot be started" in said
    assert "interrupted in the program of seed 3, which is not covered" in said
    assert '"programs": 3,' in said


def test_a_run_that_never_had_a_worker_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(Here, "last", 0)
    with pytest.raises(SystemExit) as ended:
        main(["fuzz", TOY, "--programs", "9"])
    assert ended.value.code == 2
    assert "Cannot allocate memory" in capsys.readouterr().err


class Said:
    """A worker that has said something and, maybe, ended."""

    place, ready, killed_for = 0, True, ""

    def __init__(self, task, *, ended):
        self.task, self.ended = task, ended

    def receive(self):
        return ([] if self.ended else [{"certificate": 1}]), self.ended


@pytest.mark.parametrize("first", [0, 1])
def test_what_came_in_before_workers_ran_out_is_not_lost(monkeypatch, first):
    """Nor was it declared: its task was done, and nobody had the answer."""

    def buried(_pool, _worker):
        raise PoolError("no more")

    monkeypatch.setattr(Pool, "_buried", buried)
    heard = [Said({"n": 1}, ended=False), Said({"n": 2}, ended=True)]
    keys = [(SimpleNamespace(data=one), 1) for one in heard]
    said = iter([keys[first:], []])
    with Pool(Plan(spec=TOY, programs=1), 0) as pool:
        pool._selector.close()
        pool._selector = SimpleNamespace(
            select=lambda _: next(said), close=lambda: None
        )
        if not first:
            (event,) = pool.wait(0)
            assert (event.task, heard[0].task) == ({"n": 1}, None)
        with pytest.raises(PoolError, match="no more"):
            pool.wait(0)
