"""A subject from three functions is a subject like any other."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import random
import sys
import threading
from collections import deque
from types import ModuleType

import pytest

from tornpage.command import main
from tornpage.disk import Disk
from tornpage.extras import extras_of
from tornpage.functions import FunctionSubject, subject_from
from tornpage.model import CrashModel
from tornpage.registry import load, spec_of
from tornpage.run import Experiment, Plan, run
from tornpage.seen import Seen, key_of
from tornpage.subject import SubjectError

PATH = "/notes"


def add(disk, work, ack, *, sync=True):
    file = disk.open(PATH, create=True)
    disk.fsync_dir(PATH)
    for at, one in enumerate(work):
        file.pwritev([one.encode()], at)
        if sync:
            file.fdatasync()
        ack(one)


def read(disk):
    if not disk.exists(PATH):
        return []
    file = disk.open(PATH)
    return list(file.pread(file.size(), 0).decode().strip("\0"))


def whole(acked, in_flight, seen):
    if tuple(seen) in {acked, acked + in_flight}:
        return None
    return f"{acked} and perhaps {in_flight} are not {seen}"


GOOD = subject_from("GOOD", run=add, recover=read, check=whole, work=["a", "b", "c"])
BAD = subject_from(
    "BAD",
    run=lambda disk, work, ack: add(disk, work, ack, sync=False),
    recover=read,
    check=whole,
    work=["a", "b", "c"],
)


def _run(subject, **more):
    return run(subject, Plan(spec=spec_of(subject), programs=1, **more))


def test_what_syncs_is_consistent_and_what_does_not_is_violated():
    assert _run(GOOD).verdict == "consistent"
    assert _run(BAD).verdict == "violated"


def test_at_every_crash_check_gets_what_was_acknowledged_and_what_came_next():
    asked = set()

    def noting(acked, in_flight, seen):
        asked.add((acked, in_flight))

    subject = subject_from("S", run=add, recover=read, check=noting, work=["a", "b"])
    list(Experiment(subject, ("a", "b"), CrashModel(), cap=100).sweep())
    assert asked == {((), ("a",)), (("a",), ("b",)), (("a", "b"), ())}


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/store/pager.py", "pager.py"),
        # Of every package there is one of this name.
        ("/store/pager/__init__.py", "pager/__init__.py"),
    ],
)
def test_plumbing_is_not_blamed_for_what_passes_through_it(file, shown):
    pager = {}
    text = "def put(disk): disk.open('/x', create=True).pwritev([b'a'], 0)"
    exec(compile(text, file, "exec"), pager)

    def adding(disk, work, ack):
        pager["put"](disk)

    def sites(*plumbing):
        subject = subject_from(
            "S", run=adding, recover=read, check=whole, work=["a"], plumbing=plumbing
        )
        experiment = Experiment(subject, ("a",), CrashModel(), cap=10)
        return {one.site.partition(":")[0] for one in experiment.operations}

    assert sites() == {shown}
    assert sites("other/__init__.py", "__init__.py") == {shown}
    assert sites(shown) == {"test_patch_functions.py"}
    # Where all lines of a store are plumbing, those that called it are none of its.
    assert sites(shown, "test_patch_functions.py") == {shown}


def linking(root, *, swallows):
    try:
        os.symlink(f"{root}/a", f"{root}/b")
    except Exception:
        if not swallows:
            raise
    return []


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("where", ["run", "recover"])
def test_a_call_that_is_not_simulated_is_no_broken_promise(where, swallows):
    """It is no kept one either, whatever the store makes of it."""
    subject = subject_from(
        "LINKING",
        run=lambda root, work, ack: (
            pathlib.Path(root, "a").write_bytes(b"1"),
            where == "run" and linking(root, swallows=swallows),
        ),
        recover=lambda root: where == "recover" and linking(root, swallows=swallows),
        check=lambda acked, in_flight, seen: None,
        work=["a"],
        root="/db",
    )
    certificate = _run(subject)
    assert certificate.verdict == "unverifiable"
    assert "os.symlink('/db/a', '/db/b')" in certificate.doubts()[0]
    assert "the simulated disk has no such call" in certificate.doubts()[0]


def test_a_subject_is_found_again_by_the_name_it_was_given(monkeypatch):
    assert spec_of(GOOD) == f"{__name__}:GOOD"
    monkeypatch.setitem(__import__("sys").modules, "three_functions", _module())
    assert load("three_functions:GOOD") is GOOD


def _module():
    class Module:
        """What the registry imports."""

    Module.GOOD = GOOD
    return Module


def test_the_replay_command_of_a_failure_breaks_the_same_promise(
    monkeypatch, capsys, elsewhere
):
    source = """
