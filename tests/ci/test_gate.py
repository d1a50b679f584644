"""The gate says what it found, and does not say more."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import Future
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"
EXAMPLES = CI / "examples"
TOYS = ROOT / "tests" / "tornpage"
for place in (CI, TOYS):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from gating import policy as policies  # noqa: E402
from gating import units, workers  # noqa: E402
from gating.lanes import Gate, read_corpus  # noqa: E402
from gating.outcome import render_terminal, write_outcome  # noqa: E402
from gating.policy import Policy, PolicyError, read_policy  # noqa: E402
from toy_store import MUTANTS, Toy  # noqa: E402

from tornpage.run import Experiment  # noqa: E402
from tornpage.subject import Violation  # noqa: E402

SMALL = {"workers": 1, "programs": 3, "planted_programs": 3, "seconds": 60.0}


def a_policy(subject="toy_store:Toy", **changes):
    return Policy(subject=subject, tier="pr", **{**SMALL, **changes})


@pytest.fixture
def here(monkeypatch):
    """Units are done in this process: starting one takes as long as most tests."""

    class Crew:
        late = False
        broken = ""

        def __init__(self, size, deadline, clock=time.monotonic, stages=()):
            self._late = lambda: clock() >= deadline

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def results(self, given, more=None):
            for unit in given:
                late = units.Lost("the time was up before it was begun")
                yield unit, late if self._late() else units.do(unit)
            while not self._late() and (unit := next(more or iter(()), None)):
                yield unit, units.do(unit)

    monkeypatch.setattr("gating.lanes.Crew", Crew)


def gate(*arguments, cwd, timeout=200):
    return subprocess.run(
        [sys.executable, str(CI / "gate.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "CI"},
    )


# -- verdicts --


def test_a_correct_store_is_consistent_and_every_planted_bug_is_caught(here):
    result = Gate(a_policy(planted_programs=24, programs=24)).run()
    assert (result.verdict, result.exit_status) == ("consistent", 0)
    assert result.caught == len(result.planted) == len(MUTANTS)
    assert not result.doubts()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_store_is_violated_and_each_failure_is_kept(here, mutant):
    result = Gate(a_policy(programs=6), mutant=mutant).run()
    assert (result.verdict, result.exit_status) == ("violated", 1)
    assert result.exhibits
    assert all(one.violation.shrunk for one in result.exhibits)
    assert all(one.scene is not None for one in result.exhibits)


def test_a_sabotaged_checker_is_noticed_by_the_bugs_that_survive_it(here):
    result = Gate(a_policy("toy_store:Blind")).run()
    assert (result.verdict, result.exit_status) == ("unverifiable", 3)
    assert all(lane.certificate.verdict == "consistent" for lane in result.lanes)
    assert "planted bugs were not caught" in result.doubts()[0]


def test_a_store_that_does_nothing_is_not_called_consistent(here):
    result = Gate(a_policy("toy_store:Idle", planted=False)).run()
    assert result.verdict == "unverifiable"
    assert any("nothing was exercised" in doubt for doubt in result.doubts())


def test_work_that_was_not_begun_in_time_makes_it_unverifiable(here):
    moments = iter(range(10_000))
    policy = a_policy(seconds=10.0, programs=9)
    result = Gate(policy, clock=lambda: float(next(moments))).run()
    assert result.verdict == "unverifiable"
    assert result.lanes[0].certificate.verdict == "consistent"
    assert any("time was up" in doubt for doubt in result.doubts())
    assert {one.fate for one in result.planted} == {"not finished"}


def test_a_crash_model_that_is_too_much_for_the_cap_is_unverifiable(here):
    policy = a_policy(models=("tear=byte",), model_programs=1, cap=50, planted=False)
    result = Gate(policy).run()
    assert [lane.certificate.verdict for lane in result.lanes] == [
        "consistent",
        "unverifiable",
    ]
    assert result.verdict == "unverifiable"


def test_a_kill_rate_below_one_forgives_only_so_many(here):
    # With one program some planted bugs survive; how many is counted, not assumed.
    policy = a_policy(programs=1, planted_programs=1, kill_rate=0.0)
    lenient = Gate(policy).run()
    share = lenient.caught / len(lenient.planted)
    assert share > 0
    strict = Gate(a_policy(programs=1, planted_programs=1, kill_rate=1.0)).run()
    assert lenient.verdict == "consistent"
    assert strict.verdict == ("consistent" if share == 1 else "unverifiable")


def test_seeds_fill_the_time_only_when_the_policy_says_so(here):
    moments = iter(range(10_000))
    policy = a_policy(planted=False, fill=True, seconds=100.0)
    result = Gate(policy, clock=lambda: float(next(moments))).run()
    assert result.lanes[0].certificate.coverage.programs > policy.programs
    assert result.verdict == "consistent"


def test_planted_bugs_are_hunted_with_programs_that_are_proven_without_them(here):
    policy = a_policy(programs=2, planted_programs=50)
    hunts = Gate(policy)._catches
    assert {hunt.seeds for hunt in hunts} == {(0, 2)}


@pytest.fixture
def met(monkeypatch):
    """What a hunt does: the programs that it runs, and "crashed" between them."""
    done = []
    run, recover = Toy.run, Toy.recover

    def noted_run(self, program, disk):
        done.append(program)
        return run(self, program, disk)

    def noted_recover(self, disk):
        if done[-1] != "crashed":
            done.append("crashed")
        return recover(self, disk)

    monkeypatch.setattr(Toy, "run", noted_run)
    monkeypatch.setattr(Toy, "recover", noted_recover)
    return done


def hunted(name, programs=6, first=0):
    policy = a_policy(programs=programs, planted_programs=programs, seed=first)
    (hunt,) = (one for one in Gate(policy)._catches if one.name == name)
    return units.do(hunt)


def naming(monkeypatch, seed):
    told = {"seed": seed}
    monkeypatch.setattr(Toy, "mutant_details", lambda *_: told, raising=False)


def test_a_hunted_bug_is_met_by_every_program_once_before_any_is_crashed(met):
    for name, crashed in (("no-checksum", True), ("forgetful", False)):
        met.clear()
        assert hunted(name).fate == "caught"
        assert ("crashed" in met) == crashed
        if crashed:
            programs = [Toy().generate(seed) for seed in range(6)]
            assert met[:7] == [*programs, "crashed"]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_looked_for_first_in_the_program_that_its_subject_names(
    name, met, monkeypatch
):
    seed = 5
    while (whole := hunted(name, programs=1, first=seed)).fate != "caught":
        seed += 1
    naming(monkeypatch, seed)
    met.clear()
    found = hunted(name, programs=seed + 1)
    assert found.found_by == f"seed {seed}"
    assert (found.property, found.executions) == (whole.property, whole.executions)
    assert [one for one in met if one != "crashed"] == [Toy().generate(seed)]


def test_a_program_that_shows_nothing_is_named_in_vain_and_looked_at_once(
    met, monkeypatch
):
    shown = [
        seed
        for seed in range(12)
        if hunted("no-checksum", programs=1, first=seed).fate == "caught"
    ]
    barren = next(seed for seed in range(12) if seed not in shown)
    naming(monkeypatch, barren)
    met.clear()
    found = hunted("no-checksum", programs=12)
    assert (found.fate, found.found_by) == ("caught", f"seed {shown[0]}")
    others = [Toy().generate(seed) for seed in range(12) if seed != barren]
    assert met[:3] == [Toy().generate(barren), "crashed", others[0]]
    assert [one for one in met if one != "crashed"][1:] == others
    monkeypatch.setattr("toy_store.MUTANTS", {"nothing": "changes nothing"})
    named = hunted("nothing")
    naming(monkeypatch, None)
    assert (named.fate, named.executions) == ("survived", hunted("nothing").executions)


def test_a_program_that_no_lane_runs_is_not_hunted_with_though_it_is_named(
    met, monkeypatch
):
    for seed in (2, 9):
        naming(monkeypatch, seed)
        met.clear()
        assert hunted("no-checksum", first=3).fate == "caught"
        assert Toy().generate(seed) not in met


# -- workers --


def test_two_workers_give_the_same_result_as_one(tmp_path):
    made = {}
    for count in (1, 2):
        policy = a_policy(workers=count, programs=5, models=("ext4-o",))
        data = json.loads(json.dumps(Gate(policy).run().to_json()))
        made[count] = [_timeless(data)]
    assert made[1] == made[2]


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


def test_a_unit_without_end_is_ended_and_not_covered(monkeypatch):
    def forever(*_, **__):
        while True:
            pass

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


# -- policy --


def written(folder, text):
    path = folder / "pyproject.toml"
    path.write_text(text)
    return str(path)


def test_a_tier_overrides_the_table_and_the_command_line_both(tmp_path):
    path = written(
        tmp_path,
        "[tool.tornpage.gate]\nsubject='s'\nprograms=5\nseed=3\n"
        "[tool.tornpage.gate.pr]\nprograms=7\n",
    )
    policy = read_policy(path, "pr", changes={"seed": 9})
    assert (policy.subject, policy.programs, policy.seed) == ("s", 7, 9)
    assert read_policy(path, "nightly").programs == 5
    assert read_policy(path, "nightly").fill


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kill_rat = 1.0", "no key 'kill_rat'"),
        ("kill_rate = 2.0", "share"),
        ("programs = '5'", "of type int"),
        ("fill = 1", "of type bool"),
        ("models = 'ext4-o'", "list of texts"),
        ("models = ['ext5']", "ext5"),
        ("seconds = 0", "more than 0"),
        ("workers = 99999", "at most"),
        ("root = '/'", "no key 'root'"),
    ],
)
def test_a_wrong_key_is_refused_by_name(tmp_path, line, said):
    path = written(tmp_path, f"[tool.tornpage.gate]\nsubject='s'\n{line}\n")
    with pytest.raises(PolicyError, match=said):
        read_policy(path, "pr")


def test_no_subject_and_no_such_tier_say_what_to_do(tmp_path):
    path = written(tmp_path, "[tool.other]\n")
    with pytest.raises(PolicyError, match="--subject"):
        read_policy(path, "pr")
    with pytest.raises(PolicyError, match="nightly, pr"):
        read_policy(path, "hourly", subject="s")


def test_every_key_of_a_policy_is_documented():
    text = (ROOT / "docs" / "gate.md").read_text()
    names = set(policies.Policy.__slots__) - {"tier", "root"}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_a_corpus_runs_first_and_a_damaged_one_is_refused(here, tmp_path):
    (tmp_path / "one.json").write_text('{"program": [["put", "a", "v"], ["commit"]]}')
    result = Gate(a_policy(corpus=(str(tmp_path),))).run()
    assert [lane.name for lane in result.lanes] == ["corpus", "programs"]
    assert result.lanes[0].certificate.coverage.programs == 1
    (tmp_path / "two.json").write_text("[]")
    with pytest.raises(PolicyError, match=r"two\.json"):
        read_corpus([str(tmp_path)])


# -- files and commands --


def test_the_regression_test_fails_on_the_bug_and_passes_without_it(here, tmp_path):
    result = Gate(a_policy(), mutant="no-sync").run()
    write_outcome(result, str(tmp_path))
    one = result.exhibits[0]
    path = tmp_path / "tests" / one.test_name
    done = _pytest(path)
    assert done.returncode == 1
    assert "BROKEN: P persistence" in done.stdout
    # The planted bug is what has to be repaired: without it the test passes.
    token = one.violation.failure.token()
    sound = type(one.violation.failure)(
        **{
            name: None if name == "mutant" else getattr(one.violation.failure, name)
            for name in type(one.violation.failure).__slots__
        }
    ).token()
    joined = "".join(path.read_text().split('"\n    "'))
    assert token in joined
    path.write_text(joined.replace(token, sound))
    assert _pytest(path).returncode == 0


def _pytest(path):
    env = {**os.environ, "PYTHONPATH": str(TOYS)}
    # As in test_plugin.py: Hypothesis's plugin is most of the time.
    without = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", "-q", *without, path]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, cwd=path.parent
    )


WEIRD = '\x1b[31m\r\nimport os\0 \x0c\x85\u2028 \udc80 <b>&" ``` ]]> \N{SNOWMAN}'
QUOTED = r"\x1b[31m\r"


def test_whatever_the_code_under_test_says_reports_are_what_they_should_be(
    here, tmp_path, monkeypatch
):
    """A file that cannot hold it hid the whole verdict; a terminal obeyed it."""
    judge = Toy.judge
    monkeypatch.setattr(
        Toy,
        "judge",
        lambda *given: [
            Violation(one.property, WEIRD, ((WEIRD, WEIRD, WEIRD),))
            for one in judge(*given)
        ],
    )
    monkeypatch.setattr(Toy, "describe", lambda _, program: [WEIRD] * len(program))
    result = Gate(a_policy(planted=False), mutant="no-sync").run()
    assert result.verdict == "violated"
    write_outcome(result, str(tmp_path))
    texts = {
        path.name: path.read_bytes().decode()
        for path in (*tmp_path.glob("*.*"), *tmp_path.glob("tests/*"))
    }
    texts["terminal"] = render_terminal(result, "report")
    assert len(texts) == 6
    for name, text in texts.items():
        assert all(each.isprintable() or each == "\n" for each in text), name
    for name in ("terminal", "report.html", "summary.md", "junit.xml"):
        assert QUOTED.replace("[", "\\[" if name == "summary.md" else "[") in texts[
            name
        ].replace("\\\\", "\\")
    ET.fromstring(texts["junit.xml"])
    [test] = tmp_path.glob("tests/*.py")
    names = compile(texts[test.name], str(test), "exec").co_names
    assert "os" not in names


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize(
    ("redirected", "environment", "said"),
    [
        (">/dev/full", {}, "cannot be written to standard output: No space left"),
        ("", {"GITHUB_STEP_SUMMARY": "/dev/full"}, "not written: "),
    ],
)
def test_reports_that_could_not_be_written_are_one_line_and_no_pass(
    redirected, environment, said, tmp_path
):
    words = f"--subject toy_store:Toy --programs 1 --workers 1 --out {tmp_path}/out"
    (tmp_path / "pyproject.toml").write_text(
        "[tool.tornpage.gate]\nplanted = false\n", encoding="utf-8"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$0" {CI}/gate.py {words} {redirected}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOYS), **environment},
    )
    assert done.returncode == 3
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_files_of_an_earlier_run_do_not_stay_beside_the_new_report(here, tmp_path):
    write_outcome(Gate(a_policy(), mutant="no-sync").run(), str(tmp_path))
    assert list((tmp_path / "tests").iterdir())
    (tmp_path / "tests" / "mine.py").write_text("")
    write_outcome(Gate(a_policy(programs=24)).run(), str(tmp_path))
    assert [one.name for one in (tmp_path / "tests").iterdir()] == ["mine.py"]


def test_the_terminal_shows_no_line_beyond_eighty_columns_but_commands(here):
    for mutant in (None, "no-checksum"):
        text = render_terminal(Gate(a_policy(), mutant=mutant).run(), "out")
        lines = [one for one in text.splitlines() if not one.startswith("tornpage run")]
        assert max(map(len, lines)) <= 80


def test_the_copy_paste_example_is_consistent_and_catches_its_bugs(tmp_path):
    done = gate("--out", str(tmp_path), "--workers", "1", cwd=EXAMPLES)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "consistent"
    assert report["planted_bugs_caught"] == report["planted_bugs"] == 3
    assert report["closed"] == 1.0


def test_a_broken_example_exits_with_1_and_writes_every_report(tmp_path, monkeypatch):
    summary = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    out = tmp_path / "out"
    arguments = ("--out", str(out), "--workers", "1", "--programs", "6")
    done = gate(*arguments, "--mutant", "no-sync", cwd=EXAMPLES)
    assert done.returncode == 1
    assert done.stdout.startswith("VIOLATED")
    assert summary.read_text() == (out / "summary.md").read_text()
    suites = ET.parse(out / "junit.xml").getroot()
    assert int(suites.get("failures")) >= 1
    assert (out / "report.html").stat().st_size > 10_000
    assert len(list((out / "tests").iterdir())) == done.stdout.count("keep it away")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tier", "hourly"), "no tier 'hourly'"),
        (("--policy", "nothing.toml"), "nothing.toml"),
        (("--subject", "nowhere"), "nowhere"),
        (("--mutant", "nothing"), "no planted bug 'nothing'"),
    ],
)
def test_what_cannot_be_run_exits_with_2_and_says_why(
    tmp_path, arguments, said, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(SystemExit) as caught:
        __import__("gate").main(["--out", str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_cancelled_gate_writes_its_reports_and_is_unverifiable(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, str(CI / "gate.py"), "--tier", "nightly"),
            *("--out", str(tmp_path / "out"), "--workers", "1"),
        ],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < patience:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=90)
    assert process.returncode == 3
    assert "interrupted" in text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == "unverifiable"


def the_shell_step_of_the_action():
    lines = (CI / "action.yml").read_text().splitlines()
    begin = lines.index("      run: |") + 1
    body = []
    for line in lines[begin:]:
        if line and not line.startswith(" " * 8):
            break
        body.append(line[8:])
    return "\n".join(body)


@pytest.mark.parametrize(
    ("mutant", "status", "verdict"),
    [("", 0, "consistent"), ("--mutant=no-sync", 1, "violated")],
)
def test_the_action_passes_status_and_verdict_on(tmp_path, mutant, status, verdict):
    action = tmp_path / "ci"
    action.mkdir()
    # The action calls `python`; the gate behind it gets the arguments it was given.
    (action / "gate.py").write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(CI)!r})\n"
        f"sys.argv += ['--workers=1', '--programs=4', *{mutant!r}.split()]\n"
        f"runpy.run_path({str(CI / 'gate.py')!r}, run_name='__main__')\n"
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(action),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "TIER": "pr",
        "BUDGET": "",
        "POLICY": "pyproject.toml",
        "OUT": str(tmp_path / "reports"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", the_shell_step_of_the_action()],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert (tmp_path / "outputs").read_text() == f"verdict={verdict}\n"


def test_a_bug_that_needs_no_crash_is_found_without_one(here):
    planted = {one.name: one for one in Gate(a_policy()).run().planted}
    assert planted["forgetful"].executions == planted["run-raises"].executions == 0
    assert planted["no-sync"].executions > 0


def test_what_a_subject_tells_of_its_bugs_is_shown(here, monkeypatch):
    told = {"origin": "a book", "needs": "a crash"}
    monkeypatch.setattr("toy_store.Toy.mutant_details", lambda *_: told, raising=False)
    planted = Gate(a_policy()).run().planted
    assert {(one.origin, one.needs) for one in planted} == {("a book", "a crash")}


def test_code_that_is_edited_meanwhile_makes_it_unverifiable(here, monkeypatch):
    digests = iter(range(100))
    monkeypatch.setattr(
        "tornpage.run.programs.code_digest", lambda _: f"{next(digests):064}"
    )
    result = Gate(a_policy(planted=False)).run()
    assert result.verdict == "unverifiable"
    assert "do not merge: they differ in code" in result.doubts()[0]


def test_a_lower_cap_in_the_hunt_invents_no_bug(here, monkeypatch):
    # A planted bug that changes nothing has to survive, however hard one looks.
    monkeypatch.setattr(units, "_HUNTING_CAP", 2)
    monkeypatch.setattr("toy_store.MUTANTS", {"nothing": "changes nothing"})
    (one,) = Gate(a_policy()).run().planted
    assert (one.fate, one.reason) == ("survived", "3 programs broke no promise with it")


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


def test_a_gate_that_is_ended_from_within_does_not_pass(tmp_path, monkeypatch, capsys):
    gate = __import__("gate")
    monkeypatch.setattr(gate.Gate, "run", lambda self: sys.exit(0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.tornpage.gate]\nsubject = "toy_store:Toy"\n'
    )
    assert gate.main([]) == 3
    assert "without a verdict" in capsys.readouterr().err
