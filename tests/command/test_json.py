"""--json: on every subcommand that reports, one object a line."""

from __future__ import annotations

import json
import os

import pytest
from tests.command.conftest import rows
from tests.command.databases import damage, make

from shearbolt.command import COMMANDS


@pytest.fixture
def db(tmp_path):
    return make("nested", tmp_path)


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
    "import": ("--partial", "-o", "OUT"),
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
    lines = answer.stdout.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_inspect_says_with_json_the_same_and_names_exactly(db, run) -> None:
    [tree] = rows(run("inspect", db, "--json"))
    assert tree == json.loads(run("inspect", db).stdout)
    assert run("put", db, b"\xff", "k", "v", "--create").status == 0
    [tree] = rows(run("inspect", db, "--json"))
    assert tree["buckets"][-1] == {"name": {"hex": "ff"}, "keyN": 1}


def test_json_is_utf_8_whatever_a_file_is_called(db, tmp_path, run) -> None:
    output = os.fsencode(tmp_path / "out") + b"\xff.db"
    answer = run(
        *("surgery", "copy-page", db, "--from-page=3", "--to-page=2", "--json"),
        *("--output", output),
    )
    assert answer.status == 0
    [row] = rows(answer)
    assert os.fsencode(row["output"]) == output
    assert answer.stdout.decode().isascii()


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
