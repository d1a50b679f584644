"""Reports of the gate: complete, self-contained, and safe against what they show."""

import dataclasses
import functools
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from toy_store import MUTANTS, Blind, Idle, Seeded, Toy

from tornpage.certificate import Certificate
from tornpage.certificate.record import Scope
from tornpage.registry import file_digest
from tornpage.reports import (
    Exhibit,
    GateResult,
    Lane,
    Planted,
    render_html,
    render_junit,
    render_markdown,
    scene_of,
)
from tornpage.reports.html_style import STYLE
from tornpage.reports.scene import SceneError
from tornpage.reports.timeline_svg import LEGEND, draw
from tornpage.run import Plan, run
from tornpage.run.regression import check_token, regression_file_name, regression_test

EVIL = "</pre><script>alert('x')</script>&\"'`|\x00\x1b"
CAUGHT = Planted("no-sync", "no sync", "caught", property="P", size=1, shrunk=True)
MISSED = Planted("no-crc", "no checksum", "survived", reason="4 programs passed")


@functools.cache
def certificate(mutant=None, kind=Toy):
    """What comes of a run; nothing here changes it, or anything that it follows from.

    Half of the time of these tests went into runs that had been made.
    """
    plan = Plan(spec=f"toy_store:{kind.__name__}", programs=3, mutant=mutant)
    return run(kind(), plan)


@functools.cache
def exhibit(mutant, kind=Toy):
    found = certificate(mutant, kind).violations[0]
    return Exhibit(
        "programs",
        found,
        scene_of(kind(), found.failure),
        "",
        regression_file_name(found),
        regression_test(found),
    )


def result(*lanes, **changes):
    lanes = lanes or (certificate(),)
    named = tuple(Lane(f"lane {at}", "a lane", one) for at, one in enumerate(lanes))
    fields = {"planted": (CAUGHT,), "curve": ((1, 4), (2, 6), (8, 6)), "budget": 9.0}
    return GateResult("toy", "pr", named, **{**fields, **changes})


def violated(mutant="no-sync"):
    return result(certificate(mutant), exhibits=(exhibit(mutant),))


class Page(HTMLParser):
    """Tags in order, and whether they are nested properly."""

    VOID = frozenset({"meta", "br", "wbr", "line", "path", "rect"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag == "li" or tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


# -- the verdict --


def test_one_violated_lane_makes_the_gate_violated_whatever_else():
    made = result(certificate(), certificate("no-sync"), planted=(MISSED,))
    assert (made.verdict, made.exit_status) == ("violated", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"planted": (CAUGHT, MISSED)},
        {"planted": ()},
        {"left_out": ("programs: seed 4 is not covered",)},
    ],
)
def test_whatever_weakens_the_gate_itself_makes_it_unverifiable(changes):
    assert result(**changes).verdict == "unverifiable"
    assert result().verdict == "consistent"


def test_one_unverifiable_lane_makes_the_gate_unverifiable():
    idle = certificate(kind=Idle)
    assert idle.verdict == "unverifiable"
    assert result(certificate(), idle).verdict == "unverifiable"


def test_a_gate_without_lanes_is_not_consistent():
    assert GateResult("toy", "pr", (), planted=(CAUGHT,)).verdict == "unverifiable"


@pytest.mark.parametrize("caught", range(5))
def test_the_kill_rate_is_met_exactly_from_its_share_on(caught):
    planted = (CAUGHT,) * caught + (MISSED,) * (4 - caught)
    made = result(planted=planted, kill_rate=0.75)
    assert (made.verdict == "consistent") == (caught >= 3)


def test_the_json_says_what_the_result_says():
    made = violated()
    data = json.loads(json.dumps(made.to_json()))
    assert data["verdict"] == "violated"
    assert data["crash_points"] == made.lanes[0].certificate.coverage.crash_points
    assert data["failures"][0]["token"] == made.exhibits[0].violation.failure.token()
    Certificate.from_json(data["lanes"][0]["certificate"])


# -- the page --


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_the_page_is_well_formed_and_fetches_nothing(mutant):
    text = render_html(result() if mutant is None else violated(mutant))
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "onload", "onclick"} & {name for name, _ in page.attributes}
    targets = [value for name, value in page.attributes if name == "href"]
    assert all(target.startswith("#") for target in targets)
    assert "://" not in text
    assert "@import" not in STYLE
    assert "prefers-color-scheme:dark" in text


def test_equal_results_give_equal_bytes():
    made = violated()
    assert render_html(made) == render_html(made)


