"""persist-queue, its queue in files."""

from __future__ import annotations

import contextlib
import importlib
import pickle
from typing import TYPE_CHECKING, Any

from ci.other_stores.question import Question, keeps_more, old_stays

from tornpage.functions import FunctionSubject, subject_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def put_items(root: str, work: Sequence[str], ack: Callable[[Any], None]) -> None:
    """Put one item after the other."""
    queue = importlib.import_module("persistqueue").Queue(f"{root}/queue")
    for item in work:
        queue.put(item)
        ack(item)


def get_items(root: str) -> list[Any]:
    """All that are in it, up to the first that cannot be had."""
    queue = importlib.import_module("persistqueue").Queue(f"{root}/queue")
    found = []
    with contextlib.suppress(EOFError, pickle.UnpicklingError):
        for _ in range(queue.qsize()):
            found.append(queue.get_nowait())  # noqa: PERF401 - what came before stays.
    return found


def _queue(
    name: str, check: Callable[[tuple[str, ...], tuple[str, ...], Any], str | None]
) -> FunctionSubject:
    return subject_from(
        name,
        run=put_items,
        recover=get_items,
        check=check,
        work=["new"],
        files=lambda root: put_items(root, ["old"], lambda _: None),
        root="/db",
    )


QUEUE_KEEPS = _queue("QUEUE_KEEPS", keeps_more)
QUEUE_OLD = _queue("QUEUE_OLD", old_stays)
QUESTIONS = (
    Question(
        "persist-queue", "after `put()`, a crash keeps it", QUEUE_KEEPS, "persistqueue"
    ),
    Question(
        "persist-queue",
        "putting one, a crash keeps the old ones",
        QUEUE_OLD,
        "persistqueue",
    ),
)
