"""The corpus: small programs that are run before all others.

Each was the smallest found that shows some planted bug, or some bug we have had,
and is kept because no other one in the corpus shows it as cheaply. A file is one
program, named for what it does:

    {"why": "...", "ops": [["put", ["a"], "k", [1, 5]], ["commit"]], ...}

They are read in the order of their names. That order is the order in which they
are run, so that cheap ones come first by name. Those that say `"dear": true` have crash
points of some hundred recoveries: they are not in a run without options, which is to
take two seconds.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Final

from boltmodel.programs import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltmodel.programs import Program

__all__ = ["BY_NAME", "CORPUS", "DEAR"]


def _read() -> tuple[dict[str, Program], frozenset[str]]:
    found, dear = {}, set()
    for file in sorted(resources.files(__name__).iterdir(), key=lambda one: one.name):
        name, dot, kind = file.name.partition(".")
        if dot and kind == "json":
            data = json.loads(file.read_text("utf-8"))
            data.pop("why", None)
            if data.pop("dear", False):
                dear.add(name)
            try:
                found[name] = decode(data)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from None
    return found, frozenset(dear)


_FOUND, _DEAR = _read()

BY_NAME: Final[Mapping[str, Program]] = _FOUND
"""The programs by the names of their files."""

CORPUS: Final[tuple[Program, ...]] = tuple(
    program for name, program in _FOUND.items() if name not in _DEAR
)
"""The same, in order, but for the dear ones."""

DEAR: Final[tuple[Program, ...]] = tuple(_FOUND[name] for name in sorted(_DEAR))
"""The dear ones, in order."""
