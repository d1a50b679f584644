"""One program on one file system: run, recorded, crashed, looked at.

    mount the recorded device, lay the durable files, sync
    step 1 .. n: how many requests had there been before it, how many after it
    unmount, take the record

    for sampled positions and images:  base + image --loop--> mount, look

A crash at position p is a crash while there had been p requests. Several moments
can be that: inside a step, between two. The image must be right at each of them.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ci.real.device import Fault, recorder
from ci.real.images import apply, sampled
from ci.real.machine import RealMachine, lay, tree_of
from ci.real.programs import performed
from ci.real.systems import copied, formatted, mounted, repair

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from ci.real.device import Recorder, Request
    from ci.real.images import Image
    from ci.real.machine import Tree
    from ci.real.programs import Program
    from ci.real.systems import FileSystem

__all__ = ["Bench", "Crash", "Run", "bench"]


@dataclass(frozen=True, slots=True)
class Run:
    """A program that was run.

    Attributes:
        record: What the device was asked.
        begin: How many requests there were when the durable files were durable.
        spans: For each step, how many there were when it began and ended.
        refused: Of each step the errno, 0 if it returned.
        live: What the program itself read after each step, None for an error; kept
            only if something was to fail.
    """

    record: tuple[Request, ...]
    begin: int
    spans: tuple[tuple[int, int], ...]
    refused: tuple[int, ...] = ()
    live: tuple[Tree | None, ...] = ()

    def moments(self, position: int) -> Iterator[tuple[int, bool]]:
        """The moments with so many requests, as (step, inside it), steps from 1.

        A crash before the first step is (0, False).
        """
        for at in range(len(self.spans) + 1):
            ended = self.spans[at - 1][1] if at else self.begin
            if at and self.spans[at - 1][0] <= position <= ended:
                yield at, True
            last = at == len(self.spans)
            if ended <= position and (last or position <= self.spans[at][0]):
                yield at, False


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash image that was mounted.

    Attributes:
        position: How many requests there had been.
        image: Which image.
        tree: What is in it; None if the file system cannot be mounted or read.
        error: Why not.
        repaired: Whether it took the file system's repair tool.
    """

    position: int
    image: Image
    tree: Tree | None
    error: str = ""
    repaired: bool = False


class Bench:
    """A file system, formatted, on a recorded device.

    Args:
        system: The file system.
        place: An empty directory of its own.
        device: The device.
    """

    def __init__(self, system: FileSystem, place: str, device: Recorder) -> None:
        self.system = system
        self.device = device
        self.base = os.path.join(place, "base")
        self.root = os.path.join(place, "root")
        self._image = os.path.join(place, "crashed")

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        """The file system as it was made, mounted on the device."""
        self.device.reset()
        with self.again():
            yield self.root

    @contextlib.contextmanager
    def again(self) -> Iterator[str]:
        """The file system as it is on the device, mounted.

        Raises:
            OSError: It cannot be mounted or unmounted.
        """
        attaching = self.device.unrecorded()
        with mounted(
            self.device.path, self.root, self.system.options, attaching=attaching
        ):
            yield self.root

    def run(self, program: Program, fault: Fault | None = None) -> Run:
        """Run a program; `fault` is what its `fail` steps do to the device.

        Raises:
            OSError: The file system could not be mounted or unmounted.
        """
        spans: list[tuple[int, int]] = []
        live: list[Tree | None] = []
        refused: list[int] = []
        device = self.device
        with self.fresh() as root:
            lay(root, program.contents())
            machine = RealMachine(root, lambda: _arm(device, fault))
            begin = before = device.length()
            for at in performed(program.steps, machine):
                spans.append((before, device.length()))
                refused.append(machine.refused)
                if fault is not None:
                    try:
                        live.append(tree_of(root))
                    except OSError:
                        # A file system that has shut down shows nothing.
                        live.append(None)
                    if program.steps[at - 1] != ("fail",):
                        device.arm(None)
                before = device.length()
        return Run(
            tuple(device.taken()), begin, tuple(spans), tuple(refused),
            tuple(live),
        )  # fmt: skip

    def crashed(self, run: Run, position: int, image: Image) -> Crash:
        """Mount one crash image and look."""
        with self.opened(run.record, image) as (refused, repaired):
            tree, error = None, refused
            if not error:
                try:
                    tree = tree_of(self.root)
                except OSError as problem:
                    error = f"reading: {problem}"
            return Crash(position, image, tree, error, repaired)

    @contextlib.contextmanager
    def opened(
        self, record: Sequence[Request], image: Image
    ) -> Iterator[tuple[str, bool]]:
        """Have a crash image mounted.

        Gives why it cannot be, or nothing; and whether it was repaired first.
        """
        copied(self.base, self._image)
        handle = os.open(self._image, os.O_RDWR)
        try:
            for offset, data in apply(image, record):
                os.pwrite(handle, data, offset)
        finally:
            os.close(handle)
        with contextlib.ExitStack() as stack:
            there = mounted(self._image, self.root, self.system.options)
            error, repaired = "", False
            try:
                stack.enter_context(there)
            except OSError as problem:
                error = f"mounting: {problem}"
            if error and self.system.repair:
                try:
                    repair(self.system, self._image)
                    there = mounted(self._image, self.root, self.system.options)
                    stack.enter_context(there)
                    error, repaired = "", True
                except OSError as problem:
                    error += f"; after a repair: {problem}"
            yield error, repaired

    def crashes(
        self, run: Run, draw: random.Random, most: int, *, forgetful: bool = False
    ) -> Iterator[Crash]:
        """Sampled crashes of a run: each position, at most so many images.

        An image that several positions leave is mounted once and counts for each.
        """
        for image, positions in self.chosen(run, draw, most, forgetful=forgetful):
            seen = self.crashed(run, positions[0], image)
            for position in positions:
                yield replace(seen, position=position)

    def chosen(
        self,
        run: Run,
        draw: random.Random,
        most: int,
        *,
        forgetful: bool = False,
        positions: Iterable[int] | None = None,
    ) -> Iterator[tuple[Image, list[int]]]:
        """Sampled images of a run, each with the positions that leave it.

        Of all positions, unless some are given.
        """
        wanted: dict[Image, set[int]] = {}
        if positions is None:
            positions = range(run.begin, len(run.record) + 1)
        for position in positions:
            for image in sampled(
                run.record, position, draw, begin=run.begin,
                atomic=self.system.superblocks, forgetful=forgetful,
            ):  # fmt: skip
                wanted.setdefault(image, set()).add(position)
        images = list(wanted)
        for image in draw.sample(images, min(most, len(images))):
            yield image, sorted(wanted[image])


def _arm(device: Recorder, fault: Fault | None) -> None:
    """Have the device fail, if it is to.

    Raises:
        NotImplementedError: It is not.
    """
    if fault is None:
        raise NotImplementedError("no fault was given")
    device.arm(fault)


@contextlib.contextmanager
def bench(system: FileSystem, place: str) -> Iterator[Bench]:
    """Format a file system and serve it.

    Raises:
        OSError: It cannot be formatted or mounted.
        RuntimeError: The device did not begin to serve.
    """
    root, served = os.path.join(place, "root"), os.path.join(place, "device")
    os.mkdir(root)
    os.mkdir(served)
    base = os.path.join(place, "base")
    formatted(system, base, root)
    with recorder(base, served) as device:
        yield Bench(system, place, device)
