"""A report as an SVG picture: ratios on a logarithmic axis, one row a workload.

                 0.1      1       10      100
    get warm      .  x    |   o    .       .        x lmdb   o sqlite3
    scan cold     .       | o x    .       .

The line at 1 is shearbolt; a mark right of it is a peer that is slower. Written
by hand, as text, so that it needs no plotting library, does not change when
nothing changed, and reads well in a dark window too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from ci.bench.report import OURS
from ci.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from ci.bench.report import Report

__all__ = ["ratio_chart"]

_LEFT: Final = 110
_WIDTH: Final = 560
_ROW: Final = 26
_TOP: Final = 64
_COLOURS: Final = ("#c4472d", "#2d6fc4", "#2a9d58", "#9a52b5", "#c98a1b", "#5a6b7a")


def ratio_chart(report: Report, pairs: int) -> str:
    """The ratios of all peers at one size.

    Raises:
        ValueError: No peer was measured at this size beside ours.
    """
    peers = [peer for peer in report.peers(pairs) if not peer.startswith(OURS)]
    marks = [
        (row, peer, ratio)
        for row, workload in enumerate(WORKLOADS)
        for peer in peers
        if (ratio := report.ratio(peer, pairs, workload)) is not None
    ]
    if not marks:
        raise ValueError(f"nothing to compare at {pairs} pairs")
    low = min(-1, math.floor(min(math.log10(ratio) for *_, ratio in marks)))
    high = max(1, math.ceil(max(math.log10(ratio) for *_, ratio in marks)))

    def across(ratio: float) -> float:
        return _LEFT + _WIDTH * (math.log10(ratio) - low) / (high - low)

    height = _TOP + _ROW * len(WORKLOADS) + 30
    bottom = height - 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 30}"',
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#777">',
        f"<title>Times faster than each peer, {pairs:,} pairs</title>",
    ]
    parts += [
        f'<circle cx="{_LEFT + 10 + 95 * index}" cy="16" r="5" fill="{colour}"/>'
        f'<text x="{_LEFT + 20 + 95 * index}" y="20">{escape(peer)}</text>'
        for index, (peer, colour) in enumerate(zip(peers, _COLOURS, strict=False))
    ]
    for power in range(low, high + 1):
        x = across(10.0**power)
        weight = 2 if power == 0 else 0.5
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 10}" x2="{x:.1f}" y2="{bottom}" '
            f'stroke="#777" stroke-width="{weight}"/>'
            f'<text x="{x:.1f}" y="{_TOP - 16}" text-anchor="middle">'
            f"{10.0**power:g}x</text>"
        )
    for row, workload in enumerate(WORKLOADS):
        y = _TOP + _ROW * row + 12
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{workload}</text>'
        )
    colours = dict(zip(peers, _COLOURS, strict=False))
    parts += [
        f'<circle cx="{across(ratio):.1f}" cy="{_TOP + _ROW * row + 12}" r="5" '
        f'fill="{colours.get(peer, "#777")}"><title>{escape(peer)}: '
        f"{WORKLOADS[row]} {ratio:.2f}x</title></circle>"
        for row, peer, ratio in marks
    ]
    parts.append(
        f'<text x="{_LEFT}" y="{height - 6}">left of 1x: the peer is faster; '
        f"right: shearbolt is</text></svg>\n"
    )
    return "\n".join(parts)
