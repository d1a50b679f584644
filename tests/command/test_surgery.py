"""Surgery: one change, on a copy, and the patient is left as it was."""

from __future__ import annotations

import hashlib

import pytest
from tests.command.databases import content, make

import shearbolt
from shearbolt import surgery
from shearbolt.pagefile import PageFile, RawMeta, UnreadablePageError
from shearbolt.pages.format import NO_FREELIST


def problems(path) -> list[str]:
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        return [str(problem) for problem in tx.check()]


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tree(tmp_path):
    """A database whose last transaction deleted most of one bucket."""
    return make("many-free", tmp_path)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output.db"


def root_of(path, name: bytes) -> int:
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        return tx.bucket(name).root


# -- what each operation does ------------------------------------------------------


def test_reverting_the_meta_page_undoes_the_last_transaction(tmp_path, output) -> None:
    path = make("one-tree", tmp_path)
    before = content(path)
    with shearbolt.open(path) as db, db.update() as tx:
        tx.bucket(b"b").put(b"late", b"1")
    assert content(path) != before
    slot = surgery.revert_meta_page(path, output)
    assert content(output) == before
    with PageFile(output) as file:
        assert file.meta(slot) == file.meta(1 - slot)


def test_reverting_twice_changes_nothing_more(tree, output, tmp_path) -> None:
    surgery.revert_meta_page(tree, output)
    surgery.revert_meta_page(output, tmp_path / "again.db")
    assert digest(tmp_path / "again.db") == digest(output)


def test_reverting_to_a_damaged_meta_is_refused(tree, output) -> None:
    data = bytearray(tree.read_bytes())
    with PageFile(tree) as file:
        older = 0 if file.meta(0).txid < file.meta(1).txid else 1
    data[older * 1024 + 40] ^= 1
    tree.write_bytes(data)
    with pytest.raises(surgery.SurgeryError, match="nothing to revert to"):
        surgery.revert_meta_page(tree, output)
    assert not output.exists()


def test_a_copied_page_says_its_new_number_and_is_the_same_else(tree, output) -> None:
    assert surgery.copy_page(tree, output, 3, 5) is True
    with PageFile(tree) as before, PageFile(output) as after:
        assert after.page(5).header.pgid == 5
        assert after.page(5).data[8:] == before.page(3).data[8:]
        assert after.page(3) == before.page(3)


def test_copying_a_meta_copies_all_of_it(tree, output) -> None:
    surgery.copy_page(tree, output, 0, 1)
    with PageFile(output) as file:
        assert file.meta(0) == file.meta(1)


def test_a_run_that_does_not_fit_there_is_refused(tmp_path, output) -> None:
    path = make("overflow", tmp_path)
    with PageFile(path) as file:
        last = file.size // file.page_size - 1
        run = next(
            pgid for pgid in range(2, file.high_water_mark)
            if _overflow(file, pgid) > 0
        )  # fmt: skip
    with pytest.raises(UnreadablePageError, match="does not lie in the file"):
        surgery.copy_page(path, output, run, last)
    assert not output.exists()


def _overflow(file: PageFile, pgid: int) -> int:
    try:
        return file.page(pgid).header.overflow
    except UnreadablePageError:
        return 0


def test_a_cleared_leaf_is_an_empty_bucket(tmp_path, output) -> None:
    path = make("prefixes", tmp_path)
    cleared = surgery.clear_page(path, output, root_of(path, b"user"))
    assert cleared == surgery.Cleared(30, abandoned=False)
    lost = [record for record in content(path) if record not in content(output)]
    assert [record.path for record in lost] == [(b"user",)] * 30
    assert problems(output) == []


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [(0, 1, slice(1, None)), (29, 30, slice(0, 29)), (29, -1, slice(0, 29))],
)
def test_exactly_the_named_elements_go(start, end, kept, tmp_path, output) -> None:
    path = make("prefixes", tmp_path)
    surgery.clear_page_elements(path, output, root_of(path, b"user"), start, end)

    def keys(of):
        return [
            record.key for record in content(of)
            if record.path == (b"user",) and hasattr(record, "key")
        ]  # fmt: skip

    assert keys(output) == keys(path)[kept]
    assert problems(output) == []


def test_clearing_from_the_middle_keeps_both_ends(tmp_path, output) -> None:
    path = make("prefixes", tmp_path)
    pgid = root_of(path, b"user")
    assert surgery.clear_page_elements(path, output, pgid, 3, 28).removed == 25
    with PageFile(path) as before, PageFile(output) as after:
        keys = before.page(pgid).elements().keys
        assert after.page(pgid).elements().keys == keys[:3] + keys[28:]


def test_clearing_a_branch_warns_of_abandoned_pages(tmp_path, output) -> None:
    path = make("one-tree", tmp_path)
    cleared = surgery.clear_page_elements(path, output, root_of(path, b"b"), 1, -1)
    assert cleared.abandoned
    assert all("unreachable unfreed" in problem for problem in problems(output))
    abandoned = output.with_name("abandoned.db")
    surgery.abandon_freelist(output, abandoned)
    assert problems(abandoned) == []


