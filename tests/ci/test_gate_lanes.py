"""Each lane runs what the policy asks for, and what was given out is accounted for."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from gating import lanes, units
from gating.lanes import Gate
from gating.policy import PolicyError
from tests.ci.small_gates import a_policy
from toy_store import MUTANTS

from tornpage.model import CrashModel

PROGRAM = '{"program": [["put", "a", "v"], ["commit"]]}'


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"toy " + name.encode())
    return tuple(str(folder / name) for name in names)


def test_each_lane_covers_as_many_programs_as_it_was_asked_for(here, tmp_path):
    (tmp_path / "kept.json").write_text(PROGRAM)
    policy = a_policy(
        "toy_store:Seeded",
        seed=7,
        programs=3,
        corpus=(str(tmp_path),),
        models=("ext4-o", "xfs"),
        model_programs=2,
        databases=files(tmp_path, "a.db", "b.db"),
        database_programs=1,
        planted=False,
        cap=4321,
    )
    result = Gate(policy).run()
    assert result.verdict == "consistent"
    covered = {
        lane.name: (lane.certificate.coverage.programs, lane.certificate.seeds)
        for lane in result.lanes
    }
    assert covered == {
        "corpus": (1, ()),
        "programs": (3, ((7, 3),)),
        "model ext4-o": (2, ((7, 2),)),
        "model xfs": (2, ((7, 2),)),
        "file a.db": (1, ((7, 1),)),
        "file b.db": (1, ((7, 1),)),
    }
    scopes = [lane.certificate.scope for lane in result.lanes]
    assert [one.database for one in scopes[:4]] == [None] * 4
    for scope, name in zip(scopes[4:], ("a.db", "b.db"), strict=True):
        content = (tmp_path / name).read_bytes()
        assert scope.database == hashlib.sha256(content).hexdigest()
    assert {one.cap for one in scopes} == {4321}
    own = str(CrashModel.parse("tear=page"))
    others = [str(CrashModel.parse(name)) for name in ("ext4-o", "xfs")]
    assert [one.model for one in scopes] == [own, own, *others, own, own]


def test_two_files_of_one_name_are_two_lanes(here, tmp_path):
    paths = files(tmp_path, "old/toy.db", "new/toy.db")
    policy = a_policy("toy_store:Seeded", databases=paths, planted=False)
    result = Gate(policy).run()
    assert [lane.name for lane in result.lanes[1:]] == [f"file {p}" for p in paths]
    assert result.verdict == "consistent"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": ("xfs", "ext4-o", "xfs")}, "twice for: model xfs"),
        ({"corpus": (".",)}, r"no NAME\.json"),
        ({"corpus": ("nowhere",)}, "corpus .*nowhere: No such file"),
    ],
)
def test_what_would_silently_be_less_than_it_says_is_refused(
    asked, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match=said):
        Gate(a_policy(**asked))


def test_a_file_that_is_not_there_is_no_matter_of_the_workers(tmp_path):
    with pytest.raises(FileNotFoundError):
        Gate(a_policy("toy_store:Seeded", databases=(str(tmp_path / "none.db"),)))


@pytest.mark.parametrize("kind", [units.Cover, units.Catch])
def test_a_unit_that_is_never_heard_of_again_is_no_pass(here, kind, monkeypatch):
    class Forgetful(lanes.Crew):
        def results(self, given, more=None):
            forgotten = next((one for one in given if isinstance(one, kind)), None)
            for unit, result in super().results(given, more):
                if unit is not forgotten:
                    yield unit, result

    monkeypatch.setattr(lanes, "Crew", Forgetful)
    # Further programs do not make up for it, nor does a lenient rate.
    moments = iter(range(10_000))
    policy = a_policy(fill=True, kill_rate=0.0, seconds=100.0)
    result = Gate(policy, clock=lambda: float(next(moments))).run()
    assert result.verdict == "unverifiable"
    assert any("never came back" in one for one in result.doubts())


def test_of_much_that_is_lost_the_first_is_named_and_all_is_counted(here, monkeypatch):
    monkeypatch.setattr(units, "do", lambda _: units.Lost("so it is"))
    for programs, shown in ((12, 12), (13, 13), (20, 13)):
        result = Gate(a_policy(programs=programs, planted=False)).run()
        assert len(result.left_out) == shown
        assert result.left_out[11] == "programs: seed 11 is not covered: so it is"
        if programs > 12:
            rest = f"{programs - 12} more units were left out"
            assert result.left_out[12] == rest


def test_results_that_agree_on_something_else_than_was_asked_are_no_pass(
    here, monkeypatch
):
    real = units.cover

    def other(subject, plan, *given, **named):
        return real(subject, replace(plan, cap=plan.cap - 1), *given, **named)

    monkeypatch.setattr(units, "cover", other)
    result = Gate(a_policy(planted=False)).run()
    assert result.verdict == "unverifiable"
    assert "they differ in cap" in result.doubts()[0]


def test_what_was_found_is_told_though_the_code_was_edited_meanwhile(here, monkeypatch):
    digests = iter(range(100))
    monkeypatch.setattr(
        "tornpage.run.programs.code_digest", lambda _: f"{next(digests):064}"
    )
    result = Gate(a_policy(planted=False), mutant="no-sync").run()
    assert (result.verdict, result.exit_status) == ("violated", 1)
    assert result.exhibits
    assert "they differ in code" in result.doubts()[0]


@pytest.mark.parametrize("most", [0, 1])
def test_only_so_many_failures_are_drawn_and_the_others_still_count(here, most):
    policy = a_policy(models=("ext4-o",), failures=most)
    result = Gate(policy, mutant="no-sync").run()
    assert len(result.exhibits) == most
    assert result.verdict == "violated"
    assert [lane.certificate.verdict for lane in result.lanes] == ["violated"] * 2


def test_failures_of_the_corpus_do_not_stand_for_each_other(here, tmp_path):
    """Those of one promise were all replaced by the last one: they have no seed."""
    (tmp_path / "one.json").write_text(PROGRAM)
    result = Gate(a_policy(corpus=(str(tmp_path),)), mutant="no-sync").run()
    lane = result.lanes[0]
    (found,) = lane.certificate.violations
    pair = [replace(found, cause=text, replay=text) for text in ("one", "two")]
    whole = replace(lane.certificate, violations=tuple(pair))
    told = [
        (
            units.Tell(lane.name, None, one, 1.0),
            units.Told(replace(one, message=f"{one.cause} is small"), None, ""),
        )
        for one in pair
    ]
    elsewhere = [(replace(unit, lane="programs"), each) for unit, each in told]
    for given, small in ((told, " is small"), (elsewhere, None)):
        after = lanes._with(replace(lane, certificate=whole), given)
        assert [one.message for one in after.certificate.violations] == [
            found.message if small is None else one.cause + small for one in pair
        ]


def test_who_watches_is_told_how_far_it_is(here):
    seen = []

    def watch(progress):
        seen.append((progress.done, progress.caught, progress.failures))
        last.update({name: getattr(progress, name) for name in progress.__slots__})

    last = {}
    policy = a_policy(programs=24, planted_programs=24)
    result = Gate(policy, watch=watch).run()
    count = 24 + len(MUTANTS)
    assert [done for done, *_ in seen] == list(range(1, count + 1))
    assert (last["units"], last["planted"]) == (count, len(MUTANTS))
    assert (last["caught"], last["failures"]) == (result.caught, 0)
    assert last["crash_points"] == result.total()["crash_points"]
    assert 0 < last["seconds"] <= result.seconds
    seen.clear()
    Gate(a_policy(programs=2), watch=watch, mutant="no-sync").run()
    assert seen == [(1, 0, 1), (2, 0, 2)]


def test_the_curve_of_behaviours_rises_in_the_order_of_programs(here, tmp_path):
    (tmp_path / "kept.json").write_text(PROGRAM)
    policy = a_policy(corpus=(str(tmp_path),), programs=6, planted=False)
    result = Gate(policy).run()
    first = Gate(replace(policy, programs=0)).run()
    seen = {
        name for lane in result.lanes for name in lane.certificate.coverage.features
    }
    assert result.curve[0] == first.curve[0]
    assert result.curve[-1] == (7, len(seen))
    for (one, few), (other, more) in zip(result.curve, result.curve[1:], strict=False):
        assert one < other
        assert few <= more
