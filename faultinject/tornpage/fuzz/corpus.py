"""What a fuzzer keeps between runs: programs, and how far it has come.

    FOLDER/
      state.json           which subject, and the first seed that was never given out
      certificate.json     of the last run, as far as it came
      programs/ID.json     one program each, with the features it shows
      lock                 held while a run uses the folder

A program is kept when it shows a feature that none of the kept ones shows, or shows
it with a smaller program. So each feature has one keeper, the smallest program known
for it; a program that keeps no feature goes, and at the end of a run so does one
whose features are all shown by others. What is left is minimal: no program can be
taken out without losing a feature. It is replayed at the beginning of the next run.

Seeds are taken from one stream that no run goes back on. The position is written
before the seeds are used, a block at a time, by writing another file and renaming
it: a run that is killed skips a few seeds and repeats none.

A program that breaks a promise is kept as well, for as long as it does: the next run
would go on with other seeds, and a failure that nobody mended would look mended.

The folder belongs to one subject under one planted bug on one database. Its programs
stay when the code changes; the features they were kept for are measured again as
they are replayed. One that breaks a promise by then, or is not covered, stays as well.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tornpage.certificate.as_json import CertificateError
from tornpage.certificate.record import Certificate, MergeError, merge
from tornpage.run.fingerprint import program_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tornpage.certificate.record import Scope
    from tornpage.run.programs import Plan

__all__ = ["Corpus", "CorpusError", "Entry", "default_folder"]

# Seeds reserved at a time. A run that is killed skips fewer than these.
BLOCK = 32


class CorpusError(ValueError):
    """The folder cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A program worth keeping.

    Attributes:
        name: Digest of the program.
        program: The program as JSON values.
        size: Its operations.
        features: What it shows.
    """

    name: str
    program: Any
    size: int
    features: frozenset[str]

    def rank(self) -> tuple[int, str]:
        """The lower, the rather it is kept."""
        return self.size, self.name


def default_folder(plan: Plan) -> str:
    """Where the corpus of this plan is when nobody says otherwise."""
    parts = [plan.spec, plan.mutant or "", (plan.database_digest or "")[:8]]
    name = "-".join(part for part in parts if part)
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return os.path.join(".tornpage", "corpus", safe)


def write_atomically(path: str, text: str) -> None:
    """Put a file where it is either as it was or whole, also after a kill.

    Raises:
        OSError: It cannot be written.
    """
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        # A full disk is no fuller than it was.
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


class Corpus:
    """A folder, or only memory when there is none. Use it as a context manager.

    Args:
        folder: Where; None keeps nothing.
        plan: Whose programs these are.

    Raises:
        CorpusError: The folder belongs to something else, is damaged, or is in
            use.
        OSError: It cannot be read or written.
    """

    def __init__(self, folder: str | None, plan: Plan) -> None:
        self.folder = folder
        self._about = {
            "subject": plan.spec,
            "mutant": plan.mutant,
            "database_sha256": plan.database_digest,
        }
        self._entries: dict[str, Entry] = {}
        self._keepers: dict[str, Entry] = {}
        self._held: set[str] = set()
        self._next = plan.seed
        self._reserved = plan.seed
        self._lock: int | None = None
        if folder is not None:
            os.makedirs(os.path.join(folder, "programs"), exist_ok=True)
            self._take_lock(folder)
            try:
                self._read_state()
                self.kept = tuple(self._read_programs())
            except BaseException:
                self.close()
                raise
        else:
            self.kept = ()

    kept: tuple[Entry, ...]
    """The programs that were there at the beginning, by name."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, *names: str) -> str:
        assert self.folder is not None
        return os.path.join(self.folder, *names)

    def _take_lock(self, folder: str) -> None:
        path = os.path.join(folder, "lock")
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not at the top: there is none on Windows, where two runs at once
            # are not noticed.
            import fcntl  # noqa: PLC0415
        except ImportError:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise CorpusError(
                f"Another run uses the corpus {folder}. Wait for it, or give"
                " another --corpus."
            ) from None

    # -- the stream of seeds --------------------------------------------------------

    @property
    def position(self) -> int:
        """The first seed that was not given out yet."""
        return self._next

    def next_seed(self) -> int:
        """A seed that no run with this folder has had.

        Raises:
            OSError: The position cannot be written.
        """
        seed = self._next
        self._next += 1
        if self._next > self._reserved:
            self._reserved = seed + BLOCK
            self._write_state(self._reserved)
        return seed

    def finish(self) -> None:
        """The run ends: give back the seeds that were reserved and not used."""
        self._reserved = self._next
        self._write_state(self._next)

    def _read_state(self) -> None:
        path = self._path("state.json")
        if not os.path.exists(path):
            return
        state = _read_json(path)
        about = {name: state.get(name) for name in self._about}
        if about != self._about:
            raise CorpusError(
                f"The corpus {self.folder} is of {_said(about)}, not of"
                f" {_said(self._about)}. Give another --corpus."
            )
        if type(state.get("next_seed")) is not int:
            raise CorpusError(f"{path} is damaged: next_seed is not a number.")
        self._next = self._reserved = state["next_seed"]

    def _write_state(self, position: int) -> None:
        if self.folder is not None:
            state = {**self._about, "next_seed": position}
            write_atomically(self._path("state.json"), json.dumps(state, indent=1))

    # -- programs -------------------------------------------------------------------

    def _read_programs(self) -> Iterator[Entry]:
        folder = self._path("programs")
        for file in sorted(os.listdir(folder)):
            name, dot, kind = file.partition(".")
            if dot and kind == "json":
                record = _read_json(os.path.join(folder, file))
                program = record.get("program")
                if program_id(program) != name:
                    raise CorpusError(
                        f"{os.path.join(folder, file)} is damaged: it does not hold"
                        " the program it is named after. Delete it."
                    )
                entry = Entry(name, program, int(record.get("size", 0)), frozenset())
                self._entries[name] = entry
                yield entry

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def features(self) -> frozenset[str]:
        """Everything that some program was seen to show."""
        return frozenset(self._keepers)

    def offer(self, program: Any, size: int, features: frozenset[str]) -> bool:
        """Keep a program if it is the smallest known to show something.

        Returns:
            Whether it shows what no program of this run or folder showed so far.

        Raises:
            OSError: It cannot be written.
        """
        entry = Entry(program_id(program), program, size, features)
        new = any(feature not in self._keepers for feature in features)
        displaced: set[str] = set()
        kept = False
        for feature in features:
            keeper = self._keepers.get(feature)
            if keeper is None or entry.rank() < keeper.rank():
                self._keepers[feature] = entry
                kept = True
                if keeper is not None:
                    displaced.add(keeper.name)
        if kept:
            self._entries[entry.name] = entry
            self._write(entry)
        elif entry.name in self._entries:
            # It was kept for something that it, or the code, does not show now.
            displaced.add(entry.name)
        keeping = {keeper.name for keeper in self._keepers.values()}
        for name in displaced - keeping:
            self._drop(name)
        return new

    def hold(self, failing: Iterable[tuple[Any, int]]) -> None:
        """Keep these programs, which break a promise, and no others of this run.

        What was kept before the run stays. They show nothing, as what they show is not
        known; `offer` drops them when they keep their promises.

        Args:
            failing: Each program as JSON values, and its operations.

        Raises:
            OSError: The folder cannot be written.
        """
        wanted = set()
        for program, size in failing:
            entry = Entry(program_id(program), program, size, frozenset())
            wanted.add(entry.name)
            if entry.name not in self._entries:
                self._held.add(entry.name)
                self._entries[entry.name] = entry
                self._write(entry)
        for name in self._held - wanted:
            self._held.discard(name)
            self._drop(name)

    def minimise(self) -> None:
        """Drop every program whose features others show, the largest first.

        Call it when all programs that were kept have been replayed. One that was not
        offered is left alone: it broke a promise, or was not covered to its end, so
        what it shows is not known, and it is the one to be run next time.

        Raises:
            OSError: The folder cannot be written.
        """
        shown: dict[str, int] = {}
        for entry in self._entries.values():
            for feature in entry.features:
                shown[feature] = shown.get(feature, 0) + 1
        for entry in sorted(self._entries.values(), key=Entry.rank, reverse=True):
            others = (shown[feature] > 1 for feature in entry.features)
            if entry.features and all(others):
                for feature in entry.features:
                    shown[feature] -= 1
                self._drop(entry.name)

    def _drop(self, name: str) -> None:
        if self._entries.pop(name, None) is not None and self.folder is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path("programs", f"{name}.json"))

    def _write(self, entry: Entry) -> None:
        if self.folder is None:
            return
        record = {
            "program": entry.program,
            "size": entry.size,
            "features": sorted(entry.features),
        }
        path = self._path("programs", f"{entry.name}.json")
        write_atomically(path, json.dumps(record, indent=1))

    def programs(self) -> list[Entry]:
        """What is kept now, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    # -- the certificate --------------------------------------------------------------

    def save(self, certificate: Certificate) -> None:
        """Keep the certificate of the run so far.

        Raises:
            OSError: It cannot be written.
        """
        if self.folder is not None:
            text = json.dumps(certificate.to_json(), indent=1)
            write_atomically(self._path("certificate.json"), text)

    def resumable(self, scope: Scope) -> Certificate:
        """The certificate of the last run, to go on with.

        Raises:
            CorpusError: There is none, it is damaged, or of something else.
        """
        path = "" if self.folder is None else self._path("certificate.json")
        if not path or not os.path.exists(path):
            raise CorpusError(
                "--resume: there is no certificate to go on with. Leave it out."
            )
        try:
            certificate = Certificate.from_json(_read_json(path))
            return merge(certificate, Certificate(scope))
        except MergeError as error:
            raise CorpusError(
                f"--resume: {path} is about something else. {error}"
                " Leave out --resume to begin a new one."
            ) from error
        except CertificateError as error:
            raise CorpusError(f"{path}: {error}") from error


def _read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except ValueError as error:
        raise CorpusError(f"{path} is damaged: {error}. Delete it.") from error
    if not isinstance(data, dict):
        raise CorpusError(f"{path} is damaged: it holds no JSON object. Delete it.")
    return data


def _said(about: dict[str, Any]) -> str:
    text = str(about["subject"])
    if about["mutant"]:
        text += f" with the planted bug {about['mutant']}"
    if about["database_sha256"]:
        text += f" on database {about['database_sha256'][:8]}"
    return text
