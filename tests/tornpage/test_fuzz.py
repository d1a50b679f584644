"""Fuzzing on several processes: nothing repeated, nothing lost, all declared."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from tornpage.certificate import Certificate
from tornpage.command import main
from tornpage.fuzz import Corpus, Fuzzer, corpus
from tornpage.fuzz import fuzzer as fuzzer_module
from tornpage.model import CrashModel
from tornpage.registry import load
from tornpage.run import Plan, pool, run
from tornpage.run.pool import Limits

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

HERE = os.path.dirname(os.path.abspath(__file__))
TOY = "toy_store:Toy"


def fuzz(subject=TOY, *options, workers=("-n", "1")):
    """A run in this process; its workers are processes of their own.

    One of them unless something else is said: to start one takes most of the time.
    """
    fixed = ("--json", "out.json", "--quiet", *workers)
    status = main(["fuzz", subject, *fixed, *options])
    with open("out.json", encoding="utf-8") as file:
        data = json.load(file)
    return status, data


def started(subject, *options):
    """A run in another process, which signals can be sent to."""
    return subprocess.Popen(
        [sys.executable, "-m", "tornpage", "fuzz", subject, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((HERE, *sys.path))},
    )


def workers_of(process, wanted=1):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children()
        if len(children) >= wanted:
            return children
        time.sleep(0.02)
    raise AssertionError("no workers were started")


def timeless(data):
    data = dict(data, seconds=0)
    data["exact"] = dict(data["exact"], nanoseconds=0)
    return data


def test_the_certificate_of_some_seeds_is_the_same_for_any_number_of_workers():
    alone, together = (fuzz(TOY, "--seeds", "5..16", "-n", n)[1] for n in "13")
    assert timeless(alone) == timeless(together)
    assert alone["seeds"] == [[5, 12]]
    assert alone["verdict"] == "consistent"
    assert len(alone["program_digests"]) == 12


@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("bug", [(), ("--mutant", "no-sync")])
def test_a_disk_that_is_full_meanwhile_ends_the_run_and_hides_nothing(
    bug, writes, monkeypatch, capsys
):
    """It was a usage error after hours of work, and what was found was gone."""
    real, left = corpus.write_atomically, [writes]

    def write(path, text):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(path, text)

    monkeypatch.setattr(corpus, "write_atomically", write)
    status, data = fuzz(TOY, "-n", "1", "--programs", "4", *bug)
    said = "the corpus cannot be written: No space left on device"
    assert said in data["cut"]
    if not data["violations"]:
        assert (status, data["verdict"]) == (3, "unverifiable")
        assert said in capsys.readouterr().out
    else:
        assert (status, data["verdict"]) == (1, "violated")
    assert bool(data["violations"]) == (bool(bug) and writes > 0)


def test_a_file_that_could_not_be_replaced_leaves_nothing_beside_it(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpus.write_atomically("state.json", "{}")
    assert os.listdir() == []


def test_a_machine_that_starts_no_more_processes_is_one_line(monkeypatch, capsys):
    """Those that were started before are ended."""
    begun = []

    class Worker(pool._Worker):
        def __init__(self, place, *given):
            if place == 2:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            super().__init__(place, *given)
            begun.append(self.process)

    monkeypatch.setattr(pool, "_Worker", Worker)
    with pytest.raises(SystemExit) as ended:
        main(["fuzz", TOY, "-n", "3", "--seeds", "0..9"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "Worker 3 cannot be started: Resource temporarily unavailable." in said
    assert [process.poll() for process in begun] == [-signal.SIGKILL] * 2


@pytest.mark.thorough
def test_failures_too_are_the_same_for_any_number_of_workers():
    options = ("--seeds", "0..9", "--mutant", "no-checksum")
    (status, alone), (_, together) = (fuzz(TOY, *options, "-n", n) for n in "12")
    assert status == 1
    assert timeless(alone) == timeless(together)
    assert all(violation["shrunk"] for violation in alone["violations"])


def test_failures_are_told_once_for_each_property_and_cause():
    _, data = fuzz(TOY, "--seeds", "0..19", "--mutant", "no-sync")
    told = [(one["property"], one["cause"]) for one in data["violations"]]
    assert len(told) == len(set(told)) <= 3
    assert data["violating_programs"]["P persistence"] > len(told)
    assert all(one["shrunk_size"] <= 4 for one in data["violations"])
    assert "toy_store.py:" in told[0][1]


def seeds_of(data):
    return {seed for a, n in data["seeds"] for seed in range(a, a + n)}


def test_two_runs_in_a_row_repeat_no_program_and_replay_the_corpus():
    _, first = fuzz(TOY, "--programs", "9", "-n", "2")
    kept = len(os.listdir(".tornpage/corpus/toy_store-Toy/programs"))
    assert 0 < kept < 9
    _, second = fuzz(TOY, "--programs", "9", "-n", "1")
    assert seeds_of(first) == set(range(9))
    assert seeds_of(second) == set(range(9, 18))
    replayed = [row for row in second["program_digests"] if row[0] is None]
    assert len(replayed) == kept
    # What the corpus shows, all the programs before it showed.
    assert set(first["features"]) <= set(second["features"])


@pytest.mark.thorough
def test_what_the_corpus_holds_stays_when_the_code_fails_on_it(monkeypatch):
    """All of it was gone after one run of code with a bug, and so not run again."""
    fuzz("toy_fuzz:Turned", "--programs", "3")
    folder = ".tornpage/corpus/toy_fuzz-Turned/programs"
    kept = sorted(os.listdir(folder))
    assert len(kept) > 1
    for turn, status in (("no-sync", 1), ("unlike itself", 3), ("killed", 3)):
        monkeypatch.setenv("TOY_TURN", turn)
        assert fuzz("toy_fuzz:Turned", "--programs", "1")[0] == status, turn
        assert sorted(os.listdir(folder)) == kept, turn
    monkeypatch.delenv("TOY_TURN")
    mended, data = fuzz("toy_fuzz:Turned", "--programs", "1")
    assert mended == 0
    assert [seed for seed, *_ in data["program_digests"]].count(None) == len(kept)


def test_seeds_that_were_resumed_do_not_stand_for_those_that_were_asked_for():
    """A range that was hardly begun was no shortage: the earlier ones were counted."""
    plan = Plan(spec=TOY, programs=1)
    subject = load(TOY)
    before = replace(run(subject, plan), seeds=((0, 4),))
    with Corpus(None, plan) as corpus:
        fuzzer = Fuzzer(subject, plan, corpus, workers=1, seeds=(2, 4), resume=before)
        fuzzer.stop("SIGTERM")
        certificate = fuzzer.run()
    assert certificate.cut == (
        "interrupted: 2 of 4 programs from seed 2 are not covered",
    )


def test_what_is_left_of_a_range_without_end_is_told_at_once():
    """It was counted one by one: told to stop, the run went on for ever."""
    count = 10**20
    done = [(0, 6), (8, 2), (20, 1)]
    gaps = list(fuzzer_module._gaps(5, count, done))
    assert gaps == [range(6, 8), range(10, 20), range(21, count)]
    assert list(fuzzer_module._gaps(0, 4, [(0, 2), (2, 9)])) == []
    plan = Plan(spec=TOY, programs=1)
    with Corpus(None, plan) as corpus:
        fuzzer = Fuzzer(load(TOY), plan, corpus, workers=1, seeds=(5, count))
        fuzzer.stop("SIGTERM")
        certificate = fuzzer.run()
    assert certificate.cut == (
        f"interrupted: {count:,} of {count:,} programs from seed 5 are not covered",
    )


def test_more_programs_than_python_counts_are_as_many_as_fit_into_the_time():
    plan = Plan(spec=TOY, programs=10**20, seconds=1)
    with Corpus(None, plan) as corpus:
        fuzzer = Fuzzer(load(TOY), plan, corpus, workers=1)
        assert fuzzer._next_task() == {"task": "seed", "seed": 0}


def test_workers_begin_where_every_warning_is_an_error(monkeypatch):
    """Python warns of a module that it runs and that its package has imported."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    status, data = fuzz(TOY, "--seeds", "0..0")
    assert (status, data["programs"]) == (0, 1)


