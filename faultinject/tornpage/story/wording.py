"""One dishonest choice of a crashed disk, in words and by kind.

    toy.db 2048..2064 (slot 1) reads 01 00 00 00 00 00 00 00 02 00 ...
    an honest disk has               03 00 00 00 00 00 00 00 1f 00 ...
    it is the content of operation 4 (write, toy_store.py:106)
    lost is operation 7 (write, toy_store.py:106)

The kinds are what a certificate counts:

    dropped       a whole sector, or page, older than it should be
    torn          a mixture of two contents inside one sector
    size lost     another size than the newest
    entry lost    a change of directory entries that did not arrive
    crash in recovery  the power went once more, which no device did
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tornpage.choices import format_label
from tornpage.story.timeline import kind_of
from tornpage.trace import Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tornpage.choices import Choice
    from tornpage.platter.cell import Group
    from tornpage.story.deeds import Deed
    from tornpage.subject import Subject

__all__ = ["dishonest_lines", "fault_kinds"]

_SHOWN = 16
_KINDS = {"size": "size lost", "name": "entry lost"}


def fault_kinds(choice: Choice) -> Sequence[str]:
    """The kinds of dishonesty of a choice, none when it is honest.

    An answer that stands for several contents has the kind of each: the question
    was put to all of them (`question`).
    """
    kind = str(choice.label[0])
    if kind == "data":
        group = choice.label[-1][choice.picked]
        parts = group.parts or (group,)
        if not choice.picked:
            parts = parts[1:]
        return [_tear(part) for part in parts]
    return [_KINDS.get(kind, kind)] if choice.picked else ()


def _tear(group: Group) -> str:
    i, j, *_ = group.cell.members[0]
    return "dropped" if i == j else "torn"


def dishonest_lines(
    subject: Subject, deeds: Sequence[Deed], choice: Choice
) -> list[str]:
    """What the disk did there, what an honest one does, and who wrote what.

    Args:
        subject: Says what stands at a place in a file.
        deeds: Operations by number.
        choice: The choice, of a device.
    """
    match choice.label[0]:
        case "data":
            return _data(subject, deeds, choice)
        case "size":
            return _size(deeds, choice)
        case "name":
            return _name(deeds, choice)
    return [format_label(choice.label, choice.picked)]


def _data(subject: Subject, deeds: Sequence[Deed], choice: Choice) -> list[str]:
    _, path, offset, length, groups = choice.label
    got, honest = groups[choice.picked], groups[0]
    cell = got.cell
    i, j, cut, *_ = cell.members[0]
    who = _writers(deeds, cell, (i, j), offset, cut)
    place = subject.locate(path, offset, honest.value)
    name = f"{path} {offset}..{offset + length}" + (f" ({place})" if place else "")
    return [
        f"{name} reads",
        *_hex_pair(got.value, honest.value),
        *who,
    ]


def _hex_pair(got: bytes, honest: bytes) -> list[str]:
    """Both contents from shortly before the first byte in which they differ."""
    differ = next(
        (n for n, (a, b) in enumerate(zip(got, honest, strict=True)) if a != b), 0
    )
    start = max(0, min(differ - 4, len(got) - _SHOWN))
    ahead = "... " if start else ""
    behind = " ..." if len(got) > start + _SHOWN else ""
    rows = []
    for content, what in ((got, "      "), (honest, "not   ")):
        shown = content[start : start + _SHOWN].hex(" ")
        rows.append(f"{what}{ahead}{shown}{behind}")
    return rows


def _writers(
    deeds: Sequence[Deed],
    cell: Any,
    members: tuple[int, int],
    offset: int,
    cut: int,
) -> list[str]:
    newest = len(cell.contents) - 1
    if max(members) > newest:
        # Garbage is a content too, one that no operation wrote.
        lost = [stamp for stamp in cell.stamps if stamp >= 0]
        torn = f"lost is {_named(deeds, lost)}"
        return ["it is garbage: the device tore the sector", *([torn] if lost else [])]
    lines = []
    for which in dict.fromkeys(members):
        part = ""
        if members[0] != members[1]:
            part = (
                f"the sector up to byte {cut} " if which == members[0] else "the rest "
            )
        lines.append(f"{part or 'it '}is {_origin(deeds, cell, which, offset)}")
    lost = [cell.stamps[n] for n in range(min(members) + 1, newest + 1)]
    return [*lines, f"lost is {_named(deeds, lost)}"]


def _origin(deeds: Sequence[Deed], cell: Any, which: int, offset: int) -> str:
    stamp = cell.stamps[which]
    if stamp >= 0:
        return f"the content of {_named(deeds, [stamp])}"
    # A durable content carries no stamp. Its writer is the last operation that
    # covers these bytes before the oldest pending one.
    until = min(cell.stamps[1] if len(cell.stamps) > 1 else len(deeds), len(deeds))
    inodes = {getattr(deeds[one].operation, "inode", 0) for one in _known(deeds, cell)}
    for index in range(until - 1, -1, -1):
        operation = deeds[index].operation
        if (
            isinstance(operation, Write)
            and (operation.inode in inodes or not inodes)
            and operation.offset <= offset < operation.offset + len(operation.data)
        ):
            return f"the durable content of {_named(deeds, [index])}"
    return "what was there before the program began"


def _known(deeds: Sequence[Deed], cell: Any) -> Iterable[int]:
    """The operations that made its contents, as far as these are known."""
    return [one for one in cell.stamps if 0 <= one < len(deeds)]


def _named(deeds: Sequence[Deed], stamps: Iterable[int]) -> str:
    """Say "operation 3 (write, store.py:9)" for [2]."""
    names = []
    for stamp in stamps:
        if 0 <= stamp < len(deeds):
            deed = deeds[stamp]
            one = deed.operation
            names.append(f"{deed} ({kind_of(one)}, {one.site})")
        else:
            names.append(f"operation {stamp + 1}")
    return ", ".join(names) or "nothing"


def _size(deeds: Sequence[Deed], choice: Choice) -> list[str]:
    _, path, sizes = choice.label
    got, honest = sizes[choice.picked], sizes[0]
    return [
        f"{path} is {got.size} bytes long, not {honest.size}",
        f"lost is {_named(deeds, [honest.stamp])}",
    ]


def _name(deeds: Sequence[Deed], choice: Choice) -> list[str]:
    _, name, stamp, _answers = choice.label
    return [
        f"the directory entry of {name} is as it was",
        f"lost is {_named(deeds, [stamp])}",
    ]
