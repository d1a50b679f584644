"""Logs that keep their texts outside of their files as well, each in another way.

All but `Plain` never call fsync when `SYNCS` is off, and none of them shows that to
a recovery in the process that ran the program.
"""

import contextlib
import functools
import os
import re
import struct
import zlib

import psutil

from tornpage.functions import subject_from
from tornpage.run import Plan
from tornpage.subject import Violation

SIZE = struct.Struct("<H")
WORD = re.compile(rb"[a-z]*\n")


def plan(name, **given):
    """One program of a subject of this module."""
    return Plan(spec=f"remembering:{name}", programs=1, **given)


def children():
    """The processes that this one has begun."""
    return set(psutil.Process().children(recursive=True))


def packed(text):
    return SIZE.pack(len(text)) + text.encode()


def unpacked(data):
    texts = []
    while len(data) >= 2 and len(data) >= 2 + SIZE.unpack_from(data)[0] > 2:
        size = 2 + SIZE.unpack_from(data)[0]
        texts.append(data[2:size].decode("ascii", "replace"))
        data = data[size:]
    return texts


class Log:
    """A log that is opened by its path."""

    def __init__(self, root, *, syncs):
        self.path = f"{root}/log"
        self.syncs = syncs
        self.texts = []
        if os.path.exists(self.path):
            with open(self.path, "rb") as file:
                self.texts = unpacked(file.read())

    def add(self, text):
        new = not os.path.exists(self.path)
        with open(self.path, "ab") as file:
            file.write(packed(text))
            file.flush()
            if self.syncs:
                os.fsync(file.fileno())
        if new and self.syncs:
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        self.texts.append(text)


# -- four ways to remember -------------------------------------------------------------

IN_MODULE = {}


class InClass:
    open_logs = {}  # noqa: RUF012 - it is meant to be shared.


@functools.lru_cache
def cached(root, syncs):
    return Log(root, syncs=syncs)


def of_module(root, syncs):
    if root not in IN_MODULE:
        IN_MODULE[root] = Log(root, syncs=syncs)
    return IN_MODULE[root]


def of_class(root, syncs):
    return InClass.open_logs.setdefault(root, Log(root, syncs=syncs))


class Handle(Log):
    """Its file stays open, and what was written is read from its buffer."""

    kept = None

    @classmethod
    def at(cls, root, syncs):
        if cls.kept is None:
            cls.kept = cls(root, syncs=syncs)
        return cls.kept


def of_path(root, syncs):
    return Log(root, syncs=syncs)


def forget():
    IN_MODULE.clear()
    InClass.open_logs.clear()
    cached.cache_clear()
    Handle.kept = None
    READ.clear()
    GOOD.clear()


WAYS = {
    "module": of_module,
    "class": of_class,
    "lru_cache": cached,
    "handle": Handle.at,
    "none": of_path,
}


# -- subjects --------------------------------------------------------------------------


def check(acked, in_flight, seen):
    # A stricter one would complain of what recovery remembers, too.
    if tuple(seen)[: len(acked)] != acked:
        return f"acknowledged were {list(acked)}"
    return None


def strict(acked, in_flight, seen):
    assert tuple(seen) in {acked, acked + in_flight}


def remembering(name, way, *, syncs, clears=False, check=check):
    """A subject whose logs are found in this way."""

    def add(root, work, ack):
        # A program begins in a process of its own.
        forget()
        log = WAYS[way](root, syncs)
        for text in work:
            log.add(text)
            ack(text)

    def recover(root):
        if clears:
            forget()
        # A look at the disk, so that something is decided by it.
        os.path.exists(f"{root}/log")
        return WAYS[way](root, syncs).texts

    subject = subject_from(
        name, run=add, recover=recover, check=check, work=["one", "two"], root="/db"
    )
    type(subject).__module__ = __name__
    return subject


for _way in WAYS:
    for _syncs in (False, True):
        _name = f"{_way}_{'synced' if _syncs else 'unsynced'}"
        globals()[_name] = remembering(_name, _way, syncs=_syncs)
strict_unsynced = remembering("strict_unsynced", "module", syncs=False, check=strict)
strict_synced = remembering("strict_synced", "module", syncs=True, check=strict)
module_cleared = remembering("module_cleared", "module", syncs=True, clears=True)