def test_resuming_continues_the_certificate():
    fuzz(TOY, "--programs", "5")
    _, both = fuzz(TOY, "--programs", "4", "--resume")
    assert both["seeds"] == [[0, 9]]
    assert both["verdict"] == "consistent"


def test_resuming_keeps_the_failures_that_were_told_before():
    bug = ("--mutant", "no-checksum", "-n", "1")
    _, first = fuzz(TOY, "--programs", "6", *bug)
    assert first["violations"]
    status, both = fuzz(TOY, "--programs", "1", "--resume", *bug)
    assert status == 1
    tokens = [{one["token"] for one in data["violations"]} for data in (first, both)]
    assert tokens[0] <= tokens[1]
    assert both["seeds"] == [[0, 7]]


class Kept(Corpus):
    """Remembers how far each certificate came that it was given."""

    def __init__(self, *given):
        super().__init__(*given)
        self.saved = []

    def save(self, certificate):
        self.saved.append(certificate.coverage.programs)


def in_process(spec, *, watch=lambda *_: None, **given):
    """A run whose coordinator is this process, its certificate and its corpus."""
    plan = given.pop("plan", None) or Plan(spec=spec, programs=6)
    with Kept(None, plan) as kept:
        fuzzer = Fuzzer(
            load(spec),
            plan,
            kept,
            workers=1,
            watch=lambda status: watch(fuzzer, status),
            **given,
        )
        return fuzzer.run(), kept


