"""Bad input ends in one line on standard error and a status; nothing is harmed.

No file, argument or combination of these may give a traceback: it would be raised
out of `main` here and fail the test.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tracemalloc

import pytest
from tests.command.databases import make

import shearbolt
from shearbolt.command import COMMANDS
from shearbolt.pages.encoding import encode_bucket, encode_freelist, encode_leaf
from shearbolt.pages.format import NO_FREELIST, Meta

# What each subcommand needs beside the database.
ARGUMENTS = {
    "buckets": (),
    "check": (),
    "compact": ("-o", "OUT"),
    "delete": ("top", "plain"),
    "diff": ("SOUND",),
    "dump": ("0", "3"),
    "export": (),
    "get": ("top", "plain"),
    "info": (),
    "inspect": (),
    "keys": ("top", "middle"),
    "page": ("--all",),
    "page-item": ("3", "0"),
    "pages": (),
    "put": ("top", "k", "v"),
    "repair": ("-o", "OUT"),
    "stats": (),
    "surgery clear-page": ("--output", "OUT", "--pageId", "3"),
    "surgery clear-page-elements": (
        "--output", "OUT", "--pageId", "3", "--from-index", "0", "--to-index", "1",
    ),
    "surgery copy-page": ("--output", "OUT", "--from-page", "3", "--to-page", "2"),
    "surgery freelist abandon": ("--output", "OUT"),
    "surgery freelist rebuild": ("--output", "OUT"),
    "surgery meta update": ("--output", "OUT", "--fields", "root:3"),
    "surgery meta validate": (),
    "surgery revert-meta-page": ("--output", "OUT"),
}  # fmt: skip
NO_DATABASE = {"bench", "version", "import"}
CHANGING = {"put", "delete"}
# These read the file without its lock.
LOCKLESS = {"page", "page-item", "dump", "surgery meta validate"}


def test_every_subcommand_is_tried_below() -> None:
    assert set(ARGUMENTS) | NO_DATABASE == set(COMMANDS)


@pytest.fixture
def sound(tmp_path):
    return make("nested", tmp_path)


def line(name, path, sound):
    places = {"OUT": path.parent / "out.db", "SOUND": sound}
    return [*name.split(), path, *(places.get(word, word) for word in ARGUMENTS[name])]


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def one_line(answer) -> bool:
    return answer.stderr.count("\n") == 1 and answer.stderr.startswith("Error: ")


# -- files that are no databases ---------------------------------------------------


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_missing_file_is_named_and_not_made(name, sound, tmp_path, run) -> None:
    path = tmp_path / "missing.db"
    answer = run(*line(name, path, sound))
    assert answer.status == (2 if name == "diff" else 1)
    assert answer.stderr == f'Error: source database file "{path}" doesn\'t exist\n'
    assert answer.stdout == b""
    assert not path.exists()


@pytest.mark.parametrize(
    "words",
    [
        *((name, "LINK", *ARGUMENTS[name]) for name in sorted(CHANGING)),
        ("import", "--into", "LINK", "--partial", "INPUT"),
    ],
    ids=" ".join,
)
def test_what_a_link_to_nothing_means_is_not_made(words, tmp_path, run) -> None:
    link, given = tmp_path / "link.db", tmp_path / "in.jsonl"
    link.symlink_to("target.db")
    given.write_bytes(b"")
    answer = run(*({"LINK": link, "INPUT": given}.get(word, word) for word in words))
    assert answer.status == 1
    assert answer.stderr == f'Error: "{link}": open: No such file or directory\n'
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "link.db"]


def bad_file(kind: str, sound, path) -> None:
    data = sound.read_bytes()
    if kind == "directory":
        path.mkdir()
        return
    if kind == "fifo":
        os.mkfifo(path)
        return
    path.write_bytes(
        {
            "empty": b"",
            "one byte": b"\0",
            "random": random.Random(5).randbytes(16384),
            "zeros": bytes(16384),
            "metas only": data[:2048],
            "text": b"[mysqld]\n" * 1000,
        }[kind]
    )


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name not in CHANGING])
def test_what_is_no_database_is_an_error(name, sound, tmp_path, run) -> None:
    for kind in (
        *("directory", "fifo", "empty", "one byte", "random", "zeros", "metas only"),
        "text",
    ):
        folder = tmp_path / kind
        folder.mkdir()
        path = folder / "bad.db"
        bad_file(kind, sound, path)
        before = path.read_bytes() if path.is_file() else None
        answer = run(*line(name, path, sound))
        raw = kind == "metas only" and (name in LOCKLESS or name == "repair")
        surgical = kind == "metas only" and name.startswith("surgery")
        if not raw and not surgical:
            assert answer.status == (2 if name == "diff" else 1), (kind, answer)
            assert one_line(answer), (kind, answer.stderr)
            assert not (folder / "out.db").exists(), kind
        assert not list(folder.glob("*.partial")), kind
        if before is not None:
            assert path.read_bytes() == before, kind


@pytest.mark.parametrize("seed", range(24))
def test_damage_is_an_error_or_an_answer_never_a_traceback(
    seed, sound, made, tmp_path, run
) -> None:
    draw = random.Random(seed)
    kind = draw.choice(["nested", "one-tree", "overflow", "mixed"])
    data = bytearray(made(kind).read_bytes())
    for _ in range(draw.randint(1, 4)):
        page = draw.randrange(0, 14)
        at = page * 1024 + draw.choice([0, 8, 10, 12, 16, 20, 24, 28, 40, 56])
        data[at] = draw.randrange(256)
    if draw.random() < 0.2:
        del data[draw.randrange(2048, len(data)) :]
    path = tmp_path / "damaged.db"
    for name in ARGUMENTS:
        path.write_bytes(data)
        answer = run(*line(name, path, sound))
        assert answer.status in {0, 1, 2}
        assert one_line(answer) or not answer.stderr
        if name not in CHANGING:
            assert path.read_bytes() == data
        (tmp_path / "out.db").unlink(missing_ok=True)
    assert not list(tmp_path.glob("*.partial"))


# Three buckets whose pages lead back to them, in a file of 256 GiB of which 6 KiB are
# there: what counts pages up to the number that the meta gives does not end.
SPARSE = {
    3: {b"b": 4},
    4: {b"again": 4, b"next": 5},
    5: {b"root": 3},
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("freelist", [True, False])
def test_a_sparse_file_takes_no_longer_than_what_is_in_it(
    name, freelist, sound, tmp_path, run
) -> None:
    path, end = tmp_path / "sparse.db", 1 << 28
    pages = [
        encode_leaf(pgid, 0, list(names), [encode_bucket(root, 0) for root in roots])
        for pgid, names in SPARSE.items()
        for roots in [names.values()]
    ]
    live = Meta(1024, 3, 2 if freelist else NO_FREELIST, end, 2)
    path.write_bytes(
        live.encode_page(0)
        + live.with_txid(1).encode_page(1)
        + b"".join(
            page.ljust(1024, b"\0") for page in [encode_freelist(2, 0, []), *pages]
        )
    )
    os.truncate(path, 1024 * end)

    def end_it(*_: object) -> None:
        pytest.fail("it does not end")

    before = signal.signal(signal.SIGALRM, end_it)
    signal.setitimer(signal.ITIMER_REAL, 5)
    tracemalloc.start()
    try:
        answer = run(*line(name, path, sound))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert most < 8_000_000
    assert answer.status in {0, 1, 2}
    assert one_line(answer) or not answer.stderr
    assert len(answer.stdout) < 20_000
    output = tmp_path / "out.db"
    if output.exists():
        # What was a hole is one in the copy.
        assert output.stat().st_blocks * 512 < 1 << 20


# -- locks -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_locked_file_is_an_error_after_the_timeout(
    name, sound, tmp_path, run
) -> None:
    path = make("no-freelist-4k", tmp_path)
    with shearbolt.open(path, no_freelist_sync=True):
        before = digest(path)
        words = line(name, path, sound)
        if name in LOCKLESS:
            assert run(*words).status in {0, 1}
            return
        if name != "repair":
            words += ["--timeout", "0"]
        answer = run(*words)
        assert answer.status == (2 if name == "diff" else 1)
        assert "process" in answer.stderr
        assert one_line(answer)
        assert digest(path) == before
    assert not (tmp_path / "out.db").exists()


@pytest.mark.parametrize(
    "name", ["info", "check", "get", "export", "stats", "diff", "compact"]
)
def test_readers_share_the_file(name, sound, tmp_path, run) -> None:
    with shearbolt.open(sound, read_only=True):
        answer = run(*line(name, sound, sound), "--timeout", "0")
    assert answer.status == 0, answer.stderr


# -- arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("surgery", "nonsense"),
        ("surgery", "freelist", "nonsense"),
        ("--nonsense",),
        ("check",),
        ("check", "DB", "DB"),
        ("check", "DB", "--from-page", "x"),
        ("check", "DB", "--timeout", "nan"),
        ("check", "DB", "--timeout", "-1"),
        ("check", "DB", "--jso"),
        ("get", "DB", "key"),
        ("get", "DB", "b", "k", "--format", "rot13"),
        ("get", "DB", "b", "xyz", "--parse-format", "hex"),
        ("keys", "DB"),
        ("page", "DB"),
        ("page", "DB", "0", "--all"),
        ("page", "DB", "-1"),
        ("page", "DB", "18446744073709551616"),
        ("page", "DB", "1_0"),
        ("page-item", "DB", "3", "0", "--key-only", "--value-only"),
        ("dump", "DB"),
        ("compact", "DB"),
        ("compact", "DB", "-o", "OUT", "--tx-max-size", "-5"),
        ("put", "DB", "b", "k"),
        ("put", "DB", "b"),
        ("delete", "DB", "b"),
        ("import", "x.jsonl"),
        ("import", "x.jsonl", "-o", "OUT", "--into", "DB"),
        ("import", "x.jsonl", "--into", "DB", "--page-size", "4096"),
        ("diff", "DB"),
        ("bench", "--count", "10", "--batch-size", "3"),
        ("bench", "--count", "0"),
        ("bench", "--write-mode", "seq-del"),
        ("bench", "--key-size", "2"),
        ("bench", "--fill-percent", "2"),
        ("bench", "--blockprofile", "OUT"),
        ("bench", "--path", "DB"),
        ("surgery", "copy-page", "DB", "--output", "OUT", "--from-page", "3"),
        ("surgery", "copy-page", "DB", "--output=OUT", "--from-page=3", "--to-page=3"),
        ("surgery", "clear-page", "DB", "--output", "OUT", "--pageId", "1"),
        ("surgery", "clear-page", "DB", "--pageId", "3"),
        ("surgery", "meta", "update", "DB", "--output", "OUT", "--meta-page", "2"),
        ("surgery", "meta", "update", "DB", "--output", "OUT", "--fields", "root"),
        ("surgery", "meta", "update", "DB", "--output", "OUT", "--fields", "txid:4"),
        ("surgery", "meta", "update", "DB", "--output", "OUT", "--fields", "root:x"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_one_line_and_status_2(words, sound, tmp_path, run) -> None:
    before = digest(sound)
    places = {"DB": sound, "OUT": tmp_path / "out.db"}
    answer = run(*(places.get(word, word) for word in words))
    assert answer.status == 2
    assert one_line(answer), answer.stderr
    assert answer.stderr.rstrip().endswith("--help')")
    assert answer.stdout == b""
    assert digest(sound) == before
    assert not (tmp_path / "out.db").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("get", "DB", "top", "nope"),
         'Error key not found for key: "nope" hex: "6e6f7065"'),
        (("get", "DB", "top", "middle"),
         'Error key not found for key: "middle" hex: "6d6964646c65"'),
        (("get", "DB", "top", ""), "key is required: key required"),
        (("get", "DB", "nope", "k"), 'bucket not found: "nope"'),
        (("keys", "DB", "top", "nope"), 'bucket not found: "nope" of "top"/"nope"'),
        (("keys", "DB", "top", "plain"), 'bucket not found: "plain" of "top"/"plain"'),
        (("delete", "DB", "top", "nope"),
         'key not found: "nope" hex: "6e6f7065" (a bucket is deleted with --bucket)'),
        (("delete", "--bucket", "DB", "top", "plain"),
         'bucket not found: "plain" of "top"/"plain"'),
        (("put", "DB", "top", "middle", "v"), "incompatible value: b'middle'"),
        (("put", "DB", "nope", "k", "v"), 'bucket not found: "nope"'),
        (("page-item", "DB", "0", "0"),
         "leafPageElement: expected item index less than 0, but got 0"),
        (("page-item", "DB", "4", "99"),
         "leafPageElement: expected item index less than 2, but got 99"),
        (("put", "DB", "top", "k" * 32769, "v"),
         "key too large: 32769 bytes, at most 32768 are allowed"),
    ],
    ids=lambda words: " ".join(words)[:40] if isinstance(words, tuple) else "",
)  # fmt: skip
def test_what_is_not_there_is_named(words, message, sound, run) -> None:
    before = digest(sound)
    answer = run(*(sound if word == "DB" else word for word in words))
    assert (answer.status, answer.stderr) == (1, f"Error: {message}\n")
    assert digest(sound) == before


def test_a_message_stays_one_line_whatever_a_name_holds(tmp_path, run) -> None:
    path = tmp_path / "new\nline\x1b[31m.db"
    path.write_bytes(b"")
    for words in (
        ("check", f"{path}.missing"),
        ("check", path, path),
        ("bench", "--path", path),
        (path,),
        ("surgery", path),
    ):
        answer = run(*words)
        assert one_line(answer)
        assert "new\\nline\\x1b[31m.db" in answer.stderr


def test_memory_that_is_not_enough_is_one_line(sound, run, monkeypatch) -> None:
    """A meta may say that there is any number of pages, and a sparse file have them."""

    def check(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("shearbolt.database.tx.check", check)
    answer = run("check", sound)
    assert answer.status == 1
    assert answer.stderr == "Error: there is not enough memory for this\n"


def test_an_import_that_fails_names_the_line_and_leaves_nothing(
    sound, tmp_path, run
) -> None:
    lines = b'{"bucket": ["b"]}\n{"bucket": 7}\n'
    before = digest(sound)
    for target in (("-o", tmp_path / "out.db"), ("--into", sound)):
        answer = run("import", "--partial", *target, stdin=lines)
        assert answer.status == 1
        assert answer.stderr == 'Error: line 2: "bucket" is a list of names\n'
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["nested.db"]
    assert digest(sound) == before
    assert run("import", "-o", tmp_path / "o", tmp_path / "no.jsonl").status == 1


@pytest.mark.parametrize("begin", [b"", b"x", b"\n", b" " * 70_000])
def test_an_import_of_what_has_no_lines_does_not_read_all_of_it(run, tmp_path, begin):
    path = tmp_path / "no export"
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(1 << 25)
    tracemalloc.start()
    try:
        answer = run("import", path, "-o", tmp_path / "out.db")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 1
    assert "not JSON" in answer.stderr
    assert most < 1 << 24
    assert os.listdir(tmp_path) == ["no export"]


@pytest.mark.parametrize("begin", [b"{", b' {"bucket": ["', b'{"bucket": ["b"]}\n{'])
def test_an_import_of_a_line_without_an_end_stops_at_the_bound(run, tmp_path, begin):
    path = tmp_path / "no export"
    with path.open("wb") as file:
        file.write(begin)
        for _ in range(32):
            file.write(b"a" * (1 << 20))
    words = ("import", "--partial", path, "-o", tmp_path / "out.db")
    tracemalloc.start()
    try:
        answer = run(*words, "--max-line", "1000000")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 1
    assert answer.stderr == (
        f"Error: line {begin.count(10) + 1}: longer than 1000000 bytes: no export, or "
        "--max-line is to be larger\n"
    )
    assert most < 1 << 23
    assert os.listdir(tmp_path) == ["no export"]


@pytest.mark.parametrize("size", [50, 70_000, 300_000])
def test_a_line_of_just_the_bound_is_read(run, tmp_path, size):
    line = b'{"bucket": ["b"], "key": "k", "value": "%s"}\n'
    line %= b"v" * (size - len(line) + 2)
    assert len(line) == size
    path = tmp_path / "lines"
    path.write_bytes(line * 2)
    words = ("import", "--partial", path, "-o", tmp_path / "out.db", "--max-line")
    assert run(*words, str(len(line) - 1)).status == 1
    assert run(*words, str(len(line))).status == 0


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('{"bucket": ["a"], "key": "", "value": ""}', "key required"),
        (
            f'{{"bucket": ["a"], "key": "{"k" * 32769}", "value": ""}}',
            "key too large: 32769 bytes, at most 32768 are allowed",
        ),
        ('{"bucket": ["a", ""]}', "bucket name required"),
        ('{"bucket": ["a", "k"]}', "incompatible value: b'k'"),
        ('{"bucket": ["b"], "key": "in", "value": ""}', "incompatible value: b'in'"),
    ],
)
@pytest.mark.parametrize("limit", ["0", "1"])
def test_an_import_that_is_refused_a_record_names_its_line(
    line, wrong, limit, tmp_path, run
) -> None:
    text = (
        '{"bucket": ["a"], "key": "k", "value": "v"}\n\n{"bucket": ["b", "in"]}\n'
        f'{line}\n{{"bucket": ["z"]}}\n'
    )
    answer = run(
        "import", "--partial", "-o", tmp_path / "out.db", "--tx-max-size", limit,
        stdin=text.encode(),
    )  # fmt: skip
    assert (answer.status, answer.stderr) == (1, f"Error: line 4: {wrong}\n")
    assert list(tmp_path.iterdir()) == []


# -- the outside world -------------------------------------------------------------

SHELL = [sys.executable, "-m", "shearbolt.command"]


def test_a_reader_that_has_seen_enough_ends_it_silently(tmp_path) -> None:
    path = make("deep-tree", tmp_path)
    process = subprocess.Popen(
        [*SHELL, "export", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 128 + signal.SIGPIPE


def test_the_installed_program_prints_and_fails_like_main(sound, tmp_path) -> None:
    done = subprocess.run(
        [*SHELL, "info", str(sound)], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Page Size: 1024\n", b"")
    done = subprocess.run(
        [*SHELL, "info", str(tmp_path)], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr


def test_a_name_that_is_no_text_in_this_locale_works(tmp_path) -> None:
    path = tmp_path / "b.db"
    with shearbolt.open(path) as db, db.update() as tx:
        tx.create_bucket(b"\xff\xfe").put(b"\xe9", b"\x00\xff\n")
    done = subprocess.run(
        [*SHELL, "get", str(path), b"\xff\xfe", b"\xe9", "--format", "bytes"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert done.stdout == b"\x00\xff\n\n"


def test_a_folder_that_may_not_be_searched_is_not_taken_for_an_empty_one(
    run, tmp_path, monkeypatch
) -> None:
    opened = os.open
    path = tmp_path / "locked" / "a.db"

    def refuse(name, *rest, **options):
        if name == str(path):
            raise PermissionError(13, "Permission denied", name)
        return opened(name, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    answer = run("check", path)
    wanted = f'Error: "{path}": open: Permission denied\n'
    assert (answer.status, answer.stderr) == (1, wanted)
