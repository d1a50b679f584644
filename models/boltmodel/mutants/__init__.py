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
    failures     what is done when a call to the system fails
    space        which pages are written, and since when
    recovery     what is believed when a database is opened
    trees        how nodes are cut, merged and searched
    bulk         many pairs at once, and bytes read ahead
    buckets      what is in buckets, below them, and where they hang
    cursors      walking, and what a transaction shows

    plant        how one is planted and taken out again
    shown        which program shows which

Those of `threads` are not in `MUTANTS`: what shows them is `boltmodel.lanes.threads`.
Nor are those of `kernels`: a real file system does.

What it is not: random mutation of source code. Each of these has a history, or
is a mistake that this kind of code invites. Bugs that nothing can show, because
the engine is safe against them in another place, are not here; they are argued
in `docs/museum.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltmodel.mutants import (
    buckets,
    bulk,
    cursors,
    durability,
    failures,
    recovery,
    space,
    trees,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from boltmodel.mutants.plant import Mutant

__all__ = ["MUTANTS", "mutant"]

MUTANTS: Final[Mapping[str, Mutant]] = {
    bug.name: bug
    for module in (
        durability,
        failures,
        space,
        recovery,
        trees,
        bulk,
        buckets,
        cursors,
    )
    for bug in module.MUTANTS
}


def mutant(name: str) -> AbstractContextManager[None]:
    """While entered, the engine has the planted bug of this name.

    Raises:
        KeyError: There is none of this name.
    """
    return MUTANTS[name].plant()
