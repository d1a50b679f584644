"""What recovery did after the answers that it got: run once, remembered.

Theory
======
Recovery learns about a crash only from what the disk answers, and it is
deterministic: the next thing that it asks for, and at last its outcome, follow
from the answers so far. All its executions together are therefore one tree:

    lookup "db" --inode 1--> size --16384--> ask --version 7--> read ... outcome
                  '--none--> outcome           '--version 6--> read ... outcome

An execution walks this tree first, on the real disk of its crash point: each
question is put to the disk, which decides, narrows and notes what was consumed
as it always does. It ends in one of two ways:

    at an outcome         that is the outcome, and no recovery was run
    at an unknown answer  recovery runs, is told the answers again from the first
                          one, and goes on with the disk where the walk stopped

Writes, syncs and changes of names are steps too, because a disk that was
written to answers differently and may decide more. The answer of a write is what it
left beside its own bytes: that rests on the platter, and what is read later rests on
it. So choices, tapes and watches are those of an execution without this module; what
is saved is the work of the code under test between two questions.

Most questions need not be put again either. A *stretch* is what lies between two
choices. When nobody has changed what its pieces may be since it was walked, its
answers are the same and none of them is a choice: the walk jumps to its end. So
the cost of a crash point follows what an operation changed, not what recovery
reads.

        ask --version 7--> [ 120 reads, a commit, 130 reads ] --> outcome
                             pages 2, 5, 6, 9 unchanged: one step

Why this hides nothing. An outcome is given without running only when every
answer of the disk equals those of an execution that ran. That is the rule of
determinism that the exploration rests on anyway. It is checked when recovery runs:
questions that are told again must be the same ones. A planted bug changes what is
asked and what comes out, so a memory never outlives the code that it was made with.

What it is not: it knows nothing of pages or engines, and keeps no state of the
code under test. An execution that does anything to the disk that `_Listener` has no
method for (a crash inside recovery, a sync made to fail) is not kept.

Rejected: keys made of an opened handle's attributes. A forgotten attribute would be
a wrong "consistent".
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tornpage.choices import ReplayError
from tornpage.disk.witness import told
from tornpage.explore.turns import End, Straight, Stretch, Turn
from tornpage.platter.cell import NEVER
from tornpage.platter.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tornpage.disk.life import Life
    from tornpage.disk.node import Node
    from tornpage.disk.simulated import Disk
    from tornpage.explore.turns import Question, Step
    from tornpage.model import CrashModel
    from tornpage.platter.pieces import Changes, Place, Watch

__all__ = ["Memory"]

_READING: Final = frozenset({"ask", "size", "pread", "lookup", "names_in", "folder"})
_NAMING: Final = frozenset({"lookup", "folder"})
_NUMBERING: Final = frozenset({"create", "make_folder", "find_folder", "assume_folder"})
_ALONE: Final = frozenset({"ask", "size", *_NUMBERING})

# Bytes of questions and answers that are kept, each counted with its overhead.
# Beyond the bound all is forgotten.
_BOUND: Final = 512 * 1024 * 1024
_STEP_BYTES: Final = 500


class _Record:
    """The steps of one execution, and what lies between its choices.

    Where several names are pending, the answer for one may settle another, so a
    pending name counts as a choice. A question (`ask`) and the size are stretches by
    themselves: these are what the next operation is likely to change.

    A stretch is known by the answers before it. That is enough as long as these tell
    what was chosen: bytes do, a write that made the disk decide does not.

    Attributes:
        steps: Questions and answers.
        kept: Whether all that was done can be done again by a walk.
        stretches: (first step, behind the last, pieces, whether it is to be kept)
            between choices.
        blind: Whether the answers do not tell any more what was chosen: two
            executions with the same answers may go on differently.
        turns: The turns that were walked through, by the number of steps before.
    """

    __slots__ = (
        "_begun",
        "_life",
        "_pieces",
        "blind",
        "kept",
        "steps",
        "stretches",
        "turns",
    )

    def __init__(self, life: Life) -> None:
        self._life = life
        self.steps: list[Step] = []
        self.kept = True
        self.stretches: list[tuple[int, int, Watch, bool]] = []
        self.blind = False
        self.turns: dict[int, Turn | End] = {}
        self._begin()

    def pread(self, node: Node, start: int, stop: int) -> bytes:
        """As `put`, for what is asked most: it never ends a stretch by itself."""
        life = self._life
        chooser = life.chooser
        asked = chooser.asked
        try:
            answer = life.pread(node, start, stop)
        except BaseException:
            self.kept = False
            raise
        question = "pread", node.inode, start, stop
        if chooser.asked == asked:
            self.steps.append((question, answer))
        else:
            self._chosen(question, answer, tells=node.limit == NEVER)
        return answer

    def put(self, question: Question) -> Any:
        """Put a question to the disk and note the answer."""
        if question[0] == "pread":
            return self.pread(self._life.nodes[question[1]], *question[2:])
        life, step = self._life, question[0]
        # What is made has the next number, and that is another one later.
        pending = step in _NUMBERING or (
            step in _NAMING and life.is_pending(question[1])
        )
        alone = pending or step in _ALONE
        if alone:
            self._split()
        asked = life.chooser.asked
        try:
            answer = _put(life, question)
        except BaseException:
            # A question of the code under test may raise: no answer to go on from.
            self.kept = False
            raise
        if pending or life.chooser.asked != asked:
            self._chosen(question, answer, tells=pending or self._tells(question))
            return answer
        self.steps.append((question, answer))
        if alone:
            self._split()
        return answer

    def _chosen(self, question: Question, answer: Any, *, tells: bool) -> None:
        """Note an answer that was a choice.

        Args:
            question: The question.
            answer: The answer.
            tells: Whether the answer tells everything that was chosen for it.
        """
        self._end()
        self.blind = self.blind or not tells
        self.steps.append((question, answer))
        self._begin()

    def _split(self) -> None:
        """End a stretch, if it has begun, and begin the next."""
        if self._begun < len(self.steps):
            self._end()
            self._begin()

    def jump(self, stretch: Stretch) -> None:
        """Steps of which the answers are known; the disk need not hear of them."""
        self._end()
        at = len(self.steps)
        self.steps += stretch.steps
        self.stretches.append((at, len(self.steps), stretch.pieces, False))
        self._begin()

    def finish(self) -> None:
        """Nothing more is asked."""
        self._end()

    def _begin(self) -> None:
        self._begun = len(self.steps)
        self._pieces = self._life.listen()

    def _end(self) -> None:
        at = len(self.steps)
        new = self._begun < at and not self.blind
        self.stretches.append((self._begun, at, self._pieces, new))

    def _tells(self, question: Question) -> bool:
        """Whether its answer tells everything that was chosen for it."""
        match question[0]:
            case "size":
                return True
            case "ask":
                return self._life.told
        return False


class _Listener:
    """Stands between a disk and its life, tells again and then writes down."""

    __slots__ = ("_at", "_known", "_life", "_record")

    def __init__(self, life: Life, record: _Record) -> None:
        self._life = life
        self._record = record
        self._known = len(record.steps)
        self._at = 0

    # What does not depend on the platter and is not changed by any step.

    @property
    def generation(self) -> int:
        return self._life.generation

    @property
    def model(self) -> CrashModel:
        return self._life.model

    def folder_path(self, folder: int) -> str | None:
        return self._life.folder_path(folder)

    # The steps.

    def lookup(self, place: Place) -> Any:
        return self._step(("lookup", place))

    def create(self, place: Place) -> Any:
        return self._step(("create", place))

    def name(self, place: Place, number: int | None) -> Any:
        return self._step(("name", place, number))

    def folder(self, place: Place) -> Any:
        return self._step(("folder", place))

    def find_folder(self, place: Place) -> Any:
        return self._step(("find_folder", place))

    def make_folder(self, place: Place) -> Any:
        return self._step(("make_folder", place))

    def assume_folder(self, place: Place) -> Any:
        return self._step(("assume_folder", place))

    def sync_dir(self, path: str) -> Any:
        return self._step(("sync_dir", path))

    def node(self, inode: int, path: str) -> Node:
        self._step(("node", inode, path))
        return self._life.node(inode, path)

    def names_in(self, folder: int) -> Any:
        return self._step(("names_in", folder))

    def ask(self, node: Node, question: Callable[[Any], Any]) -> Any:
        return self._step(("ask", node.inode, question))

    def size(self, node: Node) -> Any:
        return self._step(("size", node.inode))

    def pread(self, node: Node, start: int, stop: int) -> Any:
        if self._at >= self._known and self._record.kept:
            return self._record.pread(node, start, stop)
        return self._step(("pread", node.inode, start, stop))

    def write(self, node: Node, offset: int, data: bytes) -> None:
        self._step(("write", node.inode, offset, data))

    def resize(self, node: Node, size: int) -> None:
        self._step(("resize", node.inode, size))

    def sync(self, node: Node, kind: str, path: str) -> Any:
        return self._step(("sync", node.inode, kind, path))

    def _step(self, question: Question) -> Any:
        at = self._at
        if at < self._known:
            asked, answer = self._record.steps[at]
            if asked != question and not _alike(asked, question):
                raise ReplayError(
                    f"after the same {at} answers recovery asked the disk to "
                    f"{_text(asked, self._life)} and now to "
                    f"{_text(question, self._life)}: recovery must "
                    "depend on nothing but what it reads from the disk"
                )
            self._at = at + 1
            return answer
        if not self._record.kept:
            return _put(self._life, question)
        return self._record.put(question)

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
        self.finish()
        self._record.kept = False

    def finish(self) -> None:
        """Recovery has returned.

        Raises:
            ReplayError: It has not asked all that was told again.
        """
        if self._at < self._known:
            raise ReplayError(
                f"recovery ended, or did something unusual, after {self._at} answers "
                f"of which it had asked for {self._known} before: recovery must "
                "depend on nothing but what it reads from the disk"
            )


class Memory:
    """The executions of one recovery, as one tree.

    Args:
        jumps: Whether stretches may be jumped over. Not where answers come with
            a time or with lies: there a piece may be decided by another one. Nor
            where recovery may be crashed: one that is not run has to leave the disk
            as it would, and disks of other crashes come here, too.
        bound: Bytes to keep; beyond it everything is forgotten, which costs
            time and nothing else.

    Attributes:
        jumps: As given.
        changes: What the operations of the present program change.
        met: The outcomes that it has met.
        parts: Answers about parts of files.
        spent: Bytes of recoveries kept, roughly.
    """

    __slots__ = (
        "_bound",
        "_root",
        "_walked",
        "changes",
        "jumps",
        "met",
        "parts",
        "spent",
    )

    def __init__(self, *, jumps: bool, bound: int = _BOUND) -> None:
        self.jumps = jumps
        self._bound = bound
        self.spent = 0
        self._root: Turn | End | None = None
        self.parts = Parts()
        # Turns from which this program has walked a stretch.
        self._walked: list[Turn] = []
        self.begin((), None)

    def begin(
        self, changes: Sequence[Changes], files: Mapping[str, bytes] | None
    ) -> None:
        """Another program.

        Args:
            changes: Gets what each of its operations changes, as it is explored.
            files: What it starts from, see `Parts.begin`.
        """
        self.changes = changes
        self.parts.begin(files)
        self.met: set[End] = set()
        # They hold for one program, and are most of what a walk leaves behind.
        for turn in self._walked:
            turn.stretch = None
        self._walked = []

    def forget(self) -> None:
        """Forget all recoveries."""
        self._root, self.spent = None, 0
        self._walked = []

    def end(
        self, disk: Disk, recover: Callable[[Disk], End], watch: Watch
    ) -> tuple[End, bool]:
        """How `recover` ends on a disk that has just crashed.

        Args:
            disk: Fresh from the crash, nothing asked of it yet. If recovery is not
                run, it was asked all the same, but nothing is in its trace.
            recover: Always the same one, under the same model.
            watch: Gets every piece that is consumed.

        Returns:
            The end, and whether this program had not met it before: then recovery
            was run for it, now or for an earlier program.

        Raises:
            ReplayError: It is not deterministic.
        """
        life = disk._life
        record = _Record(life)
        end = self._walk(life, record)
        ran = not isinstance(end, End)
        if isinstance(end, End):
            record.finish()
        else:
            end = self._run(disk, recover, record)
        if record.kept and (ran or any(one[3] for one in record.stretches)):
            self._keep(record, end)
        for _, _, pieces, _ in record.stretches:
            watch.add(pieces)
        new = end not in self.met
        self.met.add(end)
        return end, new

    def _walk(self, life: Life, record: _Record) -> Turn | End | None:
        """Follow the answers as far as they are known; None: to where none is."""
        changes = self.changes
        turn = self._root
        done = 0
        while isinstance(turn, Turn):
            record.turns[len(record.steps)] = turn
            stretch = turn.stretch
            if stretch and not record.blind and stretch.holds(changes):
                record.jump(stretch)
                turn = stretch.end
                continue
            _catch_up(life, record.steps[done:])
            done = len(record.steps)
            try:
                answer = record.put(turn.question)
            except ReplayError:
                raise
            except Exception:  # noqa: BLE001 - recovery is to meet it
                return None
            turn = turn.after(answer)
            done = len(record.steps)
        if turn is None:
            _catch_up(life, record.steps[done:])
        else:
            record.turns[len(record.steps)] = turn
        return turn

    def _run(self, disk: Disk, recover: Callable[[Disk], End], record: _Record) -> End:
        life = disk._life
        listener = _Listener(life, record)
        disk._life = listener  # type: ignore[assignment]
        try:
            end = recover(disk)
            listener.finish()
        finally:
            disk._life = life
            record.finish()
        return end

    def _keep(self, record: _Record, end: End) -> None:
        """Hang what is new below what was walked, and note the stretches."""
        steps, turns = record.steps, record.turns
        if self.spent > self._bound or not turns:
            self.forget()
            turns.clear()
            turns[0] = self._root = Turn(steps[0][0]) if steps else end
        walked = max(turns)
        turn = turns[walked]
        if isinstance(turn, Turn):
            self._hang(turn, steps[walked:], walked, record, end)
        if not self.jumps:
            return
        for first, behind, pieces, new in record.stretches:
            begin = turns.get(first)
            if not new or not isinstance(begin, Turn):
                continue
            if begin.stretch is None:
                self._walked.append(begin)
            begin.stretch = Stretch(
                steps[first:behind], turns[behind], pieces, len(self.changes)
            )

    def _hang(
        self, turn: Turn, steps: list[Step], walked: int, record: _Record, end: End
    ) -> None:
        """Hang steps that are new below the turn of the first of them.

        Where a stretch begins or ends there is a turn; between them nobody will look.
        """
        turns = record.turns
        begins = {
            place - walked
            for first, behind, _, new in record.stretches
            if new and self.jumps
            for place in (first, behind)
            if walked < place < walked + len(steps)
        }
        below: Turn | End = end
        behind = len(steps)
        turns[walked + behind] = end
        for at in sorted(begins, reverse=True):
            question, answer = steps[at]
            made = Turn(question)
            made.goes_on(answer, Straight.before(steps, at + 1, behind, below))
            turns[walked + at] = below = made
            behind = at
        turn.goes_on(steps[0][1], Straight.before(steps, 1, behind, below))
        self.spent += sum(map(_cost, steps))


def _catch_up(life: Life, steps: Sequence[Step]) -> None:
    """Do what was jumped over, as far as the disk's later answers rest on it."""
    for question, _ in steps:
        if question[0] not in _READING:
            _put(life, question)