from tornpage.functions import subject_from

def add(disk, work, ack):
    disk.open("/x", create=True).pwritev([b"1"], 0)
    ack(1)

def read(disk):
    return disk.exists("/x")

def check(acked, in_flight, seen):
    return "lost" if acked and not seen else None

LOST = subject_from("LOST", run=add, recover=read, check=check, work=[1])
"""
    (elsewhere / "lost_subject.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(elsewhere)
    lost = load("lost_subject:LOST")
    assert spec_of(lost) == "lost_subject:LOST"
    story = _run(lost).violations[0].story
    command = next(line for line in story.splitlines() if "--replay" in line)
    assert main(command.split()[1:]) == 1
    assert "lost" in capsys.readouterr().out


def test_a_name_that_no_variable_can_have_is_refused():
    with pytest.raises(ValueError, match="variable"):
        subject_from("a b", run=add, recover=read, check=whole, work=[])


def test_work_that_is_drawn_is_that_of_its_seed_and_travels_as_json():
    subject = subject_from(
        "S", run=add, recover=read, check=whole, work=lambda draw: [draw.random()]
    )
    assert subject.generate(3) == (random.Random(3).random(),) == subject.generate(3)
    assert subject.generate(3) != subject.generate(4)
    program = subject.generate(5)
    encoded = json.loads(json.dumps(subject.encode(program)))
    assert subject.decode(encoded) == program
    with pytest.raises(ValueError, match="list"):
        subject.decode({})


def test_things_seen_are_told_apart_and_equal_things_are_not():
    values = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 2}, {1: 3}, None, [[1]]]
    values += [0.0, -0.0, [0.0, -0.0], [-0.0, 0.0], 0j, -0j]
    assert len({key_of(one) for one in values}) == len(values)
    assert Seen(key_of({1: 2, 3: 4}), 0) == Seen(key_of({1: 2, 3: 4}), 1)
    assert hash(key_of({1: [2, {3}], "x": bytearray(b"4")}))


def test_an_order_that_a_crash_loses_is_found_in_a_dict():
    # Dicts are equal in any order, but a check may look at it.
    def remember(root, work, ack):
        file = os.open(f"{root}/log", os.O_RDWR | os.O_CREAT)
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        seen = set()
        for key in work:
            os.write(file, key.encode())
            if key not in seen:
                os.fsync(file)
            seen.add(key)
            ack(key)

    def newest_last(keys):
        return dict.fromkeys(reversed(dict.fromkeys(reversed(keys))))

    def reread(root):
        path = pathlib.Path(root, "log")
        data = path.read_bytes() if path.exists() else b""
        return newest_last(data.strip(b"\0").decode())

    def right_order(acked, in_flight, seen):
        right = [[*newest_last(some)] for some in (acked, acked + in_flight)]
        assert list(seen) in right

    def made(work):
        return subject_from(
            "S", run=remember, recover=reread, check=right_order, work=work, root="/db"
        )

    assert _run(made(["a", "b"])).verdict == "consistent"
    assert _run(made(["a", "b", "a"])).verdict == "violated"


def test_with_a_root_the_functions_get_a_path_and_real_functions():
    def write(root, work, ack):
        with open(f"{root}/x", "w", encoding="ascii") as file:
            file.writelines(work)

    def look(root):
        with open(f"{root}/x", encoding="ascii") as file:
            return file.read()

    subject = subject_from(
        "S", run=write, recover=look, check=whole, work=["a"], root="/store"
    )
    disk = Disk()
    subject.run(("a",), disk)
    assert disk.exists("/store/x")
    assert subject.recover(disk).value == "a"


# -- what makes no sense -----------------------------------------------------------


class Plain:
    """Equal to itself only."""


@pytest.mark.parametrize(
    ("named", "more"),
    [
        ("files: '/else/x' is not below the root", {"files": {"/else/x": b""}}),
        ("files: 'x' is not below the root", {"files": {"x": b""}}),
        ("files: '/db/x' has str", {"files": {"/db/x": "text"}}),
        ("files: give a dict", {"files": [b""]}),
        ("work: ", {"work": lambda draw: [b"1"]}),
        ("work: ", {"work": 7}),
        ("work: {'a'} has no order", {"work": {"a"}}),
        ("work: frozenset({1}) has no order", {"work": lambda _: frozenset([1])}),
        ('plumbing: give names of source files, ("file.py",)', {"plumbing": "a.py"}),
        ("plumbing: give names of source files", {"plumbing": [b"a.py"]}),
        ("work: it raised ZeroDivisionError at test_", {"work": lambda _: 1 / 0}),
        ("work: for seed 0 it gave [0], and [1] when", {"work": lambda _: [next(NEW)]}),
        ("check: it returned True", {"check": lambda *_: True}),
        ("check: it raised ZeroDivisionError at test_", {"check": lambda *_: 1 / 0}),
        ("recover: it returned a Plain", {"recover": lambda _: Plain()}),
        ("recover: it returned a list_iterator", {"recover": lambda _: iter([])}),
        ("recover: it returned a Plain", {"recover": lambda _: [{"a": Plain()}]}),
        ("recover: it returned a memoryview", {"recover": lambda _: memoryview(ARRAY)}),
        ("/usr exists on this machine", {"root": "/usr"}),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_the_argument(
    named, more, capsys, monkeypatch
):
    def wrong():
        options = {
            "run": lambda root, work, ack: open(f"{root}/x", "w").close(),
            "recover": lambda root: 1,
            "check": lambda *_: None,
            "work": ["a"],
            "root": "/db",
        }
        return subject_from("S", **options | more)

    monkeypatch.setitem(sys.modules, "wrong", ModuleType("wrong"))
    sys.modules["wrong"].S = wrong
    with pytest.raises(SystemExit) as ended:
        main(["run", "wrong:S"])
    assert ended.value.code == 2
    assert named in " ".join(capsys.readouterr().err.split())


ARRAY = bytearray(b"1")
NEW = itertools.count()


class OtherJudge(FunctionSubject):
    """Has a `judge` of its own."""

    def judge(self, history, marks, outcome):
        raise KeyError(1)


def test_a_judge_that_raises_is_an_error_of_the_subject():
    subject = OtherJudge(add, read, whole, ["a"], {}, None, frozenset())
    with pytest.raises(SubjectError, match=r"judge: it raised KeyError at test_\w+.py"):
        _run(subject)


def test_files_below_the_root_are_there_before():
    subject = subject_from(
        "S",
        run=lambda root, work, ack: None,
        recover=lambda root: sorted(os.listdir(root)),
        check=whole,
        work=[],
        root="/db/",
        files={"/db/x": b"1", "/db/d/": b""},
    )
    assert subject.recover(Disk(subject.prepare(()))).value == ["d", "x"]


def _asserting(acked, in_flight, seen):
    assert tuple(seen) in {acked, acked + in_flight}, "not what was acknowledged"


def _asserting_plainly(acked, in_flight, seen):
    if tuple(seen) not in {acked, acked + in_flight}:
        raise AssertionError


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (_asserting, "not what was acknowledged"),
        (_asserting_plainly, "the assertion at test_patch_functions.py:"),
    ],
)
def test_an_assertion_that_fails_in_check_says_what_is_wrong(check, said):
    def made(*, sync):
        return subject_from(
            "S",
            run=lambda disk, work, ack: add(disk, work, ack, sync=sync),
            recover=read,
            check=check,
            work=["a"],
        )

    assert _run(made(sync=True)).verdict == "consistent"
    certificate = _run(made(sync=False))
    assert certificate.verdict == "violated"
    assert said in certificate.violations[0].message


def test_what_is_promised_is_what_it_was_when_it_was_promised():
    def growing(disk, work, ack):
        file = disk.open(PATH, create=True)
        disk.fsync_dir(PATH)
        done = []
        for at, one in enumerate(work):
            file.pwritev([one.encode()], at)
            file.fdatasync()
            done.append(one)
            ack(done)

    def newest(acked, in_flight, seen):
        allowed = [*(acked[-1:] or [[]]), *in_flight]
        return None if seen in allowed else f"{seen} is none of {allowed}"

    subject = subject_from(
        "S", run=growing, recover=read, check=newest, work=["a", "b"]
    )
    assert _run(subject).verdict == "consistent"


@dataclasses.dataclass
class Record:
    """What a store may hand out."""

    names: list
    cached: object = dataclasses.field(default=None, compare=False)


def test_dataclasses_and_deques_can_be_seen():
    one, other = Record(["a"], object()), Record(["a"], object())
    assert key_of(one) == key_of(other) != key_of(Record(["b"]))
    another = dataclasses.make_dataclass("Another", ["names"])
    assert key_of(Record(["a"])) != key_of(another(["a"]))
    assert key_of(deque([1])) == key_of(deque([1])) != key_of([1])
    assert hash(key_of([one, deque([Record([])])]))
    for single in (None, ..., Record, len, whole):
        assert key_of(single) == key_of(single)


class Slotted(list):
    """A list that a store may hand out, with one thing more."""

    __slots__ = ("torn",)


@pytest.mark.parametrize("base", [Slotted, list, tuple, dict, set, deque, str, int])
def test_attributes_of_what_is_made_of_a_list_or_the_like_are_told_apart(base):
    """Its == leaves them out, and a check may look at them."""
    kind = type("Found", (base,), {})
    some = [kind() for _ in range(3)]
    for one, torn in zip(some, (False, True, True), strict=True):
        one.torn = torn
    keys = [*map(key_of, some)]
    assert keys[0] != keys[1] == keys[2]
    assert key_of(kind()) == key_of(kind())
    assert hash(keys[0]) is not None


def test_an_exception_is_told_with_the_line_of_the_store():
    """Not with the line of the simulated disk that fails as the machine would."""

    def opening(root):
        return pathlib.Path(root, "x").read_bytes()

    subject = subject_from(
        "S",
        run=lambda root, work, ack: pathlib.Path(root, "x").write_bytes(b"1"),
        recover=opening,
        check=lambda *_: None,
        work=["a"],
        root="/db",
    )
    [found] = _run(subject).violations
    line = opening.__code__.co_firstlineno + 1
    assert f"FileNotFoundError at test_patch_functions.py:{line}." in found.message


# -- what is the store's own, and goes on changing -------------------------------------


def appending(root, work, ack):
    """Forgets the fsync of the last text."""
    file = os.open(f"{root}/log", os.O_RDWR | os.O_CREAT)
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    for text in work:
        os.write(file, text.encode())
        if text != "c":
            os.fsync(file)
        ack([text])


def texts(root):
    path = pathlib.Path(root, "log")
    return [*path.read_bytes().strip(b"\0").decode()] if path.exists() else []


def same_texts(acked, in_flight, seen):
    allowed = [[one for [one] in some] for some in (acked, acked + in_flight)]
    return None if [*seen] in allowed else f"{seen} is none of {allowed}"


def appended(work=("a", "b"), **given):
    usual = {"run": appending, "recover": texts, "check": same_texts}
    return subject_from("S", work=work, root="/db", **usual | given)


@dataclasses.dataclass
class Shelf:
    texts: list
    lock: object = dataclasses.field(default_factory=threading.Lock, compare=False)

    def __iter__(self):
        return iter(self.texts)


def test_what_recovery_returned_is_judged_as_it_was_then():
    kept = {}

    def refilled(root):
        kept.clear()
        kept.update(dict.fromkeys(texts(root)))
        return kept

    assert _run(appended(recover=refilled)).verdict == "consistent"
    assert _run(appended("abc", recover=refilled)).verdict == "violated"


@pytest.mark.parametrize("work", ["ab", "abc"])
def test_what_cannot_be_copied_is_compared_and_judged_by_what_counts(work):
    certificate = _run(appended(work, recover=lambda root: Shelf(texts(root))))
    assert certificate.verdict == ("consistent" if work == "ab" else "violated")


def test_what_cannot_be_copied_may_not_be_changed_later():
    shelf = Shelf([])

    def refilled(root):
        shelf.texts[:] = texts(root)
        return shelf

    with pytest.raises(SubjectError, match=r"a Shelf, which cannot be copied and was"):
        _run(appended("abc", recover=refilled))


def test_a_check_may_take_apart_what_it_is_given():
    def taking(acked, in_flight, seen):
        for one in acked:
            if seen[:1] != one:
                return f"{one} is missing"
            seen.pop(0)
            one.pop()
        return None if seen in [[], *in_flight] else f"{seen} is left"

    assert _run(appended(check=taking)).verdict == "consistent"
    (found,) = _run(appended("abc", check=taking)).violations
    assert found.message == "['c'] is missing"


def test_a_run_may_take_apart_its_work():
    def taking(root, work, ack):
        appending(root, [one.pop("text") for one in work], ack)

    work = [{"text": "a"}, {"text": "c"}]
    subject = appended(work, run=taking)
    (found,) = _run(subject).violations
    assert found.property == "check"
    assert found.failure.program == [{"text": "c"}]
    assert work == [{"text": "a"}, {"text": "c"}]


# -- whose code it is ------------------------------------------------------------------


def test_a_subject_is_of_the_module_that_makes_it_wherever_its_functions_are_from():
    elsewhere = {"__name__": "elsewhere", "subject_from": subject_from, "add": add}
    made = "S = subject_from('S', run=add, recover=len, check=max, work=[])"
    exec(made, elsewhere)
    assert spec_of(elsewhere["S"]) == "elsewhere:S"
    nowhere = elsewhere | {}
    del nowhere["__name__"]
    exec(made, nowhere)
    assert spec_of(nowhere["S"]) == "__main__:S"
    here = appended(run=functools.partial(appending))
    assert spec_of(here) == f"{__name__}:S"


def test_the_code_of_a_subject_is_what_its_functions_use(monkeypatch):
    # As in a test module that has the functions, and a store that it imports.
    for name in "stored", "helping", "unused":
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        exec(
            "class Store:\n    def __init__(self, *root): pass\ndef call(): pass",
            vars(sys.modules[name]),
        )
    stored, helping, unused = (sys.modules[n] for n in ("stored", "helping", "unused"))

    def opened():
        return stored.Store()

    def through(use, root):
        return [use(one) for one in root]

    def by(root, use):
        return through(use, root)

    using = [
        lambda root: opened(),
        lambda root: [stored.call() for _ in root],
        functools.partial(through, stored.call),
        functools.partial(by, use=functools.partial(helping.call, stored)),
        stored.Store,
    ]
    for recover in using:
        packages = appended(recover=recover).packages
        assert {"stored"} <= {*packages} <= {"stored", "helping", *own_packages()}
        assert unused.__name__ not in packages


def own_packages():
    return __name__.partition(".")[0], "pytest", "tornpage"


def loaded(root):
    return [*load(root)]


def test_code_that_a_planted_bug_replaces_counts_as_it_is_without(monkeypatch):
    stored = ModuleType("stored")
    monkeypatch.setitem(sys.modules, "stored", stored)
    exec("def load(root): return []", vars(stored))
    monkeypatch.setattr(sys.modules[__name__], "load", stored.load, raising=False)

    @contextlib.contextmanager
    def planted():
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[__name__], "load", texts)
            yield

    subject = appended(recover=loaded, bugs={"b": ("bad", planted)})
    with subject.mutant("b"):
        assert "stored" in subject.packages


def test_a_run_that_never_acknowledges_is_suspicious():
    def silent(root, work, ack):
        appending(root, work, lambda _: None)

    assert _run(appended(run=silent)).never_seen() == ("subject acknowledged",)
    assert _run(appended()).never_seen() == ()


def test_work_that_is_drawn_is_run_for_more_than_one_seed():
    def drawn(work):
        return subject_from(
            "S",
            run=lambda root, work, ack: None,
            recover=lambda root: None,
            check=lambda acked, in_flight, seen: None,
            work=work,
        )

    assert extras_of(drawn(lambda rng: [rng.random()])).default_programs == 20
    assert extras_of(drawn(["a"])).default_programs == 1


@pytest.mark.parametrize(
    ("argument", "given", "complaint"),
    [
        ("run", lambda root: None, r"run\(root, work, ack\), and is \(root\)"),
        ("recover", lambda: None, r"recover\(root\), and is \(\)"),
        ("check", lambda seen: None, r"check\(acked, in_flight, seen\), and is"),
        ("work", lambda: ["a"], r"work\(rng\), and is"),
        ("check", None, "check: give a function, not None"),
    ],
)
def test_a_function_of_other_arguments_is_refused_before_anything_runs(
    argument, given, complaint
):
    functions = {
        "run": lambda root, work, ack: None,
        "recover": lambda root: None,
        "check": lambda acked, in_flight, seen: None,
        "work": ["a"],
    }
    with pytest.raises(SubjectError, match=complaint):
        subject_from("S", root="/db", **functions | {argument: given})
