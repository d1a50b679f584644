"""What a certificate says, where one word of it could be another.

Each was made because some operator of the certificate, of what reads it or of what
verifies it could be another one, and the tests that were run against it passed.
"""

import dataclasses
import functools
import json
import re

import pytest
from toy_store import Seeded, Toy

from tornpage.certificate import (
    Certificate,
    CertificateError,
    Coverage,
    Failure,
    MergeError,
    merge,
)
from tornpage.certificate.as_text import headline, render
from tornpage.certificate.record import (
    MOST_UNCLOSED,
    ProgramRecord,
    ReportedViolation,
    Scope,
    Unclosed,
    crashes_in_a_row,
    exclusions,
    log2_of,
    merge_all,
)
from tornpage.interruption import CRASH_AGAIN
from tornpage.registry import file_digest, with_database
from tornpage.run import Plan, run
from tornpage.run.fingerprint import program_id
from tornpage.run.verify import Difference, VerifyError, _record, verify_file

SCOPE = Scope(subject="toy", model="tear=sector", cap=100)
SEEN = Coverage(1, 9, 9, 0, 12, 40, 8, {"write": 4}, faults={"dropped": 3})


def certificate(**changes):
    return Certificate(
        **({"scope": SCOPE, "seeds": ((0, 1),), "coverage": SEEN} | changes)
    )


def text(made):
    return " ".join(render(made).split())


# -- merging ---------------------------------------------------------------------------


def seeded(*ranges):
    return [certificate(seeds=(one,)) for one in ranges]


def test_seeds_that_follow_each_other_are_one_range_and_others_are_not():
    assert merge(*seeded((5, 2), (7, 1))).seeds == ((5, 3),)
    assert merge(*seeded((5, 2), (8, 1))).seeds == ((5, 2), (8, 1))
    assert merge_all(seeded((9, 2), (5, 2), (7, 1))).seeds == ((5, 3), (9, 2))


@pytest.mark.parametrize("other", [(5, 3), (6, 1), (7, 1), (7, 9), (1, 5)])
def test_no_seed_counts_twice_wherever_the_ranges_begin(other):
    with pytest.raises(MergeError, match="both cover seed"):
        merge(*seeded((5, 3), other))


def test_every_number_of_a_whole_is_the_sum_of_its_parts_but_for_the_largest_image():
    """A maximum is associative as well, and so nothing else tells them apart."""
    fields = dataclasses.fields(Coverage)
    plain = [one.name for one in fields if one.type == "int"]
    named = [one.name for one in fields if one.type != "int"]
    parts = [
        Coverage(
            **{name: at + 10 * part for at, name in enumerate(plain)},
            **{name: {"x": at + 1, part: 1} for at, name in enumerate(named)},
        )
        for part in (1, 2)
    ]
    both = Coverage.total(parts)
    for at, name in enumerate(plain):
        larger = at + 20
        assert getattr(both, name) == (
            larger if name == "largest" else larger + at + 10
        )
    for at, name in enumerate(named):
        assert getattr(both, name) == {"x": 2 * at + 2, 1: 1, 2: 1}


def test_no_parts_are_no_certificate():
    with pytest.raises(ValueError, match="give at least one"):
        merge_all(())


def broken(**changes):
    made = ReportedViolation(
        *("P", "gone.", 3, 9, 2, "to a local minimum", "a story\n", "x --replay y"),
        Failure("toy", [], "m", "live", "P"),
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    "worse", [{"shrunk_size": 3}, {"shrunk": False, "shrunk_size": 1}, {"seed": 3}]
)
def test_of_two_failures_with_one_cause_the_smaller_is_told(worse):
    small, large = broken(seed=None), broken(**{"seed": None} | worse)
    for order in ((small, large), (large, small)):
        parts = seeded((0, 1), (1, 1))
        found = [
            dataclasses.replace(part, violations=(one,))
            for part, one in zip(parts, order, strict=True)
        ]
        assert merge(*found).violations == (small,)


