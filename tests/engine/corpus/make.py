"""Makes the corpus: small files, each damaged in one way that was a problem.

    python tests/engine/corpus/make.py        writes *.db beside this file

Every file is put together page by page, so that exactly one thing is wrong
with it and a reader sees what. `tests/engine/test_corrupt_files.py` says what the
engine makes of each, and that the files are what this program makes. The
fuzzer, `ci/fuzz_parser.py`, starts from them too.
"""

from __future__ import annotations

import struct
from pathlib import Path

from shearbolt.pages import encoding
from shearbolt.pages import format as fmt

PAGE = 1024
BRANCH, LEAF, FREELIST = fmt.BRANCH, fmt.LEAF, fmt.FREELIST


def header(pgid: int, flags: int, count: int, overflow: int = 0) -> bytes:
    return struct.pack("<QHHI", pgid, flags, count, overflow)


def leaf(pgid: int, pairs: dict | list, overflow: int = 0) -> bytes:
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    return encoding.encode_leaf(
        pgid, overflow, [k for k, _ in pairs], [v for _, v in pairs]
    )


def branch(pgid: int, children: list[tuple[bytes, int]]) -> bytes:
    keys, pages = [k for k, _ in children], [c for _, c in children]
    # Under another number first: the engine refuses to write a page that is
    # its own child, and some of these must be.
    data = bytearray(encoding.encode_branch(1 << 40, 0, keys, pages))
    data[0:8] = pgid.to_bytes(8, "little")
    return bytes(data)


def bucket(root: int) -> fmt.BucketValue:
    return encoding.encode_bucket(root, 0)


def meta(*, page_size=PAGE, root=3, freelist=2, end=4, txid=2) -> fmt.Meta:
    return fmt.Meta(page_size, root, freelist, end, txid)


def file(pages: dict[int, bytes], *, free=(), txid=2, freelist=None, end=0) -> bytes:
    """A file with root page 3, freelist page 2 and these other pages.

    Args:
        pages: By number; pages not given are free.
        free: Added to the free pages.
        txid: Of the live meta.
        freelist: The freelist page, when it is not to be right.
        end: The high-water mark, when it is not to be right.
    """
    last = max(
        pgid + (len(data) - 1) // PAGE for pgid, data in pages.items()
    )  # fmt: skip
    used = {2} | {
        page
        for pgid, data in pages.items()
        for page in range(pgid, pgid + (len(data) - 1) // PAGE + 1)
    }
    if freelist is None:
        ids = sorted({*range(2, last + 1)} - used | {*free})
        freelist = encoding.encode_freelist(2, 0, ids)
    image = bytearray((last + 1) * PAGE)
    for pgid, data in {2: freelist, **pages}.items():
        image[pgid * PAGE : pgid * PAGE + len(data)] = data
    for slot in (0, 1):
        page = meta(end=end or last + 1, txid=max(txid - slot, 0)).encode_page(slot)
        image[slot * PAGE : slot * PAGE + PAGE] = page
    return bytes(image)


def _bare_metas(**fields: int) -> bytes:
    """Two metas with a right checksum and an empty database behind them."""
    image = bytearray(fmt.empty_database(PAGE))
    for slot in (0, 1):
        image[slot * PAGE + 16 : slot * PAGE + 80] = meta(**fields).encode()
    return bytes(image)


def _pairs(letter: str, count: int = 6) -> dict[bytes, bytes]:
    return {f"{letter}{n}".encode(): b"value %d" % n for n in range(count)}


def _one_bucket(**pages: bytes) -> dict[int, bytes]:
    """Root with bucket "b" whose root is page 4, and pages p4, p5, ..."""
    rest = {int(name[1:]): data for name, data in pages.items()}
    return {3: leaf(3, {b"b": bucket(4)}), **rest}


def _field(data: bytes, at: int, width: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


# -- pages -------------------------------------------------------------------------


def sound() -> bytes:
    """Nothing is wrong: what the others are compared with."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=leaf(5, _pairs("a")),
            p6=leaf(6, _pairs("m")),
        )
    )


def unsorted_keys() -> bytes:
    """Bisection misses keys; deleting one was a KeyError."""
    return file(_one_bucket(p4=leaf(4, [(b"b", b"2"), (b"a", b"1"), (b"c", b"3")])))


def duplicate_keys() -> bytes:
    """One key twice in a page."""
    return file(_one_bucket(p4=leaf(4, [(b"a", b"1"), (b"a", b"2")])))


def smaller_count() -> bytes:
    """Count 6 became 4: two keys were gone without a word."""
    return file(_one_bucket(p4=_field(leaf(4, _pairs("a")), 10, 2, 4)))


def count_65535() -> bytes:
    """More elements than the page has bytes."""
    return file(_one_bucket(p4=_field(leaf(4, _pairs("a")), 10, 2, 0xFFFF)))


def one_value_for_all() -> bytes:
    """60 elements that all claim one value of 15 KiB: 900 KiB out of 16."""
    count, size = 60, 15 * 1024 - 100
    table = b""
    for index in range(count):
        table += struct.pack("<4I", 0, 16 * (count - index), 1, size)
    page = (header(4, LEAF, count, 15) + table).ljust(16 * PAGE, b"x")
    return file(_one_bucket(p4=page))


def larger_value_size() -> bytes:
    """A value that runs into the key behind it."""
    return file(_one_bucket(p4=_field(leaf(4, _pairs("a")), 16 + 12, 4, 9)))


def overlapping_runs() -> bytes:
    """A leaf whose overflow is another leaf of the same tree."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=_field(leaf(5, _pairs("a")), 12, 4, 1),
            p6=leaf(6, _pairs("m")),
        )
    )


