"""Work that is dealt out to processes comes back whole, once, or is said to be lost."""

from __future__ import annotations

import gc
import json
import signal
import time
import weakref
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from unittest.mock import Mock

import pytest
from gating import lanes, units, workers
from gating.lanes import Gate
from tests.ci.small_gates import a_policy

from tornpage.reports.scene import SceneError
from tornpage.run import Experiment


def test_two_workers_give_the_same_result_as_one(tmp_path):
    made = {}
    for count in (1, 2):
        policy = a_policy(workers=count, programs=5, models=("ext4-o",))
        data = json.loads(json.dumps(Gate(policy).run().to_json()))
        made[count] = [_timeless(data)]
    assert made[1] == made[2]


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_seen_afresh_is_so_in_every_lane_and_made_small(count, monkeypatch):
    """Also where another lane has run programs in the same process before."""

    def failures(self, lanes):
        # Of each lane one, be they alike or not.
        for plan, lane in zip(self._lanes, lanes, strict=True):
            for one in lane.certificate.violations:
                yield units.Tell(plan.name, plan.stage, one, 60.0)

    monkeypatch.setattr(Gate, "_failures", failures)
    policy = a_policy(
        "remembering:module_unsynced",
        workers=count,
        models=("ext4-o", "btrfs"),
        model_programs=1,
        planted=False,
    )
    lanes = Gate(policy).run().lanes
    found = [lane.certificate.violations for lane in lanes]
    assert [len(one) for one in found] == [1, 1, 1]
    for (one,) in found:
        assert (one.failure.afresh, one.shrunk) == (True, True)
        assert (one.found_size, one.shrunk_size) == (2, 1)


def _timeless(data):
    if isinstance(data, dict):
        clocks = {"seconds", "workers", "nanoseconds"}
        return {k: _timeless(v) for k, v in data.items() if k not in clocks}
    return [_timeless(one) for one in data] if isinstance(data, list) else data


def forever(*_, **__):
    while True:
        pass


def test_a_unit_without_end_is_ended_and_not_covered(monkeypatch):
    monkeypatch.setattr(units, "cover", forever)
    stage = units.Stage("toy_store:Toy", "", 10)
    done = units.do(units.Cover("programs", stage, "seed 0", 0, None, 0.2))
    assert isinstance(done, units.Lost)
    assert "longer than" in done.reason


def test_programs_of_a_stage_that_do_the_same_are_run_twice_once_in_each_worker(
    monkeypatch,
):
    again = []
    monkeypatch.setattr(
        Experiment, "departure", lambda self: again.append(self.places()) or ""
    )
    monkeypatch.setattr(units, "_repeated", {})
    for model in ("", "xfs"):
        stage = units.Stage("toy_store:Toy", model, 10)
        for seed in range(3):
            units.do(units.Cover("programs", stage, f"seed {seed}", seed, None, 5.0))
    assert again == [again[0]] * 2


def test_a_unit_that_stands_still_is_ended_too(monkeypatch):
    monkeypatch.setattr(units, "cover", lambda *_, **__: time.sleep(60))
    stage = units.Stage("toy_store:Toy", "", 10)
    done = units.do(units.Cover("programs", stage, "seed 0", 0, None, 0.05))
    assert isinstance(done, units.Lost)


