"""Surveys of silent corruption: verdicts are counted, tries are spread evenly."""

import zlib

import pytest

from tornpage.faults import Span, Survey, flip, rot


def test_a_flipped_bit_is_one_bit():
    content = bytes(range(16))
    for bit in range(128):
        changed = flip(content, bit)
        assert (
            sum((a ^ b).bit_count() for a, b in zip(content, changed, strict=True)) == 1
        )
        assert flip(changed, bit) == content


def test_a_rare_place_gets_as_many_tries_as_a_common_one():
    spans = [
        Span(0, 4096, "value"),
        Span(4096, 4098, "count"),
        Span(5000, 5000, "none"),
    ]
    tries = list(rot(spans, 12, seed=1))
    assert [place for place, _ in tries].count("value") == 12
    assert [place for place, _ in tries].count("count") == 12
    assert len(set(tries)) == 24
    assert all(4096 * 8 <= bit < 4098 * 8 for place, bit in tries if place == "count")
    assert list(rot(spans, 99, seed=1)).count(("count", 4096 * 8)) == 1
    assert list(rot(spans, 12, seed=1)) == tries


def test_exceptions_are_what_nobody_complains_about():
    found = Survey()
    for place, verdict in (
        ("a", "detected"), ("b", "harmless"), ("c", "undetected"), ("d", "older"),
        ("d", "detected"), ("e", "broken"),
    ):  # fmt: skip
        found.add("rot", place, verdict, f"because {place}")
    assert found.undetected() == [("rot", "c"), ("rot", "d")]
    assert found.total("detected") == 2
    assert found.examples["rot", "c", "undetected"] == "because c"
    assert "| rot | d | 1 |  | 1 |  |  |" in list(found.table())


def test_a_verdict_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'fine' is no verdict"):
        Survey().add("rot", "a", "fine")


def test_a_survey_tells_a_format_with_checksums_from_one_without():
    """Two toy formats of one record: the survey finds what each notices."""
    record = b"some record"
    sound = record + zlib.crc32(record).to_bytes(4, "big")
    spans = [Span(0, 11, "record"), Span(11, 15, "checksum")]

    def examine(content, *, verify):
        body, check = content[:11], content[11:]
        if verify and zlib.crc32(body).to_bytes(4, "big") != check:
            return "detected"
        return "harmless" if body == record else "undetected"

    surveys = {}
    for verify in (True, False):
        surveys[verify] = Survey()
        for place, bit in rot(spans, 30, seed=0):
            surveys[verify].add("rot", place, examine(flip(sound, bit), verify=verify))
    assert surveys[True].undetected() == []
    assert surveys[False].undetected() == [("rot", "record")]
