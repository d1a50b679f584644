"""What each subcommand does and prints; section by section.

That the words are bbolt's is shown by `test_recorded_bbolt.py`. Here is what bbolt's
command has not, and the words spelled out once for people to read.
"""

from __future__ import annotations

import json
import os
import platform
import stat

import pytest
from tests.command.conftest import call, rows
from tests.command.databases import content, damage, make

import shearbolt
from shearbolt.storage import OSStorage

ETCD = "tests/data/etcd.db"


@pytest.fixture
def db(tmp_path):
    return make("nested", tmp_path)


# -- looking ----------------------------------------------------------------------


def test_info(db, run) -> None:
    assert run("info", db).text == "Page Size: 1024\n"


def test_check_says_ok(db, run) -> None:
    assert run("check", db)[:2] == (0, b"OK\n")


def test_check_lists_every_problem_and_fails(db, run) -> None:
    damage(db)
    answer = run("check", db)
    lines = answer.text.splitlines()
    assert answer.status == 1
    assert lines[-1] == f"{len(lines) - 1} errors found"
    assert lines[0] == "page 2: unreachable unfreed"
    assert answer.stderr == "Error: invalid value\n"


def test_check_from_a_page_looks_below_it_only(tmp_path, run) -> None:
    path = make("many-free", tmp_path)
    damage(path)
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        root = tx.meta.root
    assert run("check", path).status == 1
    assert run("check", path, "--from-page", root)[:2] == (0, b"OK\n")
    answer = run("check", path, "--from-page=99999")
    assert (answer.status, answer.text.splitlines()[-1]) == (1, "1 errors found")
    assert "page ID (99999) out of range" in answer.text


def test_buckets_and_keys(db, run) -> None:
    assert run("buckets", db).text == "top\nz\n"
    assert run("keys", db, "top").text == "middle\nplain\n"
    hexed = run("keys", db, "top", "middle", "-f", "hex").text
    assert hexed == "626f74746f6d\n6f74686572\n"


def test_get_in_every_format(db, run) -> None:
    def get(form):
        return run("get", db, "top", "plain", "--format", form).text

    assert [get(form) for form in ("auto", "ascii-encoded", "hex", "bytes")] == [
        "value\n", '"value"\n', "76616c7565\n", "value\n",
    ]  # fmt: skip
    assert get("redacted").startswith("<redacted len:5 sha256:cd42404d52ad55cc")


def test_options_may_stand_anywhere(db, run) -> None:
    expected = run("get", "--format", "hex", db, "top", "plain")
    assert expected.status == 0
    assert run("get", db, "--format", "hex", "top", "plain") == expected
    assert run("get", db, "top", "--format=hex", "plain") == expected


def test_flags_with_values_as_go_programs_pass_them(db, run) -> None:
    page = str(_leaf(db))
    both = run("page-item", db, page, "0").text
    assert run("page-item", "--key-only=false", db, page, "0").text == both
    key = run("page-item", "--key-only=true", db, page, "0").text
    assert both.startswith(key)
    assert both != key


def _leaf(path) -> int:
    rows = [
        json.loads(line)
        for line in call("pages", path, "--json").stdout.split(b"\n")
        if line
    ]
    return next(row["id"] for row in rows if row["type"] == "leaf" and row["items"])


def test_pages(tmp_path, run) -> None:
    lines = run("pages", make("one-inline", tmp_path)).text.splitlines()
    assert lines == [
        "ID       TYPE       ITEMS  OVRFLW",
        "======== ========== ====== ======",
        "0        meta       0            ",
        "1        meta       0            ",
        "2        free                    ",
        "3        free                    ",
        "4        leaf       1            ",
        "5        freelist   2            ",
    ]


