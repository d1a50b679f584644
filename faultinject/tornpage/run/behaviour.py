"""What a program made happen, as a set of names: behaviour coverage.

Lines of code say little about a storage engine: a handful of programs reaches all of
them. What matters is in which state a line is reached, and what was going on around
it. So coverage here is a set of *features*, short strings, of these families:

    program  put>commit            two kinds of operation one after the other
    disk     write>fdatasync>write three kinds of disk operation, repeats folded
    crash    inside fdatasync      a crash point that was closed
    fault    torn inside fdatasync a dishonest choice some execution made there
    size     2^6 crash points      how large it was, in powers of two
    script   unmet                 no call met a fault of a script
    threads  several               more than one used the disk, in the run or a recovery
    subject  (its own words)       what `features(history)` of the subject
                                   says, when it has that method: page shapes

A program is worth keeping when it shows a feature that no smaller program shows
(`corpus`). A subject may name features that every run worth its name shows at least
once, in `sometimes`; a run that never saw one of them is suspicious, and says so
before it says anything else. The idea of such assertions is FoundationDB's.

What it is not: a measure of quality. Two runs with the same features need not be
equally good; a run without a feature has certainly not tested it.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from tornpage.certificate.record import FAULTS_UNMET, SEVERAL_THREADS
from tornpage.extras import extras_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tornpage.explore.explorer import Closure
    from tornpage.run.experiment import Experiment
    from tornpage.subject import Subject

__all__ = ["Behaviour", "sometimes"]


def sometimes(subject: Subject) -> tuple[str, ...]:
    """Features that a subject wants to see at least once in any run, sorted.

    They are given without their family's name: they are the subject's own.
    """
    return tuple(sorted(f"subject {name}" for name in extras_of(subject).sometimes))


class Behaviour:
    """The features of one program, gathered while its crash points are closed.

    Args:
        experiment: The program.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._features = set(_program(experiment))
        self._points = 0
        self._closed: set[str] = set()

    def closure(self, where: str, closure: Closure, faults: Mapping[str, int]) -> None:
        """Take in one crash point, its place as a kind, and its executions' faults."""
        self._points += 1
        if not closure.closed:
            return
        self._closed.add(where)
        if faults:
            self._features.update(f"fault {kind} {where}" for kind in faults)

    def features(self) -> frozenset[str]:
        """What was seen so far."""
        size = f"size 2^{self._points.bit_length()} crash points"
        several = (SEVERAL_THREADS,) if self._experiment.several_threads else ()
        unmet = (FAULTS_UNMET,) if self._experiment.faults_unmet else ()
        crashes = (f"crash {where}" for where in self._closed)
        return frozenset((*self._features, *crashes, size, *several, *unmet))


def _program(experiment: Experiment) -> Iterable[str]:
    described = experiment.subject.describe(experiment.program)
    words = [line.split(None, 1)[0] for line in described if line.strip()]
    for first, second in pairwise(words):
        yield f"program {first}>{second}"
    kinds = [kind for kind, _ in groupby(experiment.operation_kinds())]
    for at in range(len(kinds) - 2):
        yield "disk " + ">".join(kinds[at : at + 3])
    own = extras_of(experiment.subject).features
    if own is not None and experiment.explorer is not None:
        for name in own(experiment.history):
            yield f"subject {name}"
