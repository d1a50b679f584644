"""Code under test that ends the process has not returned, and is judged like that."""

import sys

import pytest

from tornpage.command import main
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.registry import spec_of
from tornpage.run import Experiment, Plan, run
from tornpage.uncovered import ControlError

PATH = "/x"


def write(disk, work, ack):
    file = disk.open(PATH, create=True)
    disk.fsync_dir(PATH)
    file.pwritev([b"1"], 0)
    file.fsync()
    ack("a")


def read(disk):
    return disk.open(PATH).pread(1, 0) if disk.exists(PATH) else b""


def _subject(*, running=None, recovering=None):
    """A right store that raises something when it has done its work."""

    def running_(disk, work, ack):
        write(disk, work, ack)
        if running is not None:
            raise running

    def recovering_(disk):
        seen = read(disk)
        if recovering is not None:
            raise recovering
        return seen

    return subject_from(
        "S",
        run=running_,
        recover=recovering_,
        check=lambda acked, in_flight, seen: None,
        work=["a"],
    )


def _run(subject):
    return run(subject, Plan(spec=spec_of(subject), programs=1))


class Cancelled(BaseException):
    """What asyncio.CancelledError is."""


@pytest.mark.parametrize(
    "error", [SystemExit(0), SystemExit("damaged"), Cancelled(), GeneratorExit()]
)
@pytest.mark.parametrize("where", ["running", "recovering"])
def test_whatever_leaves_the_code_under_test_is_a_broken_promise(where, error):
    certificate = _run(_subject(**{where: error}))
    assert certificate.verdict == "violated"
    [found] = certificate.violations
    assert found.property.endswith("returns")
    assert type(error).__name__ in found.message


@pytest.mark.parametrize("error", [ControlError(), pytest.fail.Exception("late")])
@pytest.mark.parametrize("where", ["running", "recovering"])
def test_whoever_drives_the_tester_can_end_it(where, error):
    with pytest.raises(type(error)):
        _run(_subject(**{where: error}))


def test_a_second_run_that_ends_the_process_is_a_departure():
    runs = []

    def running(disk, work, ack):
        write(disk, work, ack)
        if runs:
            sys.exit(0)
        runs.append(1)
        disk.open(PATH).fsync()

    subject = subject_from(
        "S", run=running, recover=read, check=lambda *_: None, work=["a"]
    )
    experiment = Experiment(subject, ("a",), CrashModel(), cap=10)
    assert "then nothing" in experiment.departure()


SOURCE = """
import sys
from tornpage.functions import subject_from

def add(root, work, ack):
    with open(f"{root}/x", "w") as file:
        file.write("1")
    %s

S = subject_from("S", run=add, recover=lambda root: %s, check=lambda *_: None,
                 work=["a"], root="/db")
%s
"""


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        (("sys.exit(0)", "0", ""), 1),
        (("", "open(f'{root}/x').read() or sys.exit(0)", ""), 1),
        (("", "0", "sys.exit(0)"), 3),
    ],
)
def test_the_command_never_ends_well_without_a_verdict(
    parts, status, elsewhere, capsys, monkeypatch
):
    (elsewhere / "exiting.py").write_text(SOURCE % parts)
    monkeypatch.syspath_prepend(str(elsewhere))
    monkeypatch.delitem(sys.modules, "exiting", raising=False)
    assert main(["run", "exiting:S"]) == status
    said = capsys.readouterr()
    assert "VIOLATED" in said.out or "without a verdict" in said.err


@pytest.mark.parametrize("where", [("pytest.skip('old')", "0"), ("", "pytest.skip()")])
def test_what_only_a_test_runner_understands_is_no_verdict_of_the_command(
    where, elsewhere, capsys, monkeypatch
):
    """It was a traceback, and the interpreter's status 1, which means "violated"."""
    source = SOURCE.replace("import sys", "import pytest") % (*where, "")
    (elsewhere / "skipping.py").write_text(source)
    monkeypatch.syspath_prepend(str(elsewhere))
    monkeypatch.delitem(sys.modules, "skipping", raising=False)
    assert main(["run", "skipping:S"]) == 3
    said = capsys.readouterr().err
    assert "Skipped was raised at skipping.py:" in said
    assert "Traceback" not in said
