"""What the explorer is compared with brute force on: random programs, small stores.

The programs do anything a program may do on three names, their recoveries read, ask and
write here and there. The stores are three ways to keep a value, each right once and
broken in the ways that stores are.
"""

import contextlib
import dataclasses
import errno
import itertools
import os
import random
import zlib
from typing import NamedTuple

from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.model import PRESETS, CrashModel, ModelError
from tornpage.platter.brute import Device, TooManyImages

MODELS = [
    CrashModel(*values)
    for values in itertools.product(
        ("page", "sector", "byte"),
        ("any", "ordered"),
        ("free", "with-data"),
        ("prefix", "free"),
    )
]
VALUES = {
    one.name: [*one.metadata["values"]]
    for one in dataclasses.fields(CrashModel)
    if one.metadata and one.name not in {"calls", "journal"}
}
# `calls` is kept by the disk that a program runs on: the explorer gets more operations,
# of the same kinds. The presets among the models have it, and size=with-block. Those of
# ext3 and ext4 have journal=shared.
VALUES["size"] = ["free", "with-data"]
# fail=unwritten is that of ext4-o.
VALUES["fail"] = ["clean", "late", "revert", "read-only"]
VALUES["sync"] = ["honest", "honest", "lying:1", "lying:2"]
# Drawn with a third value all cases that have a number would be others.
VALUES["rename"] = ["atomic", "split"]


def drawn_models(seed, n):
    """`n` models with every parameter drawn; every value is drawn often."""
    draw = random.Random(seed)
    models = [CrashModel.parse(one) for one in PRESETS]
    while len(models) < n:
        values = {name: draw.choice(of) for name, of in VALUES.items()}
        try:
            models.append(CrashModel(**values))
        except ModelError:
            continue
    models = [
        dataclasses.replace(one, rename="synced")
        if one.rename == "split" and number % 10 in {3, 7}
        else one
        for number, one in enumerate(models)
    ]
    return [
        dataclasses.replace(one, journal="shared")
        if one.fail == "clean" and number % 10 in {1, 3, 6}
        else one
        for number, one in enumerate(models)
    ]


DRAWN = drawn_models(1, 100)
NAMES = ("a", "b", "d/c")
# More take longer than they teach; a long search may ask for 10,000.
IMAGES = int(os.environ.get("TORNPAGE_TEST_IMAGES", "800"))
# A crash point of as many images takes fewer executions, most often.
_CAP = 4 * IMAGES
# One of more is not compared, and three of those took most of the time.
_GLANCE = 50


def half(seed):
    """The seeds of half of `MODELS`, for two seeds in a row those of all.

    Any two values of two parameters meet in each half.
    """
    first = seed // 2 * len(MODELS)
    return [first + at for at in range(len(MODELS)) if at.bit_count() % 2 == seed % 2]


# -- random programs: every operation, overlapping, on three names -----------


def random_run(seed, model, length, *, failing=0.0):
    """(files, trace) of a program that does anything a program may do."""
    draw = random.Random(seed)
    files = {}
    if draw.random() < 0.7:
        sizes = (0, 3, 520) if model.mixes else (0, 100, 512, 700, 1500, 5000)
        files["a"] = b"\x01" * draw.choice(sizes)
    if draw.random() < 0.3:
        files["b"] = b"\x02" * draw.choice((3, 600))
    disk = Disk(files, model)
    if failing:
        disk.fail_sync = lambda *_: errno.EIO if draw.random() < failing else 0
    handles = {}
    for step in range(length):
        with contextlib.suppress(OSError):
            if model.unwritten and handles and draw.random() < 0.15:
                handles[draw.choice(sorted(handles))].forget()
            random_step(disk, handles, draw, step)
    return files, disk.trace


