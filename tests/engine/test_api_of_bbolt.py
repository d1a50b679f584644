"""Every public name of bbolt has its place here, and a test that shows it.

`docs/api-from-bbolt.md` holds the table. Here it is compared with bbolt's names on
one side, and with the package and these tests on the other.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import shearbolt

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "api-from-bbolt.md"

NAMES = {
    "": """Open DefaultOptions MaxKeySize MaxValueSize DefaultFillPercent Compact
        FreelistArrayType FreelistMapType WithKVStringer WithPageId Info PageInfo
        Stats TxStats BucketStats BucketStructure ErrDatabaseNotOpen ErrInvalid
        ErrInvalidMapping ErrVersionMismatch ErrChecksum ErrTimeout ErrTxNotWritable
        ErrTxClosed ErrDatabaseReadOnly ErrFreePagesNotLoaded ErrBucketNotFound
        ErrBucketExists ErrBucketNameRequired ErrKeyRequired ErrKeyTooLarge
        ErrValueTooLarge ErrMaxSizeReached ErrIncompatibleValue ErrSameBuckets
        ErrDifferentDB""",
    "DB": """Path String GoString Close Begin Update View Batch Sync Stats Info
        IsReadOnly Logger StrictMode NoSync NoFreelistSync FreelistType NoGrowSync
        PreLoadFreelist MmapFlags MaxBatchSize MaxBatchDelay AllocSize MaxSize Mlock""",
    "Options": """Timeout NoGrowSync NoFreelistSync PreLoadFreelist FreelistType
        ReadOnly MmapFlags InitialMmapSize PageSize MaxSize NoSync OpenFile Mlock
        Logger NoStatistics String""",
    "Tx": """ID DB Size Writable Cursor Stats Inspect Bucket CreateBucket
        CreateBucketIfNotExists DeleteBucket MoveBucket ForEach OnCommit Commit
        Rollback Copy WriteTo CopyFile Check Page WriteFlag""",
    "Bucket": """Tx Root Writable Cursor Bucket CreateBucket CreateBucketIfNotExists
        DeleteBucket MoveBucket Get Put Delete Sequence SetSequence NextSequence
        ForEach ForEachBucket Stats Inspect FillPercent""",
    "Cursor": "Bucket First Last Next Prev Seek Delete",
    "Stats": "Sub",
    "TxStats": "Sub",
    "BucketStats": "Add",
}
BBOLT = {
    f"{owner}.{name}".lstrip(".")
    for owner, names in NAMES.items()
    for name in names.split()
}
ROW = re.compile(r"^\| `([\w.]+)` \| (?:`([^`]+)`|-) \| *(\w*) *\|$", re.MULTILINE)
ROWS = ROW.findall(DOCUMENT.read_text("utf-8"))
TESTS = {
    name
    for folder in (HERE, HERE.parent / "command")
    for path in folder.glob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}

# Go's error texts; ours begin with them.
TEXTS = {
    "DatabaseNotOpenError": "database not open",
    "DatabaseReadOnlyError": "database is in read-only mode",
    "TxClosedError": "tx closed",
    "TxNotWritableError": "tx not writable",
    "FreePagesNotLoadedError": "free pages are not pre-loaded",
    "BucketNotFoundError": "bucket not found",
    "BucketExistsError": "bucket already exists",
    "BucketNameRequiredError": "bucket name required",
    "KeyRequiredError": "key required",
    "IncompatibleValueError": "incompatible value",
    "SameBucketsError": "the source and target are the same bucket",
    "DifferentDatabaseError": "the source and target buckets are in different",
}


def resolves(ours, handle):
    """Whether the package has what a cell of the table names."""
    path, _, argument = ours.partition("(")
    owner, _, name = path.partition(".")
    if not name:
        found = getattr(shearbolt, owner, None)
    elif hasattr(shearbolt, owner):
        kind = getattr(shearbolt, owner)
        # Plain attributes exist on instances only.
        found = getattr(kind, name, None) or hasattr(handle.get(owner), name)
    else:
        found = getattr(import_module(f"shearbolt.{owner}"), name, None)
    if argument:
        return argument.rstrip(")") in inspect.signature(found).parameters
    return found is not None and found is not False


@pytest.fixture
def handle(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        yield {"DB": db, "Tx": tx, "Bucket": bucket, "Cursor": bucket.cursor()}


def test_every_public_name_of_bbolt_is_in_the_table():
    assert {bbolt for bbolt, _, _ in ROWS} == BBOLT
    assert len(ROWS) == len(BBOLT)


def test_every_name_of_the_table_exists_here(handle):
    assert [(b, o) for b, o, _ in ROWS if o and not resolves(o, handle)] == []


def test_a_name_that_does_not_exist_is_noticed(handle):
    for wrong in ("Nothing", "DB.nothing", "open(nothing)", "compact.nothing"):
        assert not resolves(wrong, handle)


def test_every_name_of_the_table_has_a_test():
    assert [(b, t) for b, o, t in ROWS if t not in TESTS and (t or o)] == []


def test_what_is_not_here_has_its_reason_in_the_document():
    reasons = DOCUMENT.read_text("utf-8").partition("## What is not here")[2]
    for bbolt, ours, _ in ROWS:
        if not ours:
            assert f"`{bbolt.rpartition('.')[2]}" in reasons or f"`{bbolt}`" in reasons


@pytest.mark.parametrize(("name", "text"), TEXTS.items())
def test_errors_begin_with_the_words_of_bbolt(name, text):
    kind = getattr(shearbolt, name)
    assert str(kind()).startswith(text)
    assert issubclass(kind, shearbolt.BoltError)


def test_everything_exported_exists_and_every_error_has_one_root():
    for name in shearbolt.__all__:
        found = getattr(shearbolt, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, shearbolt.BoltError)


def test_the_parts_of_a_transaction_know_each_other(db):
    with db.update() as tx:
        bucket = tx.create_bucket(b"b")
        assert tx.db is db
        assert tx.writable
        assert bucket.tx is tx
        assert bucket.writable
        assert bucket.root == 0
        bucket[b"k"] = b"v" * 5000
    with db.view() as tx:
        assert not tx.writable
        assert not tx.bucket(b"b").writable
        assert tx.bucket(b"b").root >= 2
        assert tx.root_bucket.parent is None
        assert tx.bucket(b"b").parent is tx.root_bucket


class Counting(shearbolt.storage.OSStorage):
    """A storage that remembers the syncs of its files."""

    __slots__ = ("calls",)

    def __init__(self):
        self.calls = []

    def open(self, *arguments, **options):
        file = super().open(*arguments, **options)
        calls = self.calls

        class Noting:
            def __getattr__(self, name):
                if name in {"fsync", "fdatasync", "ftruncate"}:
                    calls.append(name)
                return getattr(file, name)

        return Noting()


@pytest.mark.parametrize("no_grow_sync", [False, True])
def test_no_grow_sync_saves_the_sync_of_the_size(path, no_grow_sync):
    storage = Counting()
    with shearbolt.open(path, storage=storage, no_grow_sync=no_grow_sync) as db:
        storage.calls.clear()
        with db.update() as tx:
            tx.create_bucket(b"b")
    growth = ["ftruncate"] if no_grow_sync else ["ftruncate", "fsync"]
    assert [call for call in storage.calls if call != "fdatasync"] == growth


def test_a_large_file_grows_by_alloc_size(path):
    with shearbolt.open(path, alloc_size=1 << 16) as db:
        with db.update() as tx:
            tx.create_bucket(b"b")[b"k"] = b"v" * (1 << 18)
        info = db.info()
        assert info.file_size == (info.high_water_mark + 1) * 4096 + (1 << 16)