def test_failures_with_other_causes_are_told_beside_each_other():
    one, other = broken(), broken(cause="another")
    assert certificate(violations=(one,)).verdict == "violated"
    parts = seeded((0, 1), (1, 1))
    parts = [
        dataclasses.replace(part, violations=(found,))
        for part, found in zip(parts, (one, other), strict=True)
    ]
    assert len(merge(*parts).violations) == 2


def given_up(seed):
    return Unclosed("program", seed, "3i", "inside write", 9, ("db 0..1: 9",))


def test_points_that_were_given_up_are_named_but_not_all_of_a_million():
    points = {"inside write": 9}
    seen = dataclasses.replace(SEEN, programs=0, closed=8, points=points)
    parts = [
        certificate(
            seeds=((seed, 1),), coverage=seen, unclosed=tuple(map(given_up, some))
        )
        for seed, some in enumerate((range(20, 30), range(10), range(40, 50)))
    ]
    whole = merge_all(parts)
    assert [one.seed for one in whole.unclosed] == [*range(10), 20, 21]
    assert len(whole.unclosed) == MOST_UNCLOSED
    named = [one for one in whole.doubts() if one.startswith("not closed: seed")]
    assert [one.split(",")[0] for one in named] == [
        f"not closed: seed {seed}" for seed in range(3)
    ]
    assert "branched on db 0..1: 9" in named[0]
    read = Certificate.from_json(json.loads(json.dumps(parts[0].to_json())))
    assert read.unclosed == parts[0].unclosed


def test_a_larger_cap_is_advised_where_points_were_given_up_whatever_else_there_is():
    seen = dataclasses.replace(SEEN, closed=8)
    for more in ({}, {"cut": ("it was cut",)}, {"violations": (broken(),)}):
        found = certificate(coverage=seen, unclosed=(given_up(1),), **more)
        assert "a larger --cap than 100 may" in " ".join(found.doubts())


def test_what_has_no_seed_comes_first():
    records = [ProgramRecord("p", seed, "t", "o") for seed in (0, None, 2, 1)]
    parts = [
        certificate(seeds=((at, 1),), records=(one,)) for at, one in enumerate(records)
    ]
    found = [one.seed for one in merge_all(parts).records]
    assert found == [None, 0, 1, 2]


# -- what is said ----------------------------------------------------------------------


def test_a_run_that_visited_no_crash_point_says_so():
    seen = dataclasses.replace(SEEN, crash_points=0, closed=0)
    doubt, *_ = certificate(coverage=seen).doubts()
    assert doubt == "no crash point was visited: nothing was exercised"


def test_shares_and_logarithms_are_those_of_the_counts():
    assert (SEEN.closed_share, Coverage().closed_share) == (1.0, 0.0)
    assert (log2_of(0), log2_of(1), log2_of(8)) == (0.0, 0.0, 3.0)


def test_what_was_seen_is_not_among_what_was_never_seen():
    scope = dataclasses.replace(SCOPE, sometimes=("subject a", "subject b"))
    seen = dataclasses.replace(SEEN, features={"subject a": 1})
    assert certificate(scope=scope, coverage=seen).never_seen() == ("subject b",)


def test_the_first_line_counts_programs_of_seeds_and_of_the_corpus():
    records = [ProgramRecord("p", seed, "t", "o") for seed in (None, None, 0)]
    assert headline(certificate(records=tuple(records))) == (
        "CONSISTENT  toy: 1 program from seed 0, 2 of the corpus"
    )
    assert headline(certificate(seeds=((0, 2), (5, 1)))) == (
        "CONSISTENT  toy: 3 programs"
    )


@pytest.mark.parametrize(("model", "crashes"), [("tear=page", 1), ("crashes=3", 3)])
def test_how_many_crashes_come_in_a_row_is_said(model, crashes):
    assert crashes_in_a_row(model) == crashes
    said = "; ".join(exclusions(model))
    assert ("no crash comes during recovery" in said) == (crashes == 1)
    assert (f"no more than {crashes} crashes come in a row" in said) == (crashes > 1)


