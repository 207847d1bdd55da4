"""Measures the look-up by meaning: at which cosine is the nearest drawing the right one?

    python -m limner.painter.training.evaluate_words [--words FOLDER] [--list]

`limner.painter.words.ACCEPT` and `UNKNOWN` are chosen from the table that this prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.painter.bank import Bank
from limner.painter.planner import NearWords
from limner.painter.words import DEFAULT, Words

LOOKUPS = Path(__file__).with_name("lookups.txt")
THRESHOLDS = (0.60, 0.65, 0.70, 0.725, 0.75, 0.775, 0.80, 0.825, 0.85, 0.90)


@dataclass(frozen=True, slots=True)
class Found:
    """One word looked up."""

    word: str
    wanted: frozenset[str]  # concepts that would do; none: no drawing does
    concept: str
    cosine: float

    @property
    def right(self) -> bool:
        """Whether the drawing that was found would do."""
        return self.concept in self.wanted


def wanted(bank: Bank, lines: Sequence[str]) -> dict[str, frozenset[str]]:
    """The words of lines as in lookups.txt that the bank does not know itself, and the concepts that would do."""
    words = {}
    for line in lines:
        word, equals, drawings = line.partition("=")
        if equals and line[:1] != "#" and bank.find(word.strip()) is None:
            found = (bank.find(name.strip()) for name in drawings.split(","))
            words[word.strip()] = frozenset(name for name in found if name)
    return words


def look_up(words: NearWords, asked: dict[str, frozenset[str]]) -> list[Found]:
    """Each word's nearest drawing, surest first."""
    found = (Found(word, right, *words.nearest(word)[0]) for word, right in asked.items())
    return sorted(found, key=lambda each: -each.cosine)


def table(found: Sequence[Found], thresholds: Sequence[float] = THRESHOLDS) -> str:
    """For each threshold: how many are accepted, the share of them that is right, and of those that have a drawing."""
    possible = sum(bool(each.wanted) for each in found)
    lines = [f"{len(found)} words, {possible} with a drawing", "from   accepted   right   of those with a drawing"]
    for least in thresholds:
        accepted = [each for each in found if each.cosine >= least]
        right = sum(each.right for each in accepted)
        share = f"{right / len(accepted):.2f}" if accepted else "   -"
        lines.append(f"{least:.3f}  {len(accepted):7}    {share}    {right / max(possible, 1):.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the look-up of words by their meaning.")
    parser.add_argument("--words", type=Path, default=DEFAULT, help="the text encoder's folder")
    parser.add_argument("--list", action="store_true", help="every word with what was found, too")
    arguments = parser.parse_args()
    found = look_up(Words.load(arguments.words), wanted(Bank.load(), LOOKUPS.read_text().splitlines()))
    if arguments.list:
        for each in found:
            right = "right" if each.right else f"wrong, not {', '.join(sorted(each.wanted)) or 'anything'}"
            print(f"{each.cosine:.3f}  {each.word} → {each.concept}: {right}")  # noqa: T201  a command's report
    print(table(found))  # noqa: T201  a command's report


if __name__ == "__main__":
    main()
