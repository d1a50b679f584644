"""The gate's result as one HTML page that needs nothing but itself.

    1  verdict                     one word, one sentence, what stands against it
    2  is this pass meaningful     planted bugs, behaviour, crash points, faults
    3  failures                    picture, bytes, replay command, test to keep
    4  what was run                lanes, and what none of them proves

Warnings that can make a pass meaningless stand above everything that makes it look
good. A failure is meant to be understood without the tool at hand, and acted on with
two pieces of text that can be copied: the replay command and the regression test.

No script, no network, no template engine: the page is a function of the result, and
two equal results give equal bytes. Whatever comes from the code under test goes
through `quotation.escape`; a test puts markup into every field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tornpage.certificate.record import log2_of
from tornpage.quotation import escape
from tornpage.reports.html_style import STYLE
from tornpage.reports.timeline_svg import LEGEND, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tornpage.certificate.record import Verdict
    from tornpage.reports.gate_result import Exhibit, GateResult
    from tornpage.reports.scene import Change, Scene

__all__ = ["render_html"]

_SAID: Final[Mapping[Verdict, str]] = {
    "consistent": (
        "Whichever image a crash leaves at any of these points, recovery keeps every"
        " promise. All images that the crash models allow were covered."
    ),
    "violated": (
        "At least one crash image that the crash model allows breaks a promise."
    ),
    "unverifiable": (
        "No broken promise was met, but this run does not show that there is none."
    ),
}
_SHOWN_BYTES: Final = 24
# So many planted bugs are listed without being asked for.
_FEW: Final = 12
_INTEGERS: Final = (1, 2, 4, 8)


def render_html(result: GateResult) -> str:
    """The whole page, ending with a newline."""
    verdict = result.verdict
    title = f"{verdict}: {result.subject}, {result.tier} gate"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style></head><body><main>",
        *_masthead(result),
        *_verdict(result),
        *_meaningful(result),
        *_failures(result),
        *_what_was_run(result),
        *_footer(result),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _masthead(result: GateResult) -> Iterator[str]:
    yield '<div class="mast"><b>tornpage gate</b>'
    yield f"<span>{escape(result.subject)}</span>"
    yield f"<span>{escape(result.tier)} tier</span>"
    if result.commit:
        yield f"<span>commit <code>{escape(result.commit[:12])}</code></span>"
    yield "</div>"


def _verdict(result: GateResult) -> Iterator[str]:
    total = result.total()
    yield f'<section class="card verdict {result.verdict}">'
    yield f"<h1>{result.verdict.capitalize()}</h1>"
    yield f"<p>{escape(_SAID[result.verdict])}</p>"
    if result.exhibits:
        yield '<ul class="first">'
        for number, one in enumerate(result.exhibits, 1):
            found = one.violation
            yield (
                f'<li><a href="#failure-{number}"><b>{escape(found.property)}</b></a>'
                f" {escape(found.message)}</li>"
            )
        yield "</ul>"
    if doubts := result.doubts():
        yield f"<ul>{''.join(f'<li>{escape(doubt)}.</li>' for doubt in doubts)}</ul>"
    yield '<div class="figures">'
    if total:
        yield _figure("crash points", f"{total['crash_points']:,}")
        yield _figure("closed exhaustively", _percent(total["closed"]))
        yield _figure("recoveries run", f"{total['executions']:,}")
        yield _figure("images covered", f"2<sup>{total['images_log2']:,.0f}</sup>")
        yield _figure("programs", f"{total['programs']:,}")
    if result.planted:
        caught = f"{result.caught} of {len(result.planted)}"
        yield _figure("planted bugs caught", caught)
    yield _figure("time", f"{result.seconds:,.0f} s")
    yield "</div></section>"
    if missing := result.never_seen():
        names = (name.removeprefix("subject ") for name in missing)
        rows = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
        yield (
            '<div class="note"><b>Suspicious:</b> every run should show these'
            f" behaviours, and this one did not:<ul>{rows}</ul></div>"
        )


def _figure(name: str, value: str) -> str:
    return f'<div><div class="v">{value}</div><div class="k">{escape(name)}</div></div>'


def _percent(share: float) -> str:
    return "100 %" if share == 1.0 else f"{int(share * 1000) / 10:.1f} %"


# -- is this pass meaningful ---------------------------------------------------------


def _meaningful(result: GateResult) -> Iterator[str]:
    total = result.total()
    passed = result.verdict == "consistent"
    title = "Is this pass meaningful?" if passed else "What was looked at?"
    yield f"<h2>{title}</h2>"
    yield '<div class="grid">'
    yield from _kill_rate(result)
    yield from _behaviour(result)
    if total:
        yield from _crash_points(total["crash_points_by_kind"])
        yield from _faults(result, total["faults"])
    yield from _planted_table(result)
    yield "</div>"


def _kill_rate(result: GateResult) -> Iterator[str]:
    count, caught = len(result.planted), result.caught
    yield '<section class="card"><h3>Would it notice a bug?</h3>'
    if not count:
        what = "were tried" if result.tried else "were to be tried"
        yield f'<p class="warn">No planted bugs {what}: nothing shows it.</p>'
    else:
        tone = "good" if caught == count else "bad"
        short = "" if caught == count else " short"
        yield f'<div class="big {tone}">{caught} of {count}</div>'
        # Caught means little where the code is called broken without the bug, too.
        scope = result.lanes[0].certificate.scope if result.lanes else None
        clean = all(
            one.certificate.verdict == "consistent"
            for one in result.lanes
            if one.certificate.scope == scope
        )
        without = " The same programs pass without them." if clean else ""
        yield (
            f'<div class="meter{short}"><i style="width:{100 * caught / count:.1f}%">'
            "</i></div>"
        )
        yield (
            '<p class="soft">bugs that were planted into the code under test, one at'
            f" a time, were caught.{without}</p>"
        )
        if median := _median([one.size for one in result.planted if one.shrunk]):
            dishonest = _median([one.dishonest for one in result.planted if one.shrunk])
            yield (
                f'<p class="soft">Median story: {median:g} operations,'
                f" {dishonest:g} dishonest choices of the disk.</p>"
            )
    yield "</section>"


def _median(values: Sequence[int]) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2


def _behaviour(result: GateResult) -> Iterator[str]:
    yield '<section class="card"><h3>Is there more to find?</h3>'
    curve = result.curve
    if len(curve) < 2:
        yield '<p class="soft">Too few programs for a curve of new behaviour.</p>'
    else:
        programs, seen = curve[-1]
        last = next(at for at, found in curve if found == seen)
        tone = "good" if last * 4 <= programs * 3 else "warn"
        verb = "flattened" if tone == "good" else "still climbs"
        yield _curve(curve)
        yield (
            f'<p class="soft">{seen:,} different behaviours in {programs:,} programs;'
            f" the last new one in program {last:,}:"
            f' <span class="{tone}">the curve {verb}</span>.</p>'
        )
    wanted = {
        name for lane in result.lanes for name in lane.certificate.scope.sometimes
    }
    if wanted:
        met = len(wanted) - len(result.never_seen())
        tone = "good" if met == len(wanted) else "warn"
        yield (
            f'<p class="soft">Behaviours that every run should show:'
            f' <span class="{tone}">{met} of {len(wanted)} seen</span>.</p>'
        )
    yield "</section>"


def _curve(curve: Sequence[tuple[int, int]]) -> str:
    width, height, left, low = 420, 120, 34, 100
    most_x, most_y = curve[-1][0], curve[-1][1] or 1

    def place(point: tuple[int, int]) -> str:
        x = left + (width - left - 8) * point[0] / most_x
        return f"{x:.1f} {low - (low - 10) * point[1] / most_y:.1f}"

    line = "L".join(map(place, ((0, 0), *curve)))
    end = place((most_x, 0))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="100%" role="img"'
        ' aria-label="Different behaviours over programs">'
        f'<path class="area" d="M{line}L{end}z"/>'
        f'<path class="curve" d="M{line}"/>'
        f'<line class="rule" x1="{left}" x2="{width - 8}" y1="{low}" y2="{low}"/>'
        f'<text class="axis" x="{left - 6}" y="16" text-anchor="end">{most_y}</text>'
        f'<text class="axis" x="{left - 6}" y="{low}" text-anchor="end">0</text>'
        f'<text class="axis" x="{width - 8}" y="{height - 4}" text-anchor="end">'
        f"{most_x:,} programs</text></svg>"
    )


def _crash_points(points: Mapping[str, int]) -> Iterator[str]:
    """Bars by operation, "before" and "inside" in one bar."""
    kinds: dict[str, list[int]] = {}
    for name, count in points.items():
        side, _, kind = name.partition(" ")
        if side in {"before", "inside"}:
            kinds.setdefault(kind, [0, 0])[side == "inside"] += count
        else:
            kinds.setdefault(name, [0, 0])[0] += count
    rows = sorted(kinds.items(), key=lambda item: (-sum(item[1]), item[0]))
    most = max((sum(counts) for _, counts in rows), default=1)
    yield '<section class="card"><h3>Where did it crash?</h3>'
    yield '<table class="bars">'
    for kind, (before, inside) in rows:
        yield (
            f'<tr><td class="tight">{escape(kind)}</td><td><div class="track">'
            f'<i style="width:{100 * before / most:.1f}%"></i>'
            f'<i style="width:{100 * inside / most:.1f}%"></i></div></td>'
            f'<td class="n">{before + inside:,}</td></tr>'
        )
    yield "</table>"
    yield (
        '<div class="legend">'
        f"{_swatch('var(--blue)')}before the operation</span>"
        f"{_swatch('var(--bar)')}inside it</span></div>"
    )
    yield "</section>"


def _swatch(colour: str) -> str:
    return (
        '<span><svg width="12" height="12" aria-hidden="true">'
        f'<rect width="12" height="12" rx="3" style="fill:{colour}"/></svg>'
    )


def _faults(result: GateResult, faults: Mapping[str, int]) -> Iterator[str]:
    most = max(faults.values(), default=0) or 1
    yield '<section class="card"><h3>What did the disk do to it?</h3>'
    yield '<table class="bars">'
    for kind, count in sorted(faults.items(), key=lambda item: (-item[1], item[0])):
        share = 0 if not count else max(100 * count / most, 0.8)
        tone = "" if count else ' class="warn"'
        said = f"{count:,}" if count else "never"
        yield (
            f'<tr><td class="tight">{escape(kind)}</td><td><div class="track">'
            f'<i style="width:{share:.1f}%"></i></div></td>'
            f'<td class="n"><span{tone}>{said}</span></td></tr>'
        )
    yield "</table>"
    largest = max(
        (lane.certificate.coverage.largest for lane in result.lanes), default=0
    )
    yield (
        '<p class="soft">Dishonest choices that recoveries really met. The largest'
        f" single crash left 2<sup>{log2_of(largest):,.0f}</sup> possible images.</p>"
    )
    yield "</section>"


def _planted_table(result: GateResult) -> Iterator[str]:
    if not result.planted:
        return
    missed = [one for one in result.planted if one.fate != "caught"]
    yield '<section class="card wide">'
    if missed:
        yield '<h3 class="bad">Planted bugs that were not caught</h3>'
        yield '<div class="scroll"><table>'
        yield "<tr><th>bug</th><th>what is wrong</th><th>why not caught</th></tr>"
        for one in missed:
            yield (
                f'<tr><td class="tight"><code>{escape(one.name)}</code></td>'
                f"<td>{escape(one.summary)}</td><td>{escape(one.reason)}</td></tr>"
            )
        yield "</table></div>"
    caught = [one for one in result.planted if one.fate == "caught"]
    few = not missed and len(caught) <= _FEW
    yield f"<details{' open' if few else ''}>"
    yield f"<summary>All {len(caught)} planted bugs that were caught</summary>"
    yield '<div class="scroll"><table><tr><th>bug</th><th>what is wrong</th>'
    yield "<th>promise broken</th><th>found by</th>"
    yield '<th class="n">recoveries</th><th class="n">time</th>'
    yield '<th class="n">story</th></tr>'
    for one in caught:
        tip = escape(" - ".join(filter(None, (one.origin, one.needs))))
        story = f"{one.size} op{'s' * (one.size != 1)}"
        if not one.shrunk:
            story += ", unshrunk"
        yield (
            f'<tr title="{tip}"><td class="tight"><code>{escape(one.name)}</code></td>'
            f'<td>{escape(one.summary)}</td><td class="tight">{escape(one.property)}'
            f'</td><td class="tight">{escape(one.found_by)}</td>'
            f'<td class="n">{one.executions:,}</td>'
            f'<td class="n">{one.seconds:.1f} s</td><td class="n">{story}</td></tr>'
        )
    yield "</table></div></details></section>"


# -- failures ------------------------------------------------------------------------


def _failures(result: GateResult) -> Iterator[str]:
    if not result.exhibits:
        return
    count = len(result.exhibits)
    yield f"<h2>{count} failure{'s' * (count != 1)}</h2>"
    for number, one in enumerate(result.exhibits, 1):
        yield from _failure(one, number)


def _failure(one: Exhibit, number: int) -> Iterator[str]:
    found = one.violation
    origin = "the corpus" if found.seed is None else f"seed {found.seed}"
    bug = (
        f" with the planted bug {found.failure.mutant}" if found.failure.mutant else ""
    )
    yield f'<section class="card failure" id="failure-{number}">'
    yield f"<h3>{escape(found.property)}</h3>"
    yield f"<p>{escape(found.message)}</p>"
    yield (
        f'<p class="soft">Lane {escape(one.lane)}, {escape(origin + bug)}. Found with'
        f" {found.found_size} operations, told with {found.shrunk_size}"
        f" ({escape(found.shrinking)}).</p>"
    )
    yield "<h4>See it again</h4>"
    yield f'<pre class="one">{escape(found.replay)}</pre>'
    if one.scene is None:
        yield f'<p class="warn">It could not be drawn: {escape(one.missing)}.</p>'
    else:
        yield from _scene(one.scene, f"f{number}")
    yield "<details><summary>Regression test: "
    yield f"<code>tests/{escape(one.test_name)}</code>, written beside this page"
    yield f"</summary><pre>{escape(one.test)}</pre></details>"
    yield "<details><summary>The story as text</summary>"
    yield f"<pre>{escape(found.story)}</pre></details></section>"


def _scene(scene: Scene, name: str) -> Iterator[str]:
    lines = "".join(f"<li><code>{escape(line)}</code></li>" for line in scene.program)
    yield f'<h4>Program</h4><ol class="program">{lines}</ol>'
    yield "<h4>What happened on the disk</h4>"
    # Where it does not fit it begins at its right end: the crash is there.
    yield f'<div class="scroll ends">{draw(scene, name)}</div>'
    yield from _legend(scene)
    if scene.crash is None:
        yield '<p class="soft">No crash and no fault: it happens on an honest disk.</p>'
    elif scene.changes:
        yield "<h4>An honest disk everywhere except</h4>"
        yield from _changes(scene.changes)
    else:
        yield '<p class="soft">An honest disk everywhere: the crash is enough.</p>'
    if scene.reason:
        yield f"<h4>In short</h4><p>{escape(scene.reason)}.</p>"
    if scene.facts:
        yield "<h4>What was promised, what was found</h4>"
        yield '<div class="scroll"><table>'
        yield "<tr><th>field</th><th>promised</th><th>found</th></tr>"
        for field, promised, got in scene.facts:
            yield (
                f'<tr><td class="tight">{escape(field)}</td>'
                f'<td class="mono cells">{escape(promised)}</td>'
                f'<td class="mono cells bad">{escape(got)}</td></tr>'
            )
        yield "</table></div>"
    yield f"<details><summary>All {len(scene.steps)} lines of the trace</summary>"
    yield from _trace(scene)
    yield "</details>"


def _legend(scene: Scene) -> Iterator[str]:
    fates = {step.fate for step in scene.steps if step.kind != "mark"}
    yield '<div class="legend">'
    for fate, said in LEGEND:
        if fate in fates:
            yield (
                '<span><svg width="20" height="14" aria-hidden="true">'
                f'<rect x="1" y="1" width="18" height="12" rx="3" class="box {fate}"/>'
                f"</svg>{fate}: {said}</span>"
            )
    if scene.overtaken:
        yield '<span class="bad">arrow: a later write arrived, this one did not</span>'
    yield "</div>"


def _changes(changes: Iterable[Change]) -> Iterator[str]:
    yield '<div class="scroll"><table><tr><th>place</th><th>field</th>'
    yield "<th>recovery read</th><th>an honest disk has</th></tr>"
    for one in changes:
        where = escape(one.place)
        field = escape(one.field)
        if one.said:
            yield (
                f'<tr><td class="tight">{where}</td><td class="tight">{field}</td>'
                f'<td colspan="2">{escape(one.said)}</td></tr>'
            )
            continue
        field = field or f"bytes {one.offset:,} to {one.offset + len(one.got):,}"
        yield (
            f'<tr><td class="tight">{where}</td><td class="tight">{field}</td>'
            f'<td class="hex">{_hex(one.got, one.honest)}</td>'
            f'<td class="hex was">{_hex(one.honest, one.got)}</td></tr>'
        )
    yield "</table></div>"


def _hex(content: bytes, other: bytes) -> str:
    """Bytes, those that differ marked; a short run also as a number."""
    cells = []
    for mine, theirs in zip(content[:_SHOWN_BYTES], other, strict=False):
        cells.append(f"{mine:02x}" if mine == theirs else f"<b>{mine:02x}</b>")
    more = len(content) - _SHOWN_BYTES
    tail = f" and {more:,} more" if more > 0 else ""
    number = ""
    if len(content) in _INTEGERS:
        value = int.from_bytes(content, "little")
        number = f"<br>= {value:,}" if value < 1 << 40 else ""
    return f"{' '.join(cells)}{tail}{number}"


def _trace(scene: Scene) -> Iterator[str]:
    yield '<div class="scroll"><table><tr><th class="n">no.</th><th>operation</th>'
    yield "<th>what</th><th>fate</th><th>issued by</th></tr>"
    for index, step in enumerate(scene.steps):
        if scene.crash == index:
            side = "during the next line" if scene.inside else "here"
            yield f'<tr><td></td><td colspan="4" class="bad">crash {side}</td></tr>'
        number = str(step.number) if step.number else ""
        yield (
            f'<tr><td class="n">{number}</td><td class="tight">{escape(step.kind)}</td>'
            f'<td>{escape(step.line)}</td><td class="tight">{escape(step.fate)}</td>'
            f'<td class="mono tight">{escape(step.site)}</td></tr>'
        )
    yield "</table></div>"


# -- what was run --------------------------------------------------------------------


def _what_was_run(result: GateResult) -> Iterator[str]:
    yield "<h2>What was run</h2>"
    yield '<section class="card"><div class="scroll"><table>'
    yield "<tr><th>lane</th><th>verdict</th><th>what</th>"
    yield '<th class="n">programs</th><th class="n">crash points</th>'
    yield '<th class="n">closed</th><th class="n">recoveries</th>'
    yield '<th class="n">worker time</th></tr>'
    for lane in result.lanes:
        seen = lane.certificate.coverage
        verdict = lane.certificate.verdict
        yield (
            f'<tr><td class="tight"><b>{escape(lane.name)}</b></td>'
            f'<td><span class="tag {verdict}">{verdict}</span></td>'
            f'<td>{_breakable(lane.what)}</td><td class="n">{seen.programs:,}</td>'
            f'<td class="n">{seen.crash_points:,}</td>'
            f'<td class="n">{_percent(seen.closed_share)}</td>'
            f'<td class="n">{seen.executions:,}</td>'
            f'<td class="n">{seen.nanoseconds / 1e9:,.0f} s</td></tr>'
        )
    yield "</table></div>"
    yield "<h4>Not proven</h4>"
    yield "<p>Anything about other programs, or about crashes outside these models:</p>"
    yield "<ul>"
    for model, left_out in _models(result).items():
        said = "; ".join(left_out)
        yield f"<li><code>{_breakable(model)}</code>: {escape(said)}</li>"
    yield "</ul></section>"


def _breakable(text: str) -> str:
    """Text that may be broken behind a comma: crash models are long words."""
    return escape(text).replace(",", ",<wbr>")


def _models(result: GateResult) -> dict[str, Sequence[str]]:
    scopes: Any = (lane.certificate.scope for lane in result.lanes)
    return {scope.model: scope.exclusions for scope in scopes}


def _footer(result: GateResult) -> Iterator[str]:
    yield "<footer>"
    if result.lanes:
        scope = result.lanes[0].certificate.scope
        yield (
            f"tornpage {escape(scope.tornpage)}, Python {escape(scope.python)},"
            f" code <code>{escape(scope.code[:16])}</code>;"
        )
    yield (
        f" {result.workers} worker{'s' * (result.workers != 1)},"
        f" {result.seconds:,.1f} s of a budget of {result.budget:,.0f} s;"
        f" exit status {result.exit_status}.</footer>"
    )