def test_all_pages_are_those_below_the_live_high_water_mark(tmp_path, run) -> None:
    # bbolt believes meta 0, which is the older one here.
    path = make("one-tree", tmp_path)
    with shearbolt.open(path) as db, db.update() as tx:
        tx.bucket(b"b").put(b"more", b"v" * 9000)
        mark = tx.id
    assert mark % 2 == 1
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        last = tx.high_water_mark
    shown = [
        int(line.split()[-1])
        for line in run("page", path, "--all").text.splitlines()
        if line.startswith("Page ID:")
    ]
    assert max(shown) <= last - 1
    assert max(shown) > 30


def test_a_damaged_page_is_printed_as_far_as_it_can_be_believed(tmp_path, run) -> None:
    path = make("one-tree", tmp_path)
    whole = run("page", path, "7").text.splitlines()
    data = bytearray(path.read_bytes())
    # Of the third element: its key's size.
    data[7 * 1024 + 16 + 2 * 16 + 8] ^= 0x40
    path.write_bytes(data)
    shown = run("page", path, "7").text.splitlines()
    complaints = [line for line in shown if line not in whole]
    assert complaints[-1].startswith("Printing page 7 failed: element 2 ")
    assert len(set(whole) - set(shown)) == 1
    [row] = rows(run("page", path, "7", "--json"))
    assert len(row["items"]) == 11
    assert row["problems"]


def test_inspect_is_json_of_the_tree(db, run) -> None:
    assert json.loads(run("inspect", db).stdout) == {
        "name": "root", "keyN": 0, "buckets": [
            {"name": "top", "keyN": 1, "buckets": [
                {"name": "middle", "keyN": 0, "buckets": [
                    {"name": "bottom", "keyN": 1}, {"name": "other", "keyN": 0},
                ]},
            ]},
            {"name": "z", "keyN": 0},
        ],
    }  # fmt: skip


def test_inspect_of_buckets_deeper_than_python_recurses(tmp_path, run) -> None:
    path = tmp_path / "deep.db"
    with shearbolt.open(path, no_sync=True) as db, db.update() as tx:
        bucket = tx.root_bucket
        for _ in range(1200):
            bucket = bucket.create_bucket(b"0")
    answer = run("inspect", path)
    assert answer.status == 0
    assert answer.text.count('"name": "0"') == 1200


def test_version(run) -> None:
    assert run("version").text.splitlines()[:2] == [
        f"shearbolt Version: {shearbolt.__version__}",
        f"Python Version: {platform.python_version()}",
    ]
    assert run("--version").text == f"shearbolt version {shearbolt.__version__}\n"


# -- changing ---------------------------------------------------------------------


def test_put_then_get(db, run) -> None:
    assert run("put", db, "top", "middle", "new", "1")[:2] == (0, b"")
    assert run("get", db, "top", "middle", "new").text == "1\n"
    assert run("put", "--parse-format=hex", db, "top", "00ff", "0a0d").status == 0
    assert run("get", db, "top", "00ff", "--parse-format=hex").text == "0a0d\n"


def test_put_takes_a_value_from_standard_input(db, run) -> None:
    value = bytes(range(256)) * 40
    assert run("put", "--stdin", db, "top", "blob", stdin=value).status == 0
    assert run("get", db, "top", "blob", "--format", "bytes").stdout == value + b"\n"


def test_put_makes_file_and_buckets_only_when_told(tmp_path, run) -> None:
    path = tmp_path / "new.db"
    assert run("put", path, "a", "b", "k", "v").status == 1
    assert not path.exists()
    assert run("put", "--create", path, "a", "b", "k", "v").status == 0
    assert run("get", path, "a", "b", "k").text == "v\n"
    assert run("put", path, "a", "c", "k", "v").status == 1


def test_delete_a_key_and_a_bucket(db, run) -> None:
    assert run("delete", db, "top", "plain").status == 0
    assert run("keys", db, "top").text == "middle\n"
    assert run("delete", "--bucket", db, "top", "middle").status == 0
    assert run("keys", db, "top").text == ""
    assert run("delete", "--bucket", db, "top").status == 0
    assert run("buckets", db).text == "z\n"
    assert content(db)


