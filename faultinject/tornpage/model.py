"""What a disk may do to unsynced data when the power goes: the crash model.

Theory
======
A crash model is a frozen record of named parameters. Each widens or narrows
the set of images that a crash may leave, and each has a litmus line: one
history and the image that is legal under one value and not under another. The
whole suite of lines is `tests/tornpage/test_model_litmus.py`.

    stronger promise                              weaker promise
    tear     page      <  sector     <  byte
    order    ordered   <  any
    size     with-data <  free
    entries  prefix    <  free

A weaker disk has every image that the stronger one has. The default is a
plain drive under a journalling file system: sectors of 512 bytes are atomic,
pages go out in any order, the size may arrive before the data, names change in
the order in which they were changed.

The parameters are independent, with one exception: `order=ordered` speaks of
the whole disk, so size and names follow the order as well, whatever `size` and
`entries` say.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

__all__ = ["SECTOR", "CrashModel", "ModelError"]

SECTOR = 512
"""Bytes of a sector: the least a drive writes at once."""

_PAGE = 4096
_ALWAYS_SHOWN = 4


class ModelError(ValueError):
    """There is no such parameter, or it has no such value."""


def _parameter(default: str, *values: str) -> str:
    """A field with the values it may take, the default first."""
    made: str = field(default=default, metadata={"values": (default, *values)})
    return made


@dataclass(frozen=True, slots=True)
class CrashModel:
    """How unsynced data may look after a crash.

    Litmus: `AA` durable, then `BB` written over it, no sync; A and B stand for
    halves of the unit in question.

    Attributes:
        tear: What is written as one piece.
            "page": 4,096 aligned bytes. Never `AB` inside a page.
            "sector": 512 aligned bytes. `AB` inside a page, not in a sector.
            "byte": nothing. `AB` and `BA` at any byte of a sector, between
            any two contents the sector has had since the last sync.
        order: In which order writes reach the platter between two syncs.
            "any": w1, w2 to different sectors: w2 there, w1 lost.
            "ordered": w2 there means w1 there; the write in flight may have
            reached any of its sectors.
        size: How a longer file comes to be durable.
            "free": the new size without the data, which reads as zero.
            "with-data": the new size only with the data that made it longer.
        entries: How names come to be durable without a directory sync.
            "prefix": create x, create y: y there means x there.
            "free": create x, create y: y there, x lost.
        fail: What a sync that fails leaves behind. `BB` written, a sync that
            fails, then a sync that is ok, then a crash:
            "clean": the program reads `BB`; the platter has any of `AA`, `AB`,
            `BA`, `BB`, because the second sync had nothing to write.
            "late": the same, but the failing sync returns 0 and the next
            one raises, writing nothing.
            "revert": the program reads `AA` again, and so does the platter.
            "read-only": as "clean"; every later change is refused.
    """

    tear: str = _parameter("sector", "page", "byte")
    order: str = _parameter("any", "ordered")
    size: str = _parameter("free", "with-data")
    entries: str = _parameter("prefix", "free")
    fail: str = _parameter("clean", "late", "revert", "read-only")

    def __post_init__(self) -> None:
        for one in fields(self):
            value, legal = getattr(self, one.name), one.metadata["values"]
            if value not in legal:
                raise ModelError(
                    f"{one.name}={value}: {one.name} is one of {', '.join(legal)}"
                )

    @property
    def atom(self) -> int:
        """Bytes of the unit whose versions are told apart."""
        return _PAGE if self.tear == "page" else SECTOR

    @classmethod
    def parse(cls, text: str) -> CrashModel:
        """A model from "tear=byte,order=any"; what is left out has its default.

        Raises:
            ModelError: No such parameter or value.
        """
        given: dict[str, str] = {}
        names = [one.name for one in fields(cls)]
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals or name not in names:
                raise ModelError(
                    f"{part!r}: write name=value, the names are {', '.join(names)}"
                )
            if name in given:
                raise ModelError(f"{name} is given twice")
            given[name] = value
        return cls(**given)

    def __str__(self) -> str:
        """The parameters that everybody looks for, and what differs otherwise."""
        return ",".join(
            f"{one.name}={getattr(self, one.name)}"
            for at, one in enumerate(fields(self))
            if at < _ALWAYS_SHOWN or getattr(self, one.name) != one.default
        )