def random_step(disk, handles, draw, step):
    model = disk.model
    lengths = (1, 2, 4) if model.mixes else (1, 3, 20, 520)
    name = draw.choice(NAMES)
    what = draw.random()
    if name not in handles:
        handles[name] = disk.open(name, create=True)
    elif what < 0.5:
        at = draw.choice((0, 10, 500, 512, 1000, 1400))
        if model.tear == "page" and draw.random() < 0.3:
            at += 4000
        handles[name].pwritev([bytes([10 + step]) * draw.choice(lengths)], at)
    elif what < 0.62:
        handles[name].ftruncate(draw.choice((0, 50, 600, 1200)))
    elif what < 0.8:
        draw.choice((handles[name].fdatasync, handles[name].fsync))()
    elif what < 0.86:
        disk.fsync_dir(name)
    elif not disk.exists(name):
        return
    elif what < 0.93:
        target = draw.choice(NAMES)
        if target != name:
            disk.rename(name, target)
            handles.pop(name, None)
            handles.pop(target, None)
    else:
        disk.unlink(name)
        handles.pop(name)


def weight(data):
    return sum(data) % 3


DECODES = (
    len,
    weight,
    bytes,
    lambda data: data[:1] > b"\x05",
    weight,
    lambda data: 60 // (sum(data) % 7),
)


def random_question(seed, at):
    """A pure function of what it looks at here and there, depending on it."""

    def question(view):
        draw = random.Random(seed)
        seen = ()
        for place in (at, *draw.choices((0, 5, 498, 512, 1023), k=draw.choice((0, 2)))):
            length = draw.choice((1, 2, 8, 30, 700))
            seen += (view(draw.choice(DECODES), place, length),)
            if seen[-1] in (1, b"\x01"):
                break
        return zlib.crc32(repr(seen).encode()) % 3

    return question


def random_recovery(seed):
    """A deterministic recovery that looks here and there, depending on it."""

    def recover(disk):
        draw = random.Random(seed)
        seen = []
        for name in NAMES:
            # Brute force has files by name: it cannot have one file under two names,
            # as a rename that is cut in half leaves it.
            writes = draw.random() < 0.2 and disk.model.rename == "atomic"
            try:
                file = disk.open(name, read_only=not writes)
            except FileNotFoundError:
                seen.append(name)
                continue
            for _ in range(draw.choice((1, 2, 3))):
                at = draw.choice((0, 5, 300, 498, 511, 512, 990, 1023, 1400))
                if draw.random() < 0.3:
                    try:
                        found = file.ask(random_question(draw.random(), at))
                    except ZeroDivisionError:
                        found = "raised"
                    seen.append(found)
                    if found == 1:
                        break
                found = file.pread(draw.choice((1, 2, 8, 30, 700)), at)
                seen.append((at, found))
                if found[:1] == b"\x01":
                    break
                if writes:
                    file.pwritev([b"\x07" * draw.choice((1, 600))], at + 3)
            if draw.random() < 0.5:
                seen.append(file.size())
        return tuple(seen)

    return recover


def random_repair(seed):
    """A recovery that changes more than it looks at: writes, resizes, syncs."""

    def recover(disk):
        draw = random.Random(seed)
        # As in `random_recovery`.
        names = NAMES if disk.model.rename == "atomic" else ()
        files = [disk.open(name) for name in names if disk.exists(name)]
        lengths = (1, 2, 512) if disk.model.mixes else (1, 3, 20, 520, 1030)
        seen = [len(files)]
        for _ in range(draw.choice((4, 8)) if files else 0):
            file = files[draw.randrange(100) % len(files)]
            what, at = draw.random(), draw.choice((0, 10, 500, 512, 1000, 1400))
            length = draw.choice(lengths)
            if length == 512:
                at = draw.choice((0, 512))
            if what < 0.4:
                seen.append(file.pread(draw.choice((1, 20, 600)), at))
            elif what < 0.75:
                file.pwritev([b"\x07" * length], at)
            elif what < 0.85:
                file.ftruncate(draw.choice((0, 50, 600, 1200)))
            elif what < 0.95:
                seen.append(file.size())
            else:
                file.fsync()
        return tuple(seen)

    return recover


