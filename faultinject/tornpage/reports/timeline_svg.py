"""A failure drawn: lanes of transactions, barriers, writes, and the crash.

                      1    2    3    4   ~5~   6
    transactions    [  txid 1      ] [ txid 2 ~
    barriers             |         |       ~
    meta 0          [#]  |         |   [#] ~ [ ]      [#] durable or arrived
    page 4               |   [#]   |[X]--->~          [X] lost, --> overtaken
    size                 |         |       ~
                                         crash

One column an operation, one row a place that is written: a page, the size of a file,
its names. Transactions lie above, from mark to mark. A barrier is a bar through the
rows of its file: what is left of it is durable. Behind the crash stands, faintly,
what would have followed.

Each fate has a shape of its own and not only a colour, so that the picture can be
read by everybody and on paper. Colours are CSS variables of the page around it; see
`html_style`. Every mark has a tooltip with the whole line and its source line.

What it is not: to scale. Operations have no duration here, only an order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tornpage.quotation import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tornpage.reports.scene import Scene, Step

__all__ = ["LEGEND", "draw"]

# Pixels. A column is as wide as a four-digit number and its box need.
_LEFT: Final = 132
_COLUMN: Final = 46
_ROW: Final = 30
_BOX: Final = 20
_HEAD: Final = 24
_RIGHT: Final = 18
_FOOT: Final = 30

# Shrunk programs do ten to thirty operations; of longer ones the end matters.
_BEFORE: Final = 22
_AFTER: Final = 3
_LONGEST_LABEL: Final = 18

_NAMES: Final = {"create", "rename", "link", "unlink", "mkdir", "rmdir"}
_BARRIERS: Final = {"fsync", "fdatasync", "fsync dir"}

LEGEND: Final = (
    ("durable", "on the platter: a sync covers it"),
    ("arrived", "not synced; recovery read it whole"),
    ("lost", "not synced; recovery read what was there before"),
    ("torn", "not synced; recovery read a part of it"),
    ("undecided", "not synced; recovery read nothing that depends on it"),
    ("never", "would have followed without the crash"),
)
"""Each fate with what it means, for whoever draws a legend."""


@dataclass(frozen=True, slots=True)
class _Row:
    key: tuple[str, str, int]
    label: str


class _Layout:
    """Which steps are columns, which places are rows, and where both are."""

    def __init__(self, scene: Scene) -> None:
        end = len(scene.steps) if scene.crash is None else scene.crash
        operations = [n for n, step in enumerate(scene.steps) if step.number]
        before = [n for n in operations if n < end]
        after = [n for n in operations if n >= end]
        hidden = before[: max(0, len(before) - _BEFORE)]
        self.hidden = len(hidden)
        shown = (*before[len(hidden) :], *after[: _AFTER + scene.inside])
        self.columns = {step: at for at, step in enumerate(shown)}
        self.rows = _rows([scene.steps[n] for n in shown])
        self.row_at = {row.key: at for at, row in enumerate(self.rows)}
        self.top = _HEAD + 2 * _ROW + 6
        self.width = _LEFT + max(len(shown), 1) * _COLUMN + _RIGHT
        self.bottom = self.top + max(len(self.rows), 1) * _ROW
        self.height = self.bottom + _FOOT

    def left(self, column: int) -> int:
        """The left edge of a column."""
        return _LEFT + column * _COLUMN

    def boundary(self, step: int) -> int:
        """Where a mark stands: the left edge of the next operation's column."""
        later = [at for shown, at in self.columns.items() if shown >= step]
        return self.left(min(later, default=len(self.columns)))

    def y(self, row: int) -> int:
        """The top of a row of places."""
        return self.top + row * _ROW


def _key(step: Step) -> tuple[str, str, int]:
    if step.kind == "write":
        return (step.path, "data", step.offset)
    if step.kind == "truncate":
        return (step.path, "size", 0)
    return (step.path, "name", 0)


def _rows(steps: Sequence[Step]) -> list[_Row]:
    """Names first, then sizes, then places by offset, file by file."""
    labels: dict[tuple[str, str, int], str] = {}
    paths = {step.path for step in steps if step.kind not in _BARRIERS}
    for step in steps:
        if step.kind in _BARRIERS:
            continue
        name = step.path.rpartition("/")[2]
        if step.kind in _NAMES:
            label = f"name {name}"
        elif step.kind == "truncate":
            label = f"size {name}"
        else:
            # What comes behind is how long it is or what it says: in the tooltip.
            label = step.place.partition(",")[0].partition(" + ")[0]
            if len(paths) > 1:
                label = f"{name} {label}"
        labels[_key(step)] = label
    order = {"name": 0, "size": 1, "data": 2}
    keys = sorted(labels, key=lambda key: (key[0], order[key[1]], key[2]))
    return [_Row(key, labels[key]) for key in keys]


