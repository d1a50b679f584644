"""What recovery did after the answers that it got: asked once, remembered.

Theory
======
Recovery learns about the crash only from what the disk answers, and it is
deterministic: the next thing that it asks for, and at last its outcome, follow
from the answers so far. All its executions together are therefore one tree:

    lookup "db" --inode 1--> size --16384--> read 16..80 --b"..."--> ... outcome
                  '--none--> outcome          '--b"..."--> write ... ... outcome

An execution walks this tree first, on the real disk of this crash point: each
question is put to the disk, which decides, narrows and notes what was consumed
as it always does. It ends in one of two ways:

    at an outcome         that is the outcome, and no recovery was run
    at an unknown answer  recovery runs, is told the answers again from the first
                          one, and goes on with the disk where the walk stopped

Writes, syncs and changes of names are steps too, because a disk that was
written to answers differently and may decide more. So choices, tapes and
watches are those of an execution without this module; what is saved is the work
of the code under test between two questions.

Why this hides nothing. An outcome is given without running only when every
answer of the disk equals, byte for byte, those of an execution that ran. That is
the rule of determinism that the exploration rests on anyway. It is checked when
recovery runs: questions that are told again must be the same ones. A planted bug
changes what is asked and what comes out, so a memory is shared by programs of one
subject under one model, and never outlives the code that it was made with.

What it is not: it knows nothing of pages or engines, and keeps no state of the
code under test. An execution that does anything to the disk that is not in the
table `_STEPS` (a crash inside recovery, a sync made to fail) is not kept.

It pays when many executions repeat, as those of several programs that begin with
the same new file do; alone, a program's rarely do, and walking then costs more than
it saves. So it is given to an `Experiment`, never made by one.

Rejected: keys made of an opened handle's attributes. They save less (opening is
half of the time), and a forgotten attribute would be a wrong "consistent".
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from tornpage.choices import ReplayError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tornpage.disk import Disk
    from tornpage.life import Life, Node

__all__ = ["Memory"]

# What a disk asks of its life, first those whose first argument is a file.
_FILE_STEPS: Final = frozenset({"size", "readable", "read", "write", "resize", "sync"})
_STEPS: Final = _FILE_STEPS | {"lookup", "create", "rename", "sync_dir", "node"}

# Bytes of questions and answers that are kept, each counted with its overhead.
# Measured: one program needs up to 44 MB. Beyond the bound all is forgotten.
_BOUND: Final = 64 * 1024 * 1024
_STEP_BYTES: Final = 500

_Question = tuple[Any, ...]
_Step = tuple[_Question, Any]


class _Turn:
    """A question, and what came after each answer: a turn or an outcome."""

    __slots__ = ("answers", "question")

    def __init__(self, question: _Question) -> None:
        self.question = question
        self.answers: dict[Any, _Turn | _End] = {}


class _End:
    """An outcome, after which nothing is asked."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Hashable) -> None:
        self.outcome = outcome


