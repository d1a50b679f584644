"""Verdicts, merging and rendering of certificates."""

import dataclasses
import itertools
import json
import math
import random

import pytest

from tornpage.certificate import (
    NOTHING_PROMISED,
    Certificate,
    Coverage,
    Failure,
    MergeError,
    merge,
    render,
)
from tornpage.certificate.record import (
    ProgramRecord,
    ReportedViolation,
    Scope,
    Unclosed,
    images_from_log2,
    merge_all,
)

SCOPE = Scope(subject="toy", model="tear=sector", cap=100)
FAILURE = Failure("toy", [], "tear=sector", "live", "P")


def covered(**changes):
    counts = {
        "programs": 1,
        "crash_points": 9,
        "closed": 9,
        "executions": 12,
        "images": 40,
        "largest": 8,
        "faults": {"dropped": 3},
        "nanoseconds": 10**9,
    }
    return Coverage(**(counts | changes))


def violation(promise="P persistence"):
    return ReportedViolation(
        property=promise,
        message="gone.",
        seed=3,
        found_size=9,
        shrunk_size=2,
        shrinking="to a local minimum, 4 attempts",
        story="a story\n",
        replay="tornpage run toy --replay x",
        failure=FAILURE,
    )


def certificate(**changes):
    fields = {"scope": SCOPE, "seeds": ((0, 1),), "coverage": covered()}
    return Certificate(**(fields | changes))


def test_everything_covered_and_nothing_broken_is_consistent():
    assert certificate().verdict == "consistent"
    assert certificate().exit_status == 0
    assert certificate().doubts() == ()


@pytest.mark.parametrize(
    "left_out",
    [
        {"coverage": Coverage()},
        {"coverage": covered(faults={})},
        {"coverage": covered(faults={"dropped": 0, "torn": 0})},
        {"coverage": covered(closed=8)},
        {"cut": ("interrupted",)},
    ],
)
def test_anything_left_out_is_unverifiable_and_said_first(left_out):
    doubtful = certificate(**left_out)
    assert doubtful.verdict == "unverifiable"
    assert doubtful.exit_status == 3
    second_line = render(doubtful).splitlines()[1]
    assert second_line.split()[0] == "because"
    assert doubtful.doubts()[0].split()[0] in second_line


def test_a_violation_outranks_every_doubt():
    found = certificate(
        coverage=Coverage(), violations=(violation(),), cut=("interrupted",)
    )
    assert found.verdict == "violated"
    assert found.exit_status == 1


def test_only_what_was_not_ended_by_a_broken_promise_is_suspicious():
    scope = dataclasses.replace(SCOPE, sometimes=("a unicorn",))
    assert "suspicious" in render(certificate(scope=scope))
    broken = certificate(scope=scope, violations=(violation(),))
    assert "suspicious" not in render(broken)


def test_a_larger_cap_is_advised_where_it_may_help():
    doubtful = certificate(coverage=covered(closed=8))
    assert "a larger --cap" in doubtful.doubts()[0]
    left = certificate(coverage=covered(closed=8), cut=("what it does is not known",))
    assert left.doubts()[1] == "1 of 9 crash points were not closed"


def test_a_broken_promise_is_why_points_are_left_and_no_cap():
    broken = certificate(coverage=covered(closed=8), violations=(violation(),))
    assert broken.doubts() == ("1 of 9 crash points were not closed",)


def test_a_disk_that_nobody_used_is_told_from_one_that_recovery_did_not_read():
    unused = certificate(coverage=covered(operations={}, faults={}))
    assert "no program changed anything on the disk" in unused.doubts()[0]
    unread = certificate(coverage=covered(operations={"write": 1}, faults={}))
    assert "recovery never read anything" in unread.doubts()[0]


def test_an_unclosed_share_is_never_rounded_up_to_one():
    almost = covered(crash_points=10**9, closed=10**9 - 1)
    assert almost.closed_share < 1
    text = render(certificate(coverage=almost))
    assert "99.9 %" in text
    assert "100 %" not in text


def random_certificate(draw, first):
    return certificate(
        seeds=((first, draw.randint(1, 4)),),
        coverage=Coverage(
            programs=draw.randrange(5),
            crash_points=draw.randrange(50),
            closed=draw.randrange(50),
            reused=draw.randrange(9),
            executions=draw.randrange(99),
            images=images_from_log2(draw.uniform(0, 3000)),
            largest=images_from_log2(draw.uniform(0, 3000)),
            operations={draw.choice("abc"): draw.randint(1, 9)},
            points={draw.choice("abc"): draw.randint(1, 9)},
            faults={draw.choice("abc"): draw.randint(1, 9)},
            violating={draw.choice("abc"): draw.randint(1, 9)},
            features={draw.choice("abc"): draw.randint(1, 9)},
            nanoseconds=draw.randrange(10**12),
        ),
        violations=(violation(draw.choice("PAS")),) * draw.randrange(2),
        cut=(draw.choice("xyz"),) * draw.randrange(2),
    )


def test_merging_is_associative_to_the_last_bit():
    for seed in range(50):
        draw = random.Random(seed)
        a, b, c = (random_certificate(draw, first) for first in (0, 4, 20))
        both = merge(merge(a, b), c), merge_all((a, b, c))
        assert both == (merge(a, merge(b, c)),) * 2, seed