def draw(scene: Scene, name: str) -> str:
    """The picture of a failure as one `<svg>` element.

    Args:
        scene: The failure.
        name: Unique in the page around it; ids are derived from it.
    """
    layout = _Layout(scene)
    head = (
        '<svg class="timeline" role="img" aria-label="Disk timeline"'
        f' viewBox="0 0 {layout.width} {layout.height}"'
        f' width="{layout.width}" height="{layout.height}">'
    )
    parts = [
        head,
        _definitions(name),
        *_lanes(layout),
        *_transactions(scene, layout),
        *_boxes(scene, layout, name),
        *_arrows(scene, layout, name),
        *_crash(scene, layout),
        "</svg>",
    ]
    return "\n".join(parts)


def _definitions(name: str) -> str:
    return (
        f'<defs><marker id="{name}-arrow" viewBox="0 0 8 8" refX="7" refY="4"'
        ' markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="arrowhead"/></marker>'
        f'<pattern id="{name}-hatch" width="8" height="8"'
        ' patternTransform="rotate(45)" patternUnits="userSpaceOnUse">'
        '<line x1="0" y1="0" x2="0" y2="8" class="hatch"/></pattern></defs>'
    )


def _text(x: float, y: float, text: str, kind: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{extra}>{escape(text)}</text>'


def _short(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"


def _lanes(layout: _Layout) -> Iterator[str]:
    right = layout.width - _RIGHT
    named: list[tuple[float, str, str]] = [
        (_HEAD + _ROW / 2, "transactions", "lane"),
        (_HEAD + _ROW * 1.5, "barriers", "lane"),
        *(
            (layout.y(at) + _ROW / 2, row.label, "place")
            for at, row in enumerate(layout.rows)
        ),
    ]
    for at in range(len(layout.rows) + 1):
        y = layout.y(at)
        yield f'<line x1="0" x2="{right}" y1="{y}" y2="{y}" class="rule"/>'
    for middle, label, kind in named:
        title = f"<title>{escape(label)}</title>"
        yield f"<g>{title}{_text(4, middle + 4, _short(label), kind)}</g>"
    if layout.hidden:
        text = f"{layout.hidden:,} earlier operations not shown"
        yield _text(_LEFT, layout.bottom + 18, text, "note")


def _transactions(scene: Scene, layout: _Layout) -> Iterator[str]:
    first_shown = min(layout.columns, default=0)
    end = len(scene.steps) if scene.crash is None else scene.crash
    for span in scene.spans:
        last = end if span.last is None else span.last
        if last < first_shown:
            continue
        x1 = layout.boundary(max(span.first, first_shown))
        x2 = layout.boundary(last)
        if span.last is None and scene.inside:
            x2 += _COLUMN // 2
        width = max(x2 - x1 - 4, 6)
        y = _HEAD + 5
        kind = "span" if span.last is not None else "span open"
        ending = span.ending or "in flight"
        title = f"<title>{escape(f'{span.name}: {ending}')}</title>"
        text = _short(f"{span.name} {ending}", max(int(width / 6.6), 1))
        yield (
            f'<g>{title}<rect x="{x1 + 2}" y="{y}" width="{width}" height="{_BOX}"'
            f' rx="4" class="{kind}"/>'
        )
        yield _text(x1 + 8, y + 14, text, "span-name") + "</g>"


def _boxes(scene: Scene, layout: _Layout, name: str) -> Iterator[str]:
    for index, column in layout.columns.items():
        step = scene.steps[index]
        x = layout.left(column)
        middle = x + _COLUMN / 2
        faint = " faint" if step.fate == "never" else ""
        yield _text(middle, 16, str(step.number), "number" + faint)
        fate = f"; {step.fate}" if step.fate else ""
        said = f"{step.number} {step.kind} {step.line} ({step.site}){fate}"
        yield f"<g><title>{escape(said)}</title>"
        if step.kind in _BARRIERS:
            yield from _barrier(step, layout, middle)
        else:
            y = layout.y(layout.row_at[_key(step)]) + (_ROW - _BOX) / 2
            yield from _box(step.fate, x + 7, y, _COLUMN - 14, name)
        yield "</g>"


def _barrier(step: Step, layout: _Layout, x: float) -> Iterator[str]:
    kind = f"barrier {step.fate}"
    y = _HEAD + _ROW + 6
    labels = {"fsync": "fsync", "fdatasync": "fdata", "fsync dir": "dir"}
    yield (f'<rect x="{x - 19}" y="{y}" width="38" height="18" rx="9" class="{kind}"/>')
    yield _text(x, y + 13, labels[step.kind], f"barrier-name {step.fate}")
    rows = [at for at, row in enumerate(layout.rows) if _concerns(step, row)]
    if rows:
        top, bottom = layout.y(min(rows)), layout.y(max(rows)) + _ROW
        yield (f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" class="{kind} bar"/>')


def _concerns(step: Step, row: _Row) -> bool:
    path, what, _ = row.key
    if step.kind == "fsync dir":
        return what == "name"
    return what != "name" and path == step.path


def _box(fate: str, x: float, y: float, width: float, name: str) -> Iterator[str]:
    """The shape of a fate."""
    box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{_BOX}" rx="3"'
    yield f'<rect {box} class="box {fate}"/>'
    if fate == "lost":
        a, b, c, d = x + 9, y + 5, x + width - 9, y + _BOX - 5
        cross = f"M{a:g} {b:g}L{c:g} {d:g}M{c:g} {b:g}L{a:g} {d:g}"
        yield f'<path d="{cross}" class="cross"/>'
    elif fate == "torn":
        edge = x + width / 2
        teeth = "".join(f"l{3 if n % 2 else -3} 5" for n in range(4))
        yield (
            f'<path d="M{x:g} {y:g}H{edge:g}{teeth}H{x:g}z" class="half"/>'
            f'<path d="M{edge:g} {y:g}{teeth}" class="cross"/>'
        )
    elif fate == "undecided":
        yield _text(x + width / 2, y + 15, "?", "mark")
    elif fate == "never":
        yield f'<rect {box} fill="url(#{name}-hatch)"/>'


def _arrows(scene: Scene, layout: _Layout, name: str) -> Iterator[str]:
    for lost, arrived in scene.overtaken:
        if lost not in layout.columns or arrived not in layout.columns:
            continue
        rows = [layout.row_at[_key(scene.steps[n])] for n in (lost, arrived)]
        x1 = layout.left(layout.columns[lost]) + _COLUMN / 2
        x2 = layout.left(layout.columns[arrived]) + _COLUMN / 2
        down = rows[1] > rows[0]
        y1 = layout.y(rows[0]) + (_ROW + _BOX * (1 if down else -1)) / 2
        y2 = layout.y(rows[1]) + (_ROW + _BOX * (-1 if down else 1)) / 2
        if rows[0] == rows[1]:
            y1 = y2 = layout.y(rows[0]) + (_ROW - _BOX) / 2
            curve = f"C{x1:g} {y1 - 18:g} {x2:g} {y2 - 18:g} {x2:g} {y2:g}"
        else:
            half = (y1 + y2) / 2
            curve = f"C{x1:g} {half:g} {x2:g} {half:g} {x2:g} {y2:g}"
        said = (
            f"operation {scene.steps[arrived].number} reached the platter,"
            f" operation {scene.steps[lost].number} before it did not"
        )
        yield (
            f"<g><title>{escape(said)}</title>"
            f'<path d="M{x1:g} {y1:g}{curve}" class="overtaken"'
            f' marker-end="url(#{name}-arrow)"/></g>'
        )


def _crash(scene: Scene, layout: _Layout) -> Iterator[str]:
    if scene.crash is None:
        return
    x = layout.boundary(scene.crash)
    if scene.inside:
        x += _COLUMN - 4
    right = layout.left(len(layout.columns))
    if right > x:
        yield (
            f'<rect x="{x}" y="{_HEAD}" width="{right - x}"'
            f' height="{layout.bottom - _HEAD}" class="after"/>'
        )
    count = (layout.bottom - _HEAD) // 10 + 1
    teeth = "".join(f"l{5 if n % 2 else -5} 10" for n in range(count))
    number = scene.steps[scene.crash].number if scene.crash < len(scene.steps) else 0
    where = f"crash inside operation {number}" if scene.inside else "crash"
    # Near an edge a centred label would leave the picture.
    anchor = "end" if x > layout.width - 90 else "middle"
    yield f'<path d="M{x} {_HEAD - 4}{teeth}" class="crash"/>'
    yield _text(
        min(x + (12 if anchor == "end" else 0), layout.width - 4),
        layout.bottom + 20,
        where,
        "crash-name",
        f' text-anchor="{anchor}"',
    )
