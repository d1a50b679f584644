r"""What code under test says, as it can be shown.

A story quotes that code: values, messages of errors, names of files, decoded from
whatever a crash has left. Some of it no terminal and no page shows, and much else takes
it for something of its own: an escape sequence, the end of a line, a character that a
file cannot have.

    ESC [ 3 1 m   -->  \x1b[31m           NUL  -->  \x00

What is left is what Python calls printable, ends of lines and tabs. Story and message
of a failure are quoted where they are made (`run.report`); who shows anything else of
a subject quotes it there.
"""

from __future__ import annotations

import html
from typing import Final

__all__ = ["escape", "shown"]

_SPACES: Final = frozenset("\n\t")


def shown(text: str) -> str:
    """The text, with escapes as in a Python string for what cannot be shown."""
    if text.isprintable():
        return text
    return "".join(
        piece if piece in _SPACES or piece.isprintable() else repr(piece)[1:-1]
        for piece in text
    )


def escape(text: str) -> str:
    """The text as it stands in HTML, in an attribute, too."""
    return html.escape(shown(text))
