"""Programs as data: JSON both ways, words for people, smaller ones."""

import json
from typing import get_args

import pytest

from boltmodel.generate import Universe, generate, universe_of
from boltmodel.model import Bucket
from boltmodel.programs import (
    ENDINGS,
    PAGE_SIZES,
    Commit,
    Fill,
    Operation,
    Program,
    Put,
    Scan,
    SetSequence,
    Thin,
    Value,
    decode,
    describe,
    encode,
    fill_key,
    value_bytes,
)
from boltmodel.simplify import simplify, weight
from boltmodel.subject import ShearboltSubject
from tornpage.disk import Disk

SEEDS = range(200)
PROGRAMS = [generate(seed) for seed in SEEDS]


def test_json_gives_the_same_program_back():
    for program in PROGRAMS[:60]:
        assert decode(json.loads(json.dumps(encode(program)))) == program


def test_a_long_padded_key_is_short_in_json():
    program = Program((Put((b"a",), b"k".ljust(32769, b"."), Value(1, 5)),))
    text = json.dumps(encode(program))
    assert len(text) < 80
    assert decode(json.loads(text)) == program


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], 'list "ops"'),
        ({}, 'list "ops"'),
        ({"ops": [], "colour": 1}, "unknown program option: colour"),
        ({"ops": [["fly"]]}, "operation 0: unknown operation 'fly'"),
        ({"ops": [["put", ["a"], "k"]]}, "takes 3 fields"),
        ({"ops": [["put", [], "k", [1, 2]]]}, "list of bucket names"),
        ({"ops": [["put", ["a"], "k", [1, -2]]]}, "from 0 on"),
        ({"ops": [["put", ["a"], "\u20ac", [1, 2]]]}, "latin-1"),
        ({"ops": [["commit"], ["put", ["a"], 5, [1, 2]]]}, "operation 1: bytes"),
        ({"ops": [["thin", ["a"], "", 0, 1]]}, "at least 1"),
        ({"ops": [["thin", ["a"], None, 1, 1]]}, "starts at a key"),
        ({"ops": [["scan", ["a"], None, None, 1]]}, "true or false"),
        ({"ops": [], "page_size": 1000}, "page_size"),
        ({"ops": [], "freelist_type": "tree"}, "freelist_type"),
        ({"ops": [], "no_freelist_sync": 1}, "no_freelist_sync"),
        ({"ops": [], "in_bulk": 1}, "in_bulk must be true or false"),
        ({"ops": ["commit"]}, "operation 0: an operation is a list"),
        ({"ops": [], "fill_percent": 5}, "from 10 to 100"),
        ({"ops": [], "faults": 3}, "faults are text"),
        ({"ops": [], "faults": "pwrite"}, "no fault"),
        ({"ops": [], "ending": "weep"}, "ending must be one of"),
    ],
)
def test_what_is_no_program_is_refused_with_the_place(data, message):
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(")):
        decode(data)


def test_values_are_determined_and_differ_in_every_sector():
    one, two = value_bytes(Value(1, 5000)), value_bytes(Value(2, 5000))
    assert len(one) == len(two) == 5000
    assert one == value_bytes(Value(1, 5000))
    sectors = [one[i : i + 512] for i in range(0, 4608, 512)]
    assert len(set(sectors)) == len(sectors)
    others = [two[i : i + 512] for i in range(0, 4608, 512)]
    assert all(a != b for a, b in zip(sectors, others, strict=True))
    assert value_bytes(Value(3, 0)) == b""


def test_fill_keys_ascend_with_their_numbers():
    keys = [fill_key(number) for number in range(0, 99999, 997)]
    assert keys == sorted(keys)


def test_there_is_one_line_for_people_per_operation():
    for program in PROGRAMS:
        lines = describe(program)
        assert len(lines) == len(program.operations) + bool(program.faults)
        assert all(line and "\n" not in line for line in lines)


def test_the_same_seed_gives_the_same_program():
    assert [generate(seed) for seed in SEEDS] == PROGRAMS


def test_the_generator_uses_every_operation_and_option():
    kinds = {type(op) for program in PROGRAMS for op in program.operations}
    assert kinds == set(get_args(Operation))
    assert {1024, 4096} <= {program.page_size for program in PROGRAMS}
    assert {program.freelist_type for program in PROGRAMS} == {"array", "hashmap"}
    assert {program.no_freelist_sync for program in PROGRAMS} == {True, False}
    assert {10, 50, 100} <= {program.fill_percent for program in PROGRAMS}
    for name in ("in_bulk", "small_cache", "reads_ahead"):
        assert {getattr(program, name) for program in PROGRAMS} == {True, False}
    faulty = [program for program in PROGRAMS if program.faults]
    assert 0 < len(faulty) < len(PROGRAMS) / 3
    assert {program.ending for program in faulty} == set(ENDINGS)
    killed = [
        program for program in map(generate, range(400)) if "=kill" in program.faults
    ]
    assert 5 < len(killed) < 400 / 10
    # What is found at a takeover needs a kill and several syncs that then fail.
    assert {program.faults.count("sync#") for program in killed} >= {1, 2, 3, 4}


def test_the_generator_goes_to_the_borders():
    programs = [generate(seed) for seed in range(600)]
    lengths = {
        op.value.length
        for program in programs
        for op in program.operations
        if isinstance(op, Put) and program.page_size == 4096
    }
    # Inline limit and its neighbour, whole pages, overflow.
    assert {991, 992, 1024, 4096, 12288} <= lengths
    assert max(len(op.path) for p in programs for op in p.operations if _path(op)) >= 3


def test_programs_differ_in_which_operations_they_have():
    """Swarm testing: most programs lack most kinds."""
    kinds = [frozenset(map(type, p.operations)) for p in PROGRAMS]
    assert len(set(kinds)) > 100
    assert sum(len(k) <= 8 for k in kinds) > 100


def test_a_given_universe_is_used():
    root = Bucket(
        {b"conf": Bucket({b"x": b"1", b"sub": Bucket({b"y": b"2"})})}
    ).freeze()
    universe = universe_of(root, 3)
    assert (b"conf",) in universe.paths
    assert (b"conf", b"sub") in universe.paths
    assert {b"x", b"y"} <= set(universe.keys)
    named = {
        op.path
        for s in range(20)
        for op in generate(s, universe).operations
        if _path(op)
    }
    # Idioms make one bucket of their own.
    own = {path for path in named if path[-1] == b"moved"}
    assert named - own <= set(universe.paths)
    assert (b"conf", b"sub") in named


def test_a_universe_is_never_empty():
    empty = universe_of(Bucket().freeze(), 1)
    assert isinstance(empty, Universe)
    assert empty.paths
    assert empty.keys


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_simpler_programs_are_strictly_smaller(seed):
    program = PROGRAMS[seed]
    candidates = list(simplify(program))
    assert candidates
    assert all(weight(c) < weight(program) for c in candidates)
    assert all(decode(encode(c)) == c for c in candidates)


def test_simplify_reaches_a_single_small_operation():
    """With an oracle that needs one write in bucket 'b', all else goes."""

    def fails(program):
        return any(_path(op) and op.path[0] == b"b" for op in program.operations)

    program = Program(
        (
            Put((b"a",), b"key", Value(1, 100)),
            Commit(),
            Fill((b"b", b"c"), 10, 40, 2, Value(2, 60)),
            Thin((b"a",), b"zz", 3, 5),
            Scan((b"a",), None, None, reverse=True),
            SetSequence((b"a",), 9),
            Commit(),
        ),
        page_size=1024,
        freelist_type="hashmap",
        no_freelist_sync=True,
    )
    while (smaller := next(filter(fails, simplify(program)), None)) is not None:
        program = smaller
    assert program == Program((Put((b"b",), b"k", Value(2, 5)),))


def test_a_fault_moves_with_the_operations_before_it():
    """The call that has to fail comes earlier when less is done before it."""

    def fails(program):
        # As if every operation made one call, and the last one's had to fail.
        return program.faults == f"pwrite#{len(program.operations)}=EIO"

    program = Program((Commit(),) * 5, faults="pwrite#5=EIO", ending="kill")
    while (smaller := next(filter(fails, simplify(program)), None)) is not None:
        program = smaller
    assert program == Program((Commit(),), faults="pwrite#1=EIO")


def test_a_program_with_faults_is_run_with_them_and_judged_with_them():
    subject = ShearboltSubject()
    put = Put((b"a",), b"k", Value(1, 5))
    faulty = Program((put, Commit()), faults="fdatasync#4=EIO", ending="reopen")
    history = subject.run(faulty, Disk())
    assert history.errors == ["StorageError"]
    assert subject.live_violations(history) == ()
    assert "while fdatasync#4=EIO" in subject.describe(faulty)[-1]


def test_page_sizes_are_powers_of_two():
    assert all(size & (size - 1) == 0 for size in PAGE_SIZES)


def _path(op):
    return getattr(op, "path", None)
