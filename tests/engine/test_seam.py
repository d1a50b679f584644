"""The engine reaches the machine through `shearbolt.storage` and nowhere else.

Two ways to see it: no module imports what could, and a workload on another
storage causes no event of the interpreter's audit hooks, which report every file
that is opened, every directory call, every thread and every process.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import shearbolt

ROOT = Path(shearbolt.__file__).parent
# The machine itself; and the command is a program: it reads files, prints, and ends
# with a status.
OUTSIDE = ("command/", "storage/_", "storage/forks")

MACHINE = {
    "_io", "_thread", "asyncio", "concurrent", "ctypes", "datetime", "fcntl", "glob",
    "io", "mmap", "multiprocessing", "os", "pathlib", "posix", "queue", "random",
    "resource", "secrets", "selectors", "shutil", "signal", "socket", "subprocess",
    "tempfile", "threading", "time", "uuid",
}  # fmt: skip
# Names that only convert what the caller gave.
HARMLESS = {
    ("os", "fsdecode"), ("os", "fsencode"), ("os", "fspath"), ("os", "PathLike"),
    # Of the text of a path, and not of what is there.
    ("os.path", "join"), ("os.path", "split"),
}  # fmt: skip
BUILTINS = {"open", "input", "print", "exec", "eval"}

ENGINE = [
    name
    for name in sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
    if not name.startswith(OUTSIDE)
]


def reaches(source):
    """What a module imports or calls that would reach the machine."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MACHINE]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in MACHINE:
                found += [
                    f"{node.module}.{a.name}"
                    for a in node.names
                    if (node.module, a.name) not in HARMLESS
                ]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in BUILTINS else []
    return found


def test_no_module_of_the_engine_imports_the_machine():
    found = {name: reaches((ROOT / name).read_text("utf-8")) for name in ENGINE}
    assert {name: what for name, what in found.items() if what} == {}


def test_every_module_is_looked_at():
    assert len(ENGINE) >= 50
    assert {"database/tx.py", "pages/pager.py", "storage/robust.py"} <= set(ENGINE)


@pytest.mark.parametrize(
    "planted",
    [
        "import os",
        "import os.path",
        "from os import fsync",
        "import threading",
        "from time import sleep",
        "def f():\n    import random",
        "open('x')",
    ],
)
def test_a_planted_import_or_call_is_seen(planted):
    assert reaches(planted)


WORKLOAD = """
import sys
import shearbolt
from tornpage.disk.simulated import Disk

events = []
WATCHED = ("open", "os.", "fcntl.", "socket.", "subprocess.", "shutil.", "tempfile.",
           "_thread.", "mmap.", "time.", "signal.", "import")
sys.addaudithook(
    lambda event, args: events.append((event, args)) if event.startswith(WATCHED) else 0
)

def work(disk):
    with shearbolt.open("/x.db", storage=disk, page_size=1024, max_size=1 << 24) as db:
        for i in range(4):
            with db.update() as tx:
                bucket = tx.create_bucket_if_not_exists(b"b")
                for j in range(200):
                    bucket[b"%03d" % j] = b"v" * 50
                inner = bucket.create_bucket_if_not_exists(b"inner")
                inner.next_sequence()
        db.batch(lambda tx: tx.bucket(b"b").clear())
        with db.view() as tx:
            tx.check(), tx.inspect(), tx.bucket(b"b").stats(), tx.page(2)
            tx.copy_file("/copy.db")
        db.stats(), db.info(), db.sync()
    with shearbolt.open("/copy.db", storage=disk, read_only=True) as db:
        with db.view() as tx:
            list(tx.buckets())

work(Disk())
del events[:]
if len(sys.argv) > 1:
    import shearbolt.storage.robust
    real = shearbolt.storage.robust.RobustFile.fdatasync
    def sync(self):
        open("/dev/null").close()
        real(self)
    shearbolt.storage.robust.RobustFile.fdatasync = sync
work(Disk())
print(sorted({event for event, _ in events}))
"""


def events(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", WORKLOAD, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout.strip()


def test_a_workload_on_another_storage_does_not_touch_the_machine():
    assert events() == "[]"


def test_a_planted_open_is_heard():
    assert "'open'" in events("plant")
