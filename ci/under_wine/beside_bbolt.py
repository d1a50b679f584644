"""Real bbolt and the engine at one file, both built for Windows.

    python beside_bbolt.py HOLDER FOLDER

HOLDER is `holder.go` beside this file, built for Windows. Each of the two must keep the
other out while it writes, let it in where both read, and read what the other wrote.
Exits with 1 and an assertion where that is not so.
"""

from __future__ import annotations

import os
import subprocess
import sys

import shearbolt

SHORT = 0.3
"""Seconds that we wait for the lock."""


def holder(program: str, path: str, *arguments: str) -> list[str]:
    """What bbolt says of a database, line by line."""
    ran = subprocess.run(
        [program, path, *arguments, "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.splitlines()


def opens(path: str, *, read_only: bool) -> bool:
    """Whether we get it while somebody else may have it."""
    try:
        shearbolt.open(path, timeout=SHORT, read_only=read_only).close()
    except shearbolt.LockTimeoutError:
        return False
    return True


def main(program: str, folder: str) -> None:
    """Both orders of opening, and both kinds."""
    path = os.path.join(folder, "both.db")
    with shearbolt.open(path) as db:
        with db.update() as tx:
            bucket = tx.create_bucket(b"py")
            for number in range(3000):
                bucket.put(b"%05d" % number, b"v" * 50)
        assert holder(program, path, "write") == ["timeout"]
        assert holder(program, path, "read") == ["timeout"]
    assert holder(program, path, "write") == ["go 2000", "py 3000", "open"]
    with shearbolt.open(path, read_only=True) as db:
        with db.view() as tx:
            seen = {name: sum(1 for _ in part.items()) for name, part in tx.buckets()}
        assert seen == {b"go": 2000, b"py": 3000}
        assert holder(program, path, "read") == ["go 2000", "py 3000", "open"]
        assert holder(program, path, "write") == ["timeout"]
    for kind, let_in in ("write", False), ("read", True):
        with subprocess.Popen(
            [program, path, kind, "6000"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stdout is not None
            while running.stdout.readline().strip() != "open":
                assert running.poll() is None
            assert not opens(path, read_only=False)
            assert opens(path, read_only=True) is let_in
            running.kill()
    print("bbolt and shearbolt keep each other out, and read each other's files")


if __name__ == "__main__":
    main(*sys.argv[1:])
