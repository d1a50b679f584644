"""The corpus: small programs that are run before all others.

Each was the smallest found that shows some planted bug, or some bug we have had,
and is kept because no other one in the corpus shows it as cheaply. A file is one
program, named for what it does:

    {"why": "...", "ops": [["put", ["a"], "k", [1, 5]], ["commit"]], ...}

They are read in the order of their names. That order is the order in which they
are run, so that cheap ones come first by name.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Final

from boltmodel.programs import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltmodel.programs import Program

__all__ = ["BY_NAME", "CORPUS"]


def _read() -> dict[str, Program]:
    found = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda one: one.name):
        name, dot, kind = file.name.partition(".")
        if dot and kind == "json":
            data = json.loads(file.read_text("utf-8"))
            data.pop("why", None)
            try:
                found[name] = decode(data)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from None
    return found


BY_NAME: Final[Mapping[str, Program]] = _read()
"""The programs by the names of their files."""

CORPUS: Final[tuple[Program, ...]] = tuple(BY_NAME.values())
"""The same, in order."""
