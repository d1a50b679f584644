"""A name that a file can have can be given to a copy: also one as long as can be."""

import os
import sys

import pytest

import shearbolt
from shearbolt.command import main
from shearbolt.database.copy import name_beside
from shearbolt.salvage import repair
from shearbolt.surgery import abandon_freelist

LONG = ["n" * 255, "n" * 240, "\u00e4" * 127, "n" * 200]


def test_a_name_beside_is_the_name_and_an_ending_where_both_have_room():
    assert name_beside("a/b.db", ".part") == os.path.join("a", "b.db.part")
    assert name_beside("b.db", ".part") == "b.db.part"


@pytest.mark.parametrize("name", LONG)
def test_a_name_beside_is_no_longer_than_a_name_can_be_and_its_own(name):
    beside = name_beside(os.path.join("d", name), ".part-123-0")
    folder, made = os.path.split(beside)
    assert folder == "d"
    assert made.endswith(".part-123-0")
    assert len(os.fsencode(made)) <= 255
    assert beside != name_beside(os.path.join("d", name[:-1] + "x"), ".part-123-0")


@pytest.mark.skipif(sys.platform == "win32", reason="a whole path has 260 there")
@pytest.mark.parametrize("name", ["n" * 255, "\u00e4" * 127])
def test_whatever_makes_a_file_makes_one_with_the_longest_name(name, db, tmp_path):
    with db.update() as tx:
        tx.create_bucket(b"b")[b"k"] = b"v"
    target = str(tmp_path / name)
    with db.view() as tx:
        tx.copy_file(target)
    db.close()
    source = str(tmp_path / "test.db")
    makers = [
        lambda: repair(source, target),
        lambda: abandon_freelist(source, target),
        lambda: main(["compact", "-o", target, source]),
    ]
    for make in makers:
        os.unlink(target)
        make()
        assert sorted(os.listdir(tmp_path)) == sorted(["test.db", name])
    with shearbolt.open(target, read_only=True) as copy, copy.view() as tx:
        assert tx.bucket(b"b")[b"k"] == b"v"
