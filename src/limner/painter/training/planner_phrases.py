"""Words of captions with what each of them is: noun phrases of things, people and clothes, by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from limner.painter.bank import singular_phrase
from limner.painter.planner.reader import Relation, Role
from limner.painter.planner.words import VOCABULARY, plain, tokens

TABLE = Path(__file__).with_name("planner_vocabulary.txt")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "2", "3", "4", "5", "6")
VAGUE = (
    "some", "several", "a few", "many", "a group of", "a pair of", "a couple of", "lots of", "various", "dozens of",
    "a herd of", "a stack of", "a pile of", "a queue of", "a line of", "a heap of", "two of the", "a row of",
)  # fmt: skip
OPENERS = ("a", "a", "a", "a", "a", "one", "the", "the", "this", "my", "a single", "another", "every", "that", "your")
PRONOUNS = {"masculine": ("he", "him"), "feminine": ("she", "her"), "": ("they", "them"), "thing": ("it", "it")}


@dataclass(eq=False, slots=True)
class Token:
    """One of the planner's tokens, and what it is. `head` and `other` are tokens, or None where there is none."""

    text: str
    role: Role = "none"
    head: Token | None = None
    other: Token | None = None
    relation: Relation | None = None


@dataclass(eq=False, slots=True)
class Entity:
    """Something named so far."""

    token: Token
    noun: str
    build: str  # "masculine", "feminine", "" or "thing"
    plural: bool


@dataclass
class Caption:
    """A text being written."""

    rng: random.Random
    tokens: list[Token] = field(default_factory=list)
    surfaces: list[str] = field(default_factory=list)

    def say(
        self, text: str, role: Role = "none", head: Token | None = None, other: Token | None = None,
        relation: Relation | None = None,
    ) -> Token | None:  # fmt: skip
        """Write words; the last of them has the role, those before it are parts of it. Returns that one."""
        new = [Token(part) for part in tokens(text)]
        if not new:
            return None
        last = new[-1]
        last.role, last.head, last.other, last.relation = role, head, other, relation
        if role != "none":
            for part in new[:-1]:
                part.role, part.head = "part", last
        self.tokens += new
        self.surfaces.append(text)
        return last

    @property
    def text(self) -> str:
        """The words as one would write them."""
        joined = " ".join(self.surfaces)
        for mark in (",", ".", ";", ":", "!", "'s"):
            joined = joined.replace(f" {mark}", mark)
        return plain(joined)


@cache
def vocabulary() -> dict[str, tuple[str, ...]]:
    """The words of the table, by kind."""
    kinds: dict[str, list[str]] = {}
    section = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            lines = kinds.setdefault(section, [])
            lines += [line] if section == "prose" else [word.strip() for word in line.split(",")]
    return {kind: tuple(words) for kind, words in kinds.items()}


@cache
def known(kind: str, fact: str = "") -> tuple[str, ...]:
    """The planner's own words of a kind that say something of `fact`."""
    return tuple(w for w, word in VOCABULARY.items() if word.kind == kind and (not fact or fact in word.facts))