def test_a_run_ends_when_its_time_is_up_with_what_was_covered():
    def watch(fuzzer, status):
        if status.programs >= 2:
            # Instead of waiting for it.
            fuzzer._begun -= 1000.0

    plan = Plan(spec=TOY, seconds=999.0, programs=5000)
    certificate, _ = in_process(TOY, plan=plan, watch=watch)
    assert (certificate.verdict, certificate.cut) == ("consistent", ())
    assert certificate.seeds == ((0, certificate.coverage.programs),)
    assert 2 <= certificate.coverage.programs < 5000


def test_the_certificate_is_saved_now_and_then(monkeypatch):
    """A coordinator that is killed leaves one that is some seconds old."""
    for seconds, least, most in ((0.0, 3, 100), (1000.0, 1, 1)):
        monkeypatch.setattr(fuzzer_module, "_SAVE_SECONDS", seconds)
        certificate, kept = in_process(TOY)
        assert least <= len(kept.saved) <= most
        assert kept.saved == sorted(kept.saved)
        assert kept.saved[-1] == certificate.coverage.programs == 6


def test_programs_in_progress_have_so_much_time_after_a_signal_and_no_more(monkeypatch):
    monkeypatch.setattr(fuzzer_module, "GRACE", 0.3)

    def watch(fuzzer, status):
        if status.running and not fuzzer.stopped:
            fuzzer.stop("SIGTERM")

    begun = time.monotonic()
    certificate, _ = in_process("toy_fuzz:Stuck", watch=watch)
    assert time.monotonic() - begun < 40
    assert certificate.verdict == "unverifiable"
    assert certificate.cut == (
        "interrupted in the program of seed 0, which is not covered",
    )


def test_what_the_command_line_says_is_what_the_fuzzer_is_given(monkeypatch):
    told = {}

    class Told(Fuzzer):
        def __init__(self, subject, plan, corpus, **given):
            super().__init__(subject, plan, corpus, **given)
            told.update(given, plan=plan, folder=corpus.folder)

        def run(self):
            return self.certificate()

    monkeypatch.setattr("tornpage.command.fuzz.Fuzzer", Told)
    fuzz(TOY, "--minutes", "1.5", "-n", "3", "--programs", "7", "--seed", "5")
    plan = told["plan"]
    assert (plan.seconds, plan.programs, plan.seed) == (90.0, 7, 5)
    assert (told["workers"], told["seeds"], told["resume"]) == (3, None, None)
    assert told["folder"] == os.path.join(".tornpage", "corpus", "toy_store-Toy")
    assert told["limits"] == Limits(1024 << 20, 256, 600)
    limits = ("--memory", "7", "--files", "8", "--patience", "9")
    fuzz(TOY, "--seeds", "3..5", *limits, workers=())
    assert (told["workers"], told["seeds"], told["folder"]) == (2, (3, 3), None)
    assert told["limits"] == Limits(7 << 20, 8, 9)
    fuzz(TOY, "--seeds", "3..5", "--corpus", "mine", "--mutant", "no-sync")
    assert (told["folder"], told["plan"].mutant) == ("mine", "no-sync")


