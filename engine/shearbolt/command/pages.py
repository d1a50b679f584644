"""Subcommands that show pages: pages, page, page-item, dump.

`pages` reads the database as a transaction sees it and knows which pages are free.
The others read the file's bytes, without its lock and without believing them, so
that they work on a damaged file and on one that another process has open.

Source: bbolt cmd/bbolt/command/command_{pages,page,page_item,dump}.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shearbolt.check import free_map
from shearbolt.command.arguments import (
    add_bytes_format,
    add_json,
    add_path,
    add_timeout,
    page_id,
    size,
)
from shearbolt.command.session import Command, CommandError, UsageError
from shearbolt.command.text import format_bytes, quote_if_printable
from shearbolt.errors import BoltError
from shearbolt.export import json_bytes
from shearbolt.pagefile import PageFile, UnreadablePageError
from shearbolt.pages.decoding import decode_bucket
from shearbolt.pages.format import (
    BRANCH,
    COUNT_OVERFLOW,
    FREELIST,
    LEAF,
    META,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    BucketValue,
    FormatError,
    Header,
    page_kind,
)
from shearbolt.pages.pagemap import PageMap

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from shearbolt.command.session import Session
    from shearbolt.database.tx import Tx
    from shearbolt.pagefile import RawPage
    from shearbolt.pages.format import Page
    from shearbolt.storage.robust import RobustFile

__all__ = ["COMMANDS"]

_SEPARATOR: Final = "=" * 47
_LINE: Final = 16
_ZEROS: Final = Header(0, 0, 0, 0)
_LONG: Final = 1024
"""Pages in a hole of the file that are shown one by one, if there are no more."""


# -- pages -------------------------------------------------------------------------


def _arguments_pages(parser: ArgumentParser) -> None:
    add_path(parser)
    add_json(parser)
    add_timeout(parser)


def _pages(session: Session, options: Namespace) -> int:
    with session.reading(options.path, options.timeout) as db, db.view() as tx:
        free, file = _free_pages(tx), db.pager.file
        if not options.json:
            session.line("ID       TYPE       ITEMS  OVRFLW")
            session.line("======== ========== ====== ======")
        pgid = 0
        while pgid < tx.high_water_mark:
            header = Header.decode(file.read(pgid * db.page_size, PAGE_HEADER_SIZE))
            if header == _ZEROS and (more := _hole(file, db.page_size, pgid)) > _LONG:
                behind = min(pgid + more, tx.high_water_mark)
                _hole_line(session, options, pgid, behind - pgid - 1)
                pgid = behind
                continue
            used = not free[pgid]
            kind = page_kind(header.flags) if used else "free"
            if options.json:
                members: dict[str, Any] = {"id": pgid, "type": kind}
                if used:
                    members |= {"items": header.count, "overflow": header.overflow}
                session.json(members)
            else:
                items = str(header.count) if used else ""
                overflow = str(header.overflow) if used and header.overflow else ""
                session.line(f"{pgid:<8} {kind:<10} {items:<6} {overflow:<6}")
            pgid += 1 + (header.overflow if used else 0)
    return 0


def _free_pages(tx: Tx) -> PageMap:
    """Pages that the freelist has, be it damaged."""
    pager, meta = tx.db.pager, tx.meta
    if meta.freelist == NO_FREELIST:
        return free_map(pager, meta)
    free = PageMap()
    for pgid in pager.freelist(meta.freelist, meta.high_water_mark)[0]:
        free.add(pgid, 1, 1)
    return free


def _hole(file: RobustFile, page_size: int, pgid: int) -> int:
    """How many pages from this one on lie in a hole of the file; 0: it does not."""
    start, size = pgid * page_size, file.size()
    first, _ = next(file.stored(start, size), (size, size))
    return max(first - start, 0) // page_size


def _hole_line(session: Session, options: Namespace, pgid: int, more: int) -> None:
    """One line for pages of which a sparse file may have a billion."""
    if options.json:
        session.json({"id": pgid, "type": "hole", "overflow": more})
    else:
        session.line(f"{pgid:<8} {'hole':<10} {'':<6} {more:<6}")


# -- page --------------------------------------------------------------------------


def _arguments_page(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "pages", metavar="PAGEID", nargs="*", type=page_id, help="pages to print"
    )
    parser.add_argument("--all", action="store_true", help="print all pages")
    add_bytes_format(parser, "--format-value", what="a leaf's value")
    add_json(parser)


def _page(session: Session, options: Namespace) -> int:
    if options.all and options.pages:
        raise UsageError("invalid args: either use '--all' or 'pageid...'")
    if not options.all and not options.pages:
        raise UsageError("page id required")
    session.require_source(options.path)
    with PageFile(options.path, storage=session.storage) as file:
        if not options.all:
            for index, pgid in enumerate(options.pages):
                _print_page(session, file, pgid, options, separated=index > 0)
            return 0
        pgid = 0
        while pgid < file.high_water_mark and pgid * file.page_size < file.size:
            more = _hole(file.pager.file, file.page_size, pgid)
            if more > _LONG:
                _print_hole(session, pgid, pgid + more - 1, options)
                pgid += more
                continue
            pgid += 1 + _print_page(session, file, pgid, options, separated=pgid > 0)
    return 0


def _print_hole(session: Session, pgid: int, last: int, options: Namespace) -> None:
    error = f"pages {pgid} to {last} are a hole of the file: they were never written"
    if options.json:
        session.json({"id": pgid, "error": error})
        return
    session.line(_SEPARATOR)
    session.line(f"Printing page {pgid} failed: {error}. Continuing...")


def _print_page(
    session: Session, file: PageFile, pgid: int, options: Namespace, *, separated: bool
) -> int:
    """Print a page, or why not; gives the number of its overflow pages."""
    if separated and not options.json:
        session.line(_SEPARATOR)
    try:
        raw = file.page(pgid)
        if options.json:
            session.json(_page_members(file, raw))
            return raw.header.overflow
        session.line(f"Page ID:    {raw.header.pgid}")
        session.line(f"Page Type:  {raw.kind}")
        session.line(f"Total Size: {len(raw.data)} bytes")
        session.line(f"Overflow pages: {raw.header.overflow}")
        for line in _page_lines(file, raw, options.format):
            session.line(line)
    except BoltError as error:
        if options.json:
            session.json({"id": pgid, "error": str(error)})
        else:
            session.line(f"Printing page {pgid} failed: {error}. Continuing...")
        return 0
    return raw.header.overflow


def _page_lines(file: PageFile, raw: RawPage, form: str) -> list[str | bytes]:
    flags = raw.header.flags
    if flags == META:
        meta = raw.meta()
        return [
            f"Version:    {meta.version}",
            f"Page Size:  {meta.page_size} bytes",
            f"Flags:      {meta.flags:08x}",
            f"Root:       <pgid={meta.root}>",
            f"Freelist:   <pgid={meta.freelist}>",
            f"HWM:        <pgid={meta.high_water_mark}>",
            f"Txn ID:     {meta.txid}",
            f"Checksum:   {meta.checksum:016x}",
            "",
        ]
    if flags == FREELIST:
        ids = raw.free_ids()
        head = [f"Item Count: {len(ids)}", f"Overflow: {raw.header.overflow}", ""]
        return [*head, *map(str, ids), ""]
    if flags not in {LEAF, BRANCH}:
        return []
    page, flaws = _elements(file, raw)
    lines: list[str | bytes] = [f"Item Count: {raw.header.count}", ""]
    if page.is_leaf:
        for key, value in zip(page.keys, page.values, strict=True):
            name = quote_if_printable(key).encode()
            lines.append(name + b": " + _value(value, form))
    else:
        lines += [
            f"{quote_if_printable(key)}: <pgid={child}>"
            for key, child in zip(page.keys, page.children, strict=True)
        ]
    pgid = raw.header.pgid
    lines += [f"Printing page {pgid} failed: {flaw}. Continuing..." for flaw in flaws]
    return [*lines, ""]


def _elements(file: PageFile, raw: RawPage) -> tuple[Page, list[str]]:
    """A page's elements; of a damaged page those that can be believed, and why."""
    try:
        return raw.elements(), []
    except UnreadablePageError as error:
        # Here: a sound file does not need it.
        from shearbolt.salvage.pages import read_tolerant  # noqa: PLC0415

        try:
            found = read_tolerant(
                file.pager, raw.header.pgid, file.size // file.page_size
            )
        except FormatError:
            raise error from None
        return found.page, [flaw.reason for flaw in found.flaws]


