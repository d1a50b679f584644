"""Functions that a store keeps in objects, closures and containers are the disk's."""

import contextlib
import copy
import functools
import gc
import io
import logging
import mmap
import os
import pickle
import posix
import shutil
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from types import MethodType, ModuleType, SimpleNamespace
from typing import NamedTuple

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.patch import UnsupportedCallError, held, patched
from tornpage.patch.stand_ins import StandIn
from tornpage.registry import spec_of
from tornpage.run import Plan, run

# -- ways to keep a function --------------------------------------------------------
# Each takes a function and gives another one that calls it.


def _closure(sync):
    def call(fd):
        return sync(fd)

    return call


def _keyword_default(sync):
    def call(fd, *, sync=sync):
        sync(fd)

    return call


@dataclass(frozen=True, slots=True)
class Frozen:
    sync: object


@dataclass
class Fields:
    syncs: dict = field(default_factory=dict)


class Named(NamedTuple):
    sync: object


class Slots:
    __slots__ = ("sync",)

    def __init__(self, sync):
        self.sync = sync


def _class(sync, kind=type):
    made = kind("Made", (), {"sync": staticmethod(sync)})
    # Python remembers what it has found in a class, and where that is changed.
    assert made.sync is sync
    return made


class Odd(type):
    """Of classes that are compared in their own way, and so have no hash."""

    def __eq__(cls, other):
        return isinstance(other, Odd)

    __hash__ = None


def _partial_method(sync):
    class File:
        fsync = functools.partialmethod(lambda self, do, fd: do(fd), sync)

    return File()


def _exit_stack(sync):
    stack = contextlib.ExitStack()
    stack.callback(sync, FIRST)
    return stack


def _cached(sync):
    call = functools.cache(lambda sync, fd: 1)
    call(sync, 2)
    return call


class Thing:
    pass


FIRST = 1 << 30


class Number:
    """The first file of a disk."""

    def fileno(self):
        return FIRST


OF_A_FINALIZER = Thing()


def _finalizer(sync):
    made = weakref.finalize(OF_A_FINALIZER, sync, 1)
    made.atexit = False
    return made


# What keeps a function, and how it is called from there.
KEEPING = {
    "an object": (
        lambda sync: SimpleNamespace(sync=sync),
        lambda made, fd: made.sync(fd),
    ),
    "a closure": (_closure, lambda made, fd: made(fd)),
    "a default": (
        lambda sync: [lambda fd, sync=sync: sync(fd)],
        lambda made, fd: made[0](fd),
    ),
    "a keyword default": (_keyword_default, lambda made, fd: made(fd)),
    "slots": (Slots, lambda made, fd: made.sync(fd)),
    "a frozen dataclass": (Frozen, lambda made, fd: made.sync(fd)),
    "a dictionary in a field": (
        lambda sync: Fields({"a": sync}),
        lambda made, fd: made.syncs["a"](fd),
    ),
    "a named tuple": (lambda sync: [Named(sync)], lambda made, fd: made[0].sync(fd)),
    "a partial call": (
        lambda sync: [functools.partial(sync)],
        lambda made, fd: made[0](fd),
    ),
    "a partial call in an object": (
        lambda sync: SimpleNamespace(call=functools.partial(sync)),
        lambda made, fd: made.call(fd),
    ),
    "a list": (lambda sync: [sync], lambda made, fd: made[0](fd)),
    "a tuple in a list": (lambda sync: [(1, sync)], lambda made, fd: made[0][1](fd)),
    "a deque": (lambda sync: deque([sync]), lambda made, fd: made[0](fd)),
    "a set": (lambda sync: {sync}, lambda made, fd: [one(fd) for one in made]),
    "a frozen set": (
        lambda sync: [frozenset([sync])],
        lambda made, fd: [one(fd) for one in made[0]],
    ),
    "keys": (lambda sync: {sync: 1}, lambda made, fd: [one(fd) for one in made]),
    "keys with more in them": (
        lambda sync: {(sync, 1): 2},
        lambda made, fd: [one(fd) for one, _ in made],
    ),
    "an ordered dictionary": (
        lambda sync: OrderedDict(a=sync),
        lambda made, fd: made["a"](fd),
    ),
    "a default dictionary": (
        lambda sync: defaultdict(list, a=sync),
        lambda made, fd: made["a"](fd),
    ),
    "a class": (_class, lambda made, fd: made.sync(fd)),
    "a class without a hash": (
        functools.partial(_class, kind=Odd),
        lambda made, fd: made.sync(fd),
    ),
    "a partial method": (_partial_method, lambda made, fd: made.fsync(fd)),
    "a bound method": (
        lambda sync: [MethodType(sync, Number())],
        lambda made, fd: made[0](),
    ),
    "its own call": (lambda sync: [sync.__call__], lambda made, fd: made[0](fd)),
    "an exit stack": (_exit_stack, lambda made, fd: made.pop_all().close()),
    "a finalizer": (
        _finalizer,
        lambda made, fd: made.peek()[1](fd),
    ),
    "a key of a cache": (_cached, lambda made, fd: made(os.fsync, 2) and os.fsync(fd)),
}


