"""One failure as one token: everything that is needed to see it again.

    tp1.eJyrVkrLz1eyUkpKLFKqBQAdegQf.9c0e1a77
    |   |                             |
    |   |                             CRC-32 of the middle, hexadecimal
    |   base64url(zlib(JSON)), no padding: survives shells, chats, bug trackers
    version of this format

    JSON: "subject"  how to find it      "at"       schedule id, or "live"
          "program"  encoded             "property" which promise was broken
          "model"    the crash model     "mutant"   planted bug, when there was one
          "database" SHA-256 of the file the programs started from, when given
          "afresh"   true: seen in a process that had not run the program

The token holds no seed: the program itself is in it, so that it means the same
after the generator has changed. It does not hold the storage code, of course:
when that changes, the failure may be gone, which is what replaying is for.

A checksum, although base64 and zlib notice most damage, because a token that was
cut by a line break must be called damaged, not "does not reproduce".

The same token is kept in a file, `.tornpage/failures/<id>.json`, beside the story
as people read it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import zlib
from dataclasses import dataclass
from typing import Any

__all__ = ["FAILURES", "Failure", "TokenError", "read_token", "write_failure"]

FAILURES = os.path.join(".tornpage", "failures")
LIVE = "live"

_VERSION = "tp1"
# A bomb of zeros must not fill the memory of whoever pastes a token.
_MAX_JSON = 64 << 20
_REQUIRED = ("subject", "program", "model", "at", "property")


class TokenError(ValueError):
    """A replay token cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A broken promise, with all that reproduces it.

    Attributes:
        subject: The name `tornpage.registry.load` finds the subject by.
        program: The program as JSON values.
        model: The crash model as text.
        at: Schedule id (crash point and tape), or "live": no crash was needed.
        property: Short name of the broken promise.
        mutant: The planted bug that was active, or None.
        database: SHA-256 of the file the program starts from, or None.
        afresh: Whether recovery has to be made in a process that has not run the
            program, see `tornpage.run.afresh`.
    """

    subject: str
    program: Any
    model: str
    at: str
    property: str
    mutant: str | None = None
    database: str | None = None
    afresh: bool = False

    def token(self) -> str:
        """This failure as a token."""
        record = {name: getattr(self, name) for name in _REQUIRED}
        for name in ("mutant", "database"):
            if getattr(self, name) is not None:
                record[name] = getattr(self, name)
        if self.afresh:
            record["afresh"] = True
        text = json.dumps(record, separators=(",", ":"), sort_keys=True)
        packed = zlib.compress(text.encode(), 9)
        body = base64.urlsafe_b64encode(packed).rstrip(b"=")
        return f"{_VERSION}.{body.decode()}.{zlib.crc32(body):08x}"

    @classmethod
    def from_token(cls, token: str) -> Failure:
        """The failure of a token.

        Raises:
            TokenError: The token is of another version, or damaged.
        """
        version, _, rest = token.strip().partition(".")
        if version != _VERSION:
            if version.startswith("tp") and version[2:].isdigit():
                raise TokenError(
                    f"This replay token is of version {version!r}; this tornpage"
                    f" reads {_VERSION!r}. Use the tornpage that printed it."
                )
            raise TokenError(
                f"{_abridged(token)} is neither a replay token"
                f" ({_VERSION}.*.*) nor a file that holds one."
            )
        body, _, check = rest.partition(".")
        if f"{zlib.crc32(body.encode()):08x}" != check:
            raise TokenError(
                "This replay token is damaged: its checksum does not fit."
                " Copy the whole of it, without line breaks."
            )
        return cls._from_record(_unpack(body))

    @classmethod
    def _from_record(cls, record: Any) -> Failure:
        optional = ("mutant", "database")
        texts = [n for n in _REQUIRED if n != "program"]
        if (
            not isinstance(record, dict)
            or not set(_REQUIRED) <= set(record) <= {*_REQUIRED, *optional, "afresh"}
            or not isinstance(record.get("afresh", False), bool)
            or not all(isinstance(record[n], str) for n in texts)
            or not all(isinstance(record.get(n, ""), str) for n in optional)
        ):
            raise TokenError(
                "This replay token does not describe a failure."
                " Use a token that tornpage printed."
            )
        return cls(**record)

    def identity(self) -> str:
        """Eight hexadecimal digits that name this failure."""
        return self.token().rpartition(".")[2]


def _abridged(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _unpack(body: str) -> Any:
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        inflater = zlib.decompressobj()
        text = inflater.decompress(packed, _MAX_JSON)
        if not inflater.eof:
            raise TokenError(
                f"This replay token unpacks to more than {_MAX_JSON} bytes, or it"
                " ends early. Use a token that tornpage printed."
            )
        return json.loads(text)
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, TokenError):
            raise
        raise TokenError(f"This replay token is damaged: {error}.") from error


def read_token(text: str) -> str:
    """The token that `text` is, or that the file of this name holds.

    Raises:
        TokenError: There is such a file, and no token in it.
    """
    if not os.path.isfile(text):
        return text
    try:
        with open(text, encoding="utf-8") as file:
            record = json.load(file)
        token = record["token"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TokenError(
            f"{text} holds no failure ({type(error).__name__}: {error})."
            f" Give a file from {FAILURES}."
        ) from error
    if not isinstance(token, str):
        raise TokenError(f"{text} holds no failure: its token is not text.")
    return token


def write_failure(failure: Failure, story: str, folder: str = FAILURES) -> str:
    """Keep a failure in a file of its own.

    Returns:
        The path of the file; the same failure always has the same.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{failure.identity()}.json")
    record = {
        "token": failure.token(),
        "property": failure.property,
        "subject": failure.subject,
        "at": failure.at,
        "mutant": failure.mutant,
        "story": story.splitlines(),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    return path
