"""Errors as objects: what has to hold for every class of them."""

import copy
import importlib
import pickle
import pkgutil
import sys

import pytest

import shearbolt
from shearbolt import BoltError, StorageError
from shearbolt.errors import DatabaseNotFoundError

ELSEWHERE = "_posix" if sys.platform == "win32" else "_windows"
"""What another system runs."""

for _module in pkgutil.walk_packages(shearbolt.__path__, "shearbolt."):
    if not _module.name.endswith(("__main__", ELSEWHERE)):
        importlib.import_module(_module.name)


def kinds():
    """All classes of errors, the tests' own ones left out."""
    found = [BoltError]
    for above in found:
        below = above.__subclasses__()
        found += [kind for kind in below if kind.__module__.startswith("shearbolt")]
    return sorted(set(found), key=lambda kind: kind.__name__)


ARGUMENTS = {
    "BucketExistsError": (b"name",),
    "BucketNotFoundError": (b"name",),
    "ExportFormatError": (7, "no record"),
    "IncompatibleValueError": (b"\xff key",),
    "KeyTooLargeError": (40_000,),
    "MaxSizeReachedError": (5, 4),
    "ValueTooLargeError": (1 << 40,),
}
NAMED = {
    "CorruptPageError": {"path": "a.db", "pgid": 3, "offset": 12_288},
    "ChecksumError": {"path": "a.db", "offset": 16},
    "FileChangedError": {"path": "a.db", "offset": 16},
    "InvalidDatabaseError": {"path": "a.db", "offset": 16},
    "VersionMismatchError": {"path": "a.db", "offset": 16},
}


def made(kind):
    if issubclass(kind, StorageError):
        code = 2 if kind is DatabaseNotFoundError else 28
        error = kind.of(OSError(code, "No space left"), "pwrite", "a.db", 4096)
    else:
        arguments = ARGUMENTS.get(kind.__name__, ("what is wrong",))
        error = kind(*arguments, **NAMED.get(kind.__name__, {}))
    error.add_note("a note")
    return error


PROTOCOLS = [copy.copy, copy.deepcopy] + [
    lambda error, version=version: pickle.loads(pickle.dumps(error, version))
    for version in range(pickle.HIGHEST_PROTOCOL + 1)
]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_from_pickle_and_copy_as_it_was(kind):
    error = made(kind)
    for copied in PROTOCOLS:
        again = copied(error)
        # And once more: what comes back is no worse than what went.
        for other in (again, copied(again)):
            assert type(other) is kind
            assert str(other) == str(error)
            assert other.args == error.args
            assert vars(other) == vars(error)
            if isinstance(error, OSError):
                names = ("errno", "strerror", "filename")
                assert [getattr(other, name) for name in names] == [
                    getattr(error, name) for name in names
                ]


def test_that_looks_at_every_class_that_is_public():
    public = {
        name
        for name in shearbolt.errors.__all__
        if issubclass(getattr(shearbolt.errors, name), BoltError)
    }
    assert public <= {kind.__name__ for kind in kinds()}
    assert len(kinds()) > len(public)