@pytest.mark.parametrize("crashes", [1, 2])
def test_recovery_from_several_crashes_is_claimed_where_it_is_proven(crashes):
    scope = dataclasses.replace(SCOPE, model=f"tear=sector,crashes={crashes}")
    proven = text(certificate(scope=scope))
    claim = f"So does recovery from up to {crashes} crashes in a row"
    assert (claim in proven) == (crashes == 2)
    doubtful = text(certificate(scope=scope, cut=("it was cut",)))
    assert "So does recovery" not in doubtful
    nothing = "(No recovery changed anything, so none could be crashed.)"
    assert (nothing in proven) == (crashes == 2)
    again = dataclasses.replace(SEEN, faults={"dropped": 1, CRASH_AGAIN: 1})
    assert nothing not in text(certificate(scope=scope, coverage=again))


def test_other_schedules_are_named_where_there_could_be_some():
    said = "about other schedules of its threads"
    assert said not in text(certificate())
    several = dataclasses.replace(SEEN, features={"threads several": 1})
    assert said in text(certificate(coverage=several))


def test_the_same_certificate_has_the_same_bytes():
    """Counts come in whatever order the workers were in."""
    names = "operations", "points", "faults", "violating", "features"
    one, other = (
        certificate(
            coverage=dataclasses.replace(
                SEEN, **{name: dict.fromkeys(order, 1) for name in names}
            )
        )
        for order in ("ab", "ba")
    )
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_a_token_may_have_all_that_a_failure_can_have():
    """One that had each optional field could be refused as no failure."""
    failure = Failure("toy", [], "m", "live", "P", "bug", "ab" * 32, afresh=True)
    assert Failure.from_token(failure.token()) == failure


def test_each_failure_has_a_name_of_its_own():
    """Else one would take the file of another."""
    plain = Failure("toy", [], "m", "live", "P")
    assert not Failure.from_token(plain.token()).afresh
    others = {dataclasses.replace(plain, at=f"{at}i:0").identity() for at in range(9)}
    assert len(others) == 9
    assert all(re.fullmatch("[0-9a-f]{8}", one) for one in others)


# -- reading ---------------------------------------------------------------------------


def test_the_format_that_is_written_is_the_one_that_is_documented():
    """With another number, those that people have kept could not be read any more."""
    assert json.loads(honest())["format"] == 2


def edited(**changes):
    return Certificate.from_json(json.loads(honest()) | changes)


def rows(*seeds):
    """Digests of programs of these seeds, none of them twice."""
    return [[seed, f"p{at}", "t", "o"] for at, seed in enumerate(seeds)]


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("programs is not 1, as there are program_digests", {"program_digests": [0]}),
        ("program_digests has a seed twice", {"program_digests": rows(1, 1)}),
        ("seeds is not in order", {"seeds": [[1, 1], [0, 1]]}),
        ("seeds is not in order", {"seeds": [[0, 2], [1, 2]]}),
        ("seeds is not in order", {"seeds": [[0, 2], [5, 0]]}),
        ("program_digests has a seed that is not in seeds", {"seeds": [[0, 1]]}),
        ("program_digests has a seed that is not in seeds", {"seeds": [[1, 2]]}),
        ("program_digests lacks 1 of the seeds", {"seeds": [[0, 3]]}),
        ("program_digests lacks 2 of the seeds", {"seeds": [[0, 1], [1, 3]]}),
    ],
)
def test_what_contradicts_what_is_said_in_full(said, changes):
    """A seed just behind the others was refused by luck only, for another reason."""
    if changes.get("program_digests") == [0]:
        changes = {"program_digests": rows(0)}
    with pytest.raises(CertificateError) as caught:
        edited(**changes)
    assert str(caught.value).startswith(f"certificate: {said}.")


def test_programs_without_a_seed_may_be_many():
    read = edited(program_digests=rows(None, None), seeds=[], seed=None)
    assert [one.seed for one in read.records] == [None, None]


# -- verifying -------------------------------------------------------------------------


@functools.cache
def honest():
    return json.dumps(run(Toy(), Plan("toy_store:Toy", programs=2)).to_json())


