"""How much of prompts written by hand a planner reads right: a table by kind of fact, for each way of reading.

    python -m limner.painter.training.planner_evaluate [--show KIND] [--prompts FILE]

The prompts in planner_prompts.jsonl were written by hand, before anything was trained, and never trained on. Each has
the facts that a careful reader would note: [count, noun], [noun, field, value], [noun, relation, noun], [noun, side],
[setting, value], and ["may", noun] for what may be drawn or not. A count is a number, "some" for a plural, "any" where
either will do. "|" parts what is equally right; "dog:a" and "dog:b" are two different dogs. A noun is right by its
drawing or by its word, so the facts stay true when the bank grows.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner import By, ParsingPlanner
from limner.painter.planner.casting import cast_all
from limner.painter.planner.reader import Reader
from limner.painter.planner.reading import Mention, Reading
from limner.painter.planner.setting import Dice
from limner.painter.planner.words import VOCABULARY
from limner.painter.words import Words

PROMPTS = Path(__file__).with_name("planner_prompts.jsonl")
SETTINGS = ("place", "backdrop", "time", "weather", "style")
KINDS = ("named", "nothing else", "count", "colour", "size", "relation", "clothes", "looks", "pose", *SETTINGS)
CLOTHES = ("top", "top_colour", "bottom", "bottom_colour", "hat", "hat_colour", "glasses")
POSES = ("pose", "expression")
SEEDS = (0, 1, 2)  # a setting is right when it is at each of these
# What also says that a stands to b so: (relation, whether it is b's to a).
ALSO = {
    "left": (("right", True),),
    "right": (("left", True),),
    "above": (("under", True),),
    "below": (("above", True), ("under", False)),
    "under": (("above", True),),
    "behind": (("front", True),),
    "front": (("behind", True),),
    "beside": (("beside", True), ("with", False), ("with", True), ("left", False), ("right", False), ("around", False)),
    "inside": (("front", False),),
    "around": (("beside", False),),
}  # fmt: skip
MOST_ASSIGNED = 5000  # ways to say who is who that are tried

Read = Callable[[str], Reading]


@dataclass(frozen=True)
class Case:
    """A prompt and what it says."""

    kind: str
    prompt: str
    facts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """Whether one fact of a prompt was read."""

    kind: str  # one of KINDS
    fact: tuple[str, ...]
    right: bool


def cases(path: Path = PROMPTS) -> list[Case]:
    """The prompts of a file of JSON lines."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Case(row["kind"], row["prompt"], tuple(map(tuple, row["facts"]))) for row in rows]


def judge(case: Case, reading: Reading, bank: Bank) -> list[Verdict]:
    """Every fact of a prompt against what was read, with who is who chosen in the reading's favour.

    Raises:
        ValueError: a fact names what neither the tables nor the bank know.
    """
    mentions = reading.mentions
    entities = [fact[1] for fact in case.facts if _counts(fact)]
    best: list[Verdict] = []
    for found in _assignments(entities, mentions, bank):
        verdicts = list(_entities(case, found, mentions))
        used = {i for indices in found.values() for i in indices}
        allowed = [names_of(fact[1], bank) for fact in case.facts if fact[0] == "may"]
        more = [m for i, m in enumerate(mentions) if i not in used and not any(names.fit(m) for names in allowed)]
        verdicts.append(Verdict("nothing else", tuple(m.noun for m in more), not more))
        if sum(v.right for v in verdicts) > sum(v.right for v in best) or not best:
            best = verdicts
    return best + list(_settings(case, reading, bank))


@dataclass(frozen=True)
class Names:
    """What a noun of the facts can be."""

    nouns: frozenset[str]
    concepts: frozenset[str]
    people: tuple[Mapping[str, str], ...]  # what each noun for people says of itself

    def fit(self, mention: Mention) -> bool:
        """Whether a mention can be one."""
        noun = singular_phrase(mention.noun)
        if mention.kind == "thing":
            return mention.concept in self.concepts or noun in self.nouns or noun.split()[-1] in self.nouns
        looks = {**mention.usual, **mention.facts}
        return any(
            all(looks.get(key, value) == value for key in ("build", "age") if (value := facts.get(key)))
            for facts in self.people
        )


def names_of(entity: str, bank: Bank) -> Names:
    """The nouns, drawings and people that an entity of the facts can be."""
    nouns = entity.split(":")[0].split("|")
    people = tuple(VOCABULARY[n].facts for n in nouns if n in VOCABULARY and VOCABULARY[n].kind == "person")
    concepts = frozenset(concept for n in nouns if (concept := bank.find(n)))
    return Names(frozenset({*nouns, *map(singular_phrase, nouns)}), frozenset() if people else concepts, people)


