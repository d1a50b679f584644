"""Certificates that verify, and those that must not."""

import dataclasses
import functools
import glob
import json
import os
import subprocess
import sys

import pytest
from toy_store import Toy

from tornpage.certificate import Certificate, CertificateError
from tornpage.command import main
from tornpage.run import Plan, hashes, run, verify_file
from tornpage.run.pool import PoolError
from tornpage.run.verify import VerifyError

pytestmark = pytest.mark.usefixtures("elsewhere")

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PLAN = Plan(spec="toy_store:Toy", programs=6)


@functools.cache
def honest():
    """The certificate that most tests change: as text, so that none changes it."""
    return json.dumps(run(Toy(), PLAN).to_json())


@pytest.fixture
def written(elsewhere):
    """A certificate on paper, and how to change it."""
    data = json.loads(honest())

    def write(**changes):
        (elsewhere / "c.json").write_text(json.dumps(data | changes))
        return "c.json"

    write.data = data
    return write


def test_what_was_written_is_read_back():
    for mutant in (None, "no-sync"):
        certificate = run(Toy(), dataclasses.replace(PLAN, mutant=mutant))
        assert Certificate.from_json(certificate.to_json()) == certificate


def test_images_of_any_size_are_read_back():
    certificate = run(Toy(), PLAN)
    large = dataclasses.replace(certificate.coverage, images=3**40_000)
    certificate = dataclasses.replace(certificate, coverage=large)
    text = json.dumps(certificate.to_json())
    assert Certificate.from_json(json.loads(text)) == certificate


