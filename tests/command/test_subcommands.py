"""What each subcommand does and prints; section by section.

That the words are bbolt's is shown by `test_recorded_bbolt.py`. Here is what bbolt's
command has not, and the words spelled out once for people to read.
"""

from __future__ import annotations

import io
import json
import platform
import stat
from contextlib import contextmanager

import pytest
from tests.command.conftest import call
from tests.command.databases import KINDS, make

import shearbolt
from shearbolt.command import COMMANDS
from shearbolt.command.diff import differences
from shearbolt.command.session import Progress, Session
from shearbolt.export import records

ETCD = "tests/data/etcd.db"


def content(path) -> list:
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        assert tx.check() == []
        return list(records(tx))


@pytest.fixture
def db(tmp_path):
    return make("nested", tmp_path)


# -- looking -----------------------------------------------------------------------


def test_info(db, run) -> None:
    assert run("info", db).text == "Page Size: 1024\n"


def test_check_says_ok(db, run) -> None:
    assert run("check", db)[:2] == (0, b"OK\n")


def damage(path) -> None:
    """Make a page unreachable by emptying the list that names it free."""
    data = bytearray(path.read_bytes())
    with shearbolt.open(path, read_only=True) as db, db.view() as tx:
        at = tx.meta.freelist * db.page_size + 10
    data[at : at + 2] = bytes(2)
    path.write_bytes(data)


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


# -- changing ----------------------------------------------------------------------


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


# -- whole databases ---------------------------------------------------------------


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


def test_an_export_does_not_overwrite(db, tmp_path, run) -> None:
    target = tmp_path / "there.jsonl"
    target.write_text("precious")
    assert run("export", db, "-o", target).status == 1
    assert target.read_text() == "precious"


def test_import_into_adds_and_changes_in_one_transaction(db, run) -> None:
    lines = (
        b'{"bucket": ["top"], "sequence": 9}\n'
        b'{"bucket": ["top"], "key": "plain", "value": "other"}\n'
        b'{"bucket": ["fresh", "er"], "key": {"hex": "00"}, "value": ""}\n'
    )
    with shearbolt.open(db, read_only=True) as opened, opened.view() as tx:
        before = tx.id
    assert run("import", "--into", db, stdin=lines).text == "3 records imported\n"
    with shearbolt.open(db, read_only=True) as opened, opened.view() as tx:
        assert tx.id == before + 1
        assert tx.bucket(b"top").sequence == 9
        assert tx.bucket(b"top")[b"plain"] == b"other"
        assert tx.bucket(b"fresh").bucket(b"er")[b"\0"] == b""


def test_import_makes_pages_of_the_size_asked_for(tmp_path, run) -> None:
    out = tmp_path / "out.db"
    line = b'{"bucket": ["b"]}\n'
    assert run("import", "-o", out, "--page-size", "8192", stdin=line).status == 0
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


# -- diff --------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_database_is_not_different_from_its_compacted_copy(
    name, made, tmp_path, run
) -> None:
    copy = tmp_path / "copy.db"
    assert run("compact", made(name), "-o", copy).status == 0
    assert run("diff", made(name), copy)[:2] == (0, b"")


def test_diff_shows_what_is_added_removed_and_changed(db, tmp_path, run) -> None:
    other = tmp_path / "other.db"
    run("compact", db, "-o", other)
    with shearbolt.open(other) as opened, opened.update() as tx:
        tx.bucket(b"top").put(b"plain", b"changed\n")
        tx.bucket(b"top").set_sequence(8)
        tx.bucket(b"top").delete_bucket(b"middle")
        tx.bucket(b"top").put(b"middle", b"now a key")
        tx.create_bucket(b"\xff").put(b"k", b"v")
        tx.delete_bucket(b"z")
    answer = run("diff", db, other)
    assert answer.status == 1
    assert answer.text.splitlines() == [
        '- "top"/ sequence 7',
        '+ "top"/ sequence 8',
        '- "top"/"middle"/ sequence 1099511627776',
        '+ "top"/"middle" = "now a key"',
        '- "top"/"middle"/"bottom"/ sequence 0',
        '- "top"/"middle"/"bottom"/"k" = "v"',
        '- "top"/"middle"/"other"/ sequence 0',
        '- "top"/"plain" = "value"',
        '+ "top"/"plain" = "changed\\n"',
        '- "z"/ sequence 0',
        r'+ "\xff"/ sequence 0',
        r'+ "\xff"/"k" = "v"',
    ]
    assert run("diff", "-q", db, other)[:2] == (
        1, f"Databases {db} and {other} differ\n".encode(),
    )  # fmt: skip
    # The other way round: the same lines with the signs changed.
    backwards = run("diff", other, db).text.translate(str.maketrans("+-", "-+"))
    assert sorted(backwards.splitlines()) == sorted(answer.text.splitlines())


