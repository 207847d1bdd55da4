"""Assembly: from what the reader's network says of every word to a `Reading`.

The network says which words name things and people and what belongs to what; what the words mean is looked up, exactly,
in the planner's tables and the bank. Nothing is chosen here: what a prompt leaves open stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner.chunks import Chunk
from limner.painter.planner.grammar import BOOKS, BUILDS, HUMAN, THEIRS
from limner.painter.planner.phrases import MOST_OF_ONE, Finder, Spec
from limner.painter.planner.reader import Parse, Relation, Role
from limner.painter.planner.reading import MOST_MENTIONS, Mention, Reading, able, inside
from limner.painter.planner.words import VOCABULARY, Word

SAID = ("on", "under", "above", "below", "left", "right", "behind", "front", "between", "riding")  # tables know best
TURNED = {"left": "right", "right": "left", "behind": "front", "front": "behind", "beside": "beside"}
SILENT = ("article", "their", "copula", "and", "comma", "stop", "quiet", "pronoun", "relation", "wear", "not", "count")
NOUNS = ("noun", "unknown", "vain", "garment", "feature")


def assemble(chunks: Sequence[Chunk], parse: Parse, bank: Bank, find: Finder) -> Reading:
    """The reading of a prompt.

    Args:
        chunks: what the tables know of the prompt, not settled.
        parse: what the network says of its words.
        bank: the drawings.
        find: asked for the concept of nouns that no table knows.
    """
    made = _Assembly(chunks, parse, bank, find)
    made.name()
    made.describe()
    made.relate()
    made.close()
    return made.reading


class _Assembly:
    """A reading being put together, chunk by chunk."""

    def __init__(self, chunks: Sequence[Chunk], parse: Parse, bank: Bank, find: Finder) -> None:
        self.parse, self.bank, self.find = parse, bank, find
        self.chunks = [c for c in chunks if c.at < len(parse.roles)]
        self.reading = Reading()
        self.at_word = {w: k for k, c in enumerate(self.chunks) for w in range(c.at, c.at + c.size)}
        self.words = [self._word(c) for c in self.chunks]
        self.roles: list[Role] = [self._role(k) for k in range(len(self.chunks))]
        self.heads = [self._pointed(parse.heads[w], k) for k, w in enumerate(self.words)]
        self.others = [self._pointed(parse.others[w], k) for k, w in enumerate(self.words)]
        self.named: dict[int, list[int]] = {}  # the mentions that a chunk names
        self.nouns: dict[int, Chunk] = {}  # the chunk of a noun, settled
        self.worn: list[tuple[int, int | None]] = []  # clothes that are things, and the chunk of what wears them
        self.used: set[int] = set()

    def _word(self, chunk: Chunk) -> int:
        """The word that speaks for a chunk: the last that is something."""
        words = range(chunk.at, min(chunk.at + chunk.size, len(self.parse.roles)))
        telling = [w for w in words if self.parse.roles[w] not in ("none", "part")]
        return telling[-1] if telling else words[-1]

    def _role(self, k: int) -> Role:
        role, kind = self.parse.roles[self.words[k]], self.chunks[k].kind
        if kind == "count" and role in ("trait", "colour", "part"):
            return "count"
        return "none" if kind in ("comma", "and") and role != "relation" else role

    def _pointed(self, word: int, k: int) -> int | None:
        """The chunk that a pointer leads to, past the parts of a longer name."""
        for _ in range(3):
            found = self.at_word.get(word)
            if found is None or found == k:
                return None
            if self.roles[found] != "part":
                return found
            word = self.parse.heads[self.words[found]]
        return None

    # Who and what

    def name(self) -> None:
        """Make a mention of every noun that is to be drawn."""
        self._clothe()
        place = next((k for k, role in enumerate(self.roles) if role == "place"), len(self.chunks))
        for k, role in enumerate(self.roles):
            if role in ("thing", "person"):
                self._mention(k, late=k > place)
            elif role == "again":
                self._again(k)
            elif role == "garment" and not self._wearers(k) and not self._somebody(k):
                self._mention(k, late=k > place)
                self.worn += [(i, self.heads[k]) for i in self.named.get(k, [])]
            elif role == "place" and not {"place", "hint", "time", "backdrop"} & set(self.chunks[k].word.facts):
                self._mention(k, late=False)

    def _somebody(self, k: int) -> bool:
        """Whether "her red dress" is the first that is said of someone, who is then made a mention."""
        whose = next((m for m in range(k - 1, max(k - 4, -1), -1) if self.chunks[m].text in THEIRS), None)
        if whose is None or any(m.kind != "thing" for m in self.reading.mentions):
            return False
        facts = {"build": THEIRS[self.chunks[whose].text]}
        self.reading.mentions.append(Mention("someone", "subject", pointed=True, facts=facts))
        self.named[whose] = [len(self.reading.mentions) - 1]
        self.heads[k] = whose
        return True

    def _clothe(self) -> None:
        """Clothes that the network took for things, but that a person is said to be with, are worn."""
        for k, role in enumerate(self.roles):
            concept = self.chunks[k].concept
            garment = self.chunks[k].kind == "garment"
            if role != "thing" or not (garment or (concept and self.bank[concept].group == "clothes")):
                continue
            ties = [m for m, other in enumerate(self.others) if other == k and self.roles[m] == "relation"]
            ties = [
                m
                for m in ties
                if self.chunks[m].text in ("in", "with") or self.parse.relations[self.words[m]] == "wear"
            ]
            holders = [h for m in ties if (h := self.heads[m]) is not None and self.roles[h] == "person"]
            if holders:
                self.roles[k], self.heads[k] = ("garment", holders[0]) if garment else ("none", None)

    def _mention(self, k: int, late: bool) -> None:
        chunk = self.chunks[k]
        kind: Literal["thing", "person", "subject"] = "thing"
        concept = chunk.concept
        plural = chunk.plural
        if chunk.kind in ("person", "subject"):
            kind = "person" if chunk.kind == "person" else "subject"
        elif self.roles[k] == "person" and chunk.kind == "unknown":
            kind, plural = "person", singular_phrase(chunk.text) != chunk.text
            self.reading.notes.append(f'The word "{chunk.text}" is not known: a person stands in.')
        elif concept is None:
            if chunk.kind == "unknown":
                name = self._whole_name(k)
                concept = self.find(name)
                plural = singular_phrase(name) != name
            if concept is None:
                return
        else:
            kept = chunk.word.facts if chunk.kind in ("noun", "place", "setting") else {}
            chunk = replace(chunk, word=Word("noun", kept))
        if chunk.kind == "unknown":
            chunk = replace(
                chunk, word=Word("noun" if kind == "thing" else "person", {}), concept=concept, plural=plural
            )
        self.used.add(k)
        self.nouns[k] = chunk
        self.reading.set_scene(chunk)
        specs = self._specs(k)
        if (known := self._known(chunk, kind, specs)) is not None:
            self.named[k] = [known]
            self.reading.bind([w for spec in specs for w in spec.words], chunk, [self.reading.mentions[known]])
            return
        new: list[int] = []
        usual = chunk.word.facts if kind == "person" else {}
        for spec in specs:
            if len(self.reading.mentions) == MOST_MENTIONS:
                self.reading.waste(chunk.text)
                continue
            count = spec.count if spec.count is not None else None if plural else int(chunk.says("count") or 1)
            if spec.opener is not None and spec.opener.says("count") and spec.count is None:
                count = None
            if count == 0:
                continue
            mention = Mention(
                chunk.text, kind, concept or "", count, spec.opened_by("pointed"), spec.exact, late, usual
            )  # fmt: skip
            if kind == "thing" and (colour := chunk.says("colour")):
                mention.facts.setdefault("colour", colour)
            self.reading.mentions.append(mention)
            new.append(len(self.reading.mentions) - 1)
            self.reading.bind(spec.words, chunk, [mention])
        self.named[k] = new

    def _known(self, chunk: Chunk, kind: str, specs: Sequence[Spec]) -> int | None:
        """The mention that "the sofa" is, where one sofa was named before and nothing parts the two."""
        if len(specs) > 1 or not specs[0].opened_by("pointed") or specs[0].count is not None or chunk.plural:
            return None
        same = [
            i
            for i, m in enumerate(self.reading.mentions)
            if m.count == 1
            and m.kind == kind
            and (m.noun == chunk.text or (kind == "thing" and m.concept == chunk.concept))
        ]
        if len(same) != 1:
            return None
        facts = self.reading.mentions[same[0]].facts
        told = (fact for word in specs[0].words for fact in word.word.facts.items())
        return same[0] if all(facts.get(key, value) == value for key, value in told) else None

    def _whole_name(self, k: int) -> str:
        """An unknown noun with the words that are parts of it: "coffee machine"."""
        first = k
        while first and self.roles[first - 1] == "part" and self.chunks[first - 1].kind in NOUNS:
            first -= 1
        self.used |= set(range(first, k))
        return " ".join(c.text for c in self.chunks[first : k + 1])

    def _specs(self, k: int) -> list[Spec]:
        """What stands before a noun: once, or "a red and a blue" twice."""
        specs = [Spec()]
        for m in range(k):
            if self.heads[m] != k or self.roles[m] not in ("count", "colour", "trait", "pose"):
                continue
            chunk, spec = self.chunks[m], specs[-1]
            joined = m > 0 and self.chunks[m - 1].kind in ("and", "comma")
            told = any("colour" in w.word.facts for w in spec.words)
            if spec.words and (self.roles[m] == "count" or (joined and told and chunk.says("colour"))):
                spec = Spec()
                specs.append(spec)
            if self.roles[m] == "count":
                if chunk.kind == "count":
                    spec.count = min(int(chunk.word.facts["count"][:4]), MOST_OF_ONE)
                    spec.exact = chunk.says("vague") is None
                elif spec.opener is None or chunk.says("pointed"):
                    spec.opener = chunk
            elif m not in self.used:
                spec.words.append(chunk)
            self.used.add(m)
        plural = self.chunks[k].plural or singular_phrase(self.chunks[k].text) != self.chunks[k].text
        if len(specs) > 1 and not plural and not any(s.counted for s in specs[1:]):
            specs = [replace(specs[0], words=[w for s in specs for w in s.words])]
        return specs

    def _again(self, k: int) -> None:
        """A word for what was named before, or, where nothing was, for someone."""
        chunk, seen, at = self.chunks[k], {k}, self.heads[k]
        while at is not None and self.roles[at] == "again" and at not in seen:
            seen.add(at)
            at = self.heads[at]
        known = self.named.get(at) if at is not None else None
        if known and self._agrees(chunk, self.reading.mentions[known[0]]):
            self.named[k], self.nouns[k] = known, self.nouns[at] if at is not None else chunk
            self.used.add(k)
            build = BUILDS.get(chunk.text)
            for i in known:
                mention = self.reading.mentions[i]
                if build and mention.kind != "thing" and "build" not in mention.usual:
                    mention.facts.setdefault("build", build)
            for m in range(k):
                if self.heads[m] == k and self.roles[m] in ("colour", "trait"):
                    self.heads[m] = at
        elif chunk.kind in ("noun", "person", "subject", "unknown"):
            self.roles[k] = "person" if chunk.kind == "person" else "thing"
            self._mention(k, late=False)
        elif chunk.text in HUMAN and chunk.text in BUILDS and not any(m.kind != "thing" for m in self.reading.mentions):
            self.reading.mentions.append(Mention(chunk.text, "subject", pointed=True))
            self.reading.mentions[-1].facts["build"] = BUILDS[chunk.text]
            self.named[k] = [len(self.reading.mentions) - 1]
            self.nouns[k] = replace(chunk, word=Word("subject", {}))
            self.used.add(k)

    @staticmethod
    def _agrees(chunk: Chunk, mention: Mention) -> bool:
        if chunk.kind == "noun":
            return chunk.concept == mention.concept
        if chunk.kind != "person":
            return True
        facts = {**mention.usual, **mention.facts}
        return mention.kind != "thing" and all(
            facts.get(key, value) == value for key, value in chunk.word.facts.items() if key in ("build", "age")
        )

    def _mentions(self, k: int | None) -> list[int]:
        return [] if k is None else self.named.get(k, [])

    def _row(self, k: int | None, before: int) -> list[int]:
        """The mentions of a chunk and of those that stand in a row with it, up to a chunk: "a cat and a dog"."""
        first = self.heads[k] if k is not None and self.roles[k] in ("thing", "person") else None
        if first in self.named and k is not None and k < before:
            k = first
        kin = [m for m in self.named if self.heads[m] == k and m < before and self.roles[m] in ("thing", "person")]
        return [*self._mentions(k), *(i for m in kin for i in self.named[m])]

    def _wearers(self, k: int) -> list[Mention]:
        """The people who wear a garment or have that hair."""
        known = [self.reading.mentions[i] for i in self._mentions(self.heads[k])]
        if self.heads[k] is None:
            known = [m for m in self.reading.mentions if m.kind != "thing"][-1:]  # of a list: "girl, smile, red hat"
        return [m for m in known if m.kind != "thing"]

    # How they look

    def describe(self) -> None:
        """Give garments, hair, poses and later adjectives to what they are about."""
        for k, role in enumerate(self.roles):
            chunk = self.chunks[k]
            if role == "garment" and k not in self.named:
                self._dress(k)
            elif role == "denied":
                self._deny(k)
        for k, role in enumerate(self.roles):
            verb = role == "part" and self.chunks[k].kind == "verb" and bool(self.chunks[k].word.facts)
            if k in self.used or (role not in ("colour", "trait", "pose", "garment") and not verb):
                continue
            chunk, at = self.chunks[k], self.heads[k]
            if role == "part" and at is not None and self.roles[at] == "relation":
                at = self.heads[at]  # "waves" of "waves to"
            if at is None:
                continue
            self.used.add(k)
            about = [self.reading.mentions[i] for i in self._mentions(at)]
            if self.roles[at] == "garment" and at not in self.named:
                self.reading.bind([chunk], self.chunks[at], self._wearers(at))
            elif about and (role in ("pose", "part") or chunk.kind in ("verb", "feature")):
                facts = {f: v for f, v in chunk.word.facts.items() if f in ("pose", "expression")}
                people = [m for m in about if m.kind != "thing"]
                if chunk.says("air"):
                    for mention in about:
                        mention.facts.setdefault("air", "yes")
                elif not people or not facts:
                    self.reading.waste(chunk.text)
                for person in people:
                    for fact, value in facts.items():
                        person.note(fact, value, chunk.text)
            elif about:
                self.reading.bind([chunk], self.nouns[at], about)
            else:
                self.reading.bind([chunk], self.chunks[at], [])

    def _dress(self, k: int) -> None:
        chunk, people = self.chunks[k], self._wearers(k)
        facts = {key: value for key, value in chunk.word.facts.items() if key != "paints"}
        if not people or (not chunk.word.facts):
            return
        for person in people:
            for key, value in facts.items():
                person.note(key, value, chunk.text)
        self.used.add(k)

    def _deny(self, k: int) -> None:
        chunk = self.chunks[k]
        self.used.add(k)
        for i in self._mentions(self.heads[k]):
            mention = self.reading.mentions[i]
            for part in ("hat", "glasses", "beard"):
                if mention.kind != "thing" and part in chunk.word.facts:
                    mention.facts[part] = ""
            if mention.kind != "thing" and chunk.says("paints") == "hair_colour":
                mention.facts["hair"] = "bald"
        if chunk.says("weather"):
            self.reading.setting.setdefault("weather", "clear")

    # How they stand

    def relate(self) -> None:
        """Tie the mentions together."""
        for i, wearer in self.worn:
            for anchor in self._mentions(wearer)[:1]:
                self._stand("on", [i], anchor)
        for k, role in enumerate(self.roles):
            chunk = self.chunks[k]
            if role == "none" and chunk.says("relation") in ("held", "borne"):
                self._carry(k, "holding" if chunk.says("relation") == "held" else "on")
            elif role == "side" or (role == "relation" and chunk.says("side")):
                side = chunk.says("side")
                self.used.add(k)
                for i in self._row(self.heads[k], len(self.chunks)) if side else []:
                    self.reading.mentions[i].relation = self.reading.mentions[i].relation or side
            elif role == "relation":
                about, to = self._row(self.heads[k], k), self._row(self.others[k], len(self.chunks))
                if set(about) & set(to) and self.others[k] is not None and self.roles[self.others[k] or 0] == "again":
                    to = [i for i in range(len(self.reading.mentions)) if i not in about][-1:]  # "it" is another
                about = about or self._mentions(self.heads[k])
                told = chunk.says("relation")
                if told in ("held", "borne"):
                    self._carry(k, "holding" if told == "held" else "on")
                    continue
                relation = self.parse.relations[self.words[k]]
                if told in SAID and relation not in ("riding", "holding", "wear"):
                    relation = told  # type: ignore[assignment]  # one of SAID
                for i in about:
                    for fact in ("pose", "expression"):
                        if self.reading.mentions[i].kind != "thing" and (value := chunk.says(fact)):
                            self.reading.mentions[i].note(fact, value, chunk.text)
                if about and to and not set(about) & set(to):
                    self._tie(relation, about, to)
                    self.used.add(k)

    def _tie(self, relation: Relation, about: list[int], to: list[int]) -> None:
        mentions = self.reading.mentions
        anchor = mentions[to[0]]
        match relation:
            case "holding" | "wear":
                self._give(relation, mentions[about[0]], about[0], to)
            case "between":
                self.reading.between(about[0], to)
            case "riding":
                self._stand("on", about, to[0])
                if anchor.count is None:
                    anchor.count = mentions[about[0]].count
            case "below":
                if anchor.relation is None:
                    self._stand("above", to, about[0])
                else:
                    self._stand("under", about, to[0])
            case "inside":
                where = inside(anchor.concept, self.bank) if anchor.kind == "thing" else "beside"
                self._stand(where, about, to[0])
            case _:
                self._stand(relation, about, to[0])

    def _carry(self, k: int, relation: str) -> None:
        """ "... in its hand", "... on his head": what was named last is with whoever was named before it."""
        mentions = self.reading.mentions
        before = [i for m in range(k) for i in self.named.get(m, [])]
        if not before or mentions[before[-1]].relation not in (None, "with", "beside"):
            return
        bearers = [i for i in before if i != before[-1] and able(mentions[i], self.bank)]
        if bearers and not self._depends(bearers[-1], before[-1]):
            mentions[before[-1]].relation, mentions[before[-1]].other = relation, bearers[-1]

    def _stand(self, relation: str, about: Sequence[int], anchor: int) -> None:
        mentions = self.reading.mentions
        for i in about:
            if mentions[i].relation is None and not self._depends(anchor, i):
                mentions[i].relation, mentions[i].other = relation, anchor
            elif relation in TURNED and mentions[anchor].relation is None and not self._depends(i, anchor):
                mentions[anchor].relation, mentions[anchor].other = TURNED[relation], i

    def _depends(self, index: int, on: int) -> bool:
        """Whether a mention stands to another, through however many."""
        seen: set[int] = set()
        at: int | None = index
        while at is not None and at not in seen:
            if at == on:
                return True
            seen.add(at)
            at = self.reading.mentions[at].other
        return False

    def _give(self, relation: Relation, holder: Mention, index: int, to: Sequence[int]) -> None:
        hand = able(holder, self.bank)
        for i in to:
            held = self.reading.mentions[i]
            if held.kind != "thing":
                self._stand("beside", [i], index)
            elif relation == "wear" and holder.kind == "thing":
                self._stand("on", [i], index)
            else:
                self._stand("holding" if hand else "beside", [i], index)

    # The whole picture

    def close(self) -> None:
        """Where and when it is, and which words had no effect."""
        for k, role in enumerate(self.roles):
            chunk = self.chunks[k]
            if k in self.used or role == "denied":
                continue
            settles = role in ("place", "time", "weather", "style") or chunk.kind in ("place", "setting")
            if settles and self.reading.set_scene(chunk):
                continue
            if chunk.kind == "verb" and chunk.says("air") and self.reading.mentions:
                before = [i for m in range(k) for i in self.named.get(m, [])]
                if before:
                    self.reading.mentions[before[-1]].facts.setdefault("air", "yes")
                    continue
            if chunk.kind not in SILENT and chunk.text not in VOCABULARY_SILENT:
                self.reading.set_scene(chunk)
                self.reading.waste(chunk.text)
        self._read_books()

    def _read_books(self) -> None:
        """The book of someone who reads is drawn with them."""
        mentions = self.reading.mentions
        readers = {i for i, m in enumerate(mentions) if {**m.usual, **m.facts}.get("pose") == "reading"}
        books = {i for i, m in enumerate(mentions) if m.concept in BOOKS and (m.other in readers or m.other is None)}
        alone = {i for i in books if not any(m.other == i for m in mentions)}
        if readers and alone:
            self.reading.drop(alone, {})


VOCABULARY_SILENT = frozenset(w for w, word in VOCABULARY.items() if word.kind == "verb" and not word.facts)