# -- trees -------------------------------------------------------------------------


def branch_of_itself() -> bytes:
    """A branch whose second child is the branch."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 4)]),
            p5=leaf(5, _pairs("a")),
        )
    )


def branch_cycle() -> bytes:
    """Three branches that lead to each other: 2**64 ways down."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=branch(5, [(b"a0", 4), (b"b0", 6), (b"c0", 7)]),
            p6=branch(6, [(b"m0", 4), (b"n0", 5), (b"o0", 7)]),
            p7=leaf(7, _pairs("a")),
        )
    )


def shared_subtrees() -> bytes:
    """Thirty levels of two branches that share the two below: no cycle."""
    pages = _one_bucket(p4=branch(4, [(b"a0", 6), (b"m0", 7)]))
    for level in range(30):
        below = 8 + 2 * level
        for side in (0, 1):
            pgid = 6 + 2 * level + side
            pages[pgid] = branch(pgid, [(b"a0", below), (b"m0", below + 1)])
    pages[66] = leaf(66, _pairs("a"))
    pages[67] = leaf(67, _pairs("m"))
    return file(pages)


def cycle_of_empty_leaves() -> bytes:
    """The same, and no key that could be seen twice."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=branch(5, [(b"a0", 4), (b"b0", 6), (b"c0", 7)]),
            p6=branch(6, [(b"m0", 4), (b"n0", 5), (b"o0", 7)]),
            p7=leaf(7, {}),
        )
    )


def empty_leaf() -> bytes:
    """The count of a leaf became 0."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=_field(leaf(5, _pairs("a")), 10, 2, 0),
            p6=leaf(6, _pairs("m")),
        )
    )


def lost_branch() -> bytes:
    """A branch page became zeros; its leaves are whole."""
    return file(
        _one_bucket(
            p4=branch(4, [(b"a0", 5), (b"m0", 6)]),
            p5=branch(5, [(b"a0", 7), (b"f0", 8)]),
            p6=bytes(PAGE),
            p7=leaf(7, _pairs("a")),
            p8=leaf(8, _pairs("f")),
            p9=leaf(9, _pairs("m")),
            p10=leaf(10, _pairs("r")),
        )
    )


# -- buckets -----------------------------------------------------------------------


def bucket_in_itself() -> bytes:
    """A bucket that holds a bucket whose root is its own."""
    return file(_one_bucket(p4=leaf(4, {b"again": bucket(4), b"k": b"v"})))


def buckets_shared() -> bytes:
    """Thirty levels of buckets with two names for the one below."""
    pages = {3: leaf(3, {b"b": bucket(4)})}
    for level in range(30):
        pgid = 4 + level
        pages[pgid] = leaf(pgid, {b"x": bucket(pgid + 1), b"y": bucket(pgid + 1)})
    pages[34] = leaf(34, {b"k": b"v"})
    return file(pages)


