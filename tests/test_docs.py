"""The documents say what is so: their code runs, their links lead somewhere."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("ci/*.md")])
# A block is one that prints only up to its own end.
RUNNABLE = re.compile(
    r"```python\n((?:(?!```).)*)```\n\nprints\n\n```\n(.*?)```", re.DOTALL
)


def _examples():
    for path in DOCUMENTS:
        for number, match in enumerate(RUNNABLE.finditer(path.read_text("utf-8")), 1):
            yield pytest.param(*match.groups(), id=f"{path.stem}-{number}")


def _printed(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(("code", "printed"), list(_examples()))
def test_an_example_prints_what_the_document_says(code, printed, tmp_path):
    assert _printed(code, tmp_path) == (printed, "")


def _readme_blocks():
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


def _tornpage(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "tornpage", "run", "shearbolt", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout.splitlines()


def test_the_certificate_of_the_readme_is_the_one_that_is_printed(tmp_path):
    [shown] = [body for _, body in _readme_blocks() if body.startswith("CONSISTENT")]
    # Seconds and versions are those of one machine.
    ours = re.compile(r"  (time|versions) ")
    printed = [one for one in _tornpage(tmp_path) if not ours.match(one)]
    assert [one for one in shown.splitlines() if not ours.match(one)] == printed


def test_the_story_of_the_readme_is_the_one_that_is_told(tmp_path):
    [shown] = [body for _, body in _readme_blocks() if body.startswith("BROKEN")]
    *story, replay = shown.splitlines()
    printed = _tornpage(tmp_path, "--mutant", "no-data-sync")
    begin = printed.index(story[0])
    assert printed[begin : begin + len(story)] == story
    assert printed[begin + len(story)].startswith(replay.removesuffix("..."))


def test_the_example_of_the_readme_runs(tmp_path):
    [code] = [body for _, body in _readme_blocks() if "import shearbolt" in body]
    assert _printed(code, tmp_path) == ("b'robin' b'18 g'\n", "")


def test_there_are_examples_to_run():
    assert len(list(_examples())) >= 2


def test_links_between_documents_lead_somewhere():
    wrong = []
    for path in DOCUMENTS:
        text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        wrong += [
            f"{path.name}: {target}"
            for target in targets
            if not (path.parent / target).exists()
        ]
    assert wrong == []


NAMING = [*DOCUMENTS, *(ROOT / "faultinject").rglob("*.py")]


def test_what_is_named_of_tornpage_is_there():
    wrong = []
    for path in NAMING:
        for name in re.findall(r"`(tornpage(?:\.\w+)+)`", path.read_text("utf-8")):
            try:
                pkgutil.resolve_name(name)
            except (AttributeError, ImportError):
                wrong.append((path.name, name))
    assert wrong == []


def test_the_api_reference_is_that_of_the_source():
    done = subprocess.run(
        [sys.executable, ROOT / "ci" / "api_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_test_that_a_document_names_exists():
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`",
        (ROOT / "docs" / "capabilities.md").read_text("utf-8"),
    )
    assert len(named) >= 35
    for path, name in named:
        assert f"def {name}" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"
