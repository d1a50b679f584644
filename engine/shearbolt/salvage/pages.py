"""Pages that may be damaged: as much of one as can be believed.

The engine refuses a page with any damage in it. Here a page is taken apart
element by element, and only the elements that contradict themselves are given
up. What makes that possible is that writers pack elements without gaps, so that
every element's place is written down twice:

    table   | pos 0, sizes 0 | pos 1, sizes 1 | pos 2, sizes 2 |
    content | key value      | key value      | key value      |
            ^ pos 0          ^ pos 1 = end 0  ^ pos 2 = end 1

Where a start disagrees with the end before it, one of the two is wrong, and the
element behind tells which. So one damaged position costs nothing and one damaged
size costs one element. Only the last element's end has no second copy: what is wrong
there may cost two, or be a value with zeros behind it.

What this module believes without asking: bytes of keys and values, which nothing
in the format protects. Damage there is found only when it puts keys out of order.

The content of one page is never more than the bytes of its run, whatever its
table says; that bounds memory and, because no two pages may share bytes (see
`scan`), the output of a whole scan by the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Final

from shearbolt.pages.decoding import decode_branch, decode_leaf
from shearbolt.pages.format import (
    BRANCH,
    BUCKET_HEADER_SIZE,
    BUCKET_LEAF,
    COUNT_OVERFLOW,
    ELEMENT_SIZE,
    FREELIST,
    LEAF,
    MAX_FOREIGN_PAGE_SIZE,
    MAX_KEY_SIZE,
    META,
    MIN_PAGE_SIZE,
    PAGE_HEADER_SIZE,
    Branch,
    BucketValue,
    FormatError,
    Header,
    Leaf,
    leaf_cost,
    page_kind,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shearbolt.pages.pager import Pager
    from shearbolt.storage.robust import RobustFile

__all__ = [
    "Flaw",
    "TolerantPage",
    "guess_page_size",
    "read_tolerant",
    "read_tolerant_inline",
    "stored_pages",
]

_KNOWN: Final = frozenset({LEAF, BRANCH, FREELIST, META})
_PAGES_SAMPLED: Final = 4096
_MIN_MATCHES: Final = 2


@dataclass(frozen=True, slots=True)
class Flaw:
    """Damage inside a page that the rest of the page survives.

    Attributes:
        at: Byte offset from the start of the page.
        reason: What is wrong.
        lost: What that costs, "" for nothing.
    """

    at: int
    reason: str
    lost: str = ""


@dataclass(frozen=True, slots=True)
class TolerantPage:
    """What could be read of a page.

    Attributes:
        page: The elements that can be believed.
        span: Pages that its content really takes.
        flaws: What is wrong with it.
        stranger: The page says it is another one: believe it only if its keys
            are what its place requires.
    """

    page: Leaf | Branch
    span: int
    flaws: tuple[Flaw, ...] = ()
    stranger: bool = False


def read_tolerant(pager: Pager, pgid: int, pages: int) -> TolerantPage:
    """Read a leaf or branch page as far as it can be believed.

    Args:
        pager: The file.
        pgid: The page.
        pages: How many pages the file has; a run ends there at the latest.

    Raises:
        FormatError: Nothing of it can be believed.
        StorageError: The file could not be read.
    """
    base, page_size = pgid * pager.page_size, pager.page_size
    header = Header.decode(pager.file.read(base, PAGE_HEADER_SIZE))

    def read(start: int, length: int) -> bytes:
        data = pager.file.read(base + start, length)
        if len(data) < length:
            raise FormatError("the file ends inside the page", start + len(data))
        return data

    room = (pages - pgid) * page_size
    page, end, flaws = _decode(pgid, header, read, room, page_size)
    stranger = header.pgid != pgid
    if stranger:
        flaws.insert(0, Flaw(0, f"it says it is page {header.pgid}"))
    # Content is packed, so its end tells the overflow; a damaged field that
    # claims more must not take other pages' bytes from them.
    return TolerantPage(page, -(-end // page_size), tuple(flaws), stranger)


def read_tolerant_inline(value: bytes) -> TolerantPage:
    """The same for the page of an inline bucket, given the bucket's value.

    Raises:
        FormatError: Nothing of it can be believed.
    """
    body = bytes(value[BUCKET_HEADER_SIZE:])
    header = replace(Header.decode(body), overflow=0)
    if header.flags != LEAF:
        raise FormatError(f"an inline bucket whose page is {page_kind(header.flags)}")

    def read(start: int, length: int) -> bytes:
        if start + length > len(body):
            raise FormatError("the inline page ends before", start)
        return body[start : start + length]

    page, _, flaws = _decode(0, header, read, len(body), len(body))
    return TolerantPage(page, 0, tuple(flaws))


def _decode(
    pgid: int,
    header: Header,
    read: Callable[[int, int], bytes],
    room: int,
    page_size: int,
) -> tuple[Leaf | Branch, int, list[Flaw]]:
    """The elements, where the last one ends, and what is wrong."""
    if header.flags not in {LEAF, BRANCH}:
        if header == Header(0, 0, 0, 0):
            raise FormatError("an empty page where a tree should go on")
        raise FormatError(f"a {page_kind(header.flags)} page inside a tree", 8)
    flaws: list[Flaw] = []
    run = (header.overflow + 1) * page_size
    if run > room:
        flaws.append(
            Flaw(12, f"{header.overflow} overflow pages, but the file ends before")
        )
        run = room
    leaf = header.flags == LEAF
    decode: Callable[..., Leaf | Branch] = decode_leaf if leaf else decode_branch
    try:
        page = _by_first_position(pgid, header, read, run, decode)
        if page is None:
            page = decode(pgid, header.count, header.overflow, read, run)
        else:
            flaws.append(Flaw(10, f"count {header.count} instead of {len(page.keys)}"))
        end = _end_of(page)
    except FormatError as error:
        flaws.append(Flaw(error.at, str(error)))
        if run < room and _begins(pgid + header.overflow + 1, read, run):
            # Not the overflow is wrong, but a size.
            room = run
        page, end = _by_element(pgid, header, read, room, flaws)
    return page, end, flaws


def _by_first_position(
    pgid: int,
    header: Header,
    read: Callable[[int, int], bytes],
    run: int,
    decode: Callable[..., Leaf | Branch],
) -> Leaf | Branch | None:
    """The page, when its first element shows that the count is damaged.

    Content begins where the table ends, so the first position is a second copy
    of the count. It wins if the page then makes sense: a smaller count would
    drop elements without a word.
    """
    if run < PAGE_HEADER_SIZE + ELEMENT_SIZE:
        return None
    first = read(PAGE_HEADER_SIZE, ELEMENT_SIZE)
    at = 4 if header.flags == LEAF else 0
    position = int.from_bytes(first[at : at + 4], "little")
    count, rest = divmod(position, ELEMENT_SIZE)
    if rest or not 0 < count < COUNT_OVERFLOW or count == header.count:
        return None
    try:
        page = decode(pgid, count, header.overflow, read, run)
    except FormatError:
        return None
    ascending = all(map(lt, page.keys, page.keys[1:]))
    return page if ascending and page.keys[0] else None


def _begins(pgid: int, read: Callable[[int, int], bytes], at: int) -> bool:
    """Whether a page begins there, by its own number."""
    try:
        return _is_numbered(pgid, read(at, PAGE_HEADER_SIZE))
    except FormatError:
        # The file ends there.
        return False


def _is_numbered(pgid: int, data: bytes) -> bool:
    """Whether what stands at the beginning of a page is that page's own header."""
    header = Header.decode(data)
    return header.pgid == pgid and header.flags in _KNOWN