def test_clearing_an_overflow_run_shrinks_it_and_warns(tmp_path, output) -> None:
    path = make("overflow", tmp_path)
    with PageFile(path) as file:
        pgid = next(
            pgid for pgid in range(2, file.high_water_mark)
            if _overflow(file, pgid) > 0 and file.page(pgid).kind == "leaf"
        )  # fmt: skip
    cleared = surgery.clear_page(path, output, pgid)
    assert cleared.abandoned
    with PageFile(output) as file:
        assert file.page(pgid).header.overflow == 0


def test_removing_a_bucket_with_pages_warns_and_an_inline_one_does_not(
    tmp_path, output
) -> None:
    path = make("mixed", tmp_path)
    with PageFile(path) as file:
        root = file.meta(max((0, 1), key=lambda slot: file.meta(slot).txid)).root
    assert surgery.clear_page(path, output, root).abandoned
    inline = make("one-inline", tmp_path)
    with PageFile(inline) as file:
        root = max(file.meta(0), file.meta(1), key=lambda meta: meta.txid).root
    other = output.with_name("inline-cleared.db")
    assert not surgery.clear_page(inline, other, root).abandoned
    assert content(other) == []


def test_a_cleared_branch_can_be_looked_at(tmp_path, output) -> None:
    path = make("one-tree", tmp_path)
    pgid = root_of(path, b"b")
    surgery.clear_page(path, output, pgid)
    with PageFile(output) as file:
        assert file.page(pgid).elements().keys == []
    # Clearing it again removes nothing and is no error.
    assert surgery.clear_page(output, output.with_name("2.db"), pgid).removed == 0


def test_an_abandoned_freelist_is_rebuilt(tree, output, tmp_path) -> None:
    surgery.abandon_freelist(tree, output)
    with PageFile(output) as file:
        assert [file.meta(slot).freelist for slot in (0, 1)] == [NO_FREELIST] * 2
        assert [file.meta(slot).problem() for slot in (0, 1)] == [None, None]
    rebuilt = tmp_path / "rebuilt.db"
    surgery.rebuild_freelist(output, rebuilt)
    with PageFile(rebuilt) as file:
        live = max(file.meta(0), file.meta(1), key=lambda meta: meta.txid)
        assert live.freelist != NO_FREELIST
        assert file.page(live.freelist).free_ids()
    assert content(rebuilt) == content(tree)
    assert problems(rebuilt) == []


def test_a_freelist_that_is_there_is_not_rebuilt(tree, output) -> None:
    with pytest.raises(surgery.SurgeryError, match="already has freelist"):
        surgery.rebuild_freelist(tree, output)
    assert not output.exists()


def test_updating_a_meta_sets_the_fields_and_makes_it_valid(tree, output) -> None:
    fields = {"pageSize": 2048, "root": 7, "freelist": 8, "pgid": 99}
    done = surgery.update_meta(tree, output, 1, fields)
    after = done.after
    assert after.problem() is None
    assert (after.page_size, after.root, after.freelist, after.high_water_mark) == (
        2048, 7, 8, 99,
    )  # fmt: skip
    assert (after.txid, after.flags, after.sequence) == (done.before.txid, 4, 0)
    assert RawMeta.decode(output.read_bytes()[1024 + 16 :]) == after
    assert done.other_page_size == 1024


def test_updating_nothing_repairs_magic_version_and_checksum(tree, output) -> None:
    data = bytearray(tree.read_bytes())
    data[1024 + 16 : 1024 + 24] = b"rubbish!"
    data[1024 + 72] ^= 0xFF
    tree.write_bytes(data)
    assert surgery.validate_metas(tree) == (None, "invalid database")
    surgery.update_meta(tree, output, 1, {})
    assert surgery.validate_metas(output) == (None, None)
    assert problems(output) == []


@pytest.mark.parametrize(
    ("at", "problem"),
    [(16, "invalid database"), (20, "version mismatch"), (40, "checksum error")],
)
def test_validation_names_what_is_wrong(at, problem, tree) -> None:
    assert surgery.validate_metas(tree) == (None, None)
    data = bytearray(tree.read_bytes())
    data[1024 + at] ^= 1
    tree.write_bytes(data)
    assert surgery.validate_metas(tree) == (None, problem)


# -- what all of them promise ------------------------------------------------------

OPERATIONS = {
    "revert": surgery.revert_meta_page,
    "copy": lambda a, b, **more: surgery.copy_page(a, b, 3, 2, **more),
    "clear": lambda a, b, **more: surgery.clear_page(a, b, 3, **more),
    "elements": lambda a, b, **more: surgery.clear_page_elements(a, b, 3, 0, 1, **more),
    "abandon": surgery.abandon_freelist,
    "rebuild": surgery.rebuild_freelist,
    "update": lambda a, b, **more: surgery.update_meta(a, b, 0, {}, **more),
}


