"""A store small enough to be checked by eye, and a subject for it.

One file, two slots, written in turns. A slot is trusted when its checksum fits, so
one sync per commit is enough:

    0            16 header: txid, length, crc32 of what follows and of these two
    16           content: JSON of the whole mapping
    SLOT         the other slot

The planted bugs are the classic ones of such a store.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zlib

from tornpage.subject import Violation

PATH = "toy.db"
SLOT = 2048
HEADER = struct.Struct("<QII")

MUTANTS = {
    "no-sync": "commits are acknowledged without a sync",
    "no-checksum": "the newest slot is trusted without its checksum",
    "same-slot": "every commit overwrites slot 0",
    "no-dir-sync": "the new file is not made durable in its directory",
    "forgetful": "a key that is put a second time keeps its first value",
    "raises": "recovery raises where it meets a checksum that does not fit",
    "run-raises": "deleting a key that is not there raises",
}


class ToyStore:
    """The store; `bugs` are names from MUTANTS."""

    def __init__(self, disk, bugs=frozenset()):
        self.disk = disk
        self.bugs = bugs
        self.txid = 0
        self.content = {}

    def create(self):
        self.file = self.disk.open(PATH, create=True)
        self.write_slot()
        self.file.fsync()
        if "no-dir-sync" not in self.bugs:
            self.disk.fsync_dir(PATH)

    def open(self):
        self.file = self.disk.open(PATH, read_only=True)
        self.txid = -1
        slots = [HEADER.unpack(self.read(HEADER.size, n * SLOT)) for n in (0, 1)]
        for number, (txid, length, check) in enumerate(slots):
            if txid <= self.txid or not length:
                continue
            body = self.read(length, number * SLOT + HEADER.size)
            if zlib.crc32(struct.pack("<QI", txid, length) + body) != check:
                if "raises" in self.bugs:
                    raise RuntimeError(f"slot {number} is damaged")
                if "no-checksum" not in self.bugs:
                    continue
            self.txid = txid
            self.content = json.loads(body)
        if self.txid < 0:
            raise ValueError("no slot is whole")

    def read(self, length, offset):
        return self.file.pread(length, offset).ljust(length, b"\0")

    def put(self, key, value):
        if "forgetful" not in self.bugs or key not in self.content:
            self.content[key] = value

    def delete(self, key):
        if "run-raises" in self.bugs:
            del self.content[key]
        self.content.pop(key, None)

    def commit(self):
        self.txid += 1
        self.write_slot()
        if "no-sync" not in self.bugs:
            self.file.fdatasync()

    def write_slot(self):
        body = json.dumps(self.content, sort_keys=True).encode()
        head = struct.pack("<QI", self.txid, len(body))
        check = struct.pack("<I", zlib.crc32(head + body))
        slot = 0 if "same-slot" in self.bugs else self.txid % 2
        self.file.pwritev([head + check, body], slot * SLOT)


class Toy:
    """The subject: programs are lists of put, delete and commit."""

    name = "toy"
    default_programs = 6

    def __init__(self):
        self.bugs = frozenset()

    def generate(self, seed):
        draw = random.Random(seed)
        program = []
        for _ in range(draw.randint(2, 4)):
            for _ in range(draw.randint(1, 3)):
                key = draw.choice("abc")
                if draw.random() < 0.25:
                    program.append(("delete", key))
                else:
                    program.append(("put", key, "v" * draw.choice((1, 30, 600))))
            program.append(("commit",))
        return tuple(program)

    def encode(self, program):
        return [list(operation) for operation in program]

    def decode(self, data):
        if not isinstance(data, list) or not all(isinstance(o, list) for o in data):
            raise ValueError("a toy program is a list of lists")
        return tuple(tuple(operation) for operation in data)

    def describe(self, program):
        return [" ".join(operation)[:60] for operation in program]

    def simplify(self, program):
        size = len(program)
        width = size // 2
        while width:
            for start in range(0, size - width + 1, width):
                yield program[:start] + program[start + width :]
            width //= 2
        for place, operation in enumerate(program):
            if operation[0] == "put" and len(operation[2]) > 1:
                shorter = (*operation[:2], operation[2][: len(operation[2]) // 2])
                yield (*program[:place], shorter, *program[place + 1 :])

    def prepare(self, program):
        return {}

    def run(self, program, disk):
        store = ToyStore(disk, self.bugs)
        expected = {}
        history = [{}]
        seen = [{}]
        store.create()
        disk.mark("acknowledged", txid=0)
        for operation in program:
            if operation[0] == "put":
                store.put(operation[1], operation[2])
                expected[operation[1]] = operation[2]
            elif operation[0] == "delete":
                store.delete(operation[1])
                expected.pop(operation[1], None)
            else:
                disk.mark("begin", txid=len(history))
                history.append(dict(expected))
                store.commit()
                seen.append(dict(store.content))
                disk.mark("acknowledged", txid=len(history) - 1)
        return tuple(history), tuple(seen)

    def recover(self, disk):
        store = ToyStore(disk, self.bugs)
        try:
            store.open()
        except (OSError, ValueError) as error:
            return ("unusable", type(error).__name__)
        return ("open", store.txid, json.dumps(store.content, sort_keys=True))

    def judge(self, history, marks, outcome):
        states, _ = history
        begun = last(marks, "begin")
        kept = last(marks, "acknowledged")
        if kept is None:
            return ()
        if outcome[0] == "unusable":
            facts = (("store", "opens", outcome[1]), ("txid", f">= {kept}", "-"))
            return (Violation("P persistence", "Nothing can be opened.", facts),)
        newest = kept if begun is None else max(kept, begun)
        _, txid, content = outcome
        if txid < kept:
            facts = (("txid", f">= {kept}", str(txid)),)
            text = f"Commit {kept} was acknowledged; recovery found commit {txid}."
            return (Violation("P persistence", text, facts),)
        if txid > newest or content != json.dumps(states[txid], sort_keys=True):
            facts = (("content", repr(states[kept]), content),)
            return (Violation("A atomicity", "The content is of no commit.", facts),)
        return ()

    def live_violations(self, history):
        for txid, (wanted, got) in enumerate(zip(*history, strict=True)):
            if wanted != got:
                facts = (("content", repr(wanted), repr(got)),)
                text = f"Commit {txid} reads back differently at once."
                return (Violation("L live", text, facts),)
        return ()

    def describe_outcome(self, outcome):
        return [" ".join(map(str, outcome))]

    def locate(self, path, offset, data):
        return f"slot {offset // SLOT}"

    def mutants(self):
        return MUTANTS

    @contextlib.contextmanager
    def mutant(self, name):
        before = self.bugs
        self.bugs = before | {MUTANTS[name] and name}
        try:
            yield
        finally:
            self.bugs = before


class Blind(Toy):
    """A sabotaged checker: it never finds anything."""

    def judge(self, history, marks, outcome):
        return ()

    def live_violations(self, history):
        return ()


class Idle(Toy):
    """Its programs do nothing and its recovery reads nothing."""

    def run(self, program, disk):
        disk.mark("acknowledged", txid=0)
        return ({},), ({},)

    def recover(self, disk):
        return ("open", 0, "{}")


class Unread(Toy):
    """Its recovery looks at nothing, so no crash can matter to it."""

    def recover(self, disk):
        return ("open", 0, "{}")

    def judge(self, history, marks, outcome):
        return ()


class Seeded(Toy):
    """A subject that can start from a file."""

    default_programs = 2
    default_model = "tear=page"

    def __init__(self, content=None):
        super().__init__()
        self.base = content

    def with_database(self, path):
        with open(path, "rb") as file:
            content = file.read()
        if not content.startswith(b"toy"):
            raise ValueError("not a toy database: it does not start with b'toy'.")
        return Seeded(content)

    def prepare(self, program):
        return {} if self.base is None else {"base.db": self.base}


def last(marks, label):
    """The txid of the newest mark of this label."""
    txids = [dict(mark.data)["txid"] for mark in marks if mark.label == label]
    return txids[-1] if txids else None
