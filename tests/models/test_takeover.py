"""Who takes over from a killed process believes nothing that it has not synced."""

from contextlib import contextmanager
from functools import cache
from operator import attrgetter

import pytest

from boltmodel.interpret import DATABASE
from boltmodel.lanes import errors_sweep, takeover
from boltmodel.lanes.errors_sweep import Sweep, crash_after
from boltmodel.lanes.sabotage import SABOTAGES, sabotaged
from boltmodel.lanes.takeover import FAILS, PROGRAM, kills, scripts_after, sweep
from boltmodel.mutants import mutant
from boltmodel.mutants.plant import Planter
from boltmodel.under_errors import ErrorSession, run_under_errors
from shearbolt.database import doubt
from tornpage.disk import Disk
from tornpage.faults import FaultyDisk, Script
from tornpage.model import CrashModel
from tornpage.trace import Mark


@cache
def deaths():
    """Every kill of the engine as it is."""
    return list(kills())


@pytest.fixture(scope="module", autouse=True)
def _asked_before_anything_is_planted():
    deaths()


def at_meta():
    return [kill for kill in deaths() if kill.at_meta]


def second_commit(kill):
    """Of `at_meta` the one with a commit before it."""
    return kill.fault == at_meta()[1].fault


@pytest.fixture
def same_engine(monkeypatch):
    """Nothing is planted: it dies where it died when `deaths` were listed."""
    monkeypatch.setattr(takeover, "kills", deaths)


def swept(fail="clean", chosen=attrgetter("at_meta"), in_a_row=(2,)):
    made = Sweep()
    sweep(fail, made, chosen=chosen, in_a_row=in_a_row)
    assert made.closed == made.crash_points > 0
    assert not made.unhealed
    assert made.programs
    return made


# -- the lane ------------------------------------------------------------------


def test_a_process_is_killed_at_every_call_that_changes_the_disk():
    died = [kill.calls[kill.first - 1] for kill in deaths()]
    made = run_under_errors(deaths()[-1].program, Disk(), Script())[1].calls
    assert len(at_meta()) == 2
    assert set(died) == {
        *("open", "pwrite", "fdatasync", "fsync", "fsync_dir", "ftruncate")
    }
    # Making the file, and then two commits.
    changing = [call for call in made if call in set(died)]
    assert died == changing[: len(died)]


def test_the_next_process_is_disturbed_at_every_call_of_two_commits():
    kill = at_meta()[1]
    scripts = [str(one) for one in scripts_after(kill)]
    died = sum(call.endswith("sync") for call in kill.calls[: kill.first])
    assert scripts[0] == str(kill.fault)
    later = kill.calls[kill.first :]
    # What is live, the pages and the meta; the pages and the meta.
    assert later.count("fdatasync") == 5
    for nth in range(died + 1, died + 6):
        row = "; ".join(f"sync#{nth + more}=EIO" for more in range(3))
        assert f"{kill.fault}; {row}" in scripts
    for kind in ("change", "pwrite"):
        assert any(f"; {kind}#" in script for script in scripts)


def test_the_next_process_is_another_one_that_knows_of_no_doubt():
    script = Script((at_meta()[1].fault,))
    disk = FaultyDisk(Disk(), script)
    session = ErrorSession(PROGRAM, disk)
    known = []
    died = session._die

    def die():
        known.append(dict(doubt.known(session._faulty)))
        died()
        known.append(dict(doubt.known(session._faulty)))

    session._die = die
    session.run("continue")
    assert session._faulty is not disk
    assert [len(one) for one in known] == [1, 0]
    assert session.errors.takeovers == 1


def test_a_process_that_dies_in_doubt_leaves_nothing_to_judge():
    """The limit: what only the dead process knew, the next cannot."""
    honest = run_under_errors(PROGRAM, Disk(), Script())[1].calls
    nth = [at for at, call in enumerate(honest, 1) if call == "fdatasync"][4]
    script = Script.parse(f"any#{nth}=EIO; any#{nth + 1}=kill")
    history, disk = run_under_errors(PROGRAM, Disk(), script)
    assert history.unhealed
    assert not history.live
    assert [one.label for one in disk.trace if isinstance(one, Mark)][-1] == "killed"
    # Once it is certain again, it may die.
    script = Script.parse(f"any#{nth}=EIO; any#{nth + 6}=kill")
    history, _ = run_under_errors(PROGRAM, Disk(), script)
    assert history.takeovers == 1
    assert not history.unhealed


