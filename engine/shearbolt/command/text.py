r"""Bytes, and a few other things, as text: the forms bbolt's command prints.

    format          b"wren"               b"\\x00\\xff"
    auto            wren                  00ff
    ascii-encoded   "wren"                "\\x00\\xff"
    hex             7772656e              00ff
    bytes           the bytes themselves  the bytes themselves
    redacted        <redacted len:4 sha256:...>

"auto" prints what is printable UTF-8 as it is, and anything else as hex, so it cannot
be read back; "ascii-encoded" and "hex" can. Printable is what Go calls so: letters,
marks, numbers, punctuation, symbols and the space. Python's `str.isprintable` is the
same set.

Source: bbolt cmd/bbolt/command/utils.go; Go strconv.Quote, time.Duration.String.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = [
    "FORMATS",
    "PARSE_FORMATS",
    "duration",
    "format_bytes",
    "lossy",
    "one_line",
    "parse_bytes",
    "printable_or_hex",
    "quote",
    "quote_if_printable",
]

FORMATS: Final = ("auto", "ascii-encoded", "hex", "bytes", "redacted")
"""How bytes are printed."""

PARSE_FORMATS: Final = ("ascii-encoded", "hex")
"""How bytes are given as arguments."""

_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def _printable(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def printable_or_hex(data: bytes) -> str:
    """The bytes as text when they are printable UTF-8, else as hex."""
    text = _printable(data)
    return data.hex() if text is None else text


def quote_if_printable(data: bytes) -> str:
    """The same, the text in double quotes."""
    return data.hex() if _printable(data) is None else quote(data)


def _pieces(data: bytes) -> list[str | int]:
    """Characters, and bytes that are part of none, in order."""
    found: list[str | int] = []
    at = 0
    while at < len(data):
        try:
            found += data[at:].decode()
        except UnicodeDecodeError as error:
            found += data[at : at + error.start].decode()
            at += error.start
            # One byte at a time, as Go does: the next may begin a character.
            found.append(data[at])
            at += 1
        else:
            break
    return found


def quote(data: bytes) -> str:
    """Bytes in double quotes with Go's escapes (strconv.Quote)."""
    parts = []
    for piece in _pieces(data):
        if isinstance(piece, int):
            parts.append(f"\\x{piece:02x}")
        elif piece in _ESCAPES:
            parts.append(_ESCAPES[piece])
        elif piece.isprintable():
            parts.append(piece)
        else:
            code = ord(piece)
            if code < 0x20 or code == 0x7F:
                parts.append(f"\\x{code:02x}")
            elif code < 0x10000:
                parts.append(f"\\u{code:04x}")
            else:
                parts.append(f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def lossy(data: bytes) -> str:
    """Bytes as text, U+FFFD for each byte that is no UTF-8 (Go's JSON)."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if isinstance(piece, int) else piece
        for piece in _pieces(data)
    )


def one_line(text: str) -> str:
    """A message as one line: a name in it may hold newlines, or be no text at all."""
    return "".join(
        piece if piece.isprintable() else repr(piece)[1:-1] for piece in text
    )


def format_bytes(data: bytes, form: str) -> bytes:
    """Bytes as they are printed.

    Args:
        data: Any bytes.
        form: One of `FORMATS`.
    """
    if form == "bytes":
        return data
    if form == "hex":
        return data.hex().encode()
    if form == "ascii-encoded":
        return quote(data).encode()
    if form == "redacted":
        digest = hashlib.sha256(data).hexdigest()
        return f"<redacted len:{len(data)} sha256:{digest}>".encode()
    return printable_or_hex(data).encode()


def parse_bytes(text: bytes, form: str) -> bytes:
    """Bytes from an argument.

    Args:
        text: The argument.
        form: One of `PARSE_FORMATS`.

    Raises:
        ValueError: It is no hex.
    """
    if form == "hex":
        # Go's decoder allows no blanks; Python's does.
        if b" " in text or not text.isascii():
            raise ValueError(f"not hex: {lossy(text)!r}")
        return bytes.fromhex(text.decode())
    return text


def duration(nanoseconds: int) -> str:
    """A time span as Go prints it: 5.64ms, 1.000005574s, 1m0.5s."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return _decimal(nanoseconds, size) + unit
    hours, rest = divmod(nanoseconds, 3600 * 1_000_000_000)
    minutes, rest = divmod(rest, 60 * 1_000_000_000)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    """Value / unit, exactly, without trailing zeros."""
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{digits}"
