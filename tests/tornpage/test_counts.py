"""What a certificate counts is counted once: contents of an atom, faults of a point."""

import pytest

from boltmodel.subject import ShearboltSubject
from tornpage.choices import Choice
from tornpage.model import CrashModel
from tornpage.platter.cell import Cell
from tornpage.run import Experiment

BYTES = CrashModel.parse("tear=byte")


def test_three_contents_of_an_atom_have_as_many_mixtures_as_can_be_built():
    contents = tuple(bytes([n]) * 4 + bytes(508) for n in (1, 2, 3))
    built = {a[:k] + b[k:] for a in contents for b in contents for k in range(513)}
    cell = Cell(contents, (-1, 4, 7), BYTES)
    assert cell.count() == len(built)
    assert round(2 ** cell.bits()) == len(built)


def test_faults_that_were_taken_are_not_taken_again():
    subject = ShearboltSubject()
    made = Experiment(subject, subject.generate(3), BYTES, cap=400)
    taken = []
    assert not list(made.sweep(lambda _: taken.append(made.take_faults())))
    assert any(taken)
    assert not made.take_faults()


@pytest.mark.parametrize("take", [Experiment.take_faults, Experiment.take_branching])
def test_what_was_taken_is_not_changed_by_what_comes_later(take):
    """One that was empty was the counter itself, and grew with the next point."""
    subject = ShearboltSubject()
    made = Experiment(subject, subject.generate(3), BYTES, cap=400)
    before = take(made)
    for _ in range(99):
        made._chosen.note([Choice(1, 2, ("torn",))])
    assert not before
    assert take(made)