@pytest.fixture
def patient(tmp_path):
    """A database that every operation can be done to."""
    return make("no-freelist", tmp_path)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_source_is_left_as_it_is(name, patient, output) -> None:
    before = digest(patient)
    OPERATIONS[name](patient, output)
    assert digest(patient) == before
    # It has no freelist to abandon.
    assert (digest(output) != before) is (name != "abandon")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_output_that_exists_is_not_touched(name, patient, output) -> None:
    output.write_bytes(b"")
    with pytest.raises(surgery.SurgeryError, match="already exists"):
        OPERATIONS[name](patient, output)
    assert output.read_bytes() == b""


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_is_copied_while_somebody_writes(name, patient, output) -> None:
    with (
        shearbolt.open(patient, no_freelist_sync=True),
        pytest.raises(shearbolt.LockTimeoutError),
    ):
        OPERATIONS[name](patient, output, timeout=0)
    assert not output.exists()


@pytest.mark.parametrize("name", OPERATIONS)
def test_progress_ends_with_all_bytes(name, patient, output) -> None:
    seen: list[tuple[int, int]] = []
    OPERATIONS[name](
        patient, output, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (patient.stat().st_size,) * 2


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_file_that_is_no_database_is_an_error_and_leaves_no_output(
    name, tmp_path, output
) -> None:
    path = tmp_path / "random.db"
    path.write_bytes(bytes(range(256)) * 64)
    with pytest.raises(shearbolt.BoltError):
        OPERATIONS[name](path, output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda a, b: surgery.copy_page(a, b, 4, 4), "same value: 4"),
        (lambda a, b: surgery.copy_page(a, b, 4000, 4), "does not lie in the file"),
        (lambda a, b: surgery.clear_page(a, b, 1), "at least 2"),
        (lambda a, b: surgery.clear_page_elements(a, b, 3, -1, 1), "out of range"),
        (lambda a, b: surgery.clear_page_elements(a, b, 3, 99, -1), "out of range"),
        (lambda a, b: surgery.clear_page_elements(a, b, 3, 0, 99), "out of range"),
        (lambda a, b: surgery.clear_page_elements(a, b, 3, 0, -2), "out of range"),
        (lambda a, b: surgery.clear_page_elements(a, b, 3, 0, 0), "is equal"),
        (lambda a, b: surgery.update_meta(a, b, 2, {}), "invalid meta page id"),
        (lambda a, b: surgery.update_meta(a, b, 0, {"txid": 1}), "isn't allowed"),
        (lambda a, b: surgery.update_meta(a, b, 0, {"root": -1}), "invalid value"),
        (
            lambda a, b: surgery.update_meta(a, b, 0, {"pageSize": 1 << 32}),
            "invalid value",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(operation, message, patient, output) -> None:
    with pytest.raises(shearbolt.BoltError, match=message):
        operation(patient, output)
    assert not output.exists()


def test_a_freelist_page_has_no_elements_to_clear(tree, output) -> None:
    with PageFile(tree) as file:
        live = max(file.meta(0), file.meta(1), key=lambda meta: meta.txid)
    with pytest.raises(surgery.SurgeryError, match='clear elements in "freelist"'):
        surgery.clear_page(tree, output, live.freelist)


# -- reading pages that need not be believed ---------------------------------------


def test_the_page_size_is_found_when_meta_0_is_gone(tree) -> None:
    data = bytearray(tree.read_bytes())
    data[:1024] = bytes(1024)
    tree.write_bytes(data)
    with PageFile(tree) as file:
        assert file.page_size == 1024
        assert file.meta(1).problem() is None


def test_the_high_water_mark_is_the_live_metas(tree) -> None:
    with PageFile(tree) as file:
        live = max(file.meta(0), file.meta(1), key=lambda meta: meta.txid)
        assert file.high_water_mark == live.high_water_mark


def test_a_claimed_overflow_is_not_believed(tree) -> None:
    data = bytearray(tree.read_bytes())
    data[3 * 1024 : 3 * 1024 + 16] = (
        (3).to_bytes(8, "little") + b"\x02\0\x01\0" + b"\xff\xff\xff\xff"
    )
    tree.write_bytes(data)
    with (
        PageFile(tree) as file,
        pytest.raises(UnreadablePageError, match="4294967295 overflow pages"),
    ):
        file.page(3)


def test_a_high_water_mark_beyond_the_file_does_not_make_it_read_there(tree) -> None:
    data = bytearray(tree.read_bytes())
    for slot in (0, 1):
        meta = RawMeta.decode(data[slot * 1024 + 16 :])
        huge = RawMeta(**{
            **{name: getattr(meta, name) for name in RawMeta.__slots__},
            "high_water_mark": 1 << 60,
        }).sealed()  # fmt: skip
        data[slot * 1024 + 16 : slot * 1024 + 80] = huge.encode()
    data[3 * 1024 : 3 * 1024 + 16] = (
        (3).to_bytes(8, "little") + b"\x02\0\x01\0" + b"\xff\xff\xff\x7f"
    )
    tree.write_bytes(data)
    with (
        PageFile(tree) as file,
        pytest.raises(UnreadablePageError, match="does not lie in the file"),
    ):
        file.page(3)
