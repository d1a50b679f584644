"""Arguments that are no numbers, damage with --json, and output nobody reads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.command.conftest import call, rows
from tests.command.databases import make


@pytest.mark.parametrize(
    "words",
    [
        ("check", "FILE", "--timeout", "soon"),
        ("check", "FILE", "--timeout", "nan"),
        ("bench", "--fill-percent", "half"),
        ("bench", "--fill-percent", "2"),
        (
            *("surgery", "clear-page-elements", "FILE", "--output", "OUT"),
            *("--pageId", "3", "--from-index", "x", "--to-index", "1"),
        ),
    ],
)
def test_what_is_no_number_is_wrong_usage(words, nested) -> None:
    words = [str(nested) if word == "FILE" else word for word in words]
    answer = call(*words)
    assert answer.status == 2
    assert answer.stdout == b""
    assert "Traceback" not in answer.stderr


def test_a_brief_diff_says_so_in_json_too(nested, tmp_path) -> None:
    other = make("one-tree", tmp_path)
    answer = call("diff", nested, other, "--brief", "--json")
    assert (answer.status, rows(answer)) == (1, [{"different": True}])


def damaged(tmp_path):
    path = make("one-tree", tmp_path)
    data = bytearray(path.read_bytes())
    data[6 * 1024 + 8] = 0xEE
    path.write_bytes(data)
    return path


def test_a_page_that_cannot_be_printed_is_an_error_in_its_place(tmp_path) -> None:
    answer = call("page", damaged(tmp_path), "6", "999999", "--json")
    assert any("error" in row for row in rows(answer))


def test_repair_says_what_was_lost_in_json(tmp_path) -> None:
    answer = call("repair", damaged(tmp_path), "-o", tmp_path / "new.db", "--json")
    *damage, summary = rows(answer)
    assert answer.status == 1
    assert summary["complete"] is False
    assert summary["lost"] > 0
    assert damage
    assert all("damage" in row for row in damage)


def test_a_page_item_is_one_object_of_what_was_asked_for(tmp_path) -> None:
    path = make("nested", tmp_path)
    page = next(row["id"] for row in rows(call("pages", path, "--json"))
                if row.get("type") == "leaf")  # fmt: skip
    both = rows(call("page-item", path, page, "0", "--json"))[0]
    key = rows(call("page-item", path, page, "0", "--json", "--key-only"))[0]
    value = rows(call("page-item", path, page, "0", "--json", "--value-only"))[0]
    assert key == {"key": both["key"]}
    assert value == {name: both[name] for name in both if name != "key"}


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shearbolt.command", "version"],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0
    assert b"ersion" in done.stdout
