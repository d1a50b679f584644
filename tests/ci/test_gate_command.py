"""The command and the action: exit status, streams, and what an interrupt leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.ci.small_gates import CI, EXAMPLES, TOYS


def gate(*arguments, cwd, timeout=200):
    return subprocess.run(
        [sys.executable, str(CI / "gate.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "CI"},
    )


@pytest.mark.thorough(rows=1)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize(
    ("redirected", "environment", "said"),
    [
        (">/dev/full", {}, "cannot be written to standard output: No space left"),
        ("", {"GITHUB_STEP_SUMMARY": "/dev/full"}, "not written: "),
    ],
)
def test_reports_that_could_not_be_written_are_one_line_and_no_pass(
    redirected, environment, said, tmp_path
):
    words = f"--subject toy_store:Toy --programs 1 --workers 1 --out {tmp_path}/out"
    (tmp_path / "pyproject.toml").write_text(
        "[tool.tornpage.gate]\nplanted = false\n", encoding="utf-8"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$0" {CI}/gate.py {words} {redirected}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOYS), **environment},
    )
    assert done.returncode == 3
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_copy_paste_example_is_consistent_and_catches_its_bugs(tmp_path):
    done = gate("--out", str(tmp_path), "--workers", "1", cwd=EXAMPLES)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "consistent"
    assert report["planted_bugs_caught"] == report["planted_bugs"] == 3
    assert report["closed"] == 1.0


def test_a_broken_example_exits_with_1_and_writes_every_report(tmp_path, monkeypatch):
    summary = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    out = tmp_path / "out"
    arguments = ("--out", str(out), "--workers", "1", "--programs", "6")
    done = gate(*arguments, "--mutant", "no-sync", cwd=EXAMPLES)
    assert done.returncode == 1
    assert done.stdout.startswith("VIOLATED")
    assert summary.read_text() == (out / "summary.md").read_text()
    suites = ET.parse(out / "junit.xml").getroot()
    assert int(suites.get("failures")) >= 1
    assert (out / "report.html").stat().st_size > 10_000
    assert len(list((out / "tests").iterdir())) == done.stdout.count("keep it away")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tier", "hourly"), "no tier 'hourly'"),
        (("--policy", "nothing.toml"), "nothing.toml"),
        (("--subject", "nowhere"), "nowhere"),
        (("--mutant", "nothing"), "no planted bug 'nothing'"),
    ],
)
def test_what_cannot_be_run_exits_with_2_and_says_why(
    tmp_path, arguments, said, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(SystemExit) as caught:
        __import__("gate").main(["--out", str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_cancelled_gate_writes_its_reports_and_is_unverifiable(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, str(CI / "gate.py"), "--tier", "nightly"),
            *("--out", str(tmp_path / "out"), "--workers", "1"),
        ],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < patience:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=90)
    assert process.returncode == 3
    assert "interrupted" in text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == "unverifiable"


def the_shell_step_of_the_action():
    lines = (CI / "action.yml").read_text().splitlines()
    begin = lines.index("      run: |") + 1
    body = []
    for line in lines[begin:]:
        if line and not line.startswith(" " * 8):
            break
        body.append(line[8:])
    return "\n".join(body)


@pytest.mark.thorough(rows=1)
@pytest.mark.parametrize(
    ("mutant", "status", "verdict"),
    [("", 0, "consistent"), ("--mutant=no-sync", 1, "violated")],
)
def test_the_action_passes_status_and_verdict_on(tmp_path, mutant, status, verdict):
    action = tmp_path / "ci"
    action.mkdir()
    # The action calls `python`; the gate behind it gets the arguments it was given.
    (action / "gate.py").write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(CI)!r})\n"
        f"sys.argv += ['--workers=1', '--programs=4', *{mutant!r}.split()]\n"
        f"runpy.run_path({str(CI / 'gate.py')!r}, run_name='__main__')\n"
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(action),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "TIER": "pr",
        "BUDGET": "",
        "POLICY": "pyproject.toml",
        "OUT": str(tmp_path / "reports"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", the_shell_step_of_the_action()],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert (tmp_path / "outputs").read_text() == f"verdict={verdict}\n"