@pytest.mark.thorough
def test_resuming_makes_up_for_what_a_killed_run_had_begun():
    fuzz(TOY, "--programs", "4")
    folder = ".tornpage/corpus/toy_store-Toy"
    with open(f"{folder}/state.json", encoding="utf-8") as file:
        state = json.load(file)
    # As if seeds up to 7 had been handed out and the run was then killed.
    with open(f"{folder}/state.json", "w", encoding="utf-8") as file:
        json.dump(dict(state, next_seed=8), file)
    _, both = fuzz(TOY, "--programs", "6", "--resume")
    assert both["seeds"] == [[0, 10]]


def test_there_must_be_something_to_resume(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fuzz", TOY, "--resume", "--programs", "1"])
    assert caught.value.code == 2
    assert "no certificate to go on with" in capsys.readouterr().err


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_everything_that_was_covered(
    number, tmp_path, monkeypatch
):
    note = tmp_path / "notes"
    monkeypatch.setenv("TOY_NOTES", str(note))
    process = started(
        "toy_fuzz:Slow", "-n", "2", "--minutes", "5", "--json", "out.json"
    )
    workers = workers_of(process, 2)
    # Each of two workers has begun its third: some are done, however slow it goes.
    while not note.exists() or len(note.read_text().split()) < 6:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    assert out.startswith("CONSISTENT")
    with open("out.json", encoding="utf-8") as file:
        certificate = Certificate.from_json(json.load(file))
    with open(".tornpage/corpus/toy_fuzz-Slow/certificate.json") as file:
        assert Certificate.from_json(json.load(file)) == certificate
    assert certificate.coverage.programs == len(certificate.records) > 0
    assert not any(worker.is_running() for worker in workers)


def test_a_signal_leaves_no_seed_of_an_explicit_range_undeclared(tmp_path, monkeypatch):
    note = tmp_path / "notes"
    monkeypatch.setenv("TOY_NOTES", str(note))
    process = started("toy_fuzz:Slow", "--seeds", "0..500", "-n", "1")
    workers_of(process)
    while not note.exists():
        time.sleep(0.02)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert out.startswith("UNVERIFIABLE")
    assert "of 501 programs from seed 0 are not covered" in " ".join(out.split())


@pytest.mark.thorough
def test_a_second_signal_does_not_wait_and_declares_what_was_begun(tmp_path):
    note = tmp_path / "notes"
    os.environ["TOY_NOTES"] = str(note)
    try:
        process = started("toy_fuzz:Stuck", "-n", "1", "--minutes", "5")
    finally:
        del os.environ["TOY_NOTES"]
    workers = workers_of(process)
    while not note.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 3
    assert "interrupted in the program of seed 0" in " ".join(out.split())
    assert not any(worker.is_running() for worker in workers)


def test_a_killed_coordinator_takes_its_workers_along_and_can_be_resumed():
    process = started("toy_fuzz:Slow", "-n", "2", "--minutes", "5")
    workers = workers_of(process, 2)
    folder = ".tornpage/corpus/toy_fuzz-Slow"
    while not os.path.exists(f"{folder}/state.json"):
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=10)
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, gone
    # It died before it saved a certificate: new programs, none of them twice.
    with open(f"{folder}/state.json", encoding="utf-8") as file:
        position = json.load(file)["next_seed"]
    _, data = fuzz("toy_fuzz:Slow", "--programs", "2")
    assert data["seeds"] == [[position, 2]]


