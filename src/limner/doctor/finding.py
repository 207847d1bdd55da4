"""What a check of the set-up says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]

Said = tuple[Verdict, str]
"""A verdict, and a sentence that says what is so and what to change."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    verdict: Verdict
    sentence: str


def ok(sentence: str) -> Said:
    return "ok", sentence


def warning(sentence: str) -> Said:
    """It works, but not as well, as safely or as long as it could."""
    return "warning", sentence


def wrong(sentence: str) -> Said:
    """It does not work, or not safely: the exit code is 1."""
    return "wrong", sentence


SECONDS = 3.0
"""Longest wait for another machine to answer."""

EXPIRES_SOON = 21 * 86400.0
"""Seconds before the end of a certificate or a key from which it is a warning."""
