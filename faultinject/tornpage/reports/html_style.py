"""The style sheet of the HTML report: one text, put into the page itself.

Colours are variables, twice: light, and dark where the reader's system asks for it.
Nothing is fetched: no font, no script, no image. Widths are in characters and the
grid folds into one column below 760 px, so a phone shows the same page. Pictures and
tables that are wider scroll inside their own frame; the page itself never does.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#566372;
--line:#dde3ea;--code:#f0f3f7;--good:#12805c;--good-bg:#e2f5ed;--bad:#c0281f;
--bad-bg:#fdeae8;--warn:#8f5f00;--warn-bg:#fdf2d8;--blue:#2563c9;--blue-bg:#dfeafb;
--bar:#7c93b3;--faint:#aeb9c6}
@media(prefers-color-scheme:dark){:root{--bg:#0f141a;--card:#171e27;--ink:#e6ebf1;
--soft:#9aa8b8;--line:#2a3440;--code:#10161d;--good:#4cc99a;--good-bg:#12302a;
--bad:#ff7a6e;--bad-bg:#3a1a1b;--warn:#e8b64c;--warn-bg:#352a12;--blue:#7db0ff;
--blue-bg:#1b2d4a;--bar:#6f86a6;--faint:#4c5968}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 20px 64px}
.mast{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;color:var(--soft);
font-size:13px;margin:4px 0 14px}
.mast b{color:var(--ink);font-size:15px}
h2{font-size:19px;margin:38px 0 12px;letter-spacing:-.01em}
h3{font-size:16px;margin:0 0 8px}
h4{font-size:13px;margin:22px 0 6px;color:var(--soft);font-weight:600}
sup{line-height:0}p{margin:0 0 10px}a{color:var(--blue)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:18px 20px;min-width:0}
.grid{display:grid;grid-template-columns:1fr 1fr;gap:14px}.wide{grid-column:1/-1}
.verdict{border-left:6px solid var(--tone);background:var(--tone-bg);
border-color:var(--tone)}
.verdict h1{margin:0;font-size:30px;line-height:1.2;letter-spacing:-.02em;
color:var(--tone)}
.verdict p{margin:6px 0 0;max-width:72ch}.verdict ul{margin:10px 0 0;padding-left:20px}
.consistent{--tone:var(--good);--tone-bg:var(--good-bg)}
.violated{--tone:var(--bad);--tone-bg:var(--bad-bg)}
.unverifiable{--tone:var(--warn);--tone-bg:var(--warn-bg)}
.figures{display:flex;flex-wrap:wrap;gap:14px 34px;margin:16px 0 2px}
.figures div{min-width:84px}.figures dt,.figures .k{color:var(--soft);font-size:12.5px}
.figures .v{font-size:21px;font-weight:650;font-variant-numeric:tabular-nums;
letter-spacing:-.01em}
.note{border-radius:8px;padding:10px 14px;margin:14px 0 0;background:var(--warn-bg);
border:1px solid var(--warn)}
.note b{color:var(--warn)}.note ul{margin:6px 0 0;padding:0;list-style:none;
display:flex;flex-wrap:wrap;gap:2px 18px}
.big{font-size:28px;font-weight:680;line-height:1.1;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.soft{color:var(--soft);font-size:13.5px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--soft);font-weight:600;font-size:12.5px;
border-bottom:1px solid var(--line);padding:4px 12px 4px 0;white-space:nowrap}
td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}
td.tight{white-space:nowrap}
.bars td{border:0;padding:3px 10px 3px 0}.bars td:nth-child(2){width:99%}
.track{display:flex;height:12px;border-radius:3px;background:var(--code);
overflow:hidden;margin-top:5px}
.track i{display:block;background:var(--blue)}.track i+i{background:var(--bar)}
.meter{height:8px;border-radius:4px;background:var(--code);overflow:hidden;
margin:10px 0}.meter i{display:block;height:100%;background:var(--good)}
.meter.short i{background:var(--bad)}
.tag{display:inline-block;border-radius:5px;padding:0 7px;font-size:12.5px;
font-weight:600;background:var(--tone-bg);color:var(--tone);white-space:nowrap}
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,
"DejaVu Sans Mono",monospace;font-size:12.5px}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;
padding:11px 13px;margin:0;overflow-x:auto;line-height:1.45}
pre.one{user-select:all;white-space:pre-wrap;word-break:break-all}
ol.program{margin:0;padding-left:26px;overflow-wrap:anywhere}
ol.program li{padding-left:4px}
details{margin-top:12px}.card>details:first-child{margin-top:0}summary{cursor:pointer;color:var(--blue);font-size:13.5px}
details[open] summary{margin-bottom:8px}
.failure{margin-bottom:16px;border-left:6px solid var(--bad)}
.failure>h3{font-size:18px;margin-bottom:2px}
td.hex{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:12.5px;white-space:nowrap}
td.hex b{color:var(--bad);background:var(--bad-bg);border-radius:2px;font-weight:600}
td.hex.was b{color:var(--good);background:var(--good-bg)}
.cells{white-space:normal;overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:10px 0 0;font-size:12.5px;
color:var(--soft)}.legend span{display:inline-flex;align-items:center;gap:7px}
footer{margin-top:36px;color:var(--soft);font-size:12.5px}
svg text{font-family:inherit;font-size:12px;fill:var(--ink)}
svg .lane{fill:var(--soft)}svg .number{fill:var(--soft);text-anchor:middle;
font-size:11.5px}
svg .faint{opacity:.45}svg .note,svg .axis{fill:var(--soft);font-size:11.5px}
svg .rule{stroke:var(--line)}svg .span{fill:var(--blue-bg);stroke:var(--blue)}
svg .open{stroke-dasharray:4 3}svg .span-name{font-size:11px}
svg .box{stroke-width:1.5;stroke:var(--bar);fill:var(--bar)}
svg .box.durable{fill:var(--bar);stroke:var(--bar)}
svg .box.arrived{fill:var(--blue);stroke:var(--blue)}
svg .box.lost{fill:none;stroke:var(--bad);stroke-dasharray:3 2.5}
svg .box.torn{fill:var(--card);stroke:var(--bad)}
svg .half{fill:var(--blue);stroke:none}
svg .cross{stroke:var(--bad);stroke-width:2;fill:none}
svg .box.undecided{fill:none;stroke:var(--blue);stroke-dasharray:2 2}
svg .mark{text-anchor:middle;font-size:12.5px;fill:var(--blue)}
svg .box.never{fill:none;stroke:var(--faint)}svg .hatch{stroke:var(--faint)}
svg .barrier{fill:var(--good-bg);stroke:var(--good)}
svg .bar{stroke-width:3;opacity:.65}
svg .barrier.never{fill:none;stroke:var(--faint)}svg .bar.never{opacity:.35}
svg .barrier.unfinished{fill:none;stroke:var(--warn);stroke-dasharray:3 2}
svg .barrier.failed{fill:none;stroke:var(--bad);stroke-dasharray:3 2}
svg .barrier-name{text-anchor:middle;font-size:10.5px;fill:var(--good)}
svg .barrier-name.never{fill:var(--faint)}
svg .barrier-name.unfinished{fill:var(--warn)}svg .barrier-name.failed{fill:var(--bad)}
svg .overtaken{fill:none;stroke:var(--bad);stroke-width:1.6}
svg .arrowhead{fill:var(--bad)}svg .crash{fill:none;stroke:var(--bad);stroke-width:2.5}
svg .crash-name{fill:var(--bad);font-weight:650}svg .after{fill:var(--bg);opacity:.55}
svg .curve{fill:none;stroke:var(--blue);stroke-width:2}
svg .area{fill:var(--blue-bg)}
@media(max-width:760px){main{padding:12px 12px 48px}.grid{grid-template-columns:1fr}
.card{padding:14px}.verdict h1{font-size:25px}.figures{gap:10px 24px}
.figures .v{font-size:18px}
.ends{direction:rtl}.ends svg{direction:ltr;display:block}}
@media print{body{background:#fff}.card{break-inside:avoid}}
""".strip()
"""CSS of the report."""
