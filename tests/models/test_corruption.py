"""What the format notices of silent corruption, and that the list of it is true."""

import os
import re
from pathlib import Path

import pytest

from boltmodel.fields import field_at, live_meta, spans
from boltmodel.generate import generate
from boltmodel.interpret import DATABASE, run
from boltmodel.lanes import corruption
from boltmodel.lanes.corruption import SAMPLE, sample_file, survey
from boltmodel.mutants import mutant
from shearbolt.storage.robust import RobustFile
from tornpage.disk import Disk

DOCUMENT = Path(__file__).parents[2] / "docs" / "injected-errors.md"
# With so many the document is made.
DOCUMENTED = 40
TRIES = int(os.environ.get("SHEARBOLT_ROT", "9"))


@pytest.fixture(scope="module")
def found():
    return survey(TRIES)


def documented():
    """The exceptions that the document lists: (fault, place)."""
    rows = re.findall(
        r"^\| ([a-z ]+) \| ([a-z:\- ]+) \|([ \d]*)\|([ \d]*)\|([ \d]*)\|([ \d]*)\|",
        DOCUMENT.read_text("utf-8"),
        re.MULTILINE,
    )
    return {(row[0], row[1]) for row in rows if row[4].strip() or row[5].strip()}


def test_corruption_is_never_met_with_anything_but_typed_errors(found):
    broken = {key: why for key, why in found.examples.items() if key[2] == "broken"}
    assert not broken
    assert found.total("detected") > 500


def test_every_exception_is_in_the_document(found):
    assert set(found.undetected()) <= documented()


@pytest.mark.thorough
def test_the_document_lists_no_exception_that_is_not_one(found):
    again = "put what `python -m boltmodel.lanes.corruption` prints into the document"
    made = found if TRIES == DOCUMENTED else survey()
    assert documented() == set(made.undetected()), again


def test_a_checksum_that_is_not_verified_changes_the_list():
    """Planted: without the meta's checksum its fields rot unnoticed, or worse."""
    with mutant("checksum-unverified"):
        found = corruption.Survey()
        corruption._rot(found, 4, 0)
    assert found.counts["rot", "live meta: checksum", "harmless"] == 4
    assert found.counts["rot", "live meta: root", "older"] == 0


def test_page_numbers_are_what_notices_misdirected_writes(monkeypatch, found):
    """Planted: pages are not asked for their number."""
    honest = sum(
        number
        for (fault, _, verdict), number in found.counts.items()
        if fault.endswith(" read") and verdict == "undetected"
    )
    original, page_size = RobustFile.read, corruption.SAMPLE.page_size

    def believing(self, offset, length):
        data = original(self, offset, length)
        if length == 16 and offset % page_size == 0 and len(data) == 16:
            pgid = offset // page_size
            return pgid.to_bytes(8, "little") + data[8:]
        return data

    monkeypatch.setattr(RobustFile, "read", believing)
    gullible = corruption.Survey()
    corruption._reads(gullible)
    assert gullible.total("undetected") > honest


def test_an_examination_that_looks_at_nothing_is_noticed(monkeypatch):
    """Sabotage: whatever was read is what was expected; the document disagrees."""
    content, _ = sample_file()
    constant = corruption._sound(content)
    monkeypatch.setattr(corruption, "look", lambda _: constant)
    found = corruption.Survey()
    corruption._rot(found, 4, 0)
    assert not found.undetected()
    assert {place for fault, place in documented() if fault == "rot"}


@pytest.mark.parametrize("seed", range(12))
def test_spans_cover_a_file_byte_for_byte(seed):
    disk = Disk()
    run(generate(seed), disk)
    file = disk.open(DATABASE)
    content = file.pread(file.size(), 0)
    covered = bytearray(len(content))
    for one in spans(content):
        for at in range(one.start, min(one.stop, len(content))):
            covered[at] += 1
    assert set(covered) == {1}


def test_bytes_are_called_by_their_name():
    content, _ = sample_file()
    meta = live_meta(content)
    size = SAMPLE.page_size
    assert field_at(content, meta.slot * size + 64) == "live meta: txid"
    assert field_at(content, (1 - meta.slot) * size + 16) == "other meta: magic"
    assert field_at(content, meta.freelist * size + 16) == "freelist: ids"
    assert field_at(content, meta.root * size + 8) == "leaf: header flags"
    places = {one.place for one in spans(content)}
    assert {"branch: element child", "leaf: inline bucket", "free page"} <= places
    with pytest.raises(ValueError, match="neither meta"):
        live_meta(bytes(4096))