def _of(owner, fd):
    owner.sync(fd)


def _of_os(fd):
    os.fsync(fd)


def _of_posix(fd):
    posix.fsync(fd)


ONCE = {"an exit stack"}
OF_THE_DISK = {"a bound method"}


def _synced(call, number=0):
    """How often this call has synced a file of a disk."""
    disk = Disk()
    with patched(disk, f"/db{number}") as root:
        fd = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        assert fd == FIRST
        call(fd)
        os.close(fd)
    return sum(one.op == "sync" for one in disk.trace)


@pytest.mark.thorough(rows=9)
@pytest.mark.parametrize("way", KEEPING)
def test_a_function_that_is_kept_is_the_disks_in_every_block(way):
    make, call = KEEPING[way]
    made = make(os.fsync)
    assert _synced(functools.partial(call, made)) == 1
    if way not in ONCE:
        # In another block, which finds a stand-in there, and outside of all.
        assert _synced(functools.partial(call, made), 1) == 1
        if way not in OF_THE_DISK:
            with tempfile.TemporaryFile() as file:
                call(made, file.fileno())
    # A name by which everybody has it is the real one again.
    assert type(os.fsync) is type(len)


class _Store:
    def __init__(self, root, sync):
        self._file = os.open(f"{root}/x", os.O_RDWR | os.O_CREAT)
        self._sync = sync

    def put(self, data):
        os.write(self._file, data)
        self._sync(self._file)


@pytest.mark.parametrize(
    ("sync", "verdict"), [(os.fsync, "consistent"), (lambda _: None, "violated")]
)
def test_a_store_that_was_given_its_sync_before_is_judged_by_what_it_does(
    sync, verdict
):
    made = functools.partial(_Store, sync=sync)

    def running(root, work, ack):
        store = made(root)
        folder = os.open(root, os.O_RDONLY)
        os.fsync(folder)
        for one in work:
            store.put(one.encode())
            ack(one)

    def recovering(root):
        with contextlib.suppress(FileNotFoundError), open(f"{root}/x") as file:
            return file.read().rstrip("\0")

    subject = subject_from(
        "S",
        run=running,
        recover=recovering,
        check=lambda acked, in_flight, seen: (
            None if (seen or "").startswith("".join(acked)) else "lost"
        ),
        work=["a", "b"],
        root="/db",
    )
    found = run(subject, Plan(spec=spec_of(subject), programs=1))
    assert found.verdict == verdict, found.doubts()


def test_an_object_that_is_made_between_two_blocks_is_seen():
    """Also where another one has let go: it is as many as before."""
    kept = [_closure(os.fsync)]
    for number in range(3):
        assert _synced(kept[0], number) == 1
        kept[0] = _closure(os.fsync)


def test_who_cannot_be_found_hides_nobody_after_letting_go():
    def raising(sync):
        raise KeyError(sync)

    try:
        raising(os.fsync)
    except KeyError as error:
        # The variables of a function that has ended are with its traceback.
        of_nobody = error.__traceback__
    assert _synced(lambda _: None) == 0
    del of_nobody
    assert _synced(lambda _: None) == 0
    assert _synced(_closure(os.fsync)) == 1


def test_what_is_kept_in_a_block_is_of_the_disk_of_the_next_one():
    made = []

    def keep(fd):
        made.append(SimpleNamespace(sync=os.fsync, open=open))

    assert _synced(keep) == 0
    assert _synced(functools.partial(_of, made[0]), 1) == 1
    disk = Disk()
    with patched(disk) as root, made[0].open(f"{root}/x", "w") as file:
        file.write("1")
    assert disk.open("/db/x").size() == 1


def test_what_the_collector_was_told_to_leave_alone_is_seen():
    kept = _closure(os.fsync)
    gc.freeze()
    assert _synced(kept) == 1
    assert gc.get_freeze_count()


def test_a_name_that_a_module_got_later_is_given_back(monkeypatch):
    module = ModuleType("with_late_names")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    _synced(lambda _: None)
    module.sync = os.fsync
    assert _synced(functools.partial(_of, module)) == 1
    assert type(module.sync) is type(os.fsync)


def test_the_module_beneath_os_is_the_disks():
    assert _synced(_of_posix) == 1
    assert type(posix.fsync) is type(len)


# -- outside of all blocks ----------------------------------------------------------