def test_a_worker_that_dies_takes_no_unit_into_a_pass(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "from toy_store import Toy\n"
        "class Deadly(Toy):\n"
        "    def run(self, program, disk):\n"
        "        os._exit(9)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = Gate(a_policy("deadly:Deadly", planted=False)).run()
    assert result.verdict == "unverifiable"
    assert any("a worker process died" in doubt for doubt in result.doubts())


def test_what_a_unit_raises_is_reported_as_not_covered():
    stage = units.Stage("toy_store:Nowhere", "", 10)
    with workers.Crew(1, time.monotonic() + 60) as crew:
        ((_, lost),) = crew.results([units.Cover("x", stage, "seed 0", 0, None, 9.0)])
    assert isinstance(lost, units.Lost)
    assert "SubjectError" in lost.reason


def covering(*seeds, spec="toy_store:Toy"):
    stage = units.Stage(spec, "", 10)
    return [units.Cover("x", stage, f"seed {one}", one, None, 9.0) for one in seeds]


def test_a_unit_that_raises_costs_the_others_of_its_batch_nothing():
    nowhere = covering(1, spec="toy_store:Nowhere")
    given = [*covering(0), *nowhere, *covering(2)]
    first, second, third = units.do_all(given, time.monotonic() + 60)
    assert isinstance(second, units.Lost)
    assert first.coverage.programs == third.coverage.programs == 1


def test_no_unit_of_a_batch_is_begun_after_the_deadline(monkeypatch):
    clock = iter((7.0, 8.0, 9.0))
    monkeypatch.setattr(units.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(units, "do", lambda unit: unit.name)
    done = units.do_all(covering(0, 1, 2), 9.0)
    assert done == ["seed 0", "seed 1", units.Lost(units.OVERDUE)]


def test_cycles_that_a_batch_leaves_are_gone_at_its_end(monkeypatch):
    class Ring:
        pass

    left = []

    def leave(unit):
        ring = Ring()
        ring.itself = ring
        left.append(weakref.ref(ring))

    monkeypatch.setattr(units, "do", leave)
    gc.disable()
    try:
        units.do_all(covering(0, 1), time.monotonic() + 60)
    finally:
        gc.enable()
    assert [one() for one in left] == [None, None]


class Queue:
    """Instead of processes: a batch is begun when somebody waits for it."""

    def __init__(self, monkeypatch):
        self.most = 0
        self.submitted = []
        monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *_, **__: self)
        monkeypatch.setattr(workers, "wait", self.wait)
        self._processes = {}

    def submit(self, do_all, batch, until):
        future = Future()
        self.submitted.append((future, do_all, batch, until))
        self.most = max(self.most, len(self.submitted))
        return future

    def wait(self, running, return_when):
        future, do_all, batch, until = self.submitted.pop(0)
        future.set_result(do_all(batch, until))
        return {future}, set(running) - {future}

    def shutdown(self, cancel_futures):
        self.submitted.clear()


def test_a_batch_waits_for_each_worker_while_it_does_another(monkeypatch):
    monkeypatch.setattr(units, "do", lambda unit: unit.name)
    for size in (1, 2, 3):
        queue = Queue(monkeypatch)
        with workers.Crew(size, time.monotonic() + 60) as crew:
            found = [name for _, name in crew.results(covering(*range(50)))]
        assert queue.most == 2 * size
        assert found == [f"seed {seed}" for seed in range(50)]


def test_units_that_a_broken_pool_does_not_take_are_lost(monkeypatch):
    queue = Queue(monkeypatch)
    submit, taken = queue.submit, []

    def broken_soon(*given):
        if taken:
            raise BrokenProcessPool
        taken.append(given)
        return submit(*given)

    queue.submit = broken_soon
    monkeypatch.setattr(units, "do", lambda unit: unit.name)
    wanted = covering(*range(9))
    with workers.Crew(1, time.monotonic() + 60) as crew:
        found = list(crew.results(wanted, iter(covering(10))))
    dead = units.Lost("a worker process died")
    assert sorted((unit.seed, result) for unit, result in found if result != dead) == [
        (0, "seed 0")
    ]
    assert sorted(unit.seed for unit, _ in found) == list(range(9))
    assert crew.broken


def test_results_that_cannot_be_sent_are_lost_and_others_are_not(monkeypatch):
    queue = Queue(monkeypatch)

    def unsendable(running, return_when):
        future, do_all, batch, until = queue.submitted.pop(0)
        if batch[0].seed == 1:
            future.set_exception(TypeError("cannot pickle"))
        else:
            future.set_result(do_all(batch, until))
        return {future}, set(running) - {future}

    monkeypatch.setattr(workers, "wait", unsendable)
    monkeypatch.setattr(units, "do", lambda unit: unit.name)
    with workers.Crew(1, time.monotonic() + 60) as crew:
        found = [result for _, result in crew.results(covering(0, 1, 2))]
    lost = units.Lost("it raised TypeError: cannot pickle")
    assert found == ["seed 0", lost, "seed 2"]
    assert not crew.broken


def test_a_hunt_without_end_has_caught_nothing(monkeypatch):
    monkeypatch.setattr(units, "_catch", forever)
    hunt = replace(Gate(a_policy())._catches[0], limit=0.1)
    found = units.do(hunt)
    assert (found.name, found.fate) == (hunt.name, "not finished")
    assert "longer than" in found.reason


@pytest.mark.parametrize(
    ("part", "put", "said"),
    [
        ("_tell", forever, "longer than"),
        ("scene_of", Mock(side_effect=SceneError("too large to draw")), "too large"),
        ("_tell", Mock(side_effect=MemoryError("all of it")), "MemoryError"),
    ],
)
def test_a_failure_that_cannot_be_told_stays_a_failure(
    part, put, said, here, monkeypatch
):
    monkeypatch.setattr(units, part, put)
    monkeypatch.setattr(lanes, "_TELL_SECONDS", 0.2)

    class Crew(lanes.Crew):
        def results(self, given, more=None):
            for unit in given:
                yield unit, units.do_all([unit], time.monotonic() + 60)[0]

    monkeypatch.setattr(lanes, "Crew", Crew)
    result = Gate(a_policy(programs=1), mutant="no-sync").run()
    assert result.verdict == "violated"
    (one,) = result.exhibits
    assert one.scene is None
    assert said in one.missing
    assert one.violation.property == "P persistence"
    assert result.lanes[0].certificate.violations == (one.violation,)


def test_a_limit_leaves_no_timer_and_no_handler_behind():
    numbers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.getsignal(number) for number in numbers.values()}
    with units._limited(50.0):
        assert signal.getitimer(signal.ITIMER_PROF)[0] == pytest.approx(50, abs=5)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(400, abs=5)
    for timer, number in numbers.items():
        assert signal.getitimer(timer) == (0.0, 0.0)
        assert signal.getsignal(number) is before[number]