def _put(life: Life, question: Question) -> Any:
    """Put a question to the disk."""
    return _STEPS[question[0]](life, *question[1:])


def _open(life: Life, inode: int, path: str) -> None:
    life.node(inode, path)


def _write(life: Life, inode: int, at: int, data: bytes) -> Any:
    node = life.nodes[inode]
    life.write(node, at, data)
    return life.left(node, at, len(data))


def _resize(life: Life, inode: int, size: int) -> Any:
    node = life.nodes[inode]
    life.resize(node, size)
    return life.left(node, 0, size)


# What a disk asks of its life.
_STEPS: Final[dict[str, Callable[..., Any]]] = {
    "ask": lambda life, inode, question: life.ask(life.nodes[inode], question),
    "size": lambda life, inode: life.size(life.nodes[inode]),
    "pread": lambda life, inode, at, end: life.pread(life.nodes[inode], at, end),
    "write": _write,
    "resize": _resize,
    "sync": lambda life, inode, kind, path: life.sync(life.nodes[inode], kind, path),
    "node": _open,
    "lookup": lambda life, place: life.lookup(place),
    "names_in": lambda life, folder: life.names_in(folder),
    "create": lambda life, place: life.create(place),
    "name": lambda life, place, number: life.name(place, number),
    "folder": lambda life, place: life.folder(place),
    "find_folder": lambda life, place: life.find_folder(place),
    "make_folder": lambda life, place: life.make_folder(place),
    "assume_folder": lambda life, place: life.assume_folder(place),
    "sync_dir": lambda life, path: life.sync_dir(path),
}


def _alike(asked: Question, question: Question) -> bool:
    """Whether two questions are the same function of the same arguments."""
    if asked[:2] != question[:2] or asked[0] != "ask":
        return False
    one, other = asked[2], question[2]
    if isinstance(one, partial) and isinstance(other, partial):
        return (one.func, one.args, one.keywords) == (
            other.func,
            other.args,
            other.keywords,
        )
    return getattr(one, "__code__", one) is getattr(other, "__code__", other)


def _cost(step: Step) -> int:
    asked, answer = step
    if isinstance(answer, bytes):
        return _STEP_BYTES + len(answer)
    if asked[0] == "write":
        return _STEP_BYTES + len(asked[3]) + sum(map(len, answer[2:]))
    return _STEP_BYTES


def _text(question: Question, life: Life) -> str:
    """A question for people: files by their paths, as far as this life knows them."""
    step, first, *facts = question
    node = None
    if isinstance(first, int) and step != "names_in":
        first = node = life.nodes.get(first)
    if step == "node":
        return f"open {node.path if node else 'a file'}"
    if first is None:
        # This life has not opened it.
        return f"{step} a file"
    return told(life, step, first, *facts)
