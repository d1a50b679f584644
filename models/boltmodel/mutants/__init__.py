"""Planted bugs: the test of the testers.

Theory
======
A crash tester that reports nothing has found nothing or is broken. So the
engine is given bugs that storage engines have really had, one at a time, and
each must be found.

    with mutant("no-data-sync"):
        ...                       the engine has the bug here
                                  and not any more here

The engine carries no switch for them. A mutant replaces methods or functions
of the engine's modules while its block lasts and puts the originals back,
whatever happens inside. It is a bug of the engine only: the disk, the model
and the contract are untouched.

    durability   what is synced, when, and in which order
    space        which pages are written, and since when
    recovery     what is believed when a database is opened
    trees        what stands in buckets and nodes

What it is not: random mutation of source code. Each of these has a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltmodel.mutants import durability, recovery, space, trees

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from boltmodel.mutants.plant import Mutant

__all__ = ["MUTANTS", "mutant"]

MUTANTS: Final[Mapping[str, Mutant]] = {
    bug.name: bug
    for module in (durability, space, recovery, trees)
    for bug in module.MUTANTS
}


def mutant(name: str) -> AbstractContextManager[None]:
    """While entered, the engine has the planted bug of this name.

    Raises:
        KeyError: There is none of this name.
    """
    return MUTANTS[name].plant()
