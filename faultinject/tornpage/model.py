"""What a disk may do to unsynced data when the power goes: the crash model.

Theory
======
A crash model is a frozen record of named parameters. Each widens or narrows
the set of images that a crash may leave, and each has a litmus line: one
history and the image that is legal under one value and not under another. The
whole suite of lines is `tests/tornpage/test_model_litmus.py`.

    stronger promise                                 weaker promise
    tear     page      <  sector   <  byte   <  garbage
    order    ordered   <  append   <  any
    size     with-data <  with-block < free
    entries  prefix    <  free
    sync     honest    <  lying:1  <  lying:2 ...
    unit     none      <  4096     <  8192 ...
    extend   zero      <  garbage
    rename   atomic    <  synced    <  split
    names    fsync     <  dirsync
    calls    whole     <  paged
    journal  own       <  shared
    crashes  1         <  2        <  3 ...
    fail     clean     <  unwritten; the others do not compare

A weaker disk has every image that the stronger one has. The default is a
plain drive under a journalling file system: sectors of 512 bytes are atomic,
pages go out in any order, the size may arrive before the data, names change in
the order in which they were changed, syncs tell the truth.

The parameters are independent, with these exceptions: `order=ordered` speaks of
the whole disk, so size and names follow the order as well, whatever `size` and
`entries` say, and it goes neither with lying syncs nor with fail=revert or
fail=unwritten; that does not go with lying syncs either, nor `journal=shared` with
fail=revert, and under fail=late and fail=read-only it says nothing;
with `calls=paged` the pages of one write come in their order, too; `size=with-data`
leaves `extend` nothing to say but of writes of which a sync failed; and a size that
came with data says that the writing of that data has ended, so that `tear` and `unit`
damage nothing by it any more.

All but one say what a single crash leaves. `crashes` says how many come in a row: each
but the first may come at any operation of the recovery from the one before.

A *preset* is a named set of values: a file system, or a kind of drive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MOST_CRASHES",
    "PRESETS",
    "SECTOR",
    "CrashModel",
    "ModelError",
    "require_model",
]

SECTOR = 512
"""Bytes of a sector: the least a drive writes at once."""

MOST_CRASHES = 9
"""The most crashes that may come in a row."""

_PAGE = 4096
_ALWAYS_SHOWN = 4
_LYING = re.compile(r"lying:[1-9]\d?", re.ASCII)
_FAIL_AS_ON = {
    "ext4-ordered": "unwritten",
    "xfs": "clean",
    "ext4-data": "late",
    "btrfs": "revert",
}


class ModelError(ValueError):
    """There is no such parameter, or it has no such value."""


def _lies(value: object) -> bool:
    return isinstance(value, str) and _LYING.fullmatch(value) is not None


def _parameter(default: str, *values: str) -> str:
    """A field with the values it may take, the default first."""
    made: str = field(default=default, metadata={"values": (default, *values)})
    return made


@dataclass(frozen=True, slots=True)
class CrashModel:
    """How unsynced data may look after a crash.

    Litmus: `AA` durable, then `BB` written over it, no sync; A and B stand for
    halves of the unit in question, `#` for garbage.

    Attributes:
        tear: What is written as one piece.
            "page": 4,096 aligned bytes. Never `AB` inside a page.
            "sector": 512 aligned bytes. `AB` inside a page, not in a sector.
            "byte": nothing. `AB` and `BA` at any byte of a sector, between
            any two contents the sector has had since the last sync.
            "garbage": as "byte", and the sector being written may be `##`.
        order: In which order writes reach the platter between two syncs.
            "any": w1, w2 to different sectors: w2 there, w1 lost.
            "append": the same for overwrites; of two writes that made the
            file longer, the second there means the first there.
            "ordered": w2 there means w1 there; the write in flight may have
            reached any of its sectors.
        size: How a longer file comes to be durable.
            "free": the new size without the data.
            "with-data": the new size only with the data that made it longer.
            "with-block": the same for blocks of 4,096 bytes that the file did not
            have; what is appended to the block in which it ended may be zero.
        entries: How names come to be durable without a directory sync.
            "prefix": create x, create y: y there means x there.
            "free": create x, create y: y there, x lost.
        fail: What a sync that fails leaves behind. `BB` written, a sync that
            fails, then a sync that is ok, then a crash:
            "clean": the program reads `BB`; the platter has any of `AA`, `AB`,
            `BA`, `BB`, because the second sync had nothing to write. So it is
            with the file's size and names.
            "unwritten": the same; and a block of 4,096 bytes whose first write
            failed is stuck for good, though it is written again and synced: it
            may be zero until the file was forgotten or cut off before it.
            "late": the same of content, but the failing sync returns 0 and the
            next one raises, writing nothing.
            "revert": the program reads `AA` again, and so does the platter.
            "read-only": as "clean"; every later change is refused, and every
            later sync returns 0 and does nothing.
        sync: Whether a sync that returns 0 did its work.
            "honest": `BB` after a sync.
            "lying:n": up to n syncs of the run did nothing: one sync and `AA`
            for n = 1, two syncs and `BB`.
        unit: What a drive rewrites around a sector.
            "none": w to one sector leaves its neighbour `A`.
            "4096" and more: while any sector of the aligned unit is being
            written, each other one may become `#`, durable or not.
        extend: What the new bytes of a longer file hold without their data.
            "zero": zeros. "garbage": also what the block held before.
        rename: Whether a rename is one change of names.
            "atomic": rename x to y: never neither, never both.
            "synced": as "split"; but when the last sync before it was that of the
            file itself, y is what it was or the file, and x may be there still.
            "split": delete y, create y, delete x are three changes.
        names: What makes a name durable.
            "dirsync": a sync of its directory only.
            "fsync": fsync (not fdatasync) of the file as well.
        calls: How the kernel carries out a call.
            "whole": in one piece; the size is the one before or the one behind.
            "paged": page by page, of 4,096 bytes; the size at any end of a page that
            a write grows over; the old size with zeros behind a cut inside a page.
        journal: What a sync of a file that fails says of all others. `BB` written
            to g, a sync of f that fails, then one of g that is ok:
            "own": nothing, `BB` is durable.
            "shared": the journal may be what could not be written. Until something
            is changed every sync, also of a directory, returns 0 and does nothing.
        crashes: How many crashes come in a row, 1 to 9. With 1 recovery is left to
            end. With 2 the power goes once more at any operation of recovery, and
            what that leaves is recovered from.
    """

    tear: str = _parameter("sector", "page", "byte", "garbage")
    order: str = _parameter("any", "append", "ordered")
    size: str = _parameter("free", "with-data", "with-block")
    entries: str = _parameter("prefix", "free")
    fail: str = _parameter("clean", "late", "revert", "read-only", "unwritten")
    sync: str = _parameter("honest", "lying:n")
    unit: str = _parameter("none", "4096", "8192", "16384", "65536")
    extend: str = _parameter("zero", "garbage")
    rename: str = _parameter("atomic", "synced", "split")
    names: str = _parameter("dirsync", "fsync")
    calls: str = _parameter("whole", "paged")
    journal: str = _parameter("own", "shared")
    crashes: int = 1

    def __post_init__(self) -> None:
        fits = isinstance(self.crashes, int) and 1 <= self.crashes <= MOST_CRASHES
        if not fits:
            raise ModelError(
                f"crashes={self.crashes}: crashes is a number from 1 to {MOST_CRASHES}"
            )
        for one in fields(self):
            value, legal = getattr(self, one.name), one.metadata.get("values", ())
            if (
                legal
                and value not in legal
                and not (one.name == "sync" and _lies(value))
            ):
                raise ModelError(
                    f"{one.name}={value}: {one.name} is one of {', '.join(legal)}"
                )
        if self.order == "ordered" and self.lies:
            raise ModelError(
                f"order=ordered with sync={self.sync}: a sync that does nothing is "
                "only modelled where syncs concern one file; say order=any"
            )
        if self.order == "ordered" and self.fail == "revert":
            raise ModelError(
                "order=ordered with fail=revert: what a file goes back to may be "
                "older than what another file's sync made durable; say order=any"
            )
        if self.fail == "revert" and self.journal == "shared":
            raise ModelError(
                "fail=revert with journal=shared: what a file goes back to may be "
                "newer than what its last sync has written; say journal=own"
            )
        if self.unwritten and (self.order == "ordered" or self.lies):
            raise ModelError(
                f"fail=unwritten with order={self.order} and sync={self.sync}: it is "
                "only modelled on a disk without order whose syncs tell the truth; "
                "say fail=clean"
            )

    @property
    def atom(self) -> int:
        """Bytes of the unit whose versions are told apart."""
        return _PAGE if self.tear == "page" else SECTOR

    @property
    def lies(self) -> int:
        """How many syncs may return 0 and do nothing."""
        return 0 if self.sync == "honest" else int(self.sync.partition(":")[2])

    @property
    def unwritten(self) -> bool:
        """Whether a block whose first write failed is stuck for good."""
        return self.fail == "unwritten"

    @property
    def unit_atoms(self) -> int:
        """How many atoms a drive rewrites at once; 1 when that never shows."""
        return 1 if self.unit == "none" else max(int(self.unit) // self.atom, 1)

    @property
    def with_data(self) -> bool:
        """Whether a size says anything of the data that made the file longer."""
        return self.size != "free" and self.order != "ordered"

    def coupled_from(self, size: int) -> int:
        """The first byte that a longer file has only with its data.

        Args:
            size: How long it was.
        """
        return -(-size // _PAGE) * _PAGE if self.size == "with-block" else size

    @property
    def mixes(self) -> bool:
        """Whether a sector may hold two contents at a time."""
        return self.tear in {"byte", "garbage"}

    @property
    def separate(self) -> bool:
        """Whether what one piece of a file may be never depends on another."""
        return self.order == "any" and self.size == "free" and not self.lies

    @property
    def jumps(self) -> bool:
        """Whether what recovery reads may be jumped over, see `explore.memory`."""
        return self.separate and self.crashes == 1

    @property
    def spoils(self) -> bool:
        """Whether anything may turn into garbage."""
        return self.tear == "garbage" or self.unit_atoms > 1 or self.extend == "garbage"

    @classmethod
    def parse(cls, text: str) -> CrashModel:
        """A model from "tear=byte,order=any" or "ext4-o,tear=byte".

        What is left out is as in the preset, or else has its default. A preset
        comes first; see `PRESETS`.

        Raises:
            ModelError: No such preset, parameter or value.
        """
        if not isinstance(text, str):
            raise ModelError(f"{text!r}: give a text, such as 'tear=byte'")
        given: dict[str, str] = {}
        preset: Mapping[str, str] = {}
        names = [one.name for one in fields(cls)]
        parts = [piece.strip() for piece in text.split(",") if piece.strip()]
        for at, part in enumerate(parts):
            name, equals, value = part.partition("=")
            if not at and not equals and part in PRESETS:
                preset = PRESETS[part]
                continue
            if not equals or name not in names:
                raise ModelError(
                    f"{part!r}: write name=value, the names are {', '.join(names)}; "
                    f"or begin with one of {', '.join(PRESETS)}"
                )
            if name in given:
                raise ModelError(f"{name} is given twice")
            given[name] = _FAIL_AS_ON.get(value, value) if name == "fail" else value
        crashes = given.pop("crashes", "1")
        if not (crashes.isascii() and crashes.isdigit()):
            raise ModelError(
                f"crashes={crashes}: crashes is a number from 1 to {MOST_CRASHES}"
            )
        return cls(**{**preset, **given}, crashes=int(crashes))

    def __str__(self) -> str:
        """The parameters that everybody looks for, and what differs otherwise."""
        return ",".join(
            f"{one.name}={getattr(self, one.name)}"
            for at, one in enumerate(fields(self))
            if at < _ALWAYS_SHOWN or getattr(self, one.name) != one.default
        )


_EXT: Mapping[str, str] = {"names": "fsync", "calls": "paged", "journal": "shared"}

PRESETS: Mapping[str, Mapping[str, str]] = {
    "ext3-w": {"extend": "garbage", **_EXT},
    "ext3-o": {"order": "append", "size": "with-block", **_EXT},
    "ext3-j": {
        "tear": "page",
        "order": "ordered",
        "size": "with-data",
        "fail": "late",
        "names": "fsync",
        "calls": "paged",
    },
    "ext4-o": {"fail": "unwritten", **_EXT},
    "ext4-fast-commit": {**_EXT, "sync": "lying:1"},
    "xfs": {"size": "with-data", "names": "fsync", "calls": "paged"},
    "btrfs": {
        "tear": "page",
        "size": "with-data",
        "entries": "free",
        "rename": "synced",
        "names": "fsync",
        "calls": "paged",
    },
    "power-safe": {"tear": "page", "size": "with-data"},
    "volatile-cache": {"tear": "garbage", "unit": "4096"},
    "adversarial": {
        "tear": "garbage",
        "entries": "free",
        "unit": "4096",
        "extend": "garbage",
        "rename": "split",
    },
}
"""Named models. Where each assumption comes from: docs/crash-model.md."""


def require_model(model: object) -> CrashModel:
    """The same, if it is a crash model.

    Its text, which other places take, would come out as a missing attribute, in the
    middle of a run.

    Raises:
        ModelError: It is none.
    """
    if isinstance(model, CrashModel):
        return model
    hint = f": CrashModel.parse({model!r}) makes one" if isinstance(model, str) else ""
    raise ModelError(f"model is a CrashModel, not {model!r}{hint}")
