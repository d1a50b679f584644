"""Opening asks which version is live, where the storage can answer."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

import shearbolt
from shearbolt.storage import OSStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METAS = range(2 * 4096)


class Asked:
    """A file that answers questions, and says what else was read."""

    def __init__(self, file: Any, fails: bool = False) -> None:
        self._file = file
        self._fails = fails
        self.answers: list[object] = []
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def ask(self, question: Callable[[Any], object]) -> object:
        """Answer with what the file has."""
        if self._fails:
            raise OSError(errno.EIO, "unreadable")

        def view(decode: Callable[[bytes], object], offset: int, length: int) -> object:
            found = decode(self._file.pread(length, offset))
            hash(found)
            return found

        self.answers.append(question(view))
        hash(self.answers[-1])
        return self.answers[-1]

    def pread(self, length: int, offset: int) -> bytes:
        """As a plain file."""
        self.read.append(offset)
        data: bytes = self._file.pread(length, offset)
        return data


def opened(path: str, made: list[Asked], **options: Any) -> shearbolt.DB:
    """The database through such a file."""

    def open_file(path: str, /, **how: Any) -> Any:
        made.append(Asked(OSStorage().open(path, **how), **options))
        return made[-1]

    return shearbolt.open(path, open_file=open_file)


def test_nothing_of_the_metas_is_read_around_the_question(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    made: list[Asked] = []
    for number in range(3):
        with opened(path, made) as db, db.update() as tx:
            bucket = tx.create_bucket_if_not_exists(b"a")
            bucket.put(b"key", b"%d" % number)
    for file in made:
        assert file.answers
        assert not [offset for offset in file.read if offset in METAS]
    with shearbolt.open(path) as db, db.view() as tx:
        assert tx.bucket(b"a")[b"key"] == b"2"


def test_a_question_that_cannot_be_answered_is_an_error_of_the_storage(
    tmp_path: Path,
) -> None:
    with pytest.raises(shearbolt.StorageError, match="unreadable"):
        opened(str(tmp_path / "a.db"), [], fails=True)


@pytest.mark.parametrize("slot", [0, 1])
def test_the_answer_is_the_same_for_every_way_a_slot_is_worthless(
    slot: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    with shearbolt.open(str(path)) as db:
        for number in range(2):
            with db.update() as tx:
                tx.create_bucket(b"%d" % number)
    sound = path.read_bytes()
    answers = set()
    for at in range(slot * 4096 + 16, slot * 4096 + 80):
        torn = bytearray(sound)
        torn[at] ^= 0xFF
        path.write_bytes(bytes(torn))
        made: list[Asked] = []
        opened(str(path), made).close()
        answers.add(made[0].answers[0])
    assert len(answers) == 1