def _end_of(page: Leaf | Branch) -> int:
    content = sum(map(len, page.keys)) + sum(map(len, page.values))
    return PAGE_HEADER_SIZE + ELEMENT_SIZE * len(page.keys) + content


def _by_element(
    pgid: int,
    header: Header,
    read: Callable[[int, int], bytes],
    room: int,
    flaws: list[Flaw],
) -> tuple[Leaf | Branch, int]:
    """The elements that can be believed, and where the last of them ends.

    Raises:
        FormatError: There are none.
    """
    leaf = header.flags == LEAF
    count = min(header.count, (room - PAGE_HEADER_SIZE) // ELEMENT_SIZE)
    table = read(PAGE_HEADER_SIZE, ELEMENT_SIZE * count)
    rows = list(struct.iter_unpack("<IIII" if leaf else "<IIQ", table))
    at = range(PAGE_HEADER_SIZE, PAGE_HEADER_SIZE + len(table), ELEMENT_SIZE)
    if leaf:
        starts = [place + row[1] for place, row in zip(at, rows, strict=True)]
        sizes = [row[2] + row[3] for row in rows]
        key_sizes = [row[2] for row in rows]
    else:
        starts = [place + row[0] for place, row in zip(at, rows, strict=True)]
        sizes = key_sizes = [row[1] for row in rows]
    believed = _believable(starts, sizes, PAGE_HEADER_SIZE + len(table), room)
    keys: list[bytes] = []
    values: list[bytes] = []
    children: list[int] = []
    end = PAGE_HEADER_SIZE + len(table)
    content = 0
    for index, row in enumerate(rows):
        start = believed[index]
        if start is None or key_sizes[index] > MAX_KEY_SIZE:
            flaws.append(
                Flaw(
                    at[index],
                    f"element {index} contradicts its neighbours",
                    "one element" if leaf else "one subtree",
                )
            )
            continue
        content += sizes[index]
        if PAGE_HEADER_SIZE + content > room:
            flaws.append(Flaw(at[index], "elements overlap", "the elements behind"))
            break
        data = read(start, sizes[index])
        keys.append(data[: key_sizes[index]])
        end = max(end, start + sizes[index])
        if leaf:
            value = data[key_sizes[index] :]
            values.append(BucketValue(value) if row[0] & BUCKET_LEAF else value)
        else:
            children.append(row[2])
    if not keys:
        raise FormatError("no element of it can be believed", PAGE_HEADER_SIZE)
    if not leaf:
        return Branch(pgid, header.overflow, keys, children), end
    return (
        Leaf(
            pgid, header.overflow, tuple(keys), tuple(values),
            has_buckets=any(value.__class__ is BucketValue for value in values),
            cost=leaf_cost(len(keys), content),
        ),
        end,
    )  # fmt: skip


def _believable(
    starts: Sequence[int], sizes: Sequence[int], begin: int, limit: int
) -> list[int | None]:
    """Where each element starts; None for those that cannot be believed."""
    result: list[int | None] = []
    count = len(starts)
    # Where the content goes on, and whether an element that can be believed says
    # so. The last element has no start behind it to confirm its end: it needs that.
    expected, sure = begin, True
    for index, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        following = starts[index + 1] if index + 1 < count else None
        chained = start == expected
        place: int | None = None
        if chained and (following == start + size or (following is None and sure)):
            place = start
        elif chained and _goes_on(starts, sizes, index + 1, start + size):
            # The position behind this element is the wrong one.
            place = start
        elif not chained and following == expected + size:
            place = expected
        elif not chained and following == start + size:
            place = start
        if place is not None and begin <= place and place + size <= limit:
            result.append(place)
            expected, sure = place + size, True
        else:
            result.append(None)
            expected, sure = -1 if following is None else following, False
    return result


def _goes_on(
    starts: Sequence[int], sizes: Sequence[int], index: int, start: int
) -> bool:
    """Whether element `index`, put at `start`, meets the one behind it."""
    return index + 1 < len(starts) and start + sizes[index] == starts[index + 1]


def stored_pages(file: RobustFile, page_size: int, pages: int) -> Iterator[int]:
    """The numbers of pages behind the metas, but for those in holes of the file.

    No page is all zeros.

    Args:
        file: The file.
        page_size: Bytes a page.
        pages: The first page id that does not exist.
    """
    behind = 2
    for first, end in file.stored(2 * page_size, pages * page_size):
        numbers = range(max(first // page_size, behind), -(-end // page_size))
        yield from numbers
        behind = max(behind, numbers.stop)


def guess_page_size(file: RobustFile, size: int) -> int | None:
    """The page size that makes most pages say their own number.

    Args:
        file: The file.
        size: Bytes of the file.

    Returns:
        None when no size explains more than one page.
    """
    best, most = None, _MIN_MATCHES - 1
    page_size = MIN_PAGE_SIZE
    while page_size <= MAX_FOREIGN_PAGE_SIZE and page_size < size:
        matches = 0
        pages = stored_pages(file, page_size, -(-size // page_size))
        for pgid in islice(pages, _PAGES_SAMPLED):
            data = file.read(pgid * page_size, PAGE_HEADER_SIZE)
            if len(data) < PAGE_HEADER_SIZE:
                break
            matches += _is_numbered(pgid, data)
        if matches > most:
            best, most = page_size, matches
        page_size *= 2
    return best
