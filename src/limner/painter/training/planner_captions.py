"""Captions with what every word of them is: without end, by chance, for the planner's network.

A caption is put together from noun phrases, clauses and asides, and each word is written down with its role, what it
belongs to and, where it is a relation, its two ends. Nouns come from the bank and from beyond it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from limner.painter.bank import Bank
from limner.painter.planner.reader import Relation, Role
from limner.painter.planner.words import VOCABULARY, tokens
from limner.painter.training.planner_clauses import RELATIONS, Clauses
from limner.painter.training.planner_phrases import Token, known, plural, vocabulary

LISTED: tuple[Role, ...] = ("place", "place", "time", "time", "weather", "style", "style")


class Writer(Clauses):
    """Writes whole captions. Not to be used after `caption` returned one."""

    def aside(self) -> None:
        """Words that show nothing."""
        text = self.pick(vocabulary()["prose"])
        for kind in ("abstract", "mood", "adjective"):
            while f"{{{kind}}}" in text:
                text = text.replace(f"{{{kind}}}", self.pick(vocabulary()[kind]), 1)
        while "{things}" in text:
            noun = self.pick(self.nouns)
            text = text.replace("{things}", plural(noun) or noun, 1)
        text = text.replace("{thing}", self.pick(self.nouns))
        self.say(text)

    def denial(self) -> None:
        head = Token("", "denied")
        self.say(self.pick(("no", "without", "there are no", "without any", "but no")))
        self._noun(
            self.pick(
                (
                    "people",
                    "cars",
                    "dogs",
                    "trees",
                    "clouds",
                    "animals",
                    "birds",
                    "buildings",
                    "humans",
                    self.pick(self.nouns),
                )
            ),
            head,
        )

    def sentence(self) -> None:
        """A clause, perhaps with where and when."""
        front = self.chance(0.15)
        if front:
            self.setting(self.rng.choice(("place", "time", "weather", "place")))
            self.say(",")
        elif self.chance(0.1):
            self.say(
                self.pick(
                    (
                        "there is",
                        "imagine",
                        "picture",
                        "please draw",
                        "you can see",
                        "here we see",
                        "show me",
                        "what if there were",
                        "i dreamed of",
                        "i would like to see",
                        "a photo of",
                        "an illustration of",
                        "a painting of",
                        "photo of",
                        "suddenly",
                        "meanwhile ,",
                        "also ,",
                        "subject:",
                        "also in the picture:",
                        "main subject:",
                        "we are in a room where",
                        "this is",
                        "behold",
                        "create",
                        "show",
                        "at the centre,",
                        "one sees",
                        "my friends are",
                        "it shows",
                        "then",
                        "a storybook illustration of",
                        "a page with",
                        "an old photograph shows",
                        "the photograph shows",
                        "a poster with",
                        "inspired by",
                    )
                )
            )
        if self.chance(0.06):
            self.say("not only")
        roll = self.rng.random()
        if self.entities and roll < 0.3:
            self.tells()
        elif roll < 0.65:
            self.stands()
        elif roll < 0.8:
            self.acts()
        elif roll < 0.84:
            (self.fills if self.chance(0.5) else self.gives)()
        else:
            self.row()
            if self.chance(0.3):
                self.say(self.pick(vocabulary()["idle"]))
        if not front and self.chance(0.35):
            self.setting(self.rng.choice(("place", "place", "time", "weather")))
            if self.chance(0.3):
                self.setting(self.rng.choice(("time", "weather", "place")))

    def prose(self) -> None:
        """One to four sentences."""
        if self.chance(0.2):
            self.aside()
            self.say(self.pick((",", ".", ":", "and")))
        for number in range(self.rng.choice((1, 1, 1, 2, 2, 3, 4))):
            if number:
                self.say(self.pick((".", ".", ".", ",", "and", ", and", ", while", ";")))
            self.sentence()
            if self.chance(0.15):
                self.say(self.pick((",", ".", "and", "-")))
                self.aside()
        if self.chance(0.3):
            self.say(self.pick((",", ".")))
            self.setting("style")
        if self.chance(0.06):
            self.say(",")
            self.denial()
        if self.chance(0.4):
            self.say(".")

    def keywords(self) -> None:
        """A list: "fox, red, snow, night, watercolor"."""
        mark = self.pick((",", ",", ",", ",", "|", ";", "/", "+"))
        main = self.being(bare=True)
        said: list[Callable[[], object]] = []
        human = main.token.role == "person"
        said = [self.rng.choice(self._listed()) for _ in range(self.rng.randrange(1, 8))]
        for say in said:
            self.say(mark)
            say()
            if self.chance(0.15):
                self.say(mark)
                last = main if self.chance(0.7) or not self.entities else self.entities[-1]
                if last is self.entities[-1] or human:
                    if human and self.chance(0.5):
                        self.say(self.pick(known("adjective", "expression")), "trait", main.token)
                    elif last.token.role == "thing" and last is self.entities[-1]:
                        self.say(self.colour(), "colour", last.token)

    def _listed(self) -> list[Callable[[], object]]:
        person = next((e.token for e in self.entities if e.token.role == "person"), None)
        ways: list[Callable[[], object]] = [
            *(partial(self._word, role) for role in LISTED),
            lambda: self.say(self.pick(known("quiet"))),
            lambda: self.say(self.pick(vocabulary()["adjective"])),
            lambda: self.say(self.pick(vocabulary()["abstract"])),
            lambda: self.thing(bare=True),
            lambda: self.thing(bare=True),
            self.stands_short,
            self.denial,
        ]  # fmt: skip
        if person is not None:
            faces = known("feature", "expression") + known("verb", "expression")
            ways += [lambda: self.garment(person, ""), lambda: self.garment(person, ""), lambda: self.hair(person),
                     lambda: self.say(self.pick(known("verb", "pose")), "pose", person),
                     lambda: self.say(self.pick(faces), "pose", person)]  # fmt: skip
        return ways

    def stands_short(self) -> None:
        first = self.thing(bare=True)
        short: tuple[Relation, ...] = ("on", "beside", "inside", "under", "above")
        kind = self.rng.choice(short)
        rel = self.relation(kind, self.pick(RELATIONS[kind]), first.token, None)
        rel.other = self.thing(bare=True).token

    def _word(self, role: Role) -> None:
        words = known("place") if role == "place" else known("setting", role)
        self.say(self.pick([w for w in words if "paints" not in VOCABULARY[w].facts]), role)


def caption(seed: int, nouns: Sequence[str]) -> tuple[str, list[Token]] | None:
    """A text that is plain and what its tokens are; None where the text does not fall into those tokens again."""
    rng = random.Random(seed)  # noqa: S311 - a data set's variety, no secret
    writer = Writer(rng, nouns)
    if rng.random() < 0.25:
        writer.keywords()
    else:
        writer.prose()
    text = writer.caption.text
    found = writer.caption.tokens
    return (text, found) if tokens(text) == [t.text for t in found] and len(found) > 1 else None


def nouns_of(bank: Bank) -> list[str]:
    """All names of the bank's drawings that a caption can use."""
    closed = {word for word, known_as in VOCABULARY.items() if known_as.kind not in ("noun",)}
    return sorted(w for w in bank.words if w not in closed and w.replace(" ", "").isalpha() and len(w) > 2)
