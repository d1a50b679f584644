"""Hypothesis answers the disk's questions: crashes that shrink with the test.

    class Machine(RuleBasedStateMachine):
        @rule(data=st.data())
        def crash(self, data):
            self.disk = self.disk.crash(Drawn(data))

Alternative 0 is the honest one and integers shrink towards 0, so what Hypothesis
reports at the end is an honest disk everywhere except where it has to be otherwise.

A crash under a weak model may take longer than Hypothesis allows an example, 200 ms:
`settings(deadline=None)`. `print_blob=True` prints what plays a failure again.

What it is not: it is not exhaustive. A crash drawn here is one of the many that the
explorer covers at the same point; what Hypothesis adds is the workload around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hypothesis import strategies as st

from tornpage.choices import Choice, format_label

if TYPE_CHECKING:
    from tornpage.choices import Label, Tape

__all__ = ["Drawn"]


class _Data(Protocol):
    """What `hypothesis.strategies.data()` gives."""

    def draw(self, strategy: st.SearchStrategy[int], label: object = None) -> int:
        """Draw a value and note it under a label."""
        ...


class Drawn:
    """A chooser whose answers Hypothesis draws.

    Args:
        data: What `strategies.data()` gave the test.
        quiet: Do not note each choice in the report of a failing example; for
            recoveries that ask thousands of questions.
    """

    def __init__(self, data: _Data, *, quiet: bool = False) -> None:
        self._data = data
        self._quiet = quiet
        self._log: list[Choice] = []

    @property
    def log(self) -> list[Choice]:
        """The choices of this execution, in order."""
        return list(self._log)

    @property
    def tape(self) -> Tape:
        """The answers alone."""
        return tuple(choice.picked for choice in self._log)

    @property
    def asked(self) -> int:
        """How many choices this execution has made."""
        return len(self._log)

    def choose(self, n: int, label: Label) -> int:
        """Draw one of `n` alternatives."""
        note = None if self._quiet else format_label(label)
        picked = self._data.draw(st.integers(0, n - 1), label=note)
        self._log.append(Choice(picked, n, label))
        return picked