def plural(noun: str) -> str | None:
    """A noun in the plural, or None where the bank's rules would not find the way back."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh", "z")) else "s"
    many = noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + ending
    return many if singular_phrase(many) == noun else None


def article(noun: str) -> str:
    return "an" if noun[:1] in "aeiou" else "a"


class Phrases:
    """Writes noun phrases into a caption."""

    def __init__(self, rng: random.Random, nouns: Sequence[str]) -> None:
        self.rng, self.nouns = rng, nouns
        self.caption = Caption(rng)
        self.say = self.caption.say
        self.entities: list[Entity] = []

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, words: Sequence[str]) -> str:
        return self.rng.choice(words)

    def thing(self, conjunct: Token | None = None, bare: bool = False, few: bool = False) -> Entity:
        """Write "two small red balloons"; `conjunct` is the noun that this one stands in a row with."""
        beyond = self.chance(0.2)
        noun = self.pick(vocabulary()["thing"]) if beyond else self.pick(self.nouns)
        many = plural(noun) if not few and self.chance(0.33) else None
        head = Token(tokens(noun)[-1], "thing", conjunct)
        words: list[tuple[str, Role]] = []
        if self.chance(0.25):
            words.append((self.pick(vocabulary()["adjective"] if self.chance(0.6) else known("quiet")[:300]), "none"))
        if self.chance(0.2):
            words.append((self.pick(known("adjective", "size")), "trait"))
        if self.chance(0.05):
            words.append((self.pick(known("adjective", "expression")), "none"))
        if self.chance(0.4):
            words.append((self.colour(), "colour"))
        if self.chance(0.2):
            self.rng.shuffle(words)
        split = self.chance(0.08) and not bare
        if many:
            opener = self.pick(("", *NUMBERS, *NUMBERS, *VAGUE, "the", "these", "both"))
        else:
            opener = "" if bare and self.chance(0.8) else self.pick(OPENERS)
        if opener == "a":
            opener = article(words[0][0] if words else noun)
        if opener:
            self.say(opener, "count", head)
        if split:
            self.say(self.colour(), "colour", head)
            self.say("and")
            if not many or self.chance(0.6):
                self.say(self.pick(NUMBERS) if many else "a", "count", head)
            self.say(self.colour(), "colour", head)
        else:
            for text, role in words:
                if role == "colour" and self.chance(0.12):
                    self.say(self.pick(("light", "dark", "bright", "pale", "deep")))
                self.say(text, role, head if role != "none" else None)
        if self.chance(0.06):
            self.say(self.pick(self.nouns), "part", head)
        self._noun(many or noun, head)
        entity = Entity(head, many or noun, "" if many else "thing", bool(many))
        if not bare and not split and self.chance(0.12):
            self._after(entity)
        self.entities.append(entity)
        return entity

    def _noun(self, noun: str, head: Token) -> None:
        parts = [Token(part, "part", head) for part in tokens(noun)]
        head.text = parts[-1].text
        self.caption.tokens += [*parts[:-1], head]
        self.caption.surfaces.append(noun)

    def _after(self, entity: Entity) -> None:
        """What can stand after a noun: ", painted bright orange," or "that is blue" or "with golden leaves"."""
        head, verb = entity.token, "are" if entity.plural else "is"
        match self.rng.randrange(7):
            case 0:
                self.say(self.pick((f"that {verb}", f"which {verb}", f"that {verb} very", ", completely")))
                self.say(self.colour(), "colour", head)
            case 1:
                self.say(self.pick((", painted", "painted", ", coloured", "in bright", "made of", ", all in")))
                self.say(self.colour(), "colour", head)
            case 2:
                self.say(f"with {self.pick(('a', 'its', 'two', ''))}")
                self.say(self.colour() if self.chance(0.7) else self.pick(vocabulary()["adjective"]))
                self.say(self.pick(vocabulary()["parts"]))
            case 3:
                self.say(
                    f"made of {self.pick(('wood', 'stone', 'glass', 'paper', 'metal', 'clay', 'wool', 'ice', 'brass'))}"
                )
            case 4:
                self.say(f"shaped like a {self.pick(self.nouns)}")
            case 5 if entity.plural and self.chance(0.5):
                self.say(
                    self.pick((", one of them", ", each with a different", ", all of them", ", one", ", two of them"))
                )
                self.say(
                    self.pick(("old", "hat", "colour", "smaller than the rest", "asleep", "very small", "different"))
                )
            case 5:
                self.say(f"as {self.pick(('white as snow', 'big as a house', 'black as coal', 'old as the hills'))}")
            case _:
                self.say(f"that {self.pick(vocabulary()['idle'])}")

    def colour(self) -> str:
        return self.pick(known("adjective", "colour"))

    def person(self, conjunct: Token | None = None, bare: bool = False, plain: bool = False) -> Entity:
        """Write "a smiling old woman in a red coat" and the like."""
        noun = self.pick(vocabulary()["person"]) if self.chance(0.15) else self._someone()
        word = VOCABULARY.get(noun)
        build = word.facts.get("build", "") if word else ""
        many = plural(noun) if self.chance(0.12) else None
        head = Token("", "person", conjunct)
        opener = self.pick(("", *NUMBERS, *VAGUE)) if many else "" if bare else self.pick(OPENERS)
        adjectives: list[tuple[str, Role]] = []
        for fact, share in (
            ("expression", 0.15),
            ("size", 0.1),
            ("age", 0.12),
            ("hair_colour", 0.05),
            ("beard", 0.03),
            ("skin", 0.05),
        ):
            if self.chance(share):
                adjectives.append((self.pick(known("adjective", fact)), "trait"))
        if self.chance(0.04):
            adjectives.append((self.pick(("smiling", "laughing", "crying", "running", "sleeping", "waving")), "pose"))
        if self.chance(0.15):
            adjectives.append(
                (self.pick(vocabulary()["adjective"] if self.chance(0.6) else known("quiet")[:300]), "none")
            )
        self.rng.shuffle(adjectives)
        if opener == "a":
            opener = article(adjectives[0][0] if adjectives else noun)
        if opener:
            self.say(opener, "count", head)
        for text, role in adjectives:
            self.say(text, role, head if role != "none" else None)
        self._noun(many or noun, head)
        entity = Entity(head, many or noun, "" if many else build, bool(many))
        self.entities.append(entity)
        if not plain:
            for number in range(self.rng.choice((0, 0, 1, 1, 1, 2, 3))):
                self.attire(entity, number)
        return entity

    def _someone(self) -> str:
        if self.chance(0.5):
            return self.pick(
                (
                    "man",
                    "woman",
                    "boy",
                    "girl",
                    "child",
                    "person",
                    "old man",
                    "old woman",
                    "young woman",
                    "kid",
                    "lady",
                    "guy",
                )
            )
        return self.pick(known("person"))

    def garment(self, wearer: Token, opener: str | None = None) -> None:
        """Write "a long red coat"."""
        noun = self.pick(known("garment"))
        head = Token("", "garment", wearer)
        several = noun.endswith("s") and noun not in ("dress",)
        words: list[tuple[str, Role]] = []
        if self.chance(0.2):
            words.append((self.pick(vocabulary()["adjective"] if self.chance(0.6) else known("quiet")[:300]), "none"))
        if self.chance(0.65):
            words.append((self.colour(), "colour"))
        if self.chance(0.1):
            words.append((self.pick(("long", "short", "big", "small", "tall", "oversized")), "trait"))
            self.rng.shuffle(words)
        if opener is None:
            opener = "" if several else article(words[0][0] if words else noun)
        if opener and not self.chance(0.05):
            self.say(opener, "count", head)
        for text, role in words:
            self.say(text, role, head if role != "none" else None)
        self._noun(noun, head)

    def hair(self, wearer: Token, opener: str = "") -> None:
        """Write "long red hair", "a full beard", "braids"."""
        head = Token("", "garment", wearer)
        beard = self.chance(0.25)
        noun = self.pick(known("feature", "beard" if beard else "hair")) if self.chance(0.45) else "hair"
        words: list[tuple[str, Role]] = []
        if self.chance(0.5):
            words.append((self.pick(known("adjective", "length")), "trait"))
        if self.chance(0.6):
            words.append(
                (
                    self.pick(
                        ("black", "brown", "blonde", "red", "grey", "white", "silver", "blue", "pink", "golden", "dark")
                    ),
                    "colour",
                )
            )
        article_ = "" if noun in ("hair", "braids", "pigtails", "plaits", "curls", "dreadlocks") else "a"
        if opener or article_:
            self.say(opener or article(words[0][0] if words else noun), "count", head)
        for text, role in words:
            self.say(text, role, head)
        self._noun(noun, head)

    def attire(self, entity: Entity, number: int = 0) -> None:
        """One thing more about how someone looks, after their noun."""
        head = entity.token
        if number and self.chance(0.5):
            self.say(self.pick((",", "and", ", and")))
        kind = self.rng.randrange(12)
        if kind <= 4:
            self.say(
                self.pick(
                    ("in", "in", "wearing", "wearing", "dressed in", "who wears", "who is wearing", "with", "clad in")
                )
            )
            self.garment(head)
            for _ in range(self.rng.choice((0, 0, 1, 2))):
                self.say(self.pick(("and", ",", ", and")))
                self.garment(head)
        elif kind <= 6:
            self.say(self.pick(("with", "with", "who has", "that has")))
            self.hair(head)
            if self.chance(0.4):
                self.say(self.pick(("and", ",")))
                (self.hair if self.chance(0.4) else self.garment)(head)
        elif kind == 7:
            self.say(self.pick(("in", "dressed in", "all in", "dressed all in")))
            self.say(self.colour(), "colour", head)
        elif kind == 8:
            noun = Token("hair", "garment", head)
            self.say(self.pick(("whose", ", whose")))
            self.caption.tokens.append(noun)
            self.caption.surfaces.append("hair")
            self.say("is")
            self.say(self.pick(known("adjective", "length")), "trait", noun)
            if self.chance(0.6):
                self.say("and")
                self.say(self.pick(("black", "brown", "blonde", "red", "grey", "white")), "colour", noun)
        elif kind == 9:
            self.say(self.pick(("", "who is", "with", ", who looks", "looking")))
            self.say(
                self.pick(known("feature", "expression"))
                if self.chance(0.3)
                else self.pick(known("adjective", "expression")),
                "trait",
                head,
            )
        elif kind == 10:
            self.say(self.pick(("", "who is", ",", "that is")))
            self.say(
                self.pick(known("verb", "pose") if self.chance(0.7) else known("verb", "expression")), "pose", head
            )
        else:
            self.say("without")
            self.garment_denied(head)

    def garment_denied(self, wearer: Token) -> None:
        self.say("a" if self.chance(0.5) else "any")
        self.say(self.pick(("hat", "beard", "glasses", "helmet", "moustache", "cap", "hair")), "denied", wearer)

    def again(self, entity: Entity, subject: bool = True) -> Token:
        """Speak of someone or something again: "she", "it", "the fox"."""
        build = entity.build if not entity.plural else ""
        if self.chance(0.55):
            if build == "" and not entity.plural:
                build = self.pick(("masculine", "feminine"))
            text = PRONOUNS[build][0 if subject else 1]
            return self.say(text, "again", entity.token) or entity.token
        noun = entity.noun
        if entity.build != "thing" and self.chance(0.2) and not entity.plural:
            noun = self.pick(("man", "woman", "person", "figure", "girl", "boy"))
            if entity.build and VOCABULARY[noun].facts.get("build", entity.build) != entity.build:
                noun = entity.noun
        head = Token("", "again", entity.token)
        self.say("the", "count", head)
        self._noun(noun, head)
        return head

    def being(self, conjunct: Token | None = None, bare: bool = False) -> Entity:
        return self.person(conjunct, bare) if self.chance(0.35) else self.thing(conjunct, bare)

    def row(self) -> list[Entity]:
        """One being, or several in a row: "a cat, a dog and two birds"."""
        first = self.being()
        found = [first]
        if self.chance(0.2):
            for last in [False] * self.rng.choice((0, 0, 1, 2)) + [True]:
                self.say(self.pick(("and", "and", "as well as", ", and", "and also")) if last else ",")
                found.append(self.being(first.token))
        return found
