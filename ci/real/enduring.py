"""The engine on a drive whose requests fail: what it acknowledged must be there.

    commit 1 .. n, by a careful application      request k, and a few behind it: EIO
                                                           all later ones work

    a commit raised      it is not acknowledged; what can be read is the one before it
    the next one, too    close, open again
    that as well         the process ends; unmount, mount, another process goes on

    crash images of moments before, at and behind the failure, and at the end:
    as in `store`

A process is all that the engine remembers of a disk, which it does by storage: another
storage is another process. It may be the next one only behind an unmount. What one
that dies in doubt leaves in the page cache is a limit of the engine
(docs/injected-errors.md), and an unmount empties the cache.

To a drive that was asked again, by the mount, a request that failed is no riddle any
more: what was read was there. Images of later moments are made of that (`settled`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ci.real.device import Fault
from ci.real.machine import lay
from ci.real.store import (
    NAME,
    Kept,
    State,
    Story,
    changed,
    commit,
    content_of,
    examine,
    opened,
    planting,
)
from ci.real.trial import Run

from shearbolt import BoltError, DatabaseFailedError, StorageError
from shearbolt.storage import OSStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ci.real.device import Request
    from ci.real.trial import Bench

    import shearbolt

__all__ = ["Endured", "around", "endured", "kind_of", "settled"]

_REMOUNTS = 3
_LARGE = 50_000
_LETTERS = 16
_MOST_FAILING = 8
_META = b"\xed\xda\x0c\xed"
_KINDS = {1, 2, 4, 16}
"""Flags of a bolt page."""


@dataclass(slots=True)
class Endured(Kept):
    """What a run with failing requests showed.

    Attributes:
        failed: How many requests failed.
        refused: How many commits raised, or could not begin.
        remounts: How often the process ended and the file system was mounted again.
        facts: (what the first failing request was, what the application then met).
        lies: What was wrong while the program ran: readers saw what was not
            acknowledged, or an error came that is not documented.
    """

    failed: int = 0
    refused: int = 0
    remounts: int = 0
    facts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)


def kind_of(request: Request) -> str:
    """What a request is: a flush, a page or a meta of the database, or another write.

    Told by its first bytes: a page says which it is, and a large value is the same
    letter for ever.
    """
    if request.is_flush:
        return "flush"
    start = request.data[:64]
    if start[16:20] == _META:
        return "meta page"
    number, flags = int.from_bytes(start[:8], "little"), start[8:10]
    page = number < 1 << 16 and int.from_bytes(flags, "little") in _KINDS
    value = len(set(start[:_LETTERS])) == 1 and start[:1].isalpha()
    return "page" if page or value else "file system"


def settled(record: Sequence[Request], until: int) -> tuple[Request, ...]:
    """A record as it counts once the drive was read from.

    Writes that failed wrote nothing, and flushes that failed dropped nothing: what
    was read was there.

    Args:
        record: The requests.
        until: How many there were when it was read from.
    """
    return tuple(
        replace(one, offset=max(one.offset, 0), data=b"")
        if one.failed and at < until
        else one
        for at, one in enumerate(record)
    )


def around(
    record: Sequence[Request], begin: int, images: int
) -> Iterator[tuple[range, int]]:
    """Where to crash a run: positions, and how many images of them.

    Args:
        record: The requests.
        begin: The first position.
        images: How many images in all.
    """
    end = len(record) + 1
    bad = [at for at, one in enumerate(record) if one.failed]
    first, last = (bad[0], bad[-1]) if bad else (end, end)
    # Requests of one commit, and of the one or two behind it.
    groups = (
        (range(begin, first), 1), (range(first, last + 1), 1),
        (range(last + 1, last + 9), 3), (range(last + 9, last + 33), 3),
        (range(last + 33, end), 2), (range(end - 1, end), 1),
    )  # fmt: skip
    shares = [
        (range(max(begin, one.start), min(end, one.stop)), share)
        for one, share in groups
    ]
    whole = sum(share for one, share in shares if one)
    for one, share in shares:
        if one:
            yield one, max(1, images * share // whole)


class _Application:
    """A careful application; each of its processes knows the disk by a storage.

    Args:
        path: Of the database.
        story: Where promises are noted.
        draw: Draws what it does.
        sync_twice: The engine's option.
        result: Where it is noted how it went.
    """

    def __init__(
        self,
        path: str,
        story: Story,
        draw: random.Random,
        result: Endured,
        *,
        sync_twice: bool,
    ) -> None:
        self.events: list[str] = []
        self._path = path
        self._story = story
        self._draw = draw
        self._result = result
        self._twice = sync_twice
        self._storage = OSStorage()
        self._db: shearbolt.DB | None = None
        self._content: State = {}
        self._is_new = True
        self._number = 0
        self.troubles = 0

    def step(self) -> None:
        """One commit, or what has to come before it.

        Raises:
            BoltError: Of a kind that no failing call may lead to.
        """
        self._number += 1
        try:
            if self._db is not None and self._draw.random() < 0.15:
                self.close()
            if self._db is None:
                self._open()
            self._commit()
            if self.troubles:
                self.events.append("0")
            self.troubles = 0
            self._result.commits += 1
        except (StorageError, DatabaseFailedError) as error:
            self._result.refused += 1
            self.troubles += 1
            name = type(error).__name__.removesuffix("Error")
            number = error.errno if isinstance(error, StorageError) else None
            self.events.append(errno.errorcode.get(number or 0, name))
        if self.troubles:
            self._look()
        if self.troubles == 2:
            self.close()

    def _open(self) -> None:
        self._db = opened(self._path, storage=self._storage, sync_twice=self._twice)
        content = content_of(self._db)
        legal = self._story.now()
        if not self._is_new:
            # This process knows what has failed.
            legal = legal[:1]
        here = self._story.same(content)
        numbers = [one for one in reversed(legal) if one in here]
        if not numbers:
            self._result.lies.append(
                f"opened, it shows commit {sorted(here)}; promised: {legal}"
            )
        self._content = content
        self._is_new = False
        self._story.mark("opened", numbers[0] if numbers else max(here, default=0))

    def _commit(self) -> None:
        if self._db is None:
            return
        after = changed(self._draw, self._number, self._content)
        if self._draw.random() < 0.2:
            size = self._draw.randrange(_LARGE)
            letter = bytes([65 + self._number % 26])
            after.setdefault(b"large", {})[b"%d" % (self._number % 5)] = letter * size
        number = self._story.attempt(after)
        note = functools.partial(self._story.mark, attempt=number)
        commit(self._db, self._content, after, note)
        note("acked")
        self._content = after

    def _look(self) -> None:
        """Read what readers see after an error: nothing that was not acknowledged."""
        if self._db is None:
            return
        # A file system that has shut down shows nothing.
        with contextlib.suppress(StorageError):
            try:
                right = content_of(self._db) == self._content
            except ValueError as error:
                self._result.lies.append(f"after an error, {error}")
            else:
                if not right:
                    self._result.lies.append("an error, and readers see another commit")

    def close(self) -> None:
        """Close the database."""
        if self._db is not None:
            with contextlib.suppress(StorageError):
                self._db.close()
        self._db = None

    def end(self) -> None:
        """The process ends, another one begins."""
        self.close()
        self._story.mark("killed")
        self._storage = OSStorage()
        self._is_new = True
        self.troubles = 0
        # Files of slots in doubt are open as long as somebody remembers the error.
        gc.collect()


def endured(
    bench: Bench,
    *,
    commits: int,
    seed: int,
    images: int,
    position: int | None,
    error: int = errno.EIO,
    planted: str = "",
    forgetful: bool = False,
) -> Endured:
    """Run commits while a few requests fail, crash it, open what is left.

    Args:
        bench: The file system.
        commits: How many are tried.
        seed: Draws what they do, how many requests fail, and the crash images.
        images: How many of them, about.
        position: The first request that fails, counted from the opening; None: none.
        error: The errno that requests are answered with.
        planted: A bug of `boltmodel.mutants` to plant while the commits run.
        forgetful: Whether the drive drops what a failed flush was to make durable.
    """
    draw = random.Random(seed)
    device = bench.device
    story = Story(device.length)
    twice = "data=journal" in bench.system.options and seed % 2 == 1
    result = Endured()
    path = os.path.join(bench.root, NAME)
    app = _Application(path, story, draw, result, sync_twice=twice)
    fault = None
    if position is not None:
        count = draw.choice((1, 1, 1, 2, 3, _MOST_FAILING))
        fault = Fault(after=position, count=count, number=error)
    mounts: list[int] = []
    with contextlib.ExitStack() as stack:
        lay(stack.enter_context(bench.fresh()), {})
        stack.enter_context(planting(planted))
        begin = device.length()
        device.arm(fault)
        story.mark("opening")
        try:
            for _ in range(commits):
                app.step()
                if app.troubles > 2 and result.remounts < _REMOUNTS:
                    result.remounts += 1
                    app.events.append("remount")
                    app.end()
                    stack.close()
                    _mount(bench, stack, mounts)
                    stack.enter_context(planting(planted))
        except (BoltError, ValueError, KeyError) as wrong:
            # A key that is not there any more shows other content than readers saw.
            result.lies.append(f"{type(wrong).__name__}: {wrong}")
        except OSError as problem:
            app.events.append(f"mounting: {problem}")
        app.end()
    record = tuple(device.taken())
    result.requests = len(record) - begin
    bad = [one for one in record if one.failed]
    result.failed = len(bad)
    if bad:
        more = "" if len(bad) == 1 else " and more"
        result.facts[kind_of(bad[0]) + more, _told(app.events)] += 1
    _crash(
        bench, story, record, [begin, *mounts], result, draw, images,
        forgetful=forgetful,
    )  # fmt: skip
    return result


def _mount(bench: Bench, stack: contextlib.ExitStack, mounts: list[int]) -> None:
    """Mount again, and once more if the requests that fail met the mount.

    Each time the drive is read from anew: how many requests there had been is noted.

    Raises:
        OSError: It cannot be mounted.
    """
    for _ in range(_MOST_FAILING):
        mounts.append(bench.device.length())
        with contextlib.suppress(OSError):
            stack.enter_context(bench.again())
            return
    mounts.append(bench.device.length())
    stack.enter_context(bench.again())


def _told(events: Sequence[str]) -> str:
    """What the application met, without repetitions."""
    short = [one for at, one in enumerate(events) if not at or one != events[at - 1]]
    return ", ".join(short) or "0"


def _crash(
    bench: Bench,
    story: Story,
    record: tuple[Request, ...],
    mounts: Sequence[int],
    result: Endured,
    draw: random.Random,
    images: int,
    *,
    forgetful: bool,
) -> None:
    """Crash a run before, at and behind its failures; open what is left."""
    begin = mounts[0]
    for positions, most in around(record, begin, images):
        for at, start in enumerate(mounts):
            stop = mounts[at + 1] if at + 1 < len(mounts) else len(record) + 1
            here = range(max(start, positions.start), min(stop, positions.stop))
            if not here:
                continue
            seen = settled(record, start)
            run = Run(seen, begin, ())
            for image, those in bench.chosen(
                run, draw, most, forgetful=forgetful, positions=here
            ):
                examine(bench, story, seen, image, those, result)
