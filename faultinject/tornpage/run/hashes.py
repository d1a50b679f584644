"""Whether a program does other things where its strings hash otherwise.

The order of a set of strings, and `hash`, are others in each process, unless
PYTHONHASHSEED is set. A store that goes by them does the same twice in one process,
and something else in the next:

    worker, PYTHONHASHSEED=1    program --> record
    worker, PYTHONHASHSEED=2    program --> record, the same?

What it is not: a proof that it does not. Two seeds may order a small set alike.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from tornpage.certificate.as_json import from_json
from tornpage.run.pool import Answer, Pool, PoolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornpage.certificate.record import ProgramRecord
    from tornpage.run.programs import Plan

__all__ = ["differing"]

# A set of two strings is ordered alike under all four in one of eight cases.
_SEEDS: Final = ("1", "2", "3", "4")
_WAIT_SECONDS: Final = 1.0


def differing(plan: Plan, tasks: Iterable[dict[str, Any]]) -> list[bool]:
    """Of each program whether it is another one under other seeds of hashes.

    Args:
        plan: How to run it. Its spec is where the subject is found.
        tasks: The programs, as a worker takes them (`tornpage.run.worker`).
    """
    wanted = [*tasks]
    if not wanted:
        return []
    found = [_under(seed, plan, wanted) for seed in _SEEDS]
    return [
        any(one != first for one in others if None not in {one, first})
        for first, *others in zip(*found, strict=True)
    ]


def _under(
    seed: str, plan: Plan, tasks: list[dict[str, Any]]
) -> list[ProgramRecord | None]:
    """What each program has in a certificate; None: it has nothing."""
    with ExitStack() as stack:
        try:
            pool = stack.enter_context(
                Pool(plan, 1, environment={"PYTHONHASHSEED": seed})
            )
            return [_record(pool, task) for task in tasks]
        except PoolError:
            return [None] * len(tasks)


def _record(pool: Pool, task: dict[str, Any]) -> ProgramRecord | None:
    while not pool.idle():
        pool.wait(_WAIT_SECONDS)
    pool.give(task)
    while True:
        for event in pool.wait(_WAIT_SECONDS):
            if not isinstance(event, Answer):
                return None
            records = from_json(event.data["certificate"]).records
            return records[0] if records else None
