"""Fault scripts: which call fails, and how, as one line of text.

Theory
======
A fault that was injected must be seen again: printed in a story, pasted into a
test, carried in a replay token. So it is data, and the data is text.

    script   fault; fault; ...
    fault    call # nth = effect [!]      the nth call of this kind, from 1 on
             path [@ sector] = letters    each time this is written back

    fdatasync#3=EIO            the third fdatasync fails
    pwrite#2=ENOSPC!           the second write and all later ones fail
    pwrite#4=short:100         100 bytes of the fourth write are written
    lock#1=busy                somebody else holds the lock
    any#17=EINTR               the 17th call, whatever it is
    fdatasync#5=kill           the process is killed before its fifth fdatasync
    pread#5=flip:3             bit 3 of what the fifth read returns is wrong
    /db@0=wxxwX                see below

Letters are CuttleFS's: one each time a sector (or, without @, any sector of the
file) is written back by a sync; w it works, x it fails, the last one in upper
case and for ever. [wx]*[WX]: nothing is left open at the end.

    calls    open rename unlink mkdir rmdir fsync_dir pread pwrite ftruncate
             fdatasync fsync size lock; sync (fdatasync or fsync), any (all of
             these), change (all that change the disk: what a full disk refuses)
    effects  an errno's name     the call fails and has done nothing
             short:N             pread, pwrite: only N bytes
             busy                lock: held by somebody else
             flip:N              pread, pwrite: bit N is wrong
             at:N                pread, pwrite: at byte N of the file instead
             lost                pwrite: reported as done, never done
             stale               pread: what was there before the last write
             kill                the call is not made, the process that makes it is
                                 gone; another one may go on (`FaultyDisk.successor`)

flip, at, lost and stale are silent: no error says that anything happened. A script with
them breaks promises that no storage code without checksums can keep.

The idea of errors as parsable data is Pebble's (vfs/errorfs), that of the letters
CuttleFS's (failseq). What it is not: it injects nothing, see `faulty`.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CALLS", "SILENT", "Fault", "Letters", "Script", "ScriptError"]

CALLS: Final = (
    "open",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "rmdir",
    "fsync_dir",
    "pread",
    "pwrite",
    "ftruncate",
    "fdatasync",
    "fsync",
    "size",
    "lock",
)
"""Every call that can fail, as `Disk` and `DiskFile` name them."""

SILENT: Final = frozenset({"flip", "at", "lost", "stale"})
"""Effects that no error reports."""

_SYNCS: Final = frozenset({"fdatasync", "fsync"})
_GROUPS: Final = {
    "sync": _SYNCS,
    "any": frozenset(CALLS),
    "change": frozenset(CALLS) - {"pread", "size", "lock", "unlink", "rmdir"},
}

# Effect -> (calls it makes sense for, whether it takes a number).
_EFFECTS: Final = {
    "kill": (frozenset({*CALLS, *_GROUPS}), False),
    "short": (frozenset({"pread", "pwrite"}), True),
    "busy": (frozenset({"lock"}), False),
    "flip": (frozenset({"pread", "pwrite"}), True),
    "at": (frozenset({"pread", "pwrite"}), True),
    "lost": (frozenset({"pwrite"}), False),
    "stale": (frozenset({"pread"}), False),
}

_MOST_DIGITS: Final = 18
_FAULT: Final = re.compile(r"(\w+)#([1-9]\d{0,17})=(\w+)(?::(\d{1,18}))?(!?)", re.ASCII)
_LETTERS: Final = re.compile(r"([^;=#]+?)(?:@(\d+))?=([wx]*[WX])", re.ASCII)


class ScriptError(ValueError):
    """The text is not a fault script; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One call, or one and all after it, that goes wrong.

    Attributes:
        call: A name in `CALLS`, "sync", "change" or "any".
        nth: Which of these calls, from 1 on.
        effect: An errno's name ("EIO"), or "short", "busy", "flip", "at",
            "lost", "stale", "kill".
        amount: The effect's number: bytes for "short", a byte offset for
            "at", a bit for "flip"; 0 for the others.
        persistent: Whether all later calls go wrong in the same way.
    """

    call: str
    nth: int
    effect: str
    amount: int = 0
    persistent: bool = False

    def __post_init__(self) -> None:
        if self.call not in CALLS and self.call not in _GROUPS:
            known = ", ".join((*CALLS, *_GROUPS))
            raise ScriptError(f"{self.call!r} is no call; the calls are {known}")
        if self.nth < 1:
            raise ScriptError(f"{self.call}#{self.nth}: calls are counted from 1 on")
        known_effect = _EFFECTS.get(self.effect)
        if known_effect is None:
            if not isinstance(getattr(errno, self.effect, None), int):
                known = ", ".join(_EFFECTS)
                raise ScriptError(
                    f"{self.effect!r} is no effect; write an errno's name (EIO), "
                    f"or one of {known}"
                )
            if self.amount:
                raise ScriptError(f"{self.effect} takes no number")
            return
        calls, numbered = known_effect
        if self.call not in calls:
            raise ScriptError(
                f"{self.effect} is for {' and '.join(sorted(calls))}, not {self.call}"
            )
        if self.amount < 0 or (self.amount and not numbered):
            raise ScriptError(f"{self.effect}:{self.amount} means nothing")
        if self.kills and self.persistent:
            raise ScriptError("kill!: no process would ever make the call")

    @property
    def error(self) -> int:
        """The errno of the effect; 0 when it is not an error."""
        if self.effect in _EFFECTS:
            return 0
        number: int = getattr(errno, self.effect)
        return number

    @property
    def kills(self) -> bool:
        """Whether it ends the process that makes the call."""
        return self.effect == "kill"

    def matches(self, call: str) -> bool:
        """Whether calls of this name are counted for this fault."""
        return call == self.call or call in _GROUPS.get(self.call, ())

    def hits(self, count: int) -> bool:
        """Whether the `count`-th of these calls goes wrong."""
        return count == self.nth or (self.persistent and count > self.nth)

    def __str__(self) -> str:
        numbered = self.effect in _EFFECTS and _EFFECTS[self.effect][1]
        amount = f":{self.amount}" if numbered else ""
        ever = "!" if self.persistent else ""
        return f"{self.call}#{self.nth}={self.effect}{amount}{ever}"


@dataclass(frozen=True, slots=True)
class Letters:
    """How writing back one sector, or one file, goes each time.

    Attributes:
        path: The file.
        sector: Which 512 bytes of it; None: any of them.
        letters: [wx]*[WX], the last one for ever.
    """

    path: str
    sector: int | None
    letters: str

    def __post_init__(self) -> None:
        if re.fullmatch("[wx]*[WX]", self.letters) is None:
            raise ScriptError(
                f"{self.letters!r}: letters are w (works) and x (fails), the last "
                "one in upper case because it holds for ever"
            )
        place = "" if self.sector is None else f"@{self.sector}"
        if _LETTERS.fullmatch(f"{self.path}{place}=W") is None:
            raise ScriptError(f"{self.path!r} cannot be named in a script")

    def fails(self, count: int) -> bool:
        """Whether the `count`-th time of writing back, from 1 on, fails."""
        return self.letters[min(count, len(self.letters)) - 1] in "xX"

    def __str__(self) -> str:
        place = "" if self.sector is None else f"@{self.sector}"
        return f"{self.path}{place}={self.letters}"


@dataclass(frozen=True, slots=True)
class Script:
    """Faults, in the order in which they were written; `str` is its text."""

    faults: tuple[Fault | Letters, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Script:
        """The script of a text; an empty text injects nothing.

        Raises:
            ScriptError: The text is not a script.
        """
        if not isinstance(text, str):
            raise ScriptError(f"{text!r}: give a text, such as 'fsync#1=EIO'")
        parts = (part.strip() for part in text.split(";"))
        return cls(tuple(_parse_one(part) for part in parts if part))

    def __str__(self) -> str:
        return "; ".join(map(str, self.faults))

    def __bool__(self) -> bool:
        return bool(self.faults)

    @property
    def silent(self) -> bool:
        """Whether any of its effects goes unreported."""
        return any(
            isinstance(one, Fault) and one.effect in SILENT for one in self.faults
        )

    def simpler(self) -> Iterator[Script]:
        """Scripts with less in them, most drastic first: for shrinking."""
        faults = self.faults
        for at in range(len(faults)):
            yield Script(faults[:at] + faults[at + 1 :])
        for at, one in enumerate(faults):
            for less in _less(one):
                yield Script((*faults[:at], less, *faults[at + 1 :]))


def _parse_one(part: str) -> Fault | Letters:
    match = _FAULT.fullmatch(part)
    if match is not None:
        call, nth, effect, amount, ever = match.groups()
        made = Fault(call, int(nth), effect, int(amount or 0), bool(ever))
        if str(made) != part:
            # "short" without its number, "EIO:3", "pwrite#02=EIO".
            raise ScriptError(f"{part!r}: write {str(made)!r}")
        return made
    match = _LETTERS.fullmatch(part)
    # Numbers of more digits are no call's, no byte's and no sector's.
    if match is not None and len(match[2] or "") <= _MOST_DIGITS:
        path, sector, letters = match.groups()
        return Letters(path, None if sector is None else int(sector), letters)
    raise ScriptError(
        f"{part!r} is no fault; write call#nth=effect (pwrite#2=EIO, sync#1=EIO!) "
        "or path@sector=letters (/db@0=wxX)"
    )


def _less(one: Fault | Letters) -> Iterator[Fault | Letters]:
    if isinstance(one, Fault):
        if one.persistent:
            yield Fault(one.call, one.nth, one.effect, one.amount)
    else:
        for at, letter in enumerate(one.letters[:-1]):
            if letter == "x":
                fewer = one.letters[:at] + "w" + one.letters[at + 1 :]
                yield Letters(one.path, one.sector, fewer)
        if one.letters[-1] == "X" and "x" in one.letters:
            yield Letters(one.path, one.sector, one.letters[:-1] + "W")
