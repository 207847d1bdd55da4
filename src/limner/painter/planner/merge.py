"""Two readings of one prompt made into one: the first, filled up with what only the second found."""

from __future__ import annotations

from limner.painter.planner.reading import Mention, Reading
from limner.painter.planner.words import VOCABULARY

IDLE = ("stop", "quiet", "vain")  # kinds of words that are never told as unused: "camera" may be meant, or not


def filled(first: Reading, second: Reading) -> Reading:
    """`first`, changed in place: what it left open of its mentions is as in `second`, where the two name the same.

    Nothing that the first reading says is changed, and no mention is added. A word had no effect if neither reading
    used it.
    """
    same = _same(first.mentions, second.mentions)
    back = {theirs: own for own, theirs in same.items()}
    for own, theirs in same.items():
        mention, other = first.mentions[own], second.mentions[theirs]
        for fact, value in other.facts.items():
            if fact not in mention.facts:
                mention.facts[fact] = value
                if fact in other.said:
                    mention.said[fact] = other.said[fact]
        anchor = None if other.other is None else back.get(other.other)
        tied = other.relation is not None and (other.other is None or anchor is not None)
        free = anchor is None or not _depends(first.mentions, anchor, own)
        if mention.relation is None and tied and free:
            mention.relation, mention.other = other.relation, anchor
    for key, value in second.setting.items():
        first.setting.setdefault(key, value)
    first.hints += [hint for hint in second.hints if hint not in first.hints]
    first.unused[:] = [word for word in first.unused if word in second.unused]
    return first


def overlooked(first: Reading, second: Reading) -> bool:
    """Whether the second reading shows something that the first has no use for at all."""
    shown = {mention.noun for mention in first.mentions}
    missed = [mention.noun for mention in second.mentions if mention.noun not in shown]
    return any(noun in first.unused or (noun in VOCABULARY and VOCABULARY[noun].kind in IDLE) for noun in missed)


def _same(first: list[Mention], second: list[Mention]) -> dict[int, int]:
    """Which mentions of two readings are the same: the k-th cat of one is the k-th cat of the other."""
    same: dict[int, int] = {}
    for number, mention in enumerate(first):
        taken = set(same.values())
        match = (
            k for k, m in enumerate(second) if k not in taken and (m.noun, m.concept) == (mention.noun, mention.concept)
        )
        if (found := next(match, None)) is not None:
            same[number] = found
    return same


def _depends(mentions: list[Mention], index: int, on: int) -> bool:
    """Whether a mention stands to another, through however many."""
    seen: set[int] = set()
    at: int | None = index
    while at is not None and at not in seen:
        if at == on:
            return True
        seen.add(at)
        at = mentions[at].other
    return False
