"""Writes down what a real bbolt command answers, for machines that have none.

    python -m tests.command.record /path/to/bbolt

For each kind of database: the file itself and, for each command line, the exit
status and the output, as a digest where it is long. `test_recorded_bbolt.py` holds
our answers against these. The files are in `recorded/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from tests.command.databases import KINDS, make
from tests.command.lines import lines

FOLDER = Path(__file__).with_name("recorded")
_LONGEST = 600


def shown(output: bytes) -> str:
    """An output as it is written down."""
    if len(output) <= _LONGEST:
        return (
            output.decode("utf-8", "surrogateescape")
            .encode("utf-8", "backslashreplace")
            .decode()
        )
    return f"sha256 {hashlib.sha256(output).hexdigest()}"


def real_answer(program: str, path: Path, line: list[str]) -> tuple[int, bytes]:
    """Run the real command; words are hex where they begin with "hex:"."""
    argv = [program, *(word_bytes(word, path) for word in line)]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout


def word_bytes(word: str, path: Path) -> bytes:
    """A written word as the argument it stands for."""
    if word == "DB":
        return os.fsencode(path)
    if word.startswith("hex:"):
        return bytes.fromhex(word[4:])
    return word.encode()


def written(line: tuple[str | bytes, ...]) -> list[str]:
    """A command line as JSON can hold it."""
    return [f"hex:{word.hex()}" if isinstance(word, bytes) else word for word in line]


def record(program: str) -> None:
    """Write down the answers for all kinds."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in KINDS:
            path = make(name, Path(folder))
            answers = []
            for line in lines(path):
                status, output = real_answer(program, path, written(line))
                answers.append([written(line), status, shown(output)])
            database = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
            rows = ",\n".join(json.dumps(row) for row in answers)
            FOLDER.joinpath(f"{name}.json").write_text(
                f'{{"database": "{database}",\n"answers": [\n{rows}\n]}}\n', "utf-8"
            )


if __name__ == "__main__":
    record(sys.argv[1])