def test_an_honest_certificate_verifies_as_a_whole(elsewhere):
    """It took another time, which is no claim."""
    data = json.loads(honest())
    data["exact"]["nanoseconds"] += 10**9
    data["seconds"] = round(data["exact"]["nanoseconds"] / 1e9, 3)
    for nanoseconds in (1, 10**15):
        data["exact"]["nanoseconds"] = nanoseconds
        data["seconds"] = round(nanoseconds / 1e9, 3)
        (elsewhere / "c.json").write_text(json.dumps(data))
        report = verify_file("c.json")
        assert (report.verdict, report.ran, report.claims) == ("verified", 2, ())


def test_a_certificate_is_verified_with_the_file_its_programs_started_from(elsewhere):
    for name in ("one", "other"):
        (elsewhere / name).write_text(f"toy {name}")
    subject = with_database(Seeded(), "one")
    plan = Plan(
        "toy_store:Seeded",
        programs=1,
        database="one",
        database_digest=file_digest("one"),
    )
    (elsewhere / "c.json").write_text(json.dumps(run(subject, plan).to_json()))
    assert verify_file("c.json", database="one").verdict == "verified"
    digest = file_digest("one")
    for database in ("other", None):
        with pytest.raises(VerifyError) as caught:
            verify_file("c.json", database=database)
        assert f"started from {digest[:16]}, not" in str(caught.value)
    (elsewhere / "d.json").write_text(honest())
    with pytest.raises(VerifyError, match="started from no --database"):
        verify_file("d.json", database="one")


def test_who_has_other_code_did_not_lie(elsewhere):
    data = json.loads(honest()) | {"code_sha256": "0" * 64}
    data["program_digests"][1][3] = "0" * 16
    (elsewhere / "c.json").write_text(json.dumps(data))
    report = verify_file("c.json")
    assert (report.verdict, report.exit_status) == ("unverifiable", 3)
    assert (report.ran, len(report.differences), report.claims) == (2, 1, ())


def test_counts_are_no_claim_of_their_own_where_programs_did_something_else(elsewhere):
    data = json.loads(honest())
    data["executions"] += 1
    (elsewhere / "c.json").write_text(json.dumps(data))
    (claim,) = verify_file("c.json").claims
    assert claim.startswith("executions ")
    data["program_digests"][1][3] = "0" * 16
    (elsewhere / "c.json").write_text(json.dumps(data))
    report = verify_file("c.json")
    assert (len(report.differences), report.claims) == (1, ())


def test_a_program_that_is_not_covered_now_is_a_difference():
    claimed = ProgramRecord("p", 3, "t", "o")
    found = _record(certificate(), claimed)
    assert found == ProgramRecord("p", 3, "not covered", "not covered")
    told = str(Difference(claimed, found))
    assert told == "seed 3: trace t became not covered, outcomes o became not covered"
    (record,) = certificate(records=(claimed,)).records
    assert _record(certificate(records=(claimed,)), claimed) == record


def test_a_program_of_a_corpus_is_verified_if_it_is_at_hand(elsewhere):
    data = json.loads(honest())
    data["program_digests"][1][0] = None
    (elsewhere / "c.json").write_text(json.dumps(data | {"seeds": [[0, 1]]}))
    for folder in (None, "corpus"):
        report = verify_file("c.json", corpus=folder)
        assert (report.verdict, report.ran, report.missing) == ("verified", 1, 1)
        assert "1 came from a corpus and are not at hand" in report.lines()[-1]
    programs = elsewhere / "corpus" / "programs"
    programs.mkdir(parents=True)
    encoded = Toy().encode(Toy().generate(1))
    kept = programs / f"{program_id(encoded)}.json"
    kept.write_text(json.dumps({"program": encoded}))
    report = verify_file("c.json", corpus="corpus")
    assert (report.verdict, report.ran, report.missing) == ("verified", 2, 0)
    kept.write_text(json.dumps({"program": encoded[1:]}))
    with pytest.raises(VerifyError, match="does not hold the program it is named"):
        verify_file("c.json", corpus="corpus")


def test_a_certificate_that_allows_no_execution_is_refuted(elsewhere):
    """No run has such a cap; that its crash points were closed is no bad usage."""
    (elsewhere / "c.json").write_text(json.dumps(json.loads(honest()) | {"cap": 0}))
    report = verify_file("c.json")
    assert report.verdict == "refuted"
    assert report.claims[0] == "cap 0 became 1"
