"""Toy subjects whose programs misbehave in ways that only processes can."""

import os
import signal
import sys
import time

from toy_store import Toy


class Slow(Toy):
    """Takes a moment for each program, and says which ones it began."""

    pause = 0.05

    def run(self, program, disk):
        note = os.environ.get("TOY_NOTES")
        if note:
            with open(note, "a", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(self.pause)
        return super().run(program, disk)


class Stuck(Slow):
    """Takes ages for each program."""

    pause = 60


class Marked(Toy):
    """The program of seed 3 can be told from the others."""

    def generate(self, seed):
        program = super().generate(seed)
        return (("put", "z", "marked"), *program) if seed == 3 else program

    def run(self, program, disk):
        if program and program[0] == ("put", "z", "marked"):
            self.misbehave()
        return super().run(program, disk)

    def misbehave(self):
        """What the marked program does to its process."""


class Hog(Marked):
    """Takes memory without end."""

    def misbehave(self):
        self.taken = []
        while True:
            self.taken.append(b"x" * (32 << 20))
            time.sleep(0.01)


class Leaky(Marked):
    """Opens files without end."""

    def misbehave(self):
        self.taken = []
        while True:
            self.taken.append(os.open(os.devnull, os.O_RDONLY))
            time.sleep(0.001)


class Sleepy(Marked):
    """Never ends."""

    def misbehave(self):
        time.sleep(600)


class Deadly(Marked):
    """Is killed each time it runs the marked program."""

    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyOnce(Marked):
    """Is killed the first time it runs the marked program."""

    def misbehave(self):
        note = os.environ["TOY_NOTES"]
        if not os.path.exists(note):
            with open(note, "w", encoding="utf-8"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)


class Turned(Toy):
    """Correct until the environment says what has become of it."""

    def __init__(self):
        super().__init__()
        self.turn = os.environ.get("TOY_TURN", "")
        if self.turn in self.mutants():
            self.bugs = frozenset({self.turn})
        self.runs = 0

    def run(self, program, disk):
        self.runs += 1
        if self.turn == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.turn == "unlike itself":
            disk.mark("begin", txid=-self.runs)
        return super().run(program, disk)


class Chatty(Toy):
    """Prints, to the file and to the descriptor."""

    def run(self, program, disk):
        sys.stdout.write("chatter\n")
        os.write(1, b"more chatter\n")
        return super().run(program, disk)


class Broken(Toy):
    """Cannot be made in a worker."""

    def __init__(self):
        spec = sys.modules["__main__"].__spec__
        if spec is not None and spec.name == "tornpage.run.worker":
            raise RuntimeError("no luck")
        super().__init__()


class Wishful(Toy):
    """Wants to see something that never happens, and something that does."""

    sometimes = ("a unicorn", "two slots")

    def features(self, history):
        states, _ = history
        return {"two slots"} if len(states) > 1 else set()