class Plain:
    """A subject that does its I/O through the disk, and keeps a file in its class."""

    name = "plain"
    default_model = "tear=sector"
    default_programs = 2
    kept = {}  # noqa: RUF012 - it is meant to be shared.
    syncs = False

    def generate(self, seed):
        return ("one", "two", "three")[: 2 + seed % 2]

    def encode(self, program):
        return list(program)

    def decode(self, data):
        return tuple(data)

    def describe(self, program):
        return [f"add {text}" for text in program]

    def simplify(self, program):
        for at in range(len(program)):
            yield program[:at] + program[at + 1 :]

    def prepare(self, program):
        return {}

    def run(self, program, disk):
        self.kept.clear()
        file = disk.open("log", create=True)
        offset = 0
        for text in program:
            offset += file.pwritev([packed(text)], offset)
            self.kept.setdefault("log", []).append(text)
            if self.syncs:
                file.fsync()
                disk.fsync_dir("log")
            disk.mark("acked", text=text)
        return program

    def recover(self, disk):
        if not disk.exists("log"):
            return tuple(self.kept.get("log", ()))
        if "log" in self.kept:
            return tuple(self.kept["log"])
        return tuple(unpacked(disk.open("log").pread(1000, 0)))

    def judge(self, history, marks, outcome):
        acked = sum(one.label == "acked" for one in marks)
        if outcome[:acked] != history[:acked]:
            return [Violation("P", f"{acked} texts were acknowledged.")]
        return []

    def live_violations(self, history):
        return []

    def describe_outcome(self, outcome):
        return list(outcome)

    def locate(self, path, offset, data):
        return ""

    def mutants(self):
        return {"again": "it is the same once more"}

    @contextlib.contextmanager
    def mutant(self, name):
        yield


class PlainSynced(Plain):
    syncs = True


# -- a recovery that remembers recoveries ----------------------------------------------

READ = {}


def read_once(root):
    """As `linecache` has it: what was read once is read for good."""
    if root not in READ:
        if not os.path.exists(f"{root}/doc"):
            return ""
        with open(f"{root}/doc", encoding="ascii") as file:
            READ[root] = file.read()
    return READ[root]


def save(root, work, ack):
    for text in work:
        with open(f"{root}/doc.new", "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{root}/doc.new", f"{root}/doc")
        ack(text)


def check_last(acked, in_flight, seen):
    assert seen in {(acked or ("",))[-1], *in_flight}


read_once_unsynced = subject_from(
    "read_once_unsynced",
    run=save,
    recover=read_once,
    check=check_last,
    work=["one", "two"],
    root="/db",
)


# -- stores that remember what they find damaged ---------------------------------------

GOOD = {}


def record(text):
    """Two sectors; a crash may leave one of them."""
    data = text.encode() * 700
    return zlib.crc32(data).to_bytes(4, "little") + data


def intact(root):
    with open(f"{root}/x", "rb") as file:
        data = file.read()
    whole = zlib.crc32(data[4:]) == int.from_bytes(data[:4], "little")
    return data[4:5].decode() if whole else None


def overwrite(root, work, ack):
    for text in work:
        file = os.open(f"{root}/x", os.O_WRONLY)
        os.pwrite(file, record(text), 0)
        os.fsync(file)
        os.close(file)
        ack(text)


def overwrite_and_remember(root, work, ack):
    GOOD.clear()

    def acknowledged(text):
        GOOD["text"] = text
        ack(text)

    overwrite(root, work, acknowledged)


def last_good(root):
    return intact(root) or GOOD.get("text", "lost")


def last_recovered(root):
    if text := intact(root):
        GOOD["text"] = text
    return text or GOOD.get("text", "lost")


def check_slot(acked, in_flight, seen):
    assert seen in {(acked or ("0",))[-1], *in_flight}


def in_place(name, run, recover):
    return subject_from(
        name,
        run=run,
        recover=recover,
        check=check_slot,
        work=["1"],
        files={"/db/x": record("0")},
        root="/db",
    )


good_of_the_run = in_place("good_of_the_run", overwrite_and_remember, last_good)
good_of_recovery = in_place("good_of_recovery", overwrite, last_recovered)


# -- caches that do no harm ------------------------------------------------------------


@functools.lru_cache
def parsed(data):
    """A pure function of bytes that were read."""
    assert WORD.match(b"abc\n")
    return tuple(unpacked(data))


PREPARED = []


def harmless_recover(root):
    # Once in a process, and nothing of a disk.
    if not PREPARED:
        PREPARED.append(re.compile("x"))
    # Others look who is there.
    with open(f"{root}/pid", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    if not os.path.exists(f"{root}/log"):
        return ()
    with open(f"{root}/log", "rb") as file:
        return parsed(file.read())


def harmless_add(root, work, ack):
    log = Log(root, syncs=True)
    for text in work:
        log.add(text)
        ack(text)


harmless = subject_from(
    "harmless",
    run=harmless_add,
    recover=harmless_recover,
    check=check,
    work=["one", "two"],
    root="/db",
)