def _value(value: bytes, form: str) -> bytes:
    if not isinstance(value, BucketValue):
        return format_bytes(value, form)
    try:
        root, sequence, _ = decode_bucket(value)
    except FormatError as error:
        return f"<damaged bucket: {error}>".encode()
    return f"<pgid={root},seq={sequence}>".encode()


def _page_members(file: PageFile, raw: RawPage) -> dict[str, Any]:
    header = raw.header
    members: dict[str, Any] = {
        "id": header.pgid,
        "type": raw.kind,
        "size": len(raw.data),
        "overflow": header.overflow,
    }
    if header.flags == META:
        meta = raw.meta()
        members |= {
            "version": meta.version,
            "page_size": meta.page_size,
            "flags": meta.flags,
            "root": meta.root,
            "freelist": None if meta.freelist == NO_FREELIST else meta.freelist,
            "high_water_mark": meta.high_water_mark,
            "txid": meta.txid,
            "checksum": f"{meta.checksum:016x}",
            "problem": meta.problem(),
        }
    elif header.flags == FREELIST:
        members["free"] = raw.free_ids()
    elif header.flags in {LEAF, BRANCH}:
        page, flaws = _elements(file, raw)
        if flaws:
            members["problems"] = flaws
        members["items"] = (
            [_item(*pair) for pair in zip(page.keys, page.values, strict=True)]
            if page.is_leaf
            else [
                {"key": json_bytes(key), "page": child}
                for key, child in zip(page.keys, page.children, strict=True)
            ]
        )
    return members