def test_what_waits_when_the_deadline_comes_is_lost_if_it_is_needed(monkeypatch):
    now = [100.0]

    def done(unit):
        now[0] += 4.0
        return unit.name

    monkeypatch.setattr(units, "do", done)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    Queue(monkeypatch)
    lost = units.Lost(units.OVERDUE)
    with workers.Crew(1, 110.0, lambda: now[0]) as crew:
        found = list(crew.results(covering(0, 1), iter(covering(2, 3, 4, 5))))
    assert [one for _, one in found] == ["seed 0", "seed 1", "seed 2"]
    now[0] = 100.0
    with workers.Crew(1, 110.0, lambda: now[0]) as crew:
        found = list(crew.results(covering(0, 1, 2, 3, 4)))
    assert [one for _, one in found] == ["seed 0", "seed 1", "seed 2", lost, lost]


def test_what_was_done_meanwhile_comes_in_the_order_in_which_it_was_given(monkeypatch):
    wait = workers.wait

    def late(futures, return_when):
        time.sleep(0.05)
        return wait(futures, return_when=return_when)

    monkeypatch.setattr(workers, "wait", late)
    wanted = covering(*range(30))
    with workers.Crew(1, time.monotonic() + 60) as crew:
        assert [unit for unit, _ in crew.results(wanted)] == wanted


def test_units_come_back_once_each_however_they_were_batched():
    wanted = covering(*range(70))
    with workers.Crew(1, time.monotonic() + 60) as crew:
        found = list(crew.results(wanted))
    assert [unit for unit, _ in found] == wanted
    assert [one.records[0].seed for _, one in found] == list(range(70))


def test_a_worker_that_exits_is_no_pass(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text(
        "import sys\n"
        "from toy_store import Toy\n"
        "class Leaving(Toy):\n"
        "    def describe(self, program):\n"
        "        sys.exit(0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    stage = units.Stage("leaving:Leaving", "", 10)
    unit = units.Cover("programs", stage, "seed 0", 0, None, 5.0)
    with workers.Crew(1, time.monotonic() + 60) as crew:
        [(_, found)] = crew.results([unit])
    assert isinstance(found, units.Lost)
    assert "SystemExit" in found.reason
