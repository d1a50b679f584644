"""Shapes of pages: what a run went through, read off what it wrote."""

import pytest

from boltmodel.corpus import BY_NAME
from boltmodel.features import SOMETIMES, features, never_seen
from boltmodel.programs import (
    Commit,
    CreateBucket,
    DeleteBucket,
    Fill,
    Program,
    Put,
    Reopen,
    Thin,
    Value,
)
from boltmodel.subject import ShearboltSubject
from tornpage.disk import Disk

A = (b"a",)
AB = (b"a", b"b")
SMALL = (Put(A, b"k", Value(1, 5)), Commit())
LARGE = (Put(A, b"k", Value(2, 9000)), Commit())
MANY = (Fill(A, 0, 60, 1, Value(3, 60)), Commit())


def seen(*operations, **options):
    subject = ShearboltSubject()
    history = subject.run(Program(tuple(operations), **options), Disk())
    return subject.features(history)


@pytest.mark.parametrize(
    ("feature", "operations", "without"),
    [
        ("inline bucket", SMALL, ()),
        ("overflow leaf", LARGE, SMALL),
        ("inline to pages", (*SMALL, *LARGE), LARGE),
        ("pages to inline", (*LARGE, *SMALL), SMALL),
        ("depth 2", MANY, LARGE),
        ("leaf split", (*LARGE, *MANY), MANY),
        ("tree grows a level", (*LARGE, *MANY), MANY),
        ("leaves merged", (*MANY, Thin(A, b"", 2, 50), Commit()), MANY),
        ("tree loses a level", (*MANY, Thin(A, b"", 2, 50), Commit()), MANY),
        ("bucket deleted", (*SMALL, DeleteBucket(A), Commit()), SMALL),
        ("empty bucket", (CreateBucket(A), Commit()), SMALL),
        ("nesting 2", (Put(AB, b"k", Value(1, 5)), Commit()), SMALL),
        ("page used again", (*LARGE, *LARGE, *LARGE), ()),
        ("file grows", SMALL, ()),
        ("reopened", (*SMALL, Reopen()), SMALL),
    ],
)
def test_a_feature_is_seen_where_it_happens_and_only_there(
    feature, operations, without
):
    assert feature in SOMETIMES
    assert feature in seen(*operations)
    assert feature not in seen(*without)


def test_a_database_without_a_freelist_page_is_told_from_one_with_it():
    assert "no freelist" in seen(*SMALL, no_freelist_sync=True)
    assert "no freelist" not in seen(*SMALL)


def test_the_corpus_alone_shows_every_shape():
    subject = ShearboltSubject()
    found = set()
    for program in BY_NAME.values():
        history = subject.run(program, Disk())
        found |= subject.features(history)
    assert never_seen(found) == []


def test_what_was_never_seen_is_named():
    assert "depth 3" in never_seen({"depth 2"})
    assert "depth 2" not in never_seen({"depth 2"})


def test_features_of_an_older_run_are_not_those_of_the_last():
    subject = ShearboltSubject()
    old = subject.run(Program(SMALL), Disk())
    subject.run(Program(MANY), Disk())
    assert subject.features(old) == frozenset()


def test_a_trace_of_damaged_pages_ends_without_an_error():
    disk = Disk()
    ShearboltSubject().run(Program(MANY), disk)
    records = [one for one in disk.trace if getattr(one, "offset", 0) != 16384]
    assert isinstance(features(records), frozenset)
