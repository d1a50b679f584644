"""Which code a certificate is about, as one number.

    SHA-256 over (package name, path inside it, content) of every .py file of
        tornpage
        the package, or the single module, that the subject's class comes from
        what the subject names in `packages`, when it has that attribute

A subject that wraps storage code of another package should name it:

    class MySubject:
        packages = ("mystore",)

Certificates of different code do not merge, and a corpus knows that its programs
were measured on other code. What it is not: a digest of everything that matters. The
interpreter's version stands beside it; a compiled extension or a file read at run
time is not in it.

The files are read once, when the digest is first asked for. A worker that starts
after somebody has edited a file has another digest than its coordinator, and is
refused: parts of one run must be about the same code.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tornpage.extras import extras_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornpage.subject import Subject

__all__ = ["code_digest"]


def code_digest(subject: Subject) -> str:
    """SHA-256 of the code under test and of tornpage, in hexadecimal."""
    own = type(subject).__module__.partition(".")[0]
    packages = {"tornpage", own, *extras_of(subject).packages}
    return _digest(tuple(sorted(packages)))


@cache
def _digest(packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for package in packages:
        for name, path in _sources(package):
            with open(path, "rb") as file:
                content = file.read()
            digest.update(f"{package}/{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _sources(package: str) -> Iterator[tuple[str, str]]:
    """(name, path) of each source file of a package, in a fixed order."""
    try:
        spec = find_spec(package)
    except ValueError:
        # A subject defined in `__main__` has no file that can be told.
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin and spec.origin.endswith(".py"):
            yield os.path.basename(spec.origin), spec.origin
        return
    for root in spec.submodule_search_locations:
        found = []
        for folder, _, files in os.walk(root):
            for file in files:
                if file.endswith(".py"):
                    path = os.path.join(folder, file)
                    name = os.path.relpath(path, root).replace(os.sep, "/")
                    found.append((name, path))
        yield from sorted(found)
