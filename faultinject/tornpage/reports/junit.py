"""The gate's result as JUnit XML, for the test pages of CI systems.

    <testsuites>
      <testsuite name="tornpage lanes">        one test case a lane
      <testsuite name="tornpage planted bugs"> one test case a planted bug
      <testsuite name="tornpage gate">         one test case: can it be trusted

A violated lane is a failure with the stories as its text. What is unverifiable is an
*error*: nothing is known to be wrong with the code under test, the check did not do
its work. Skipping it, which JUnit also offers, was rejected: CI pages show skips in
grey, and then "unverifiable" looks like a pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from tornpage.reports.gate_result import GateResult

__all__ = ["render_junit"]

# XML 1.0 has no way at all to write these, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: GateResult) -> str:
    """The XML document, ending with a newline."""
    top = ET.Element("testsuites", name="tornpage gate")
    _lanes(top, result)
    if result.planted:
        _planted(top, result)
    _gate(top, result)
    for name in ("tests", "failures", "errors"):
        top.set(name, str(sum(int(suite.get(name, "0")) for suite in top)))
    top.set("time", f"{result.seconds:.3f}")
    ET.indent(top)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(top, "unicode")}\n'


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _suite(top: ET.Element, name: str, result: GateResult) -> ET.Element:
    suite = ET.SubElement(top, "testsuite", name=f"tornpage {name}")
    properties = ET.SubElement(suite, "properties")
    values = {"subject": result.subject, "tier": result.tier, "commit": result.commit}
    for key, value in values.items():
        if value:
            ET.SubElement(properties, "property", name=key, value=_clean(value))
    return suite


def _case(suite: ET.Element, group: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite,
        "testcase",
        classname=_clean(f"tornpage.{group}"),
        name=_clean(name),
        time=f"{seconds:.3f}",
    )


def _complain(case: ET.Element, kind: str, what: str, message: str, text: str) -> None:
    tag = ET.SubElement(case, kind, type=_clean(what), message=_clean(message))
    tag.text = _clean(text)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", "0")
    seconds = sum(float(case.get("time", "0")) for case in suite.iter("testcase"))
    suite.set("time", f"{seconds:.3f}")


def _lanes(top: ET.Element, result: GateResult) -> None:
    suite = _suite(top, "lanes", result)
    for lane in result.lanes:
        found = lane.certificate
        case = _case(suite, "lanes", lane.name, found.coverage.nanoseconds / 1e9)
        if found.verdict == "violated":
            first = found.violations[0]
            message = f"{first.property}: {first.message}"
            stories = "\n\n".join(one.story for one in found.violations)
            _complain(case, "failure", first.property, message, stories)
        elif found.verdict == "unverifiable":
            doubts = found.doubts()
            _complain(case, "error", "unverifiable", doubts[0], "\n".join(doubts))
        seen = found.coverage
        ET.SubElement(case, "system-out").text = (
            f"{seen.programs:,} programs, {seen.crash_points:,} crash points,"
            f" {seen.executions:,} recoveries, model {_clean(found.scope.model)}"
        )
    _count(suite)


def _planted(top: ET.Element, result: GateResult) -> None:
    suite = _suite(top, "planted bugs", result)
    for one in result.planted:
        case = _case(suite, "planted", one.name, one.seconds)
        if one.fate != "caught":
            message = f"{one.fate}: {one.summary}"
            _complain(case, "error", one.fate, message, one.reason)
    _count(suite)


def _gate(top: ET.Element, result: GateResult) -> None:
    suite = _suite(top, "gate", result)
    case = _case(suite, "gate", "every image was covered, every bug noticed", 0.0)
    if doubts := result.doubts():
        _complain(case, "error", "unverifiable", doubts[0], "\n".join(doubts))
    if missing := result.never_seen():
        ET.SubElement(case, "system-out").text = _clean(
            f"suspicious, never seen: {', '.join(missing)}"
        )
    _count(suite)
