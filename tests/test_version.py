"""One distribution, one version."""

import tomllib
from pathlib import Path

import shearbolt
import tornpage

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_the_packages_have_the_version_of_the_distribution():
    version = tomllib.loads(PROJECT.read_text())["project"]["version"]
    assert (shearbolt.__version__, tornpage.__version__) == (version, version)