# -- the engine ----------------------------------------------------------------


def test_a_killed_process_loses_nothing_wherever_it_dies(same_engine):
    made = swept(chosen=bool, in_a_row=())
    assert not made.broken, str(made.broken[0])
    assert made.programs == made.runs == made.takeovers == len(deaths())


@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize("fail", FAILS)
def test_a_takeover_whose_syncs_fail_then_a_crash_loses_nothing(fail, request):
    # With every sync made twice it is another engine.
    if fail != "late":
        request.getfixturevalue("same_engine")
    made = swept(fail)
    assert not made.broken, str(made.broken[0])
    assert made.crash_points > 200
    assert made.errors["StorageError"] > 40


def test_a_file_that_could_not_be_made_nor_cut_is_made_anew():
    """Its blocks were stuck: a database that was acknowledged had zeros for a page."""
    model = CrashModel.parse("fail=unwritten")
    kill = deaths()[0]
    # The first sync of who takes over fails, and the cut behind it.
    script = Script.parse(f"{kill.fault}; change#4=EIO; change#5=EIO")
    history, disk = run_under_errors(kill.program, Disk(model=model), script)
    assert [one.call for one in disk.injected[1:]] == ["fdatasync", "ftruncate"]
    assert not [*crash_after(history, disk, Sweep(), model, None)]


def test_nor_when_one_or_three_calls_fail(same_engine):
    made = swept(chosen=second_commit, in_a_row=(1, 3))
    assert not made.broken, str(made.broken[0])


@pytest.fixture
def only_syncs(monkeypatch):
    """Of what fails in a row only syncs: these show the planted faults."""
    monkeypatch.setattr(takeover, "_KINDS", ("sync",))


@pytest.mark.parametrize("name", ["takeover-unsynced", "takeover-believed"])
def test_a_planted_fault_of_the_takeover_is_found(name, only_syncs):
    with mutant(name):
        made = swept()
    assert {one.violation.property[0] for one in made.broken} & set("PA")
    assert {one.script.partition(";")[0] for one in made.broken} == {
        str(kill.fault) for kill in at_meta()
    }


def test_the_command_ends_with_a_verdict(capsys, monkeypatch):
    monkeypatch.setattr(takeover, "kills", lambda: at_meta()[:1])
    monkeypatch.setattr(takeover, "_KINDS", ())
    assert takeover.main(["--fail", "clean"]) == 0
    assert "0 promises broken" in capsys.readouterr().out
    with mutant("takeover-unsynced"):
        assert takeover.main(["--fail", "clean"]) == 1
    monkeypatch.setattr(errors_sweep, "_CAP", 1)
    assert takeover.main(["--fail", "clean"]) == 3


# -- sabotage: under each of these the planted fault lives, of what shows it above ---


def durable_at_death(original, session):
    disk = session._faulty.disk
    if disk.exists(DATABASE):
        disk.open(DATABASE).fsync()
    original(session)


@contextmanager
def blind(name):
    planter = Planter()
    try:
        if name == "unjudged":
            planter.replace(errors_sweep, "judge_errors", lambda *_: ())
        if name == "durable-at-death":
            planter.instead(ErrorSession, "_die", durable_at_death)
        yield
    finally:
        planter.restore()


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize(
    "name", ["unjudged", "one-fault", "durable-at-death", "dead-remembered"]
)
def test_a_sabotage_of_the_lane_lets_the_planted_fault_live(name, only_syncs):
    see = sabotaged if name in SABOTAGES else blind
    with see(name), mutant("takeover-believed"):
        made = swept(
            chosen=second_commit, in_a_row=(1,) if name == "one-fault" else (2,)
        )
    assert not made.broken
    assert made.takeovers == made.runs
