"""The documents say what is so: their code runs, their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("ci/*.md")])
RUNNABLE = re.compile(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", re.DOTALL)


def _examples():
    for path in DOCUMENTS:
        for number, match in enumerate(RUNNABLE.finditer(path.read_text("utf-8")), 1):
            yield pytest.param(*match.groups(), id=f"{path.stem}-{number}")


@pytest.mark.parametrize(("code", "printed"), list(_examples()))
def test_an_example_prints_what_the_document_says(code, printed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (printed, "")


def test_there_are_examples_to_run():
    assert len(list(_examples())) >= 2


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


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
