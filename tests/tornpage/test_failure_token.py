"""Replay tokens: self-contained, exact, and hard to misread."""

import contextlib
import dataclasses
import json

import pytest

from tornpage.certificate import Failure, TokenError, read_token
from tornpage.certificate.token import write_failure

FAILURE = Failure(
    subject="toy",
    program=[["put", "a", "é" * 40], ["commit"]],
    model="tear=sector,order=any",
    at="37i:0.2.1",
    property="P persistence",
)


@pytest.mark.parametrize(
    "failure",
    [
        FAILURE,
        dataclasses.replace(FAILURE, mutant="no-sync"),
        dataclasses.replace(FAILURE, database="ab" * 32, program=None),
    ],
)
def test_a_token_carries_the_whole_failure(failure):
    assert Failure.from_token(failure.token()) == failure


def test_a_token_is_one_word_that_no_shell_touches():
    assert set(FAILURE.token()) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    )


def test_a_token_with_one_changed_character_is_refused():
    token, taken = FAILURE.token(), []
    for place, right in enumerate(token):
        for other in "abcXYZ019_":
            if other == right:
                continue
            changed = token[:place] + other + token[place + 1 :]
            with contextlib.suppress(TokenError):
                taken.append((changed, Failure.from_token(changed)))
    assert not taken


@pytest.mark.parametrize("keep", [0, 3, 4, 10, -9, -1])
def test_a_token_that_was_cut_off_is_refused(keep):
    with pytest.raises(TokenError):
        Failure.from_token(FAILURE.token()[:keep])


def test_a_token_of_another_version_is_called_that():
    with pytest.raises(TokenError, match=r"version 'tp2'.*reads 'tp1'"):
        Failure.from_token("tp2" + FAILURE.token()[3:])


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"subject": "toy"},
        {"subject": 1, "program": 1, "model": "", "at": "", "property": ""},
        {"x": 1, "subject": "", "program": 1, "model": "", "at": "", "property": ""},
    ],
)
def test_a_whole_token_that_is_not_a_failure_is_refused(record):
    import base64
    import zlib

    packed = zlib.compress(json.dumps(record).encode())
    body = base64.urlsafe_b64encode(packed).rstrip(b"=")
    with pytest.raises(TokenError, match="does not describe a failure"):
        Failure.from_token(f"tp1.{body.decode()}.{zlib.crc32(body):08x}")


def test_a_token_that_would_unpack_without_end_is_refused():
    import base64
    import zlib

    packed = zlib.compress(bytes(65 << 20))
    body = base64.urlsafe_b64encode(packed).rstrip(b"=")
    with pytest.raises(TokenError, match="unpacks to more than"):
        Failure.from_token(f"tp1.{body.decode()}.{zlib.crc32(body):08x}")


def test_a_failure_file_gives_its_token_back(tmp_path):
    path = write_failure(FAILURE, "a\nstory\n", str(tmp_path / "deep" / "er"))
    assert read_token(path) == FAILURE.token()
    assert json.loads((tmp_path / path).read_text())["story"] == ["a", "story"]
    assert write_failure(FAILURE, "", str(tmp_path / "deep" / "er")) == path


def test_what_is_no_file_is_taken_for_the_token():
    assert read_token("tp1.x.y") == "tp1.x.y"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"token": 7}', b"\xff\x00"])
def test_a_file_without_a_token_is_refused(tmp_path, content):
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(TokenError, match="holds no failure"):
        read_token(str(path))