def _assignments(
    entities: Sequence[str], mentions: Sequence[Mention], bank: Bank
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Ways to say which mentions are which entity; a noun that stands once in the facts takes all of its kind."""
    choices: list[list[tuple[int, ...]]] = []
    for entity in entities:
        names = names_of(entity, bank)
        if not names.concepts and not names.people:
            raise ValueError(f"A fact names {entity!r}, which nothing knows.")
        fit = [i for i, mention in enumerate(mentions) if names.fit(mention)]
        twins = sum(bool(names_of(other, bank).concepts & names.concepts) for other in entities)
        choices.append([tuple(fit)] if twins == 1 and not names.people else [(i,) for i in fit] + [()])
    for picked in itertools.islice(itertools.product(*choices), MOST_ASSIGNED):
        taken = [i for indices in picked for i in indices]
        if len(taken) == len(set(taken)):
            yield dict(zip(entities, picked, strict=True))


def _entities(case: Case, found: dict[str, tuple[int, ...]], mentions: Sequence[Mention]) -> Iterator[Verdict]:
    for fact in case.facts:
        if fact[0] == "may" or fact[0] in SETTINGS:
            continue
        if _counts(fact):
            counts = [mentions[i].count for i in found[fact[1]]]
            yield Verdict("named", fact, bool(counts))
            if counts and fact[0] != "any":
                total = None if None in counts else sum(c or 0 for c in counts)
                some = total is None or total > 1
                yield Verdict("count", fact, some if fact[0] == "some" else total == int(fact[0]))
            continue
        about = found.get(fact[0])
        if about is None:
            raise ValueError(f"The fact {fact} is about nothing that {case.prompt!r} names.")
        if len(fact) == 2:
            yield Verdict("relation", fact, any(mentions[i].relation == fact[1] for i in about))
        elif fact[1] in ALSO or fact[1] in ("on", "holding", "around", "between"):
            yield Verdict("relation", fact, _stands(about, fact[1], found[fact[2]], mentions))
        else:
            values = [_value(mentions[i], fact[1]) for i in about]
            yield Verdict(_kind(fact[1]), fact, bool(values) and all(v in fact[2].split("|") for v in values))


def _value(mention: Mention, field: str) -> str:
    value = mention.facts.get(field, mention.usual.get(field))
    return (mention.usual.get(field) if value == "any" else value) or "none"


def _counts(fact: tuple[str, ...]) -> bool:
    return fact[0].isdigit() or fact[0] in ("some", "any")


def _kind(field: str) -> str:
    if field in ("colour", "size"):
        return field
    return "clothes" if field in CLOTHES else "pose" if field in POSES else "looks"


def _stands(about: Sequence[int], relation: str, to: Sequence[int], mentions: Sequence[Mention]) -> bool:
    told = {(i, m.relation, m.other) for i, m in enumerate(mentions)}
    if relation == "between":
        return any((b, side, a) in told for a in about for b in to for side in ("left", "right", "around"))
    ways = [(relation, False), *ALSO.get(relation, ())]
    if any(mentions[a].relation == relation and mentions[a].other is None for a in about):
        return relation in ("left", "right", "above")  # that side of the whole picture
    return any(((b, way, a) if turned else (a, way, b)) in told for a in about for b in to for way, turned in ways)


def _settings(case: Case, reading: Reading, bank: Bank) -> Iterator[Verdict]:
    said = [fact for fact in case.facts if fact[0] in SETTINGS]
    settings = [cast_all(_copy(reading), 0, Dice(seed), bank)[1] for seed in SEEDS]
    for fact in said:
        yield Verdict(fact[0], fact, all(getattr(setting, fact[0]) in fact[1].split("|") for setting in settings))


def _copy(reading: Reading) -> Reading:
    """A reading that casting may change."""
    mentions = [replace(m, facts=dict(m.facts), said=dict(m.said)) for m in reading.mentions]
    return Reading(mentions, dict(reading.setting), list(reading.hints), list(reading.unused))


def table(results: dict[str, list[tuple[Case, list[Verdict]]]]) -> str:
    """A row for each kind of fact and of prompt, a column for each way of reading."""
    names = list(results)
    lines = [f"{'':<16}{'facts':>7}" + "".join(f"{name:>12}" for name in names)]

    def row(label: str, pick: Callable[[Case, Verdict], bool]) -> None:
        shares, counts = [], []
        for name in names:
            kept = [v.right for case, verdicts in results[name] for v in verdicts if pick(case, v)]
            shares.append(sum(kept) / len(kept) if kept else float("nan"))
            counts.append(len(kept))
        if counts[0]:
            lines.append(f"{label:<16}{counts[0]:>7}" + "".join(f"{share:>12.3f}" for share in shares))

    for kind in KINDS:
        row(kind, lambda _, v, kind=kind: v.kind == kind)  # type: ignore[misc]  # mypy does not infer a default
    for group in dict.fromkeys(case.kind for case, _ in results[names[0]]):
        row(f"in {group}", lambda case, _, group=group: case.kind == group)  # type: ignore[misc]  # the same
    row("all facts", lambda _case, _verdict: True)
    whole = [sum(all(v.right for v in verdicts) for _, verdicts in results[n]) / len(results[n]) for n in names]
    lines.append(f"{'whole prompts':<16}{len(results[names[0]]):>7}" + "".join(f"{share:>12.3f}" for share in whole))
    return "\n".join(lines)


def evaluate(
    readers: dict[str, Read], prompts: Iterable[Case], bank: Bank
) -> dict[str, list[tuple[Case, list[Verdict]]]]:
    """The verdicts on every prompt for every way of reading."""
    prompts = list(prompts)
    return {name: [(case, judge(case, read(case.prompt), bank)) for case in prompts] for name, read in readers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the ways of reading a prompt on prompts written by hand.")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--show", help="also list the facts that this way of reading got wrong")
    args = parser.parse_args()
    bank = Bank.load()
    planner = ParsingPlanner(bank, Words.load(), Reader.load())
    readers: dict[str, Read] = {by: partial(planner.read, by=by) for by in get_args(By)}
    results = evaluate(readers, cases(args.prompts), bank)
    print(table(results))  # noqa: T201  a command's report
    for case, verdicts in results.get(args.show, []):
        wrong = [v for v in verdicts if not v.right]
        if wrong:
            facts = "\n".join(f"    {verdict.kind}: {' '.join(verdict.fact)}" for verdict in wrong)
            print(f"\n[{case.kind}] {case.prompt}\n{facts}")  # noqa: T201  a command's report


if __name__ == "__main__":
    main()