# Seeds with which what a write decided, or left beside its bytes, was once not seen to
# matter later.
REPAIRS = (745, 344, 1032, 1880, 1992, 2440)


class RandomPart(NamedTuple):
    """A part of a question: of the same place for many, and made of parts itself."""

    place: int
    depth: int

    def __call__(self, view):
        seen = view(zlib.crc32, self.place, 9)
        if not self.depth:
            return seen
        # Where it goes on depends on what is there, as from page to page.
        below = (PLACES[seen % len(PLACES)], PLACES[seen // 7 % len(PLACES)])
        return (seen, *(view.part(RandomPart(at, self.depth - 1)) for at in below))


class AllOf(NamedTuple):
    """A question that looks at nothing itself."""

    part: RandomPart

    def __call__(self, view):
        return view.part(self.part)


PLACES = (0, 8, 300, 500, 515, 1000, 1023, 1100)


def random_asking(seed):
    """A recovery that asks questions made of parts, and may write between two."""

    def recover(disk):
        draw = random.Random(seed)
        seen = []
        for name in NAMES:
            # As in `random_recovery`.
            writes = draw.random() < 0.5 and disk.model.rename == "atomic"
            at = draw.choice(PLACES)
            question = AllOf(RandomPart(draw.choice(PLACES[:3]), draw.choice((1, 2))))
            try:
                file = disk.open(name, read_only=False)
            except FileNotFoundError:
                continue
            # Mostly known, because where the size is open no answer is kept.
            if draw.random() < 0.8:
                file.size()
            seen.append(file.ask(question))
            if writes:
                file.pwritev([b"\x07" * 5], at)
                seen.append(file.ask(question))
        return zlib.crc32(repr(seen).encode())

    return recover


# -- images of several crashes, built in full ---------------------------------


def add_images(level, every, lied, limit):
    """Take images of platters into a level: the fewest lies that make each."""
    for lies, platter in every:
        for one in platter.images(limit):
            key = tuple(sorted(one.files.items())), one.known, one.links
            level[key] = min(lied + lies, level.get(key, 1 << 30))


def device_of(key):
    """The device of an image of a level."""
    files, known, links = key
    return Device(dict(files), known, links)


def disk_of(key, model):
    """A disk of an image of a level."""
    files, known, links = key
    return Disk(dict(files), model, known, dict(links))


# -- small stores: right ones and broken ones --------------------------------


class FlipStore:
    """Two metas and two data pages, used in turns; commit t is value t."""

    faults = ("", "no data sync", "no checksum", "one meta")

    def __init__(self, fault, model):
        self.fault = fault
        self.atom = model.atom
        self.files = {"db": self.page(self.meta(0)) * 2 + self.page(b"\0\0") * 2}

    def page(self, content):
        return content.ljust(self.atom, b"\0")

    def meta(self, txid):
        return bytes([txid, 2 + txid % 2, (txid * 7 + 3) % 251])

    def run(self, disk, commits):
        file = disk.open("db")
        for txid in range(1, commits + 1):
            disk.mark("begin", txid=txid)
            file.pwritev([bytes([txid, txid])], (2 + txid % 2) * self.atom)
            if self.fault != "no data sync":
                file.fdatasync()
            slot = 0 if self.fault == "one meta" else txid % 2
            file.pwritev([self.meta(txid)], slot * self.atom)
            file.fdatasync()
            disk.mark("acked", txid=txid)

    def recover(self, disk):
        file = disk.open("db", read_only=True)
        best = None
        for slot in (0, 1):
            meta = file.pread(3, slot * self.atom)
            good = self.fault == "no checksum" or meta == self.meta(meta[0])
            if good and (best is None or meta[0] > best[0]):
                best = meta
        if best is None:
            return None
        return best[0], file.pread(2, best[1] * self.atom)

    def good(self, outcome, acked, begun):
        return outcome in {(t, bytes([t, t])) for t in (acked, begun)}


class SwapStore:
    """The whole state is one file, replaced by rename."""

    faults = ("", "no file sync", "no directory sync")

    def __init__(self, fault, model):
        self.fault = fault
        self.files = {"s/now": b"\0\0"}
        del model

    def run(self, disk, commits):
        for txid in range(1, commits + 1):
            disk.mark("begin", txid=txid)
            file = disk.open("s/new", create=True)
            file.pwritev([bytes([txid, txid])], 0)
            if self.fault != "no file sync":
                file.fsync()
            file.close()
            disk.rename("s/new", "s/now")
            if self.fault != "no directory sync":
                disk.fsync_dir("s/now")
            disk.mark("acked", txid=txid)

    def recover(self, disk):
        if not disk.exists("s/now"):
            return None
        return disk.open("s/now", read_only=True).pread(10, 0)

    def good(self, outcome, acked, begun):
        return outcome in {bytes([t, t]) for t in (acked, begun)}


class LogStore:
    """Records of three bytes, appended; the last one is checked by a sum."""

    faults = ("", "no sum", "no sync")

    def __init__(self, fault, model):
        self.fault = fault
        # Records straddle the end of an atom from the second one on.
        self.skip = model.atom - 4
        self.files = {"log": b"\xff" * self.skip}

    def run(self, disk, commits):
        file = disk.open("log")
        for txid in range(1, commits + 1):
            disk.mark("begin", txid=txid)
            record = bytes([txid, txid, txid * 3 + 1])
            file.pwritev([record], self.skip + 3 * (txid - 1))
            if self.fault != "no sync":
                file.fdatasync()
            disk.mark("acked", txid=txid)

    def recover(self, disk):
        file = disk.open("log", read_only=True)
        found = []
        while True:
            one = file.pread(3, self.skip + 3 * len(found))
            right = len(one) == 3 and one[2] == one[0] * 2 + one[1] + 1
            if len(one) < 3 or (self.fault != "no sum" and not right):
                return tuple(found)
            found.append(one[:2])

    def good(self, outcome, acked, begun):
        return outcome in {
            tuple(bytes([t, t]) for t in range(1, n + 1)) for n in (acked, begun)
        }


STORES = [
    (store, fault)
    for store in (FlipStore, SwapStore, LogStore)
    for fault in store.faults
]


def differences(explorer, limit=IMAGES):
    """Points where the explorer and brute force disagree; and how many did not."""
    agreed = 0
    sweep = explorer.sweep()
    whole = True
    for point in explorer.points():
        try:
            eager = explorer.eager(point, limit)
        except TooManyImages:
            eager = None
        explorer._cap = _CAP if eager is not None else _GLANCE
        closure = next(sweep)
        if not closure.reused:
            whole = eager is not None
        if eager is None or not whole:
            continue
        lazy = {one.outcome for one in closure.outcomes}
        if not closure.closed or lazy != eager:
            return [(closure.point, lazy ^ eager)], agreed
        agreed += 1
    return [], agreed


def random_cases(seeds, length=9, models=MODELS, failing=0.0, recovery=random_recovery):
    for seed in seeds:
        model = models[seed % len(models)]
        files, trace = random_run(seed, model, length, failing=failing)
        yield Explorer(files, trace, recovery(seed), model, cap=_CAP)


def store_cases(models, commits=3):
    for model, (store, fault) in itertools.product(models, STORES):
        made = store(fault, model)
        disk = Disk(made.files, model)
        made.run(disk, commits)
        yield made, Explorer(made.files, disk.trace, made.recover, model)


def judged(store, explorer):
    """Whether every outcome of every point keeps the store's promise."""
    for closure in explorer.sweep():
        marks = explorer.marks(closure.point)
        acked = max((one["txid"] for one in marks if one.label == "acked"), default=0)
        begun = max((one["txid"] for one in marks if one.label == "begin"), default=0)
        for one in closure.outcomes:
            if not store.good(one.outcome, acked, begun):
                return False
    return True