def test_outside_of_all_blocks_a_stand_in_is_the_real_function(tmp_path):
    kept = [os.fsync, open, os.path.exists, shutil.rmtree]
    _synced(lambda _: None)
    assert {type(one) for one in kept} == {StandIn}
    real = os.fsync, open, os.path.exists, shutil.rmtree
    assert all(type(one) is not StandIn for one in real)
    assert tuple(kept) == real
    assert {*kept} == {*real}
    assert not any(a == b for a in kept for b in real if a.real is not b)
    assert [copy.deepcopy(one) for one in kept] == kept
    assert tuple(pickle.loads(pickle.dumps(kept))) == real
    assert kept[0].__name__ == "fsync"
    with kept[1](tmp_path / "x", "w") as file:
        kept[0](file.fileno())
    assert kept[2](tmp_path / "x")


def test_what_a_test_puts_back_after_a_block_is_made_the_real_one(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("of the machine"))
    assert _synced(_of_os) == 1
    monkeypatch.undo()
    assert _synced(_of_os) == 1
    assert type(os.fsync) is type(len)


# -- what is refused ----------------------------------------------------------------


def _generator():
    def syncing(sync):
        fd = yield
        sync(fd)

    made = syncing(os.fsync)
    next(made)
    return made


def _coroutine():
    class Never:
        def __await__(self):
            yield

    async def syncing(sync):
        await Never()
        sync(1)

    made = syncing(os.fsync)
    made.send(None)
    return made


def _with_results():
    call = functools.lru_cache(9)(lambda number: os.fsync)
    call(1)
    return call


REFUSED = {
    "the suspended _generator.<locals>.syncing (test_patch_held.py:": _generator,
    "the suspended _coroutine.<locals>.syncing (test_patch_held.py:": _coroutine,
    "an object of builtins.map": lambda: map(os.fsync, [1]),
    "_with_results.<locals>.<lambda>": _with_results,
}


@pytest.mark.thorough(rows=2)
@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_changed_is_refused_and_named(said):
    disk, kept = Disk(), REFUSED[said]()
    for _ in range(2):
        with pytest.raises(UnsupportedCallError) as raised, patched(disk):
            pass
        assert said in str(raised.value)
    assert len(disk.refused) == 2
    del kept
    with patched(disk):
        pass


def test_a_variable_of_a_running_function_is_refused_and_named():
    sync = os.fsync
    refused = pytest.raises(UnsupportedCallError, match="running test_a_variable")
    with refused, patched(Disk()):
        sync(1)
    ready, end = threading.Event(), threading.Event()

    def working(sync):
        ready.set()
        end.wait()

    del sync
    thread = threading.Thread(target=working, args=(os.fsync,))
    thread.start()
    ready.wait()
    try:
        refused = pytest.raises(UnsupportedCallError, match=r"running \S*working")
        with refused, patched(Disk()):
            pass
    finally:
        end.set()
        thread.join()
    with patched(Disk()):
        pass


def test_the_variables_of_a_running_function_are_not_held_on_to():
    """A file that is let go of is closed as early as without a block."""

    thing = Thing()
    gone = weakref.ref(thing)
    sync = os.fdatasync
    with pytest.raises(UnsupportedCallError), patched(Disk()):
        pass
    del sync, thing
    assert gone() is None


def test_what_the_standard_library_keeps_is_not_refused(tmp_path):
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    folder = tempfile.TemporaryDirectory(dir=tmp_path)
    spooled = tempfile.NamedTemporaryFile(dir=tmp_path)  # noqa: SIM115
    space = {"__name__": "logging.made", "os": os}
    source = "def walking(call=os.listdir):\n    do = call\n    yield do\n"
    exec(source, space)
    walking = space["walking"]()
    next(walking)
    walked = os.walk(tmp_path), os.scandir(tmp_path), iter(mmap.mmap, None)
    next(walked[0])
    disk = Disk()
    with patched(disk) as root:
        handler.emit(logging.makeLogRecord({"msg": "1"}))
        with open(f"{root}/x", "w") as file:
            file.write("1")
    assert disk.refused == []
    handler.close()
    spooled.close()
    folder.cleanup()
    assert (tmp_path / "log").read_text() == "1\n"
    walked[1].close()


def test_what_pytest_keeps_of_an_assertion_is_not_refused():
    assert os.fsync.__name__ == "fsync" and _synced(_of_os) == 1  # noqa: PT018


# -- what it costs ------------------------------------------------------------------


def test_the_collector_is_asked_once_for_each_new_holder(monkeypatch):
    asked = []
    real = held.Holders

    def holders(things, stand_in):
        asked.append(len(things))
        return real(things, stand_in)

    _synced(lambda _: None)
    monkeypatch.setattr(held, "Holders", holders)
    kept = [_closure(os.fsync), io.StringIO]
    for number in range(20):
        assert _synced(kept[0], number) == 1
    assert asked == [1]
