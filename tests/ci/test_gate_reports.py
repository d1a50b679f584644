"""Reports hold what was found, whatever it says, and hide no verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree as ET

from gating.lanes import Gate
from gating.outcome import render_terminal, write_outcome
from tests.ci.small_gates import TOYS, a_policy
from toy_store import Toy

from tornpage.subject import Violation


def test_the_regression_test_fails_on_the_bug_and_passes_without_it(here, tmp_path):
    result = Gate(a_policy(), mutant="no-sync").run()
    write_outcome(result, str(tmp_path))
    one = result.exhibits[0]
    path = tmp_path / "tests" / one.test_name
    done = _pytest(path)
    assert done.returncode == 1
    assert "BROKEN: P persistence" in done.stdout
    # The planted bug is what has to be repaired: without it the test passes.
    token = one.violation.failure.token()
    sound = type(one.violation.failure)(
        **{
            name: None if name == "mutant" else getattr(one.violation.failure, name)
            for name in type(one.violation.failure).__slots__
        }
    ).token()
    joined = "".join(path.read_text().split('"\n    "'))
    assert token in joined
    path.write_text(joined.replace(token, sound))
    assert _pytest(path).returncode == 0


def _pytest(path):
    env = {**os.environ, "PYTHONPATH": str(TOYS)}
    # As in test_plugin.py: Hypothesis's plugin is most of the time.
    without = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", "-q", *without, path]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, cwd=path.parent
    )


WEIRD = '\x1b[31m\r\nimport os\0 \x0c\x85\u2028 \udc80 <b>&" ``` ]]> \N{SNOWMAN}'


QUOTED = r"\x1b[31m\r"


def test_whatever_the_code_under_test_says_reports_are_what_they_should_be(
    here, tmp_path, monkeypatch
):
    """A file that cannot hold it hid the whole verdict; a terminal obeyed it."""
    judge = Toy.judge
    monkeypatch.setattr(
        Toy,
        "judge",
        lambda *given: [
            Violation(one.property, WEIRD, ((WEIRD, WEIRD, WEIRD),))
            for one in judge(*given)
        ],
    )
    monkeypatch.setattr(Toy, "describe", lambda _, program: [WEIRD] * len(program))
    result = Gate(a_policy(planted=False), mutant="no-sync").run()
    assert result.verdict == "violated"
    write_outcome(result, str(tmp_path))
    texts = {
        path.name: path.read_bytes().decode()
        for path in (*tmp_path.glob("*.*"), *tmp_path.glob("tests/*"))
    }
    texts["terminal"] = render_terminal(result, "report")
    assert len(texts) == 6
    for name, text in texts.items():
        assert all(each.isprintable() or each == "\n" for each in text), name
    for name in ("terminal", "report.html", "summary.md", "junit.xml"):
        assert QUOTED.replace("[", "\\[" if name == "summary.md" else "[") in texts[
            name
        ].replace("\\\\", "\\")
    ET.fromstring(texts["junit.xml"])
    [test] = tmp_path.glob("tests/*.py")
    names = compile(texts[test.name], str(test), "exec").co_names
    assert "os" not in names


def test_files_of_an_earlier_run_do_not_stay_beside_the_new_report(here, tmp_path):
    write_outcome(Gate(a_policy(), mutant="no-sync").run(), str(tmp_path))
    assert list((tmp_path / "tests").iterdir())
    (tmp_path / "tests" / "mine.py").write_text("")
    write_outcome(Gate(a_policy(programs=24)).run(), str(tmp_path))
    assert [one.name for one in (tmp_path / "tests").iterdir()] == ["mine.py"]


def test_the_terminal_shows_no_line_beyond_eighty_columns_but_commands(here):
    for mutant in (None, "no-checksum"):
        text = render_terminal(Gate(a_policy(), mutant=mutant).run(), "out")
        lines = [one for one in text.splitlines() if not one.startswith("tornpage run")]
        assert max(map(len, lines)) <= 80
