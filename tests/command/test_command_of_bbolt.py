"""Every subcommand of bbolt's command is here with its options, and is tested.

`docs/command.md` holds the table. Here it is compared with bbolt's subcommands and
options on one side, and with our parsers and these tests on the other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.command.conftest import call
from tests.command.databases import make

from shearbolt.command import COMMANDS

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "command.md"

SURGERY = {
    "revert-meta-page": "",
    "copy-page": "--from-page --to-page",
    "clear-page": "--pageId",
    "clear-page-elements": "--pageId --from-index --to-index",
    "freelist abandon": "",
    "freelist rebuild": "",
    "meta update": "--fields --meta-page",
}
BBOLT = {
    "version": "",
    "info": "",
    "buckets": "",
    "check": "--from-page",
    "pages": "",
    "page": "--all --format-value",
    "page-item": "--key-only --value-only --format",
    "dump": "",
    "keys": "--format -f",
    "get": "--parse-format --format",
    "inspect": "",
    "stats": "",
    "compact": "--output -o --tx-max-size --no-sync",
    "bench": """--profile-mode --write-mode --read-mode --count --batch-size
        --key-size --value-size --fill-percent --no-sync --work --path --cpuprofile
        --memprofile --blockprofile --gobench-output --page-size
        --initial-mmap-size""",
    "help": "--help -h",
    "surgery meta validate": "",
    **{f"surgery {verb}": f"--output {more}" for verb, more in SURGERY.items()},
}
NOT_HERE = {"completion"}
ROW = re.compile(r"^\| `([\w -]+)` \| (.*?) ?\| *(\w*) *\|$", re.MULTILINE)
TABLE = DOCUMENT.read_text("utf-8").partition("## bbolt's subcommands")[2]
ROWS = {name: (options, test) for name, options, test in ROW.findall(TABLE)}
TESTS = {
    name
    for path in HERE.glob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def options_of(name: str) -> set[str]:
    """The options that our subcommand's help has."""
    words = name.split() if name != "help" else ["info"]
    answer = call(*words, "--help")
    assert answer.status == 0
    # An option begins a line, or follows another form of itself.
    return set(
        re.findall(r"(?:^ +|, |\[)(--?[a-zA-Z][\w-]*)", answer.text, re.MULTILINE)
    )


def test_every_subcommand_of_bbolt_is_in_the_table() -> None:
    assert set(ROWS) == set(BBOLT) | NOT_HERE
    for name in NOT_HERE:
        assert ROWS[name] == ("not here", "")
        assert name not in COMMANDS


@pytest.mark.parametrize("name", BBOLT)
def test_it_is_here_with_all_its_options(name) -> None:
    options, _ = ROWS[name]
    assert set(re.findall(r"`([^`]+)`", options)) == set(BBOLT[name].split())
    assert name in COMMANDS or name == "help"
    assert set(BBOLT[name].split()) <= options_of(name)


@pytest.mark.parametrize("name", BBOLT)
def test_it_has_a_test(name) -> None:
    assert ROWS[name][1] in TESTS


def test_an_option_that_is_not_there_is_noticed() -> None:
    assert not {"--nothing"} <= options_of("check")
    assert not {"--from-page"} <= options_of("info")


def test_every_option_of_a_reading_subcommand_is_obeyed(tmp_path) -> None:
    # Beside a run without it: an option that is taken and ignored would pass above.
    path = make("nested", tmp_path)
    root = call("page", path, "2").text
    assert call("page", path, "2", "--format-value", "redacted").status == 0
    assert root in call("page", path, "--all").text
    leaf = next(
        row.split()[0]
        for row in call("pages", path).text.splitlines()[2:]
        if row.split()[1] == "leaf"
    )
    both = call("page-item", path, leaf, "0").text
    key = call("page-item", path, leaf, "0", "--key-only").text
    value = call("page-item", path, leaf, "0", "--value-only").text
    assert both == key + value
    assert key
    assert value
    redacted = call("page-item", path, leaf, "0", "--format", "redacted").text
    assert "<redacted len:" in redacted
    assert redacted != both
