"""What is asked of a store, and what counts as an answer.

    KEEPS    is what a call returned from still there?
    OLD      is what was durable long before still there, if the crash comes in the
             middle of one more change?

A store module has two functions for a subject, one that stores and one that reads back,
and makes its questions of them. It imports the store when it is asked, not before: the
module can be had where the store is not installed.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Any

from tornpage.model import CrashModel
from tornpage.registry import spec_of
from tornpage.run import Plan, run
from tornpage.subject import SubjectError

if TYPE_CHECKING:
    from tornpage.certificate import Certificate
    from tornpage.functions import FunctionSubject

__all__ = ["MODELS", "Question", "answer", "keeps", "keeps_more", "old_stays"]

MODELS = ("tear=sector", "btrfs", "ext4-o", "ext4-o,tear=page")
"""Any disk; a file system that does not keep the order of names; the usual one, which
does; the same on a drive that never tears a page, which spares a file of less than
4,096 bytes every mixture of old and new."""


def keeps(acked: tuple[str, ...], in_flight: tuple[str, ...], seen: Any) -> str | None:
    """What was acknowledged is there, and nothing else but what was in flight."""
    if set(acked) <= set(seen) <= set(acked + in_flight):
        return None
    return f"{list(acked)} had been stored, {seen} is left."


def keeps_more(
    acked: tuple[str, ...], in_flight: tuple[str, ...], seen: Any
) -> str | None:
    """The same, on top of an old one."""
    return keeps(("old", *acked), in_flight, seen)


def old_stays(acked: tuple[str, ...], later: tuple[str, ...], seen: Any) -> str | None:
    """What was there before the program began is there still."""
    del acked, later
    return None if "old" in seen else f"'old' was durable, {seen} is left."


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table.

    Attributes:
        store: What is asked.
        text: The question.
        subject: The same as a subject.
        package: The module that has to be there for it, or "".
    """

    store: str
    text: str
    subject: FunctionSubject
    package: str = ""

    def can_be_asked(self) -> bool:
        """Whether the store is there, and can be run on the simulated disk."""
        if not self.package:
            return True
        if self.package == "sqlite3":
            try:
                self.subject.prepare(())
            except SubjectError:
                # SQLite is a part of the interpreter.
                return False
            return True
        return importlib.util.find_spec(self.package) is not None

    def used(self) -> str:
        """The package and its version, or ""."""
        if self.package == "sqlite3":
            return f"sqlite3 {sqlite3.sqlite_version}"
        if not self.package:
            return ""
        [name] = packages_distributions()[self.package]
        return f"{name} {version(name)}"


def answer(question: Question, model: str) -> Certificate:
    """Every crash of the question's program under a model."""
    plan = Plan(
        spec=spec_of(question.subject),
        programs=1,
        model=CrashModel.parse(model),
    )
    return run(question.subject, plan)