# -- whole databases --------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["auto", "hex", "base64"])
def test_export_and_import_give_the_same_database(encoding, tmp_path, run) -> None:
    path = make("odd-text", tmp_path)
    lines, copy = tmp_path / "lines.jsonl", tmp_path / "copy.db"
    assert run("export", path, "-o", lines, "--encoding", encoding).status == 0
    assert run("import", lines, "-o", copy).status == 0
    assert run("diff", path, copy)[:2] == (0, b"")
    assert content(copy) == content(path)
    # To standard output and from standard input the same.
    assert run("export", path, "--encoding", encoding).stdout == lines.read_bytes()
    other = tmp_path / "other.db"
    assert run("import", "-o", other, stdin=lines.read_bytes()).status == 0
    assert content(other) == content(path)


def test_a_real_etcd_database_survives_export_import_and_compaction(
    tmp_path, run, pytestconfig
) -> None:
    path = pytestconfig.rootpath / ETCD
    lines = run("export", path).stdout
    copy, small = tmp_path / "copy.db", tmp_path / "small.db"
    assert run("import", "-o", copy, stdin=lines).status == 0
    assert run("compact", path, "-o", small).status == 0
    assert content(copy) == content(small) == content(path)
    assert len(content(path)) > 300


@pytest.mark.parametrize("target", ["--output", "--into"])
def test_an_import_of_less_than_an_export_changes_nothing(
    target, db, tmp_path, run
) -> None:
    """As of `shearbolt export missing.db | shearbolt import - ...`."""
    lines = run("export", db).stdout.splitlines(keepends=True)
    into = make("mixed", tmp_path)
    before = into.read_bytes()
    output = tmp_path / "copy.db" if target == "--output" else into
    for end in range(len(lines)):
        answer = run("import", "-", target, output, stdin=b"".join(lines[:end]))
        assert (answer.status, answer.stdout) == (1, b"")
        assert answer.stderr.startswith(f"Error: line {end + 1}: the")
    assert into.read_bytes() == before
    assert not (tmp_path / "copy.db").exists()
    assert run("import", "-", target, output, stdin=b"".join(lines)).status == 0


def test_an_export_does_not_overwrite(db, tmp_path, run) -> None:
    target = tmp_path / "there.jsonl"
    target.write_text("precious")
    assert run("export", db, "-o", target).status == 1
    assert target.read_text() == "precious"