def test_an_honest_certificate_verifies(written, capsys):
    assert main(["verify", written(), "--sample", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED")
    assert "4 of 6 programs run again, 0 did something else" in out


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize("column", [2, 3])
def test_a_forged_digest_is_refuted(written, column, capsys):
    rows = [list(row) for row in written.data["program_digests"]]
    rows[2][column] = "0" * 16
    assert main(["verify", written(program_digests=rows)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("REFUTED")
    assert f"seed {rows[2][0]}: " in out


def test_a_certificate_of_a_planted_bug_does_not_pass_as_one_without(written, capsys):
    bug = run(Toy(), dataclasses.replace(PLAN, mutant="no-sync", keep_going=True))
    claimed = [list(row) for row in bug.to_json()["program_digests"]]
    assert main(["verify", written(program_digests=claimed)]) == 1


def test_other_code_is_said_and_never_verified(written, capsys):
    assert main(["verify", written(code_sha256="0" * 64)]) == 3
    out = capsys.readouterr().out
    assert out.startswith("UNVERIFIABLE")
    assert "other code" in out


def test_a_certificate_that_lists_no_programs_is_not_verified(elsewhere):
    # The run ended in its first program: what it broke is in no digest.
    bug = run(Toy(), dataclasses.replace(PLAN, mutant="no-sync", shrink=False))
    (elsewhere / "c.json").write_text(json.dumps(bug.to_json()))
    report = verify_file("c.json")
    assert report.verdict == "unverifiable"
    assert "nothing was compared" in report.lines()[-1]


def test_a_run_that_kept_going_verifies(elsewhere):
    """Programs that break a promise have digests there; they were called forged."""
    plan = dataclasses.replace(PLAN, mutant="no-sync", keep_going=True, shrink=False)
    broken = run(Toy(), plan)
    assert broken.coverage.violating["P persistence"] > 1
    (elsewhere / "c.json").write_text(json.dumps(broken.to_json()))
    report = verify_file("c.json")
    assert (report.verdict, report.ran) == ("verified", PLAN.programs)


def test_a_device_is_no_certificate():
    """Its end was waited for, and /dev/zero has none."""
    with pytest.raises(VerifyError, match="is a device"):
        verify_file("/dev/null")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("programs", lambda data: {"programs": 600}),
        ("programs", lambda data: {"program_digests": data["program_digests"][1:]}),
        ("seeds", lambda data: {"seeds": [[0, 600]]}),
        ("seeds", lambda data: {"seeds": [[3, 3], [0, 3]]}),
        ("seeds", lambda data: {"seeds": [[0, 6], [0, 6]]}),
        ("seeds", lambda data: {"seeds": [[0, 5]]}),
        ("twice", lambda data: {"program_digests": 3 * data["program_digests"][:2]}),
        ("crash_points_by_kind", lambda data: {"crash_points_by_kind": {}}),
        ("exact", lambda data: {"reused": data["crash_points"] + 1}),
        (
            "exact",
            lambda data: {"exact": data["exact"] | {"largest": "0x1" + "0" * 99}},
        ),
        ("closed", lambda data: {"closed": 0.5}),
        ("images_log2", lambda data: {"images_log2": 4000.0}),
        ("images_log2_largest", lambda data: {"images_log2_largest": 4000.0}),
        ("seconds", lambda data: {"seconds": 0.0}),
        ("seed", lambda data: {"seed": 5}),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(written, name, change):
    """Six programs run, six hundred claimed: it was VERIFIED."""
    with pytest.raises(VerifyError, match=rf"\b{name}\b"):
        verify_file(written(**change(written.data)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("executions", lambda data: {"executions": data["executions"] + 1}),
        ("reused", lambda data: {"reused": data["reused"] - 1}),
        ("operations, write", lambda data: {"operations": {}}),
        ("faults, torn", lambda data: {"faults": data["faults"] | {"torn": 999}}),
        ("features", lambda data: {"features": {"threads several": 1}}),
        ("exclusions", lambda data: {"exclusions": []}),
        ("sometimes", lambda data: {"sometimes": ["x"], "never_seen": ["x"]}),
        ("doubts", lambda data: {"doubts": ["none"]}),
        ("never_seen", lambda data: {"never_seen": ["x"]}),
    ],
)
def test_what_the_programs_do_not_give_is_refuted(written, name, change, capsys):
    assert main(["verify", written(**change(written.data))]) == 1
    out = capsys.readouterr().out
    assert out.startswith("REFUTED")
    assert f"  {name}" in out
    assert " became " in out


def test_counts_may_be_larger_than_those_of_a_sample_and_no_smaller(written):
    more = written(executions=written.data["executions"] + 1)
    assert verify_file(more, sample=5).verdict == "verified"
    assert verify_file(written(executions=1), sample=5).verdict == "refuted"
    for kinds, one in (("operations", "write"), ("faults", "dropped")):
        honest = written.data[kinds]
        more = written(**{kinds: honest | {one: honest[one] + 1}})
        assert verify_file(more, sample=5).verdict == "verified"
        less = written(**{kinds: honest | {one: 1}})
        assert verify_file(less, sample=5).verdict == "refuted"


def test_a_crash_model_that_is_none_is_one_clear_line(written, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verify", written(model="tear=byte,foo")])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Its crash model is none: 'foo'" in said
    assert "Traceback" not in said


def test_a_verdict_that_the_numbers_do_not_give_is_refused(written):
    with pytest.raises(VerifyError, match="verdict is not unverifiable"):
        verify_file(written(exact=written.data["exact"] | {"closed": 1}))
    with pytest.raises(VerifyError, match="verdict is not consistent"):
        verify_file(written(verdict="violated"))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"seeds": [[0]]},
        {"seeds": 3},
        {"crash_points": "9"},
        {"crash_points": -1},
        {"crash_points": True},
        {"faults": {"torn": "x"}},
        {"exact": None},
        {"cut": [1]},
        {"program_digests": [[None, 1, "", ""]]},
        {"violations": [{}]},
        {"violations": [{"token": "tp1.x.y"}]},
        {"unclosed": [3]},
        {"versions": []},
    ],
)
def test_values_of_no_certificate_are_refused_with_their_name(written, changes):
    data = json.loads(json.dumps(written.data | changes))
    with pytest.raises(CertificateError) as caught:
        Certificate.from_json(data)
    name = next(iter(changes))
    assert name.rstrip("s") in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "nothing", "[" * 100_000])
def test_a_file_that_is_no_certificate_is_one_clear_line(elsewhere, text, capsys):
    (elsewhere / "c.json").write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(["verify", "c.json"])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_programs_of_a_corpus_are_verified_from_its_folder():
    folder = ".tornpage/corpus/toy_store-Toy"
    options = ("--corpus", folder, "-n", "1", "--json", "c.json")
    main(["fuzz", "toy_store:Toy", "--programs", "9", *options])
    kept = len(os.listdir(f"{folder}/programs"))
    # Without new programs nothing in the corpus is replaced by something smaller.
    main(["fuzz", "toy_store:Toy", "--seeds", "1..1", *options])
    without = verify_file("c.json")
    assert without.verdict == "verified"
    assert (without.ran, without.missing) == (1, kept)
    assert "not at hand" in without.lines()[-1]
    report = verify_file("c.json", corpus=folder)
    assert report.verdict == "verified"
    assert (report.ran, report.missing) == (1 + kept, 0)


