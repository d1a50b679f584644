"""Sampled stacks: read, summed, and drawn as a flame graph.

    a;b;c 12        twelve samples in c, which b called, which a called
    a;b 3           three in b itself

                 +------ c ------+
    +----------- b -----------------+
    +----------- a -----------------+     as wide as the samples it is in

A frame is `function (path)`. What is in C has no frame: a lookup, a system call or a
sort counts for the function that called it. Drawn by hand, as text, so that it needs no
script in the picture; a frame's full name is its tooltip.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Stacks", "flame_graph", "own_shares", "parse"]

Stacks = Counter[tuple[str, ...]]
"""Stacks from the outermost frame on, and how many samples had each."""

_WIDTH: Final = 900
_ROW: Final = 17
_TOP: Final = 30
_LETTER: Final = 6.6
_LEAST: Final = 0.002
"""The share of a frame that is still drawn."""

_COLOURS: Final = ("#e8a33d", "#d9822b", "#c7b13a", "#df9160", "#cfa05a")


def parse(lines: Iterable[str], root: str) -> Stacks:
    """Read collapsed stacks; what is below a function, without what is above it.

    Args:
        lines: `frame;frame;frame count`.
        root: The function's name. Samples that are not below it are left out.

    Raises:
        ValueError: A line is none of these.
    """
    found: Stacks = Counter()
    for line in lines:
        text, _, count = line.rstrip("\n").rpartition(" ")
        if not text or not count.isdigit():
            raise ValueError(f"no collapsed stack: {line!r}")
        frames = text.split(";")
        at = [i for i, one in enumerate(frames) if one.partition(" ")[0] == root]
        if at and at[-1] + 1 < len(frames):
            found[tuple(frames[at[-1] + 1 :])] += int(count)
    return found


def _module(frame: str) -> str:
    """The module of a frame, "" for code that has no file."""
    path = frame.partition(" (")[2].rstrip(")")
    return "" if path.startswith("<") else path.rpartition("/")[2].removesuffix(".py")


def _label(frame: str) -> str:
    """A frame as `module.function`."""
    function, module = frame.partition(" (")[0], _module(frame)
    return f"{module}.{function}" if module else function


def own_shares(stacks: Stacks, most: int) -> list[tuple[str, float]]:
    """The modules that most samples were in, and their shares.

    A function without a file, as a record's `__init__`, counts for who called it.
    """
    own: Counter[str] = Counter()
    for frames, count in stacks.items():
        modules = filter(None, map(_module, reversed(frames)))
        own[next(modules, "?")] += count
    total = stacks.total()
    return [(name, count / total) for name, count in own.most_common(most)]


@dataclass(slots=True)
class _Frame:
    """One box: how many samples are in it, and what it called."""

    count: int = 0
    called: dict[str, _Frame] = field(default_factory=dict)


def _tree(stacks: Stacks) -> _Frame:
    root = _Frame()
    for frames, count in sorted(stacks.items()):
        root.count += count
        here = root
        for frame in frames:
            here = here.called.setdefault(frame, _Frame())
            here.count += count
    return root


def flame_graph(stacks: Stacks, title: str) -> str:
    """Stacks as an SVG picture, outermost frames at the bottom.

    Raises:
        ValueError: There are none.
    """
    root = _tree(stacks)
    if not root.count:
        raise ValueError(f"no samples of {title}")
    boxes: list[tuple[int, float, float, str]] = []
    levels = [(root, 0.0, 0)]
    while levels:
        here, left, depth = levels.pop()
        for name, frame in here.called.items():
            wide = frame.count / root.count
            if wide >= _LEAST:
                boxes.append((depth, left, wide, name))
                levels.append((frame, left, depth + 1))
            left += wide
    deepest = max(depth for depth, *_ in boxes)
    height = _TOP + _ROW * (deepest + 1) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}"',
        f'height="{height}" font-family="monospace" font-size="11">',
        f"<title>{escape(title)}</title>",
        '<text x="4" y="18" fill="#777">',
        f"{escape(title)}: {root.count:,} samples; width is time</text>",
    ]
    for depth, left, wide, name in sorted(boxes):
        y = height - 6 - _ROW * (depth + 1)
        x, width = left * _WIDTH, wide * _WIDTH
        colour = _COLOURS[sum(name.encode()) % len(_COLOURS)]
        letters = int((width - 6) / _LETTER)
        label = _label(name)[:letters] if letters > 2 else ""
        parts.append(
            f'<g><title>{escape(name)}: {100 * wide:.1f} %</title><rect x="{x:.1f}" '
            f'y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{_ROW - 1}" '
            f'fill="{colour}" rx="1"/>'
            f'<text x="{x + 3:.1f}" y="{y + 12}" fill="#222">{escape(label)}</text></g>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