def test_an_export_to_a_dash_goes_to_standard_output(
    db, tmp_path, run, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    assert run("export", db, "-o", "-").stdout == run("export", db).stdout != b""
    assert sorted(os.listdir()) == before


def test_import_into_adds_and_changes_in_one_transaction(db, run) -> None:
    lines = (
        b'{"bucket": ["top"], "sequence": 9}\n'
        b'{"bucket": ["top"], "key": "plain", "value": "other"}\n'
        b'{"bucket": ["fresh", "er"], "key": {"hex": "00"}, "value": ""}\n'
    )
    with shearbolt.open(db, read_only=True) as opened, opened.view() as tx:
        before = tx.id
    assert (
        run("import", "--into", db, "--partial", stdin=lines).text
        == "3 records imported\n"
    )
    with shearbolt.open(db, read_only=True) as opened, opened.view() as tx:
        assert tx.id == before + 1
        assert tx.bucket(b"top").sequence == 9
        assert tx.bucket(b"top")[b"plain"] == b"other"
        assert tx.bucket(b"fresh").bucket(b"er")[b"\0"] == b""


def test_import_makes_pages_of_the_size_asked_for(tmp_path, run) -> None:
    out = tmp_path / "out.db"
    line = b'{"bucket": ["b"]}\n'
    words = ("import", "--partial", "-o", out, "--page-size", "8192")
    assert run(*words, stdin=line).status == 0
    assert run("info", out).text == "Page Size: 8192\n"
    assert run("import", "-o", tmp_path / "x", "--page-size", "7").status == 1


def test_repair_makes_a_sound_file_and_says_what_was_lost(tmp_path, run) -> None:
    path = make("one-tree", tmp_path)
    data = bytearray(path.read_bytes())
    data[6 * 1024 + 8] = 0xEE
    path.write_bytes(data)
    answer = run("repair", path, "-o", tmp_path / "sound.db")
    assert answer.status == 1
    lines = answer.text.splitlines()
    assert any("page 6" in line and "lost: " in line for line in lines)
    assert lines[-1].endswith("lost content")
    assert content(tmp_path / "sound.db")
    assert path.read_bytes() == data


def test_repair_of_a_sound_file_loses_nothing(db, tmp_path, run) -> None:
    answer = run("repair", db, "-o", tmp_path / "sound.db")
    assert (answer.status, answer.text.splitlines()[-1]) == (0, "nothing was lost")
    assert content(tmp_path / "sound.db") == content(db)


def test_a_new_file_is_for_its_owner_only(tmp_path, run) -> None:
    out = tmp_path / "out.db"
    run("import", "--partial", "-o", out, stdin=b'{"bucket": ["b"]}\n')
    assert stat.S_IMODE(out.stat().st_mode) & 0o077 == 0


def test_an_interrupt_ends_it_without_a_traceback_or_an_output(
    tmp_path, run, monkeypatch
) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("shearbolt.command.transfer.compact", interrupted)
    path = make("nested", tmp_path)
    answer = run("compact", path, "-o", tmp_path / "out.db")
    assert answer == (128 + 2, b"", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["nested.db"]


def test_a_key_that_looks_like_an_option_goes_behind_two_dashes(db, run) -> None:
    assert run("put", db, "top", "--", "--json", "--bucket").status == 0
    assert run("get", db, "top", "--", "--json").text == "--bucket\n"


def test_an_import_reads_a_file_or_a_dash(tmp_path, run) -> None:
    lines = b'{"format": "shearbolt", "version": 1}\n{"bucket": ["b"]}\n'
    assert run("import", "-", "-o", tmp_path / "a.db", stdin=lines).status == 0
    assert run("buckets", tmp_path / "a.db").text == "b\n"


def test_a_partial_file_of_a_dead_process_does_not_get_into_the_output(
    db, tmp_path, run, monkeypatch
) -> None:
    monkeypatch.setattr(OSStorage, "pid", staticmethod(lambda: 4242))
    stale = tmp_path / "out.db.4242.partial"
    with shearbolt.open(stale) as left, left.update() as tx:
        tx.create_bucket(b"stale")
    assert run("compact", db, "-o", tmp_path / "out.db").status == 0
    assert content(tmp_path / "out.db") == content(db)
    assert not stale.exists()
    stale.write_bytes(b"longer than the database" * 10_000)
    out = tmp_path / "other.db"
    stale.rename(tmp_path / "other.db.4242.partial")
    assert run("surgery", "freelist", "abandon", db, "--output", out).status == 0
    assert out.stat().st_size == db.stat().st_size


def test_metas_on_two_page_sizes_are_warned_of(db, tmp_path, run) -> None:
    answer = run(
        "surgery", "meta", "update", db, "--output", tmp_path / "out.db",
        "--meta-page", "1", "--fields", "pageSize:4096",
    )  # fmt: skip
    warning, done = answer.text.splitlines()
    assert warning.startswith("WARNING: The page size (1024) in the first meta page ")
    assert warning.endswith(" doesn't match the second meta page (4096)")
    assert done == "The meta page 1 has been updated!"


def test_updating_a_meta_that_is_right_changes_nothing(db, tmp_path, run) -> None:
    first, second = tmp_path / "1.db", tmp_path / "2.db"
    update = ("surgery", "meta", "update")
    answer = run(*update, db, "--output", first)
    assert answer.text == "The meta page 0 has been updated!\n"
    assert run(*update, first, "--output", second).text == "Nothing changed!\n"
    assert second.read_bytes() == first.read_bytes()