class Whimsical(Toy):
    """Recovery says something of its own each time."""

    said = 0

    def describe_outcome(self, outcome):
        type(self).said += 1
        return [str(self.said)]


def test_outcomes_that_differ_each_time_do_not_verify(tmp_path):
    plan = Plan(spec=f"{__name__}:Whimsical", programs=2)
    first, second = (run(Whimsical(), plan).records for _ in range(2))
    assert [one.trace for one in first] == [one.trace for one in second]
    assert [one.outcomes for one in first] != [one.outcomes for one in second]


# -- the same on every interpreter --------------------------------------------------

RUN = """
import sys
from tornpage.model import CrashModel
from tornpage.registry import load
from tornpage.run.programs import Plan, run

model = CrashModel.parse("tear=byte")
# Points of so many outcomes that they are cut off are compared as far as they go.
for spec, seed in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    plan = Plan(spec=spec, seed=seed, programs=1, model=model, cap=500)
    for one in run(load(spec), plan).records:
        print(spec, one.seed, one.program, one.trace, one.outcomes)
"""
BOLT = "boltmodel.subject:ShearboltSubject"
# The engine's commit several leaves of a branch, and several buckets of one, which the
# first 27 programs do not: an order that hangs on hashes is seen there.
PROGRAMS = (("toy_store:Toy", 0), ("toy_store:Toy", 1), (BOLT, 28), (BOLT, 173))


def interpreters():
    """Every Python from 3.11 on that can be found, by version."""
    found = {}
    pattern = os.path.expanduser("~/.pyenv/versions/3.1[1-9]*/bin/python")
    for path in sorted(glob.glob(pattern)):
        version = path.split(os.sep)[-3]
        found[version.rpartition(".")[0]] = path
    # The same interpreter, and what it says is known.
    found["{}.{}".format(*sys.version_info)] = sys.executable
    return found


@functools.cache
def digests_of(python, hash_seed):
    """What some programs of each subject do there, a line each."""
    sources = [os.path.join(ROOT, one) for one in ("engine", "faultinject", "models")]
    kept = {"PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PATH"}
    done = subprocess.run(
        [python, "-c", RUN, *(str(one) for pair in PROGRAMS for one in pair)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **{name: value for name, value in os.environ.items() if name in kept},
            "PYTHONPATH": os.pathsep.join((*sources, HERE)),
            "PYTHONHASHSEED": hash_seed,
        },
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [(line.split()[0], int(line.split()[1])) for line in lines] == [*PROGRAMS]
    return lines


@pytest.mark.thorough
def test_traces_and_outcomes_are_the_same_under_every_hash_seed():
    assert digests_of(sys.executable, "1") == digests_of(sys.executable, "5")


@pytest.mark.thorough
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_traces_and_outcomes_are_the_same_on_every_python(version):
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"there is no Python {version} under ~/.pyenv/versions")
    assert digests_of(python, "5") == digests_of(sys.executable, "1")


HASHED = """
import os
from tornpage import subject_from

def save(root, work, ack):
    for name in {f"{text}-{number}" for text in work for number in range(6)}:
        with open(f"{root}/{name}", "w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())

S = subject_from("S", work=["one"], root="/db", run=save,
                 recover=lambda root: sorted(os.listdir(root)), check=lambda *_: None)
"""


@pytest.mark.thorough
def test_a_store_that_goes_by_hashes_is_not_said_to_have_lied(elsewhere):
    """Its sets are in another order in each process: it refuted whoever was honest."""
    (elsewhere / "hashed.py").write_text(HASHED, encoding="utf-8")

    def command(hash_seed, *given):
        path = os.pathsep.join((str(elsewhere), *sys.path))
        return subprocess.run(
            [sys.executable, "-m", "tornpage", *given],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    made = command("7", "run", "hashed:S", "--json", "c.json", "--quiet")
    assert made.returncode == 0, made.stderr
    again = command("8", "verify", "c.json")
    assert again.returncode == 3, again.stdout + again.stderr
    assert again.stdout.startswith("UNVERIFIABLE")
    assert "1 do something else under each PYTHONHASHSEED" in again.stdout
    # With the same hashes it does the same.
    assert command("7", "verify", "c.json").returncode == 0


def test_nothing_is_known_of_hashes_where_no_worker_runs(monkeypatch):
    def none(*_, **__):
        raise PoolError("No worker can be started: there is no memory.")

    monkeypatch.setattr(hashes, "Pool", none)
    assert hashes.differing(PLAN, [{"task": "seed", "seed": 0}]) == [False]
    assert hashes.differing(PLAN, []) == []
