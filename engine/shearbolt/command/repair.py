"""The subcommand repair: a sound file with all that can be read of a damaged one.

The work is `shearbolt.salvage.repair`'s; here it gets a progress line and words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shearbolt.command.arguments import add_json, add_path, size
from shearbolt.command.session import Command
from shearbolt.export import json_bytes

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from shearbolt.command.session import Session
    from shearbolt.salvage import Damage

__all__ = ["COMMANDS"]


def _arguments(parser: ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the file to make"
    )
    parser.add_argument(
        "--txid",
        metavar="N",
        type=size,
        help="salvage this version: the older meta's, when the newer's is worse",
    )
    parser.add_argument(
        "--page-size", metavar="BYTES", type=size, help="when the file does not tell"
    )
    add_json(parser)


def _repair(session: Session, options: Namespace) -> int:
    # Here: no other subcommand needs it.
    from shearbolt.salvage import repair  # noqa: PLC0415

    session.require_source(options.path)
    with session.progress("repair", "pages") as progress:
        result = repair(
            options.path,
            options.output,
            progress=progress,
            txid=options.txid,
            page_size=options.page_size,
            storage=session.storage,
        )
    if options.json:
        for damage in result.damage:
            session.json(_members(damage))
        session.json(
            {
                "complete": result.complete,
                "buckets": result.buckets,
                "pairs": result.pairs,
                "content": result.content,
                "txid": result.txid if result.txid >= 0 else None,
                "lost": result.lost,
                "unlisted": result.unlisted,
            }
        )
        return 0 if result.complete else 1
    for damage in result.damage:
        session.line(str(damage))
    if result.unlisted:
        session.line(f"... and {result.unlisted} more")
    session.line(
        f"{result.pairs} pairs in {result.buckets} buckets kept, "
        f"{result.content} bytes of keys and values"
    )
    session.line(
        "nothing was lost" if result.complete else f"{result.lost} places lost content"
    )
    return 0 if result.complete else 1


def _members(damage: Damage) -> dict[str, Any]:
    return {
        "damage": damage.reason,
        "lost": damage.lost,
        "page": damage.pgid,
        "offset": damage.offset,
        "bucket": [json_bytes(name) for name in damage.path],
        "low": None if damage.low is None else json_bytes(damage.low),
        "high": None if damage.high is None else json_bytes(damage.high),
    }


COMMANDS: Final = (
    Command(
        "repair",
        "save what can be read of a damaged database into a new one",
        _arguments,
        _repair,
        "shearbolt repair broken.db -o sound.db",
        "The damaged file is left as it is. Says what was lost; ends with status 1 "
        "when anything was.",
    ),
)
