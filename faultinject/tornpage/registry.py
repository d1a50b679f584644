"""Finding a subject by the name a user types.

    shearbolt          an installed name: entry point group "tornpage.subjects"
    store_test:Pages   module:attribute, importable from where the user stands

What is found may be a subject, or anything that gives one when called without
arguments (a class, a factory).

What it is not: it does not look into the subject. Whether the subject's methods
make sense shows when it runs; here only their presence is checked, because a
misspelt attribute that happens to exist would otherwise fail far away.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib
import os
import stat
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from tornpage.call_site import raised_at
from tornpage.extras import extras_of
from tornpage.subject import Subject, SubjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "DatabaseSubject",
    "SubjectError",
    "file_digest",
    "installed",
    "load",
    "require_subject",
    "spec_of",
    "suggestion",
    "with_database",
]

GROUP = "tornpage.subjects"
_DIGEST_CHUNK = 1 << 20


@runtime_checkable
class DatabaseSubject(Protocol):
    """A subject whose programs can start from a file that exists already."""

    def with_database(self, path: str) -> Subject:
        """The same subject, its programs starting from a copy of this file.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is not a database of this subject.
        """
        ...


def _members() -> tuple[str, ...]:
    """What a subject must offer, read off the protocol itself."""
    methods = (n for n in vars(Subject) if not n.startswith("_"))
    return ("name", *sorted(n for n in methods if callable(getattr(Subject, n))))


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """What to add to a complaint: near misses, or all there is, or nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" There are: {', '.join(names)}." if names else ""


@cache
def installed() -> Mapping[str, EntryPoint]:
    """The subjects that installed distributions declare, by name.

    Looked up once: it reads a file of every distribution, 4 ms, and the gate loads its
    subject for each program.
    """
    # A sixth of what the command imports, and module:attribute needs none of it.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return {point.name: point for point in entry_points(group=GROUP)}


def _import(module_name: str, attribute: str, spec: str) -> Any:
    # Console scripts, unlike `python -m`, do not look where the user stands.
    if "" not in sys.path:
        sys.path.insert(0, "")
    if _is_file(module_name):
        raise _not_a_file(module_name, attribute)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise SubjectError(f"Cannot import {module_name!r}: {error}.") from error
    except Exception as error:
        raise SubjectError(f"Cannot import {module_name!r}: {_told(error)}.") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = suggestion(part, (n for n in vars(found) if n[:1].isupper()))
            raise SubjectError(f"{spec!r}: there is no {part!r}.{hint}") from None
    return found


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _not_a_file(name: str, attribute: str) -> SubjectError:
    path = os.path.normpath(name.removesuffix(".py"))
    if not path.startswith((os.pardir, os.sep)):
        module = path.replace(os.sep, ".")
        return SubjectError(
            f"{name!r} is a file: write {module}:{attribute}, as in an import."
        )
    folder, module = os.path.split(path)
    return SubjectError(
        f"{name!r} is a file: with {folder} on PYTHONPATH write"
        f" {module}:{attribute}, as in an import."
    )


def _told(error: Exception) -> str:
    """What code that is not ours raised, and where."""
    kind = type(error).__name__
    # A syntax error says itself which line is meant.
    if isinstance(error, SyntaxError):
        return f"{kind}: {error}"
    return f"{kind} at {raised_at(error)}: {error}"


def _made(found: Any, spec: str) -> Any:
    """What a class or a factory gives.

    Raises:
        SubjectError: It cannot be called without arguments, or raises.
    """
    try:
        return found()
    except Exception as error:
        raise SubjectError(
            f"{spec!r} is not a subject, and gives none when it is called:"
            f" {_told(error)}."
        ) from error


def require_subject(found: Any, said: str) -> Subject:
    """The same, if it has what a subject must have.

    Args:
        found: What may be one.
        said: What a complaint calls it.

    Raises:
        SubjectError: It is none.
    """
    if isinstance(found, type):
        raise SubjectError(f"{said} is a class: give {found.__name__}(), an instance")
    missing = [name for name in _members() if not hasattr(found, name)]
    if missing:
        some = "" if len(missing) == 1 else f", {len(missing)} names in all"
        raise SubjectError(
            f"{said} is not a subject: it lacks {missing[0]!r}{some}"
            " (see tornpage.subject.Subject). tornpage.subject_from makes one."
        )
    return cast("Subject", found)


def load(spec: str) -> Subject:
    """The subject of this name.

    Args:
        spec: An installed name, or `module:attribute`.

    Raises:
        SubjectError: Nothing of this name, it cannot be imported, or it is not a
            subject.
    """
    module_name, colon, attribute = spec.partition(":")
    if colon:
        if not module_name or not attribute:
            raise SubjectError(f"{spec!r}: write module:attribute, for example a.b:C.")
        found = _import(module_name, attribute, spec)
    else:
        points = installed()
        if _is_file(spec):
            raise _not_a_file(spec, "ATTRIBUTE")
        if spec not in points:
            hint = suggestion(spec, points)
            raise SubjectError(
                f"No subject is installed as {spec!r}.{hint}"
                " A subject of your own is given as module:attribute."
            )
        try:
            found = points[spec].load()
        except (ImportError, AttributeError) as error:
            raise SubjectError(
                f"{spec!r} is installed as {points[spec].value}, which cannot be"
                f" imported: {error}. Install its distribution again."
            ) from error
    if isinstance(found, type) or (callable(found) and not hasattr(found, "judge")):
        found = _made(found, spec)
    subject = require_subject(found, repr(spec))
    try:
        extras_of(subject)
    except SubjectError as error:
        raise SubjectError(f"{spec!r}: {error}.") from None
    return subject


def spec_of(subject: Subject) -> str:
    """The name that `load` finds this subject by, as well as can be told.

    An instance does not know how it was made; its class is named when the
    subject's own name is not an installed one.
    """
    if subject.name in installed():
        return subject.name
    kind = type(subject)
    return f"{kind.__module__}:{kind.__qualname__}"


def with_database(subject: Subject, path: str) -> Subject:
    """The subject with its programs starting from a copy of a file.

    Raises:
        SubjectError: The subject cannot do that, or not with this file.
        OSError: The file cannot be read.
    """
    if not isinstance(subject, DatabaseSubject):
        raise SubjectError(
            f"{subject.name!r} cannot start from a file: it has no with_database()."
            " Leave out --database."
        )
    _require_regular(path)
    try:
        return subject.with_database(path)
    except OSError:
        raise
    except ValueError as error:
        raise SubjectError(f"{path}: {error}") from error


def _require_regular(path: str) -> None:
    """Refuse what cannot be read to an end, and again: /dev/zero has none, a pipe one.

    Raises:
        OSError: It is no regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", path)


def file_digest(path: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    _require_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_DIGEST_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
