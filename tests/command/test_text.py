"""Bytes as text, as Go prints them. Expected values are Go's (strconv, time)."""

from __future__ import annotations

import pytest

from shearbolt.command.text import (
    duration,
    format_bytes,
    lossy,
    parse_bytes,
    printable_or_hex,
    quote,
    quote_if_printable,
)


@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        (b"", '""'),
        (b"plain", '"plain"'),
        (b'say "hi"\\', r'"say \"hi\"\\"'),
        (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        (b"\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        (b"\xff\xfe", r'"\xff\xfe"'),
        (b"caf\xc3\xa9", '"caf\u00e9"'),
        (b"half \xe2\x82", r'"half \xe2\x82"'),
        ("\u00a0\u200b\u2028\ufeff".encode(), r'"\u00a0\u200b\u2028\ufeff"'),
        ("\U0001f426\U000e0001".encode(), '"\U0001f426\\U000e0001"'),
        ("\ufffd".encode(), '"\ufffd"'),
    ],
)
def test_quotes_are_gos(data, quoted) -> None:
    assert quote(data) == quoted


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"wren", "wren"),
        (b"two words", "two words"),
        (b"", ""),
        (b"new\nline", "6e65770a6c696e65"),
        (b"\xff", "ff"),
        ("\u00a0".encode(), "c2a0"),
    ],
)
def test_auto_is_text_only_when_every_character_prints(data, text) -> None:
    assert printable_or_hex(data) == text
    assert format_bytes(data, "auto") == text.encode()


def test_formats() -> None:
    data = b"w\n"
    assert format_bytes(data, "bytes") == b"w\n"
    assert format_bytes(data, "hex") == b"770a"
    assert format_bytes(data, "ascii-encoded") == rb'"w\n"'
    assert format_bytes(b"", "redacted") == (
        b"<redacted len:0 sha256:"
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855>"
    )


def test_keys_of_pages_are_quoted_when_they_print() -> None:
    assert quote_if_printable(b"a") == '"a"'
    assert quote_if_printable(b"\0") == "00"


def test_each_byte_that_is_no_text_becomes_one_replacement() -> None:
    assert lossy(b"a\xe2\x82b\xff") == "a\ufffd\ufffdb\ufffd"


def test_hex_arguments_are_strict() -> None:
    assert parse_bytes(b"00fF", "hex") == b"\x00\xff"
    assert parse_bytes(b"00fF", "ascii-encoded") == b"00fF"
    for bad in (b"0", b"0g", b"00 ff", b" 00", "\u0660\u0660".encode()):
        with pytest.raises(ValueError, match=r"hex|fromhex"):
            parse_bytes(bad, "hex")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_000, "1\u00b5s"),
        (5_640, "5.64\u00b5s"),
        (5_640_871, "5.640871ms"),
        (1_000_005_574, "1.000005574s"),
        (60_500_000_000, "1m0.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (3_661_001_000_000, "1h1m1.001s"),
    ],
)
def test_durations_are_gos(nanoseconds, text) -> None:
    assert duration(nanoseconds) == text