def bucket_at_meta() -> bytes:
    """A bucket whose root is meta page 1."""
    return file({3: leaf(3, {b"b": bucket(1)})})


def bucket_at_freelist() -> bytes:
    """A bucket whose root is the freelist."""
    return file({3: leaf(3, {b"b": bucket(2)})})


def short_bucket() -> bytes:
    """A bucket of seven bytes."""
    return file({3: leaf(3, {b"b": fmt.BucketValue(b"1234567")})})


def inline_nest() -> bytes:
    """Twelve inline buckets, each inside the next."""
    value = encoding.encode_inline_bucket(0, [b"k"], [b"v"])
    for _ in range(12):
        value = encoding.encode_inline_bucket(0, [b"in"], [value])
    return file({3: leaf(3, {b"b": value})})


def inline_branch() -> bytes:
    """An inline bucket whose page is a branch."""
    value = bytearray(encoding.encode_inline_bucket(0, [b"k"], [b"v"]))
    value[24] = BRANCH
    return file({3: leaf(3, {b"b": fmt.BucketValue(value)})})


# -- metas and freelists -----------------------------------------------------------


def last_txid() -> bytes:
    """The next transaction would be 2**64."""
    return _bare_metas(txid=(1 << 64) - 1)


def huge_page_size() -> bytes:
    """Pages of 2 GiB, and nothing committed yet: took 8 GiB to make it anew."""
    return _bare_metas(page_size=1 << 31, txid=0)


def large_page_size() -> bytes:
    """The same with pages of 16 MiB, which others' files may have."""
    return _bare_metas(page_size=1 << 24, txid=0)


def page_size_zero() -> bytes:
    """Pages of no bytes."""
    return _bare_metas(page_size=0)


def huge_high_water_mark() -> bytes:
    """More pages than any disk has."""
    return _bare_metas(end=1 << 60)


def root_is_meta() -> bytes:
    """The root bucket's tree begins at page 0."""
    return _bare_metas(root=0)


def freelist_is_root() -> bytes:
    """The freelist page is the root leaf."""
    return _bare_metas(freelist=3)


def freelist_huge_count() -> bytes:
    """A freelist of 2**61 ids."""
    page = header(2, FREELIST, 0xFFFF) + (1 << 61).to_bytes(8, "little")
    return file(_one_bucket(p4=leaf(4, _pairs("a"))), freelist=page)


def freelist_with_root() -> bytes:
    """The root page is free, says the freelist: a write would destroy it."""
    return file(_one_bucket(p4=leaf(4, _pairs("a"))), free=(3,))


def freelist_twice() -> bytes:
    """A page that is free twice."""
    page = encoding.encode_freelist(2, 0, [5, 5])
    return file(
        _one_bucket(p4=leaf(4, _pairs("a")), p6=leaf(6, {})), freelist=page
    )  # fmt: skip


def freelist_out_of_range() -> bytes:
    """A free page behind the last one."""
    page = encoding.encode_freelist(2, 0, [99])
    return file(_one_bucket(p4=leaf(4, _pairs("a"))), freelist=page)


def both_metas() -> bytes:
    """Both checksums are wrong; the rest is whole."""
    data = bytearray(sound())
    for at in (72, PAGE + 72):
        data[at] ^= 1
    return bytes(data)


def no_metas() -> bytes:
    """Both metas are zeros; the rest is whole."""
    return bytes(2 * PAGE) + sound()[2 * PAGE :]


MAKERS = (
    sound, unsorted_keys, duplicate_keys, smaller_count, count_65535,
    one_value_for_all, larger_value_size, overlapping_runs, branch_of_itself,
    branch_cycle, shared_subtrees, cycle_of_empty_leaves, empty_leaf, lost_branch,
    bucket_in_itself, buckets_shared, bucket_at_meta, bucket_at_freelist,
    short_bucket, inline_nest, inline_branch, last_txid, huge_page_size,
    large_page_size, page_size_zero, huge_high_water_mark, root_is_meta,
    freelist_is_root, freelist_huge_count, freelist_with_root, freelist_twice,
    freelist_out_of_range, both_metas, no_metas,
)  # fmt: skip


def main() -> None:
    """Write all files."""
    for maker in MAKERS:
        path = Path(__file__).with_name(maker.__name__.replace("_", "-") + ".db")
        path.write_bytes(maker())


if __name__ == "__main__":
    main()
