"""The subcommands of surgery: changing single pages of a copy by hand.

The work is `shearbolt.surgery`'s. Words and warnings are bbolt's.

Source: bbolt cmd/bbolt/command/command_surgery*.go.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shearbolt.command.arguments import add_json, add_path, add_timeout, page_id
from shearbolt.command.session import Command, UsageError
from shearbolt.surgery import (
    META_FIELDS,
    abandon_freelist,
    clear_page,
    clear_page_elements,
    copy_page,
    rebuild_freelist,
    revert_meta_page,
    update_meta,
    validate_metas,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from shearbolt.command.session import Session

__all__ = ["COMMANDS"]

T = TypeVar("T")

_ADVICE: Final = "Please consider executing `shearbolt surgery freelist abandon ...`"
_DELAY: Final = (
    "It may cause some delay on next startup because bbolt needs to scan the whole db "
    "to reconstruct the free list."
)
_COPY: Final = "The database is left as it is; the change is made to a copy."


def _arguments(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="the copy; it must not exist"
    )
    add_json(parser)
    add_timeout(parser)


def _add_page(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--pageId", metavar="PAGEID", type=page_id, required=True, dest="page"
    )


def _operate(
    session: Session, options: Namespace, operation: Callable[..., T], *arguments: Any
) -> T:
    """Do an operation to a copy of the database, with a progress line."""
    session.require_source(options.path)
    with session.progress("copy", "bytes") as progress:
        return operation(
            options.path,
            options.output,
            *arguments,
            storage=session.storage,
            timeout=options.timeout,
            progress=progress,
        )


def _report(
    session: Session, options: Namespace, lines: list[str], **members: Any
) -> int:
    if options.json:
        session.json({"output": options.output, **members})
    else:
        for line in lines:
            session.line(line)
    return 0


def _require_two(page: int) -> None:
    if page < 2:
        raise UsageError(f"the pageId must be at least 2, but got {page}")


# -- revert-meta-page, copy-page ---------------------------------------------------


def _revert(session: Session, options: Namespace) -> int:
    slot = _operate(session, options, revert_meta_page)
    return _report(session, options, ["The meta page is reverted."], meta_page=slot)


def _arguments_copy(parser: ArgumentParser) -> None:
    _arguments(parser)
    for name, text in (("--from-page", "page to read"), ("--to-page", "to write over")):
        parser.add_argument(
            name, metavar="PAGEID", type=page_id, required=True, help=text
        )


def _copy(session: Session, options: Namespace) -> int:
    source, target = options.from_page, options.to_page
    if source == target:
        raise UsageError(f"'--from-page' and '--to-page' have the same value: {source}")
    stale = _operate(session, options, copy_page, source, target)
    lines = [f"The page {source} was successfully copied to page {target}"]
    if stale:
        lines = ["WARNING: the free list might have changed.", _ADVICE, *lines]
    return _report(session, options, lines, freelist_may_be_wrong=stale)


# -- clear-page, clear-page-elements -----------------------------------------------

_ABANDONED: Final = (
    "WARNING: The clearing has abandoned some pages that are not yet referenced from "
    "free list."
)


def _arguments_clear(parser: ArgumentParser) -> None:
    _arguments(parser)
    _add_page(parser)


def _clear(session: Session, options: Namespace) -> int:
    _require_two(options.page)
    cleared = _operate(session, options, clear_page, options.page)
    lines = [_ABANDONED, _ADVICE] if cleared.abandoned else []
    lines.append(f"The page ({options.page}) was cleared")
    return _report(
        session, options, lines, removed=cleared.removed, abandoned=cleared.abandoned
    )


def _index(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an index") from None


def _arguments_elements(parser: ArgumentParser) -> None:
    _arguments_clear(parser)
    parser.add_argument(
        "--from-index", metavar="N", type=_index, required=True, help="first to go"
    )
    parser.add_argument(
        "--to-index",
        metavar="N",
        type=_index,
        required=True,
        help="first to stay; -1: to the end",
    )


def _clear_elements(session: Session, options: Namespace) -> int:
    _require_two(options.page)
    start, end = options.from_index, options.to_index
    cleared = _operate(session, options, clear_page_elements, options.page, start, end)
    lines = [_ABANDONED, _ADVICE] if cleared.abandoned else []
    lines.append(
        f"All elements in [{start}, {end}) in page {options.page} were cleared"
    )
    return _report(
        session, options, lines, removed=cleared.removed, abandoned=cleared.abandoned
    )


# -- freelist ----------------------------------------------------------------------


def _abandon(session: Session, options: Namespace) -> int:
    _operate(session, options, abandon_freelist)
    lines = [
        "The freelist was abandoned in both meta pages.",
        _DELAY,
    ]
    return _report(session, options, lines)


def _rebuild(session: Session, options: Namespace) -> int:
    _operate(session, options, rebuild_freelist)
    return _report(session, options, ["The freelist was successfully rebuilt."])


# -- meta --------------------------------------------------------------------------


def _arguments_validate(parser: ArgumentParser) -> None:
    add_path(parser)
    add_json(parser)


def _validate(session: Session, options: Namespace) -> int:
    session.require_source(options.path)
    problems = validate_metas(options.path, storage=session.storage)
    for slot, problem in enumerate(problems):
        if options.json:
            session.json({"meta_page": slot, "problem": problem})
        elif problem is None:
            session.line(f"The meta page {slot} is valid!")
        else:
            session.line(f"WARNING: The meta page {slot} isn't valid: {problem}!")
    return 0


def _arguments_update(parser: ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--fields",
        metavar="NAME:NUMBER,...",
        action="append",
        default=[],
        help=f"new values, of {', '.join(META_FIELDS)}; may be given again",
    )
    parser.add_argument(
        "--meta-page", metavar="0|1", type=page_id, default=0, help="which meta page"
    )


def _fields(given: list[str]) -> Iterator[tuple[str, int]]:
    for field in ",".join(given).split(",") if given else []:
        name, colon, text = field.partition(":")
        if not colon or ":" in text:
            raise UsageError(f"invalid key-value pair: {field}")
        if name not in META_FIELDS:
            raise UsageError(f'field "{name}" isn\'t allowed to be updated')
        try:
            yield name, page_id(text)
        except argparse.ArgumentTypeError:
            raise UsageError(f'invalid value "{text}" for field "{name}"') from None


def _update(session: Session, options: Namespace) -> int:
    if options.meta_page > 1:
        raise UsageError(f"invalid meta page id: {options.meta_page}")
    fields = dict(_fields(options.fields))
    done = _operate(session, options, update_meta, options.meta_page, fields)
    lines = []
    if options.meta_page == 1 and done.other_page_size != done.after.page_size:
        lines.append(
            f"WARNING: The page size ({done.other_page_size}) in the first meta page "
            f"doesn't match the second meta page ({done.after.page_size})"
        )
    # Fields given count as a change, also to the value that was there: bbolt.
    changed = bool(fields) or done.before != done.after
    lines.append(
        f"The meta page {options.meta_page} has been updated!"
        if changed
        else "Nothing changed!"
    )
    return _report(session, options, lines, changed=changed)


COMMANDS: Final = (
    Command(
        "surgery revert-meta-page",
        "undo the last transaction: the older meta page over the newer",
        _arguments,
        _revert,
        "shearbolt surgery revert-meta-page broken.db --output reverted.db",
        _COPY,
    ),
    Command(
        "surgery copy-page",
        "copy a page over another one",
        _arguments_copy,
        _copy,
        "shearbolt surgery copy-page broken.db --output new.db \\\n"
        "    --from-page 5 --to-page 3",
        _COPY,
    ),
    Command(
        "surgery clear-page",
        "remove all elements of a leaf or branch page",
        _arguments_clear,
        _clear,
        "shearbolt surgery clear-page broken.db --output new.db --pageId 7",
        _COPY,
    ),
    Command(
        "surgery clear-page-elements",
        "remove some elements of a leaf or branch page",
        _arguments_elements,
        _clear_elements,
        "shearbolt surgery clear-page-elements broken.db --output new.db \\\n"
        "    --pageId 7 --from-index 2 --to-index -1",
        _COPY,
    ),
    Command(
        "surgery freelist abandon",
        "remove the freelist from both meta pages",
        _arguments,
        _abandon,
        "shearbolt surgery freelist abandon broken.db --output new.db",
        _COPY + " The next program that opens it for writing finds the free pages.",
    ),
    Command(
        "surgery freelist rebuild",
        "make a freelist where there is none",
        _arguments,
        _rebuild,
        "shearbolt surgery freelist rebuild abandoned.db --output new.db",
        _COPY,
    ),
    Command(
        "surgery meta validate",
        "say whether both meta pages are valid",
        _arguments_validate,
        _validate,
        "shearbolt surgery meta validate broken.db",
    ),
    Command(
        "surgery meta update",
        "set fields of a meta page and make it valid",
        _arguments_update,
        _update,
        "shearbolt surgery meta update broken.db --output new.db \\\n"
        "    --fields root:16,freelist:8 --meta-page 1",
        _COPY,
    ),
)
