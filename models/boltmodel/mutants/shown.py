"""Which program of the corpus shows each planted bug, and in which lane.

Recorded, by `python -m boltmodel.lanes.museum --record FILE`, so that a search may
begin where it will end. Tests see that every bug is here and is found there.

What it is not: a promise. Whoever searches goes on with all other programs when the
recorded one shows nothing.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SHOWN"]

SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    name: (lane, program)
    for name, (lane, program) in json.loads(
        resources.files(__package__).joinpath("shown.json").read_text("utf-8")
    ).items()
}
"""By planted bug: the lane of the museum and the program that show it first."""
