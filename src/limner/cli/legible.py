"""Text from elsewhere, made fit for a terminal: what a service, a file or a caller wrote must not steer it."""

from __future__ import annotations

JOINERS = "\u200c\u200d"
"""Which of the invisible characters stay: emoji and many scripts are written with them."""


def one_line(text: object) -> str:
    """`text` on one line: breaks and tabs are spaces, and what else could steer a terminal is U+FFFD.

    That is control characters, those that turn the direction of writing, and all else that has no glyph.
    """
    return "".join(map(_shown, str(text)))


def cut(text: object, most: int) -> str:
    """`text` on one line of at most `most` characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1] + "…"


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if letter.isspace() else "\ufffd"
