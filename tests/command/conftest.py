"""Running the command inside the test process."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.command.databases import KINDS, make

from shearbolt.command import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Answer(NamedTuple):
    """What a run of the command gave."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()


def call(*words: object, stdin: bytes = b"", storage=None) -> Answer:
    """Run the command; words that are bytes are passed as the shell would."""
    argv = [
        os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in words
    ]
    streams = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    sys.stdout = io.TextIOWrapper(out)
    sys.stderr = err
    try:
        status = main(argv, storage=storage)
    except SystemExit as exit_:
        status = exit_.code
    finally:
        sys.stdout.flush()
        printed = out.getvalue()
        sys.stdin, sys.stdout, sys.stderr = streams
    return Answer(status, printed, err.getvalue())


def rows(answer: Answer) -> list[dict]:
    """The JSON objects of an answer."""
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.fixture
def run() -> Callable[..., Answer]:
    return call


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A database of a kind, made once; for tests that do not write to it."""
    folder = tmp_path_factory.mktemp("kinds")
    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            known[name] = make(name, folder)
        return known[name]

    return get


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A small database with nested buckets, for tests that write to it."""
    return make("nested", tmp_path)


__all__ = ["KINDS", "Answer", "call"]
