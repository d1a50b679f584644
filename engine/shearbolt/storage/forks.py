"""What a forked child is told: that the open handles are its parent's.

A child has copies of all objects. Nothing in a copied transaction shows that it is one,
and asking for the process id in every `get` would cost a third of it. Python calls back
in the child before anything else runs there, so each handle that is open is told then.

A child that is made behind Python's back is not told. What begins anything asks for the
process id, see `DB.require_open`.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Heir", "tell_in_child"]


class Heir(Protocol):
    """What a child inherits and must not use."""

    def in_child(self) -> None:
        """This process may be a child of the one it was made in."""
        ...


_open: WeakSet[Heir] = WeakSet()


def tell_in_child(heir: Heir) -> None:
    """Call its `in_child` in every child process from now on."""
    _open.add(heir)


def _in_child() -> None:
    for heir in list(_open):
        heir.in_child()


# Where there are no forks there is nothing to register with.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