class _Listener:
    """Stands between a disk and its life, tells again and then writes down.

    Attributes:
        steps: Questions and answers, first those that are told again.
        kept: Whether all that was done can be done again by a walk.
    """

    __slots__ = ("_at", "_known", "_life", "kept", "steps")

    def __init__(self, life: Life, known: list[_Step]) -> None:
        self._life = life
        self._known = len(known)
        self._at = 0
        self.steps = known
        self.kept = True

    # What does not depend on the platter and is not changed by any step.

    @property
    def generation(self) -> int:
        return self._life.generation

    # The steps.

    def lookup(self, name: str) -> Any:
        return self._step(("lookup", name))

    def create(self, name: str) -> Any:
        return self._step(("create", name))

    def rename(self, name: str, inode: int | None) -> Any:
        return self._step(("rename", name, inode))

    def sync_dir(self, path: str) -> Any:
        return self._step(("sync_dir", path))

    def node(self, inode: int, path: str) -> Node:
        self._step(("node", inode, path))
        return self._life.node(inode, path)

    def size(self, node: Node) -> Any:
        return self._step(("size", node.inode))

    def readable(self, node: Node, start: int, stop: int) -> Any:
        return self._step(("readable", node.inode, start, stop))

    def read(self, node: Node, start: int, stop: int) -> Any:
        return self._step(("read", node.inode, start, stop))

    def write(self, node: Node, offset: int, data: bytes) -> None:
        self._step(("write", node.inode, offset, data))

    def resize(self, node: Node, size: int) -> None:
        self._step(("resize", node.inode, size))

    def sync(self, node: Node, kind: str, path: str) -> Any:
        return self._step(("sync", node.inode, kind, path))

    def _step(self, question: _Question) -> Any:
        at = self._at
        if at < self._known:
            asked, answer = self.steps[at]
            if asked != question:
                raise ReplayError(
                    f"after the same {at} answers recovery asked the disk to "
                    f"{_text(asked)} and now to {_text(question)}: recovery must "
                    "depend on nothing but what it reads from the disk"
                )
            self._at = at + 1
            return answer
        answer = _put(self._life, question)
        if self.kept:
            self.steps.append((question, answer))
            self._known = self._at = at + 1
        return answer

    # Everything else can be had, but ends the record.

    def __getattr__(self, name: str) -> Any:
        if name == "read_only" and not self._life.fail_sync:
            # It follows from the syncs, and none fails.
            return self._life.read_only
        self._unheard()
        return getattr(self._life, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _Listener.__slots__:
            object.__setattr__(self, name, value)
            return
        self._unheard()
        setattr(self._life, name, value)

    def _unheard(self) -> None:
        if self._at < self._known:
            raise ReplayError(
                f"recovery ended, or did something unusual, after {self._at} answers "
                f"of which it had asked for {self._known} before: recovery must "
                "depend on nothing but what it reads from the disk"
            )
        self.kept = False

    def finish(self) -> None:
        """Recovery has returned.

        Raises:
            ReplayError: It has not asked all that was told again.
        """
        if self._at < self._known:
            self._unheard()


class Memory:
    """The executions of one recovery, as one tree.

    Args:
        bound: Bytes to keep; beyond it everything is forgotten, which costs
            time and nothing else.

    Attributes:
        ran: How often recovery was run.
        known: How often its outcome was known without.
    """

    __slots__ = ("_bound", "_root", "_spent", "known", "ran")

    def __init__(self, bound: int = _BOUND) -> None:
        self._bound = bound
        self._spent = 0
        self._root: _Turn | _End | None = None
        self.ran = 0
        self.known = 0

    def outcome(self, disk: Disk, recover: Callable[[Disk], Hashable]) -> Hashable:
        """What `recover` reports of a disk that has just crashed.

        Args:
            disk: Fresh from the crash, nothing asked of it yet.
            recover: Always the same one, under the same model.

        Raises:
            ReplayError: It is not deterministic.
        """
        life = disk._life
        steps: list[_Step] = []
        turn = self._root
        while turn.__class__ is _Turn:
            assert isinstance(turn, _Turn)
            question = turn.question
            answer = _put(life, question)
            steps.append((question, answer))
            turn = turn.answers.get(answer)
        if isinstance(turn, _End):
            self.known += 1
            return turn.outcome
        self.ran += 1
        walked = len(steps)
        listener = _Listener(life, steps)
        disk._life = listener  # type: ignore[assignment]
        try:
            outcome = recover(disk)
            listener.finish()
        finally:
            disk._life = life
        if listener.kept:
            self._keep(steps, walked, outcome)
        return outcome

    def _keep(self, steps: list[_Step], walked: int, outcome: Hashable) -> None:
        """Hang what is new below what was walked."""
        self._spent += sum(map(_cost, steps[walked:]))
        if self._spent > self._bound:
            self._root, self._spent = None, sum(map(_cost, steps))
        if not steps:
            self._root = _End(outcome)
            return
        turn = self._root
        if turn is None:
            turn = self._root = _Turn(steps[0][0])
        for (_, answer), (asked, _) in pairwise(steps):
            assert isinstance(turn, _Turn)
            below = turn.answers.get(answer)
            if below is None:
                below = turn.answers[answer] = _Turn(asked)
            turn = below
        assert isinstance(turn, _Turn)
        turn.answers[steps[-1][1]] = _End(outcome)


def _put(life: Life, question: _Question) -> Any:
    """Put a question to the disk."""
    step, first = question[0], question[1]
    if step in _FILE_STEPS:
        return getattr(life, step)(life._nodes[first], *question[2:])
    if step == "node":
        life.node(first, question[2])
        return None
    return getattr(life, step)(*question[1:])


def _cost(step: _Step) -> int:
    (asked, answer) = step
    read = len(answer) if isinstance(answer, bytes) else 0
    written = len(asked[3]) if asked[0] == "write" else 0
    return _STEP_BYTES + read + written


def _text(question: _Question) -> str:
    step, *facts = question
    shown = [f"{len(one)} bytes" if isinstance(one, bytes) else one for one in facts]
    return f"{step} {' '.join(map(str, shown))}"