def test_the_verdict_comes_first_and_failures_after_what_makes_a_pass_mean_something():
    text = render_html(violated())
    order = [
        "<h1>Violated</h1>",
        "Would it notice a bug?",
        "Is there more to find?",
        "Where did it crash?",
        "What did the disk do to it?",
        "1 failure",
        "See it again",
        "What happened on the disk",
        "An honest disk everywhere except",
        "In short",
        "What was promised, what was found",
        "Regression test",
        "What was run",
        "Not proven",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_behaviour_that_was_never_seen_stands_above_everything_that_looks_good():
    lane = certificate()
    scope = dataclasses.replace(lane.scope, sometimes=("subject deep split",))
    made = result(dataclasses.replace(lane, scope=scope))
    text = render_html(made)
    assert made.verdict == "consistent"
    assert text.index("deep split") < text.index("Is this pass meaningful?")
    assert "Suspicious" in render_markdown(made)
    assert "subject deep split" in render_junit(made)


def test_a_fault_that_never_happened_and_a_bug_that_survived_are_named():
    text = render_html(result(planted=(CAUGHT, MISSED)))
    assert "Planted bugs that were not caught" in text
    assert "4 programs passed" in text
    assert ">never</span>" in text


def test_nothing_is_called_meaningful_without_planted_bugs():
    text = render_html(result(planted=(), tried=False))
    assert "No planted bugs were to be tried" in text


def test_markup_in_any_text_is_shown_and_not_obeyed():
    one = exhibit("no-sync")
    violation = dataclasses.replace(
        one.violation,
        property=EVIL,
        message=EVIL,
        shrinking=EVIL,
        story=EVIL,
        replay=EVIL,
    )
    scene = one.scene
    steps = tuple(
        dataclasses.replace(step, place=EVIL, line=EVIL, site=EVIL)
        for step in scene.steps
    )
    change = dataclasses.replace(scene.changes[0], place=EVIL, field=EVIL, said=EVIL)
    scene = dataclasses.replace(
        scene,
        program=(EVIL,),
        steps=steps,
        spans=tuple(dataclasses.replace(s, name=EVIL) for s in scene.spans),
        changes=(change,),
        facts=((EVIL, EVIL, EVIL),),
    )
    lane = certificate("no-sync")
    lane = dataclasses.replace(
        lane,
        scope=dataclasses.replace(
            lane.scope, model=EVIL, exclusions=(EVIL,), sometimes=(EVIL,)
        ),
        violations=(violation,),
        cut=(EVIL,),
    )
    made = GateResult(
        EVIL,
        EVIL,
        (Lane(EVIL, EVIL, lane),),
        planted=(dataclasses.replace(MISSED, name=EVIL, summary=EVIL, reason=EVIL),),
        exhibits=(
            dataclasses.replace(one, lane=EVIL, violation=violation, scene=scene),
        ),
        left_out=(EVIL,),
        commit=EVIL,
    )
    page = Page(render_html(made))
    assert "script" not in page.tags
    assert page.open == []
    assert ET.fromstring(render_junit(made).partition("\n")[2]) is not None
    markdown = render_markdown(made)
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", markdown)
    outside = re.sub(r"(?<!`)(``+) .*? \1(?!`)", "", outside)
    assert "alert" in outside
    stray = re.search(r"(?<!\\)<(?!/?(details|summary)).{20}", outside)
    assert stray is None


# -- the picture --


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_failure_of_the_toy_is_drawn_as_well_formed_svg(mutant):
    scene = exhibit(mutant).scene
    picture = ET.fromstring(draw(scene, "x"))
    crash = [one for one in picture.iter("path") if one.get("class") == "crash"]
    assert len(crash) == (scene.crash is not None)
    x = float(picture.get("width"))
    for one in picture.iter():
        for name in ("x", "x1", "x2"):
            assert 0 <= float(one.get(name, "0")) <= x


def fates(mutant):
    return {(step.kind, step.fate) for step in exhibit(mutant).scene.steps}


def test_a_lost_write_a_torn_write_and_a_lost_name_are_told_apart():
    assert ("write", "lost") in fates("no-sync")
    assert ("write", "torn") in fates("no-checksum")
    assert ("create", "lost") in fates("no-dir-sync")


def test_an_operation_behind_the_crash_never_happened():
    scene = exhibit("no-checksum").scene
    end = scene.crash + scene.inside
    assert {step.fate for step in scene.steps[end:]} == {"never"}
    assert "never" not in {step.fate for step in scene.steps[:end]}


def test_a_failure_without_a_crash_has_only_durable_operations():
    scene = exhibit("forgetful").scene
    assert scene.crash is None
    assert {step.fate for step in scene.steps} == {"", "durable"}


def test_a_write_that_overtook_another_is_drawn_as_an_arrow():
    scene = exhibit("no-sync").scene
    lost = next(n for n, step in enumerate(scene.steps) if step.fate == "lost")
    steps = list(scene.steps)
    steps.insert(lost + 1, dataclasses.replace(steps[lost], fate="arrived"))
    moved = dataclasses.replace(
        scene,
        steps=tuple(steps),
        crash=scene.crash + 1,
        overtaken=((lost, lost + 1),),
    )
    assert 'class="overtaken"' in draw(moved, "x")
    assert 'class="overtaken"' not in draw(scene, "x")


def test_of_a_long_trace_the_end_is_drawn_and_the_rest_is_counted():
    scene = exhibit("no-sync").scene
    first = scene.steps[0]
    more = dataclasses.replace(
        scene,
        steps=(first,) * 500 + scene.steps,
        spans=(),
        overtaken=(),
        crash=scene.crash + 500,
    )
    picture = draw(more, "x")
    assert re.search(r"48\d earlier operations not shown", picture)
    assert int(ET.fromstring(picture).get("width")) < 1600


def test_every_fate_has_a_shape_in_the_style_sheet():
    for fate, _ in LEGEND:
        assert f".box.{fate}" in STYLE


def test_bytes_that_differ_are_shown_beside_those_of_an_honest_disk():
    change = exhibit("no-sync").scene.changes[0]
    assert change.got != change.honest
    assert len(change.got) == len(change.honest)


def test_a_failure_that_is_gone_is_not_drawn():
    found = certificate("no-sync").violations[0]
    repaired = dataclasses.replace(found.failure, mutant=None)
    with pytest.raises(SceneError):
        scene_of(Toy(), repaired)


# -- the test that is written --


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_written_test_fails_on_the_bug_and_not_without_it(mutant):
    found = certificate(mutant).violations[0]
    text = regression_test(found)
    space = {}
    exec(compile(text, "x.py", "exec"), space)
    (check,) = (one for name, one in space.items() if name.startswith("test_"))
    with pytest.raises(AssertionError, match="The failure is still there"):
        check()
    check_token(dataclasses.replace(found.failure, mutant=None).token())


def test_a_repair_that_only_moves_the_failure_is_not_one():
    found = certificate("no-sync").violations[0]
    # The same program and bug, at a crash point where nothing is broken yet.
    moved = dataclasses.replace(found.failure, at="0:")
    with pytest.raises(AssertionError, match="its program is not fine"):
        check_token(moved.token())


def test_a_failure_that_started_from_a_file_asks_for_it(tmp_path):
    base = tmp_path / "base.db"
    base.write_bytes(b"toy")
    found = certificate("no-sync", Seeded).violations[0]
    failure = dataclasses.replace(found.failure, database=file_digest(str(base)))
    with pytest.raises(ValueError, match="give its path"):
        check_token(failure.token())
    with pytest.raises(AssertionError):
        check_token(failure.token(), database=str(base))
    # A file in which it cannot be seen would let the test pass.
    base.write_bytes(b"another")
    with pytest.raises(ValueError, match="is another one"):
        check_token(failure.token(), database=str(base))
    with pytest.raises(ValueError, match="from no file"):
        check_token(found.failure.token(), database=str(base))


def test_no_text_of_a_failure_gets_out_of_its_comment():
    found = certificate("no-sync").violations[0]
    evil = dataclasses.replace(
        found, property='a"""\nimport os', story='x\r"""\nraise SystemExit\n'
    )
    space = {}
    exec(compile(regression_test(evil), "x.py", "exec"), space)
    assert set(space) - {"__builtins__", "__doc__", "__name__"} == {
        "TOKEN",
        "check_token",
        "test_a_import_os_is_kept",
    }


# -- for machines --


def test_junit_calls_unverifiable_an_error_and_never_a_skip():
    top = ET.fromstring(
        render_junit(result(certificate(), certificate(kind=Idle))).partition("\n")[2]
    )
    assert int(top.get("errors")) == 2
    assert int(top.get("failures")) == 0
    assert not list(top.iter("skipped"))
    assert int(top.get("tests")) == len(list(top.iter("testcase"))) == 4


def test_junit_has_the_story_of_a_violated_lane():
    top = ET.fromstring(render_junit(violated()).partition("\n")[2])
    (failure,) = top.iter("failure")
    assert "BROKEN: P persistence" in failure.text
    assert int(top.get("failures")) == 1


def test_a_survivor_is_an_error_of_its_own():
    top = ET.fromstring(render_junit(result(planted=(MISSED,))).partition("\n")[2])
    names = [
        one.get("name") for one in top.iter("testcase") if one.find("error") is not None
    ]
    assert "no-crc" in names


def test_markdown_holds_the_replay_command_in_one_piece():
    made = violated()
    assert f"\n{made.exhibits[0].violation.replay}\n" in render_markdown(made)


def test_a_checker_that_sees_nothing_has_no_failure_to_show():
    blind = certificate("no-sync", Blind)
    assert blind.verdict == "consistent"
    assert result(blind, planted=(MISSED,)).verdict == "unverifiable"


def test_an_empty_certificate_is_reported_and_does_not_pass():
    empty = Certificate(Scope("toy", "tear=sector"))
    made = result(empty)
    assert made.verdict == "unverifiable"
    assert "no crash point was visited" in render_html(made)
