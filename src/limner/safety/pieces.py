"""A text without what cannot be seen, cut into its runs of letters."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from limner.safety.lookalikes import SPACELESS, Letter, letter

CUT = "\ufffc"
"""Stands where an exception was cut out; nothing is read across it."""

_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # general, Cyrillic
    "\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]"  # Hebrew and Arabic points
)
# Fillers, selectors and stretchers; formats, controls and private use go by their categories.
_UNSEEN = re.compile(
    "[\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How texts are read.

    Attributes:
        digits: digits and signs may stand for letters.
        marks: letters with marks are read as those without.
    """

    digits: bool = True
    marks: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of letters and digits with nothing between them, and what stands before it."""

    gap: str
    letters: tuple[Letter, ...]
    own: str
    reading: str


def clean(text: str) -> str:
    """`text` in NFKC without what cannot be seen; line ends and tabs stay."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text))
    return unicodedata.normalize("NFKC", "".join(c for c in text if c.isspace() or not _invisible(c)))


def spaceless(text: str) -> bool:
    """Whether any of `text` is of a script that puts no spaces between words."""
    return any(each is not None and each.script in SPACELESS for each in map(letter, text))


def parts(text: str, manner: Manner) -> list[tuple[str, str]]:
    """The words of a policy's term, each as it is and as a disguised one of it is read."""
    return [(piece.own, piece.reading) for piece in cut(clean(text), manner)[0]]


def _invisible(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    category = unicodedata.category(character)
    # Emoji newer than Python's tables are unassigned, and yet seen.
    return category in ("Cf", "Cc", "Co", "Cs") or (category == "Cn" and not "\U0001f000" <= character <= "\U0001faff")


def _unmarked(text: str, manner: Manner) -> str:
    """A text in NFKC without marks, or without those that no letter of its own code point has."""
    apart = unicodedata.normalize("NFD", text) if manner.marks else text
    return unicodedata.normalize("NFC", _MARKS.sub("", apart))


def cut(text: str, manner: Manner) -> tuple[list[Piece], str]:
    """The text's runs of letters, and the gap after the last. Signs that may stand for letters are in the gaps."""
    found: list[Piece] = []
    gap: list[str] = []
    run: list[Letter] = []

    def close() -> None:
        if run:
            own, reading = "".join(each.own for each in run), "".join(each.reading for each in run)
            found.append(Piece("".join(gap), tuple(run), own, reading))
            gap.clear()
            run.clear()

    for character in _unmarked(text, manner):
        known = letter(character, manner.digits, manner.marks)
        if known is None or known.sign:
            close()
            gap.append(character)
        else:
            run.append(known)
    close()
    return found, "".join(gap)