def test_diff_finds_each_single_difference(tmp_path) -> None:
    # Planted one by one: an entry missing, a value changed, a sequence changed.
    path = make("prefixes", tmp_path)
    found = 0
    for index, record in enumerate(content(path)[:40]):
        other = tmp_path / f"{index}.db"
        other.write_bytes(path.read_bytes())
        with shearbolt.open(other, no_sync=True) as db, db.update() as tx:
            bucket = tx.bucket(record.path[0])
            if hasattr(record, "key"):
                if index % 2:
                    bucket.delete(record.key)
                else:
                    bucket.put(record.key, b"otherwise")
            else:
                bucket.set_sequence(1)
        with (
            shearbolt.open(path, read_only=True) as a,
            shearbolt.open(other, read_only=True) as b,
            a.view() as one,
            b.view() as two,
        ):
            [(before, after)] = differences(one, two)
        assert before == record
        assert after != record
        found += 1
    assert found == 40


# -- bench -------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["seq", "rnd", "seq-nest", "rnd-nest"])
def test_bench_measures_writes_and_reads(write, run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1_000_000)
    read = "rnd" if write.startswith("rnd") else "seq"
    answer = run(
        "bench", "--count", "60", "--batch-size", "20", "--no-sync",
        "--write-mode", write, "--read-mode", read,
    )  # fmt: skip
    first, second, empty = answer.text.split("\n")[:3]
    assert first.startswith("# Write\t60(ops)\t")
    assert second.startswith("# Read\t")
    assert second.endswith(" op/sec)")
    assert empty == ""
    assert answer.stderr == ""


def test_bench_keeps_its_database_when_told(tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1)
    path, profile = tmp_path / "kept.db", tmp_path / "profile"
    words = ("bench", "--count", "10", "--path", path, "--json", "--no-sync")
    assert json.loads(run(*words).stdout)["write"]["operations"] == 10
    assert not path.exists()
    answer = run(
        *words, "--work", "--cpuprofile", profile, "--memprofile", tmp_path / "memory",
        "--key-size", "6", "--value-size", "3",
    )  # fmt: skip
    assert answer.stderr == f"work: {path}\n"
    assert profile.stat().st_size > 0
    assert "size=" in (tmp_path / "memory").read_text()
    [_, *pairs] = content(path)
    assert [(len(pair.key), pair.value) for pair in pairs] == [(6, bytes(3))] * 10


def test_bench_prints_what_benchstat_reads(run, monkeypatch) -> None:
    monkeypatch.setattr("shearbolt.command.bench._SECOND", 1)
    lines = run("bench", "--count", "10", "--gobench-output").text.splitlines()
    for name, line in zip(("BenchmarkWrite", "BenchmarkRead "), lines, strict=False):
        begin, count, each = line.split("\t")
        assert (begin, count.strip(), each[-6:]) == (name, count.strip(), " ns/op")
        assert float(each.split()[0]) > 0


# -- for programs ------------------------------------------------------------------

JSON = {
    "info": ("PATH",),
    "check": ("PATH",),
    "stats": ("PATH",),
    "inspect": ("PATH",),
    "buckets": ("PATH",),
    "keys": ("PATH", "top"),
    "get": ("PATH", "top", "plain"),
    "diff": ("PATH", "OTHER"),
    "pages": ("PATH",),
    "page": ("PATH", "--all"),
    "page-item": ("PATH", "4", "0"),
    "dump": ("PATH", "0"),
    "compact": ("PATH", "-o", "OUT"),
    "import": ("-o", "OUT"),
    "repair": ("PATH", "-o", "OUT"),
    "version": (),
    "surgery revert-meta-page": ("PATH", "--output", "OUT"),
    "surgery copy-page": ("PATH", "--output=OUT", "--from-page=3", "--to-page=2"),
    "surgery clear-page": ("PATH", "--output", "OUT", "--pageId", "3"),
    "surgery clear-page-elements": (
        "PATH", "--output", "OUT", "--pageId=4", "--from-index=0", "--to-index=1",
    ),
    "surgery freelist abandon": ("PATH", "--output", "OUT"),
    "surgery freelist rebuild": ("ABANDONED", "--output", "OUT"),
    "surgery meta validate": ("PATH",),
    "surgery meta update": ("PATH", "--output", "OUT"),
}  # fmt: skip
# put and delete report nothing, an export is JSON; bench is tried above.
NO_JSON = {"put", "delete", "export", "bench"}