def test_merging_with_nothing_changes_nothing():
    empty = Certificate(scope=SCOPE)
    one = certificate()
    assert merge(one, empty) == one == merge(empty, one)


def test_a_merged_certificate_counts_both_parts():
    both = merge(certificate(), certificate(seeds=((1, 2),), coverage=covered()))
    assert both.seeds == ((0, 3),)
    assert both.coverage.crash_points == 18
    assert both.coverage.largest == 8
    assert both.coverage.faults == {"dropped": 6}


def test_one_doubtful_part_makes_the_whole_doubtful():
    parts = (
        certificate(),
        certificate(seeds=((1, 1),), coverage=covered(closed=1)),
    )
    for first, second in itertools.permutations(parts):
        assert merge(first, second).verdict == "unverifiable"


def test_parts_about_different_things_do_not_merge():
    other = certificate(scope=Scope(subject="toy", model="tear=byte", cap=100))
    with pytest.raises(MergeError, match=r"model .*tear=sector.*tear=byte"):
        merge(certificate(), other)


def test_parts_with_a_seed_in_common_do_not_merge():
    with pytest.raises(MergeError, match="both cover seed 2"):
        merge(certificate(seeds=((0, 3),)), certificate(seeds=((2, 1),)))


@pytest.mark.parametrize("exponent", [0, 1, 1.584962500721156, 20, 52, 53, 4000.25])
def test_images_survive_the_way_through_the_logarithm(exponent):
    assert math.log2(images_from_log2(exponent)) == pytest.approx(exponent, abs=1e-9)


def test_small_numbers_of_images_are_exact():
    assert [images_from_log2(math.log2(n)) for n in range(1, 5000)] == list(
        range(1, 5000)
    )


def test_json_has_every_documented_field_and_survives_json():
    data = certificate(violations=(violation(),)).to_json()
    assert json.loads(json.dumps(data)) == data
    wanted = {
        "verdict",
        "crash_points",
        "executions",
        "images_log2",
        "closed",
        "reused",
        "programs",
        "operations",
        "crash_points_by_kind",
        "faults",
        "seconds",
        "seed",
        "model",
        "subject",
        "versions",
        "mutant",
        "violations",
    }
    assert wanted <= set(data)
    assert {"property", "message", "program", "story", "replay"} <= set(
        data["violations"][0]
    )


def test_whatever_a_certificate_says_is_read_back():
    """Made elsewhere, so that nothing of it is what this machine would say anyway."""
    scope = Scope("toy", "m", ("e",), "bug", "db", 7, "code", ("s",), "9.9", "8.8")
    seen = Coverage(
        *(1, 9, 8, 5, 6, 40, 30),
        operations={"write": 4},
        points={"inside write": 9},
        # The last one is of a kind that is not shown when it never happened.
        faults={"dropped": 2, "torn": 1, "lied": 3},
        violating={"P": 2},
        features={"subject x": 1},
        nanoseconds=1_234_567_891,
    )
    made = certificate(
        scope=scope,
        seeds=((3, 2), (7, 1)),
        coverage=seen,
        violations=(dataclasses.replace(violation(), cause="c", shrunk=False),),
        cut=("it was cut",),
        records=(ProgramRecord("program", 4, "trace", "outcomes"),),
        unclosed=(Unclosed("program", None, "3i", "inside write", 9, ("read", "s")),),
        unchecked=("it is not known",),
    )
    assert Certificate.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("seed", range(20))
def test_no_line_is_wider_than_eighty_columns(seed):
    text = render(random_certificate(random.Random(seed), 0))
    wide = render(
        certificate(
            scope=Scope(subject="a" * 90, model="m" * 90, mutant="b" * 60),
            coverage=covered(operations={f"operation{n}": 10**9 for n in range(20)}),
        )
    )
    assert max(map(len, (*text.splitlines(), *wide.splitlines()))) <= 80


def test_the_text_says_what_was_not_proven():
    scope = Scope(subject="toy", model="tear=sector", exclusions=("no sync lies",))
    text = render(certificate(scope=scope))
    assert "not proven" in text
    assert "no sync lies" in text


def test_where_nothing_is_promised_the_certificate_claims_nothing():
    plain = certificate()
    assert "promises nothing" not in " ".join(render(plain).split())
    for count, said in ((1, "(1 program came"), (3, "(3 programs came")):
        features = {f"subject {NOTHING_PROMISED}": count}
        loose = certificate(coverage=covered(features=features))
        text = " ".join(render(loose).split())
        assert f"at the points at which the subject promises nothing of it {said}" in (
            text
        )
        assert loose.verdict == plain.verdict == "consistent"


def test_what_breaks_without_a_crash_is_not_laid_to_an_image():
    live, crash = violation(), violation()
    crash = dataclasses.replace(crash, failure=dataclasses.replace(FAILURE, at="3-"))
    alone = " ".join(render(certificate(violations=(live,))).split())
    assert "a promise is broken without any crash" in alone
    assert "crash image that the model allows breaks" not in alone
    both = " ".join(render(certificate(violations=(live, crash))).split())
    assert "crash image that the model allows breaks" in both