def _item(key: bytes, value: bytes) -> dict[str, Any]:
    if not isinstance(value, BucketValue):
        return {"key": json_bytes(key), "value": json_bytes(value)}
    try:
        root, sequence, _ = decode_bucket(value)
    except FormatError as error:
        return {"key": json_bytes(key), "damaged_bucket": str(error)}
    return {"key": json_bytes(key), "root": root, "sequence": sequence}


# -- page-item ---------------------------------------------------------------------


def _arguments_page_item(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("page", metavar="PAGEID", type=page_id, help="the leaf page")
    parser.add_argument("item", metavar="ITEMID", type=size, help="from 0")
    parser.add_argument("--key-only", action="store_true", help="print only the key")
    parser.add_argument(
        "--value-only", action="store_true", help="print only the value"
    )
    add_bytes_format(parser, "--format", what="key and value")
    add_json(parser)


def _page_item(session: Session, options: Namespace) -> int:
    if options.key_only and options.value_only:
        raise UsageError("the --key-only or --value-only flag may be set, but not both")
    session.require_source(options.path)
    with PageFile(options.path, storage=session.storage) as file:
        raw = file.page(options.page)
    if options.item >= raw.header.count:
        raise CommandError(
            f"leafPageElement: expected item index less than {raw.header.count}, "
            f"but got {options.item}"
        )
    if raw.header.flags != LEAF:
        raise CommandError(
            f"leafPageElement: expected page type of 'leaf', but got '{raw.kind}'"
        )
    page = raw.elements()
    key, value = page.keys[options.item], page.values[options.item]
    if options.json:
        members = _item(key, value)
        if options.key_only:
            members = {"key": members["key"]}
        if options.value_only:
            del members["key"]
        session.json(members)
        return 0
    if not options.value_only:
        session.line(format_bytes(key, options.format))
    if not options.key_only:
        session.line(format_bytes(bytes(value), options.format))
    return 0


# -- dump --------------------------------------------------------------------------


def _arguments_dump(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "pages", metavar="PAGEID", nargs="+", type=page_id, help="pages to dump"
    )
    add_json(parser)


def _dump(session: Session, options: Namespace) -> int:
    session.require_source(options.path)
    with PageFile(options.path, storage=session.storage) as file:
        for index, pgid in enumerate(options.pages):
            block = file.block(pgid)
            base = pgid * file.page_size
            if options.json:
                session.json({"id": pgid, "offset": base, "hex": block.hex()})
                continue
            if index:
                session.line(_SEPARATOR)
            _dump_block(session, block, base)
    return 0


def _dump_block(session: Session, block: bytes, base: int) -> None:
    """Lines of 16 bytes; one star for lines like the one before."""
    before = b""
    starred = False
    last = len(block) - _LINE
    for at in range(0, len(block), _LINE):
        line = block[at : at + _LINE]
        # The last line is always there, so that the length can be seen.
        if line == before and at != last:
            if not starred:
                session.line(f"{base + at:07x} *")
            starred = True
        else:
            session.line(f"{base + at:07x} {line.hex(' ', 2)}")
            starred = False
        before = line
    session.line()


COMMANDS: Final = (
    Command(
        "pages",
        "list all pages with their types",
        _arguments_pages,
        _pages,
        "shearbolt pages app.db",
        "ITEMS counts a leaf's or branch's elements and a freelist's ids "
        f"({COUNT_OVERFLOW}: that many or more). OVRFLW is how many pages the page "
        "goes on for. Pages that are somebody's overflow have no line, and a large "
        "hole of the file has one.",
    ),
    Command(
        "page",
        "print pages in readable form",
        _arguments_page,
        _page,
        "shearbolt page app.db 0 1\n"
        "shearbolt page app.db --all --format-value redacted",
        "Reads the file as it is, without its lock. Of a damaged page it prints the "
        "elements that can be believed, and what is wrong.",
    ),
    Command(
        "page-item",
        "print one key and value of a leaf page",
        _arguments_page_item,
        _page_item,
        "shearbolt page-item app.db 7 0 --format ascii-encoded",
        "Reads the file as it is, without its lock; works on damaged files.",
    ),
    Command(
        "dump",
        "print pages in hexadecimal",
        _arguments_dump,
        _dump,
        "shearbolt dump app.db 0 1",
        "Only the first page of a run; its overflow pages have numbers of their own. "
        "Reads the file as it is, without its lock.",
    ),
)