def test_every_subcommand_that_reports_is_tried_with_json() -> None:
    assert set(JSON) | NO_JSON == set(COMMANDS)


@pytest.mark.parametrize("name", JSON)
def test_json_is_one_object_a_line(name, db, tmp_path, run) -> None:
    places = {
        "PATH": str(db),
        "OUT": str(tmp_path / "out.db"),
        "--output=OUT": f"--output={tmp_path / 'out.db'}",
    }
    if "OTHER" in JSON[name]:
        places["OTHER"] = str(make("one-inline", tmp_path))
    if "ABANDONED" in JSON[name]:
        places["ABANDONED"] = str(tmp_path / "abandoned.db")
        run("surgery", "freelist", "abandon", db, "--output", places["ABANDONED"])
    words = (places.get(word, word) for word in JSON[name])
    answer = run(*name.split(), *words, "--json", stdin=b'{"bucket": ["b"]}\n')
    assert answer.status == (1 if name == "diff" else 0), answer.stderr
    if name == "inspect":
        assert isinstance(json.loads(answer.stdout), dict)
        return
    lines = answer.stdout.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def rows(answer) -> list[dict]:
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_what_json_says(db, run) -> None:
    assert rows(run("buckets", db, "--json")) == [
        {"bucket": "top", "sequence": 7}, {"bucket": "z", "sequence": 0},
    ]  # fmt: skip
    assert rows(run("keys", db, "top", "--json")) == [
        {"key": "middle", "is_bucket": True}, {"key": "plain", "is_bucket": False},
    ]  # fmt: skip
    assert rows(run("get", db, "top", "plain", "--json")) == [
        {"key": "plain", "value": "value"}
    ]
    assert rows(run("check", db, "--json")) == [{"ok": True, "problems": 0}]
    [stats] = rows(run("stats", db, "--json"))
    assert (stats["buckets"], stats["bucket_n"]) == (2, 5)
    damage(db)
    answer = run("check", db, "--json")
    *problems, last = rows(answer)
    assert (answer.status, last["ok"]) == (1, False)
    assert len(problems) == last["problems"]
    assert problems[0]["problem"] == "page 2: unreachable unfreed"


# -- help and progress -------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_each_argument_and_shows_an_example(name, run) -> None:
    answer = run(*name.split(), "--help")
    assert answer.status == 0
    assert f"  shearbolt {name}" in answer.text.partition("example:")[2]
    assert run("help", *name.split()).stdout == answer.stdout
    assert all(len(line) <= 88 for line in answer.text.splitlines())


def test_the_list_of_subcommands_names_them_all(run) -> None:
    text = run().text
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "surgery meta" not in run("surgery", "freelist").text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def clock(monkeypatch, step: float):
    """Each look at the clock is so many seconds later than the one before."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += step
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr("shearbolt.command.session.time.monotonic", monotonic)
        yield


def test_progress_is_drawn_on_a_terminal_and_removed(monkeypatch) -> None:
    stream = Terminal()
    with clock(monkeypatch, 1.0):
        line = Progress(stream, "copy", "bytes")
        line(50, 200)
        line(1234)
        line.clear()
    assert stream.getvalue() == (
        "\rcopy  50 bytes  25%\x1b[K\rcopy  1,234 bytes\x1b[K\r\x1b[K"
    )


def test_progress_of_short_work_is_not_drawn(monkeypatch) -> None:
    stream = Terminal()
    with clock(monkeypatch, 0.001):
        line = Progress(stream, "copy", "bytes")
        for done in range(50):
            line(done)
        line.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("stream", "environment", "drawn"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"CI": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_progress_is_for_somebody_who_watches(
    stream, environment, drawn, monkeypatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = Session(stdin=io.BytesIO(), stdout=io.BytesIO(), stderr=stream)
    with session.progress("copy", "bytes") as progress:
        assert (progress is not None) is drawn


def test_a_new_file_is_for_its_owner_only(tmp_path, run) -> None:
    out = tmp_path / "out.db"
    run("import", "-o", out, stdin=b'{"bucket": ["b"]}\n')
    assert stat.S_IMODE(out.stat().st_mode) & 0o077 == 0
