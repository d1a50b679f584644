"""The command where standard streams are closed, or take nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.command.databases import content

import shearbolt
from shearbolt.export import from_lines, load

_FULL = b'Error: "standard output": No space left on device\n'


def shell(
    redirections: str,
    *words: object,
    python: tuple[str, ...] = (),
    before: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, with the shell's redirections."""
    # Whoever runs the tests may have it set, and most users have not.
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [
            *("sh", "-c", f'{before} "$@" {redirections}', "sh"),
            *(sys.executable, *python, "-m", "shearbolt"),
            *map(str, words),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=buffered,
        check=False,
        timeout=60,
    )


def said(answer) -> tuple[int, bytes, bytes]:
    assert b"Traceback" not in answer.stderr
    assert answer.stderr.count(b"\n") <= 1
    return answer.returncode, answer.stdout, answer.stderr


@pytest.mark.parametrize("words", [("check",), ("get", "top", "plain"), ("export",)])
def test_without_standard_output_its_subcommands_fail_with_one_line(
    words, nested
) -> None:
    status, _, error = said(shell(">&-", words[0], nested, *words[1:]))
    assert status == 1
    assert error.startswith(b"Error: standard output is closed")


def test_without_standard_output_what_prints_nothing_works(nested, tmp_path) -> None:
    assert said(shell(">&- <&-", "put", nested, "top", "k", "v")) == (0, b"", b"")
    output = tmp_path / "a.jsonl"
    assert said(shell(">&- <&-", "export", nested, "-o", output)) == (0, b"", b"")
    with shearbolt.open(tmp_path / "copy.db") as db, output.open("rb") as lines:
        load(db, from_lines(lines))
    assert content(tmp_path / "copy.db") == content(nested)


def test_without_standard_input_its_subcommands_fail_with_one_line(
    nested, tmp_path
) -> None:
    before = nested.read_bytes()
    for words in (
        ("import", "-", "-o", tmp_path / "out.db"),
        ("put", "--stdin", nested, "top", "k"),
    ):
        status, _, error = said(shell("<&-", *words))
        assert status == 1
        assert error.startswith(b"Error: standard input is closed")
    assert nested.read_bytes() == before
    assert not (tmp_path / "out.db").exists()
    assert said(shell("<&-", "get", nested, "top", "plain"))[0] == 0


# A closed stream has no buffer: there is none to be without.
@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize(
    ("redirection", "python"),
    [("2>&-", ()), ("2>/dev/full", ()), ("2>/dev/full", ("-u",))],
)
def test_without_standard_error_only_messages_are_lost(
    redirection, python, nested, tmp_path
) -> None:
    """Nor does Python end with a status of its own, because it can't write them."""

    def status(*words: object) -> int:
        return shell(redirection, *words, python=python).returncode

    made = shell(
        redirection, "compact", nested, "-o", tmp_path / "small.db", python=python
    )
    assert made.returncode == 0
    assert b"gain" in made.stdout
    assert content(tmp_path / "small.db") == content(nested)
    assert status("check", tmp_path / "absent.db") == 1
    assert status("check") == 2


def test_a_daemon_without_any_stream_changes_nothing_but_its_file(
    nested, tmp_path
) -> None:
    output = tmp_path / "out.db"
    shell("<&- >&- 2>&-", "compact", nested, "-o", output)
    assert content(output) == content(nested)
    assert shell("<&- >&- 2>&-", "check", tmp_path / "absent.db").returncode == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["nested.db", "out.db"]


def test_output_without_a_buffer_is_whole_or_an_error(nested) -> None:
    whole = shell("", "export", nested).stdout
    assert shell("", "export", nested, python=("-u",)).stdout == whole
    status, _, error = said(shell(">/dev/full", "export", nested, python=("-u",)))
    assert (status, error) == (1, _FULL)


# argparse writes the first two and the last, the command itself the third.
@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize(
    ("words", "python"),
    [
        ("--help", ()),
        ("--help", ("-u",)),
        ("--version", ("-u",)),
        ("version", ()),
        ("version", ("-u",)),
        ("get --help", ()),
    ],
)
def test_what_could_not_be_written_is_one_line_and_no_success(words, python) -> None:
    """Help, too; and nothing is tried once more when Python ends."""
    status, _, error = said(shell(">/dev/full", *words.split(), python=python))
    assert (status, error) == (1, _FULL)


def test_a_full_standard_output_is_not_taken_for_the_disk_of_a_result(
    nested, tmp_path
) -> None:
    output = tmp_path / "new.db"
    status, _, error = said(shell(">/dev/full", "compact", nested, "-o", output))
    assert (status, error) == (1, _FULL)
    assert content(output) == content(nested)


def test_a_full_disk_is_told_with_the_file_that_is_on_it(nested, tmp_path) -> None:
    output = tmp_path / "a.jsonl"
    # The limit counts blocks of 512 bytes; a signal would end what does not ignore it.
    answer = shell("", "export", nested, "-o", output, before="ulimit -f 0;")
    wanted = f'Error: "{output}": write: File too large\n'.encode()
    assert said(answer) == (1, b"", wanted)
    assert not output.exists()
