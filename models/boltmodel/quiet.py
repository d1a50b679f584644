"""The engine's warnings, kept quiet where faults are what one wants.

It warns of every slot that it could not heal and of every transaction that was lost:
thousands, in a search that plants such things.

What it is not: for good. Who searches in a process of others leaves their log alone.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """While entered, the engine logs errors only."""
    logger = logging.getLogger("shearbolt")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