def test_a_killed_worker_loses_nothing_because_its_program_is_run_again(
    tmp_path, monkeypatch
):
    note = tmp_path / "notes"
    monkeypatch.setenv("TOY_NOTES", str(note))
    process = started(
        "toy_fuzz:Slow", "-n", "2", "--seeds", "0..15", "--json", "out.json"
    )
    victim = workers_of(process, 2)[0]
    # It has begun one, and there are others to be done.
    while not note.exists() or str(victim.pid) not in note.read_text().split():
        time.sleep(0.02)
    victim.kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    with open("out.json", encoding="utf-8") as file:
        data = json.load(file)
    assert data["seeds"] == [[0, 16]]
    assert len(data["program_digests"]) == 16
    # And what came of the program is what comes of it anyway.
    _, undisturbed = fuzz("toy_fuzz:Slow", "--seeds", "0..15")
    assert timeless(data) == timeless(undisturbed)


def test_a_program_that_kills_its_worker_once_is_run_again(monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_NOTES", str(tmp_path / "killed"))
    status, data = fuzz("toy_fuzz:DeadlyOnce", "--seeds", "0..5")
    assert (tmp_path / "killed").exists()
    assert status == 0
    assert data["seeds"] == [[0, 6]]


@pytest.mark.thorough
def test_a_program_that_always_kills_its_worker_is_declared():
    status, data = fuzz("toy_fuzz:Deadly", "--seeds", "0..5")
    assert status == 3
    assert data["seeds"] == [[0, 3], [4, 2]]
    assert any("seed 3 is not covered" in d and "SIGKILL" in d for d in data["doubts"])


LIMITS = {
    "toy_fuzz:Hog": ("MiB of memory", Limits(rss=400 << 20)),
    "toy_fuzz:Leaky": ("open files", Limits(files=200)),
    "toy_fuzz:Sleepy": ("s for one program", Limits(seconds=1.5)),
}


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("spec", LIMITS)
def test_a_worker_that_runs_away_is_replaced_and_its_program_declared(spec):
    words, limits = LIMITS[spec]
    said = []
    plan = Plan(spec=spec, programs=6)
    with Corpus(None, plan) as corpus:
        certificate = Fuzzer(
            load(spec),
            plan,
            corpus,
            workers=1,
            seeds=(0, 6),
            limits=limits,
            say=said.append,
        ).run()
    assert certificate.verdict == "unverifiable"
    assert certificate.coverage.programs == 5
    assert certificate.seeds == ((0, 3), (4, 2))
    assert any("ran away" in clause and words in clause for clause in certificate.cut)
    assert any("ran away" in sentence for sentence in said)


def test_code_under_test_may_print():
    status, data = fuzz("toy_fuzz:Chatty", "--seeds", "0..3")
    assert status == 0
    assert data["programs"] == 4


@pytest.mark.thorough
def test_workers_that_cannot_start_are_one_clear_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fuzz", "toy_fuzz:Broken", "--seeds", "0..3"])
    assert caught.value.code == 2
    assert "no luck" in capsys.readouterr().err


def test_what_was_never_seen_is_said_right_below_the_verdict(capsys):
    main(["fuzz", "toy_fuzz:Wishful", "--seeds", "0..3"])
    verdict, second, *_ = capsys.readouterr().out.splitlines()
    assert verdict.startswith("CONSISTENT")
    assert " ".join(second.split()) == "suspicious never seen: subject a unicorn."


@pytest.mark.parametrize("programs", [1, 3])
def test_a_subject_sees_its_own_features_counted(programs):
    # With one program: features are asked for before the program is run again.
    model = CrashModel.parse("tear=byte")
    plan = Plan(spec="shearbolt", programs=programs, seed=1, model=model)
    certificate = run(load("shearbolt"), plan)
    own = set(certificate.scope.sometimes)
    seen = own & set(certificate.coverage.features)
    assert seen
    assert set(certificate.never_seen()) == own - seen


def test_seeds_and_bounds_are_not_both_given(capsys):
    for extra in (["--minutes", "1"], ["--seed", "3"], ["--programs", "2"]):
        with pytest.raises(SystemExit) as caught:
            main(["fuzz", TOY, "--seeds", "0..3", *extra])
        assert caught.value.code == 2
    assert "--seeds says which programs" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3", "5..1", "a..b", "-1..4", ""])
def test_a_range_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fuzz", TOY, f"--seeds={text}"])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
