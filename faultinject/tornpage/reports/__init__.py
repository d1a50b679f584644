"""What a gate found, for people and for CI systems, from one record.

    gate_result   the record
    html          one page that needs nothing but itself, in the style of html_style
    timeline_svg  a failure drawn, from a `scene`
    markdown      what a pull request shows
    junit         what the test pages of CI systems read

`ci/gate.py` writes all of them; see docs/gate.md.
"""

from tornpage.reports.gate_result import Exhibit, Fate, GateResult, Lane, Planted
from tornpage.reports.html import render_html
from tornpage.reports.junit import render_junit
from tornpage.reports.markdown import render_markdown
from tornpage.reports.scene import Scene, scene_of

__all__ = [
    "Exhibit",
    "Fate",
    "GateResult",
    "Lane",
    "Planted",
    "Scene",
    "render_html",
    "render_junit",
    "render_markdown",
    "scene_of",
]
