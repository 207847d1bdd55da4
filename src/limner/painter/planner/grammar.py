"""The grammar: walks a prompt's chunks and binds adjectives, clothes, poses and relations to what they are about.

Nothing is chosen here: what a prompt leaves open stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from limner.painter.bank import Bank
from limner.painter.planner.chunks import HEADS, OPENERS, Chunk
from limner.painter.planner.phrases import Finder, Phrase, Spec, phrase_at
from limner.painter.planner.reading import ANIMATE, MOST_MENTIONS, Mention, Reading, able, inside
from limner.painter.planner.words import STOPS, VOCABULARY, Kind, Word, phrase

HELD = ("tiny", "small")  # sizes of what a person who is "with" it holds
BOOKS = ("closed-book", "open-book", "books")
VESSELS = frozenset(
    {
        "bowl-with-spoon", "basket", "package", "bucket", "wastebasket", "shopping-cart", "teacup-without-handle",
        "jar", "amphora", "pot-of-food", "bouquet", "luggage", "money-bag", "wrapped-gift", "backpack", "shopping-bags",
    }
)  # fmt: skip
DIRECT = ("on", "under", "above", "left", "right", "behind", "front", "beside", "inside")  # say where the first is
GIVEN = ("holding", "holds", "with")  # relations that the new mention takes
HUMAN = ("he", "she", "him", "her", "who", "himself", "herself", "his")
THEIRS = {"his": "masculine", "her": "feminine"}
BUILDS = {"he": "masculine", "him": "masculine", "she": "feminine", "her": "feminine"}
GENERIC = ("person", "man", "woman", "boy", "girl", "child", "figure", "guy", "lady", "kid", "subject", "character")
AFRESH = ("comma", "and", "setting", "place", "quiet")  # after these a clause begins


def read(chunks: Sequence[Chunk], bank: Bank, find: Finder) -> Reading:
    """Bind what the chunks say.

    Args:
        chunks: settled.
        bank: the drawings, for how large things are.
        find: asked for the concept of unknown nouns.
    """
    reader = _Reader(chunks, bank, find)
    reader.walk()
    return reader.reading


class _Reader:
    """Walks the chunks from left to right, with what a listener would keep in mind."""

    def __init__(self, chunks: Sequence[Chunk], bank: Bank, find: Finder) -> None:
        self.chunks, self.bank, self.find = chunks, bank, find
        self.reading = Reading()
        self.last: int | None = None  # the mention spoken of last
        self.subjects: list[int] = []  # the mentions that the next relation is about: "a cat and a dog on ..."
        self.chained = False  # whether another mention would join the subjects
        self.relation: Chunk | None = None  # waits for its noun
        self.carried: Chunk | None = None  # a relation that "and" goes on with: "holding a ball and ..."
        self.fronted: tuple[str, int] | None = None  # "On the table there is ..."
        self.side: str | None = None  # "On the left, ..."
        self.wearing = self.negated = self.fresh = False
        self.target: tuple[Chunk, list[Mention]] | None = None  # what a later adjective is about: "her hair is red"

    def walk(self) -> None:
        at, self.fresh = 0, True
        while at < len(self.chunks):
            find: Finder = (lambda _: None) if self.negated else self.find
            found = phrase_at(self.chunks, at, self.fresh, self.fresh or self.relation is not None, find)
            if found:
                self._take(found)
                at, self.fresh = found.end, False
            else:
                chunk = self.chunks[at]
                self._single(chunk, self.chunks[at + 1] if at + 1 < len(self.chunks) else None)
                self.fresh = chunk.kind in AFRESH or (self.fresh and at == 0)
                at += 1

    def _take(self, found: Phrase) -> None:
        head, people = found.head, self._people()
        if self.negated:
            self._deny(head, people)
        elif head.kind == "vain":
            self.reading.set_scene(head)
            for word in (*(w for w in found.words if w.kind == "unknown"), head):
                self.reading.waste(word.text)
            self.relation = None
        elif (known := self._known(found)) is not None:
            self._refer(known)
            self.reading.bind(found.words, head, [self.reading.mentions[known]])
            self.target = (head, [self.reading.mentions[known]])
        elif head.kind == "place":
            self._locate(found)
        elif head.kind == "feature":
            self._dress(found, people)
        elif head.kind == "garment":
            self._garment(found, people)
        elif people and head.kind == "noun" and (self.wearing or self._listed(found)):
            for spec in found.specs:
                self.reading.waste(phrase([*(w.text for w in spec.words), head.text]))
        elif not self._reads(head, people):
            self.wearing = self.wearing and head.kind == "noun"
            self._mention(head, found.specs)

    def _garment(self, found: Phrase, people: list[Mention]) -> None:
        """Clothes go on whoever is spoken of; with nobody there, or "a hat" in a list, they are things."""
        waiting = self.relation or self.carried
        relation = waiting.says("relation") if waiting else None
        if (
            not people
            and found.theirs
            and (build := THEIRS.get(found.specs[0].opener.text if found.specs[0].opener else ""))
        ):
            self.reading.mentions.append(Mention("someone", "subject", pointed=True, facts={"build": build}))
            self._relate([len(self.reading.mentions) - 1])
            people = self._people()
        listed = not (self.wearing or self.relation or self.carried or found.theirs)
        if people and relation in (None, "with", "inside") and not (listed and found.specs[0].opener):
            self._dress(found, people)
        elif found.head.concept is None:
            self.reading.waste(found.head.text)
        else:
            animal = self.last is not None and self.reading.mentions[self.last].kind == "thing"
            if self.last is not None and (self.wearing or (animal and relation == "inside")):
                self.relation = Chunk("wearing", Word("relation", {"relation": "holds"}))
            self._mention(replace(found.head, word=Word("noun", {})), found.specs)

    def _listed(self, found: Phrase) -> bool:
        """Whether these are clothes in a list, "red dress, blue boots", that nobody can be drawn in."""
        if found.head.kind != "noun" or self.bank[found.head.concept or ""].group != "clothes":
            return False
        alone = self.relation is None or self.relation.text in ("in", "with")
        return alone and (found.theirs or not found.specs[0].counted)

    @staticmethod
    def _reads(head: Chunk, people: list[Mention]) -> bool:
        """Whether this is the book of someone who reads: it is drawn with them."""
        return bool(people) and people[-1].facts.get("pose") == "reading" and head.concept in BOOKS

    def _deny(self, head: Chunk, people: list[Mention]) -> None:
        """What is not to be there."""
        for person in people:
            for part in ("hat", "glasses", "beard"):
                if part in head.word.facts:
                    person.facts[part] = ""
        if head.kind == "noun" and head.says("weather"):
            self.reading.setting.setdefault("weather", "clear")

    def _people(self) -> list[Mention]:
        """Whom clothes, hair and poses are about: the subjects where they are people, else whoever was named last."""
        mentions = self.reading.mentions
        if self.last in self.subjects:
            people = [mentions[i] for i in self.subjects if mentions[i].kind != "thing"]
            if people:
                return people
            if self.wearing:
                return []
        at, seen = self.last, set[int]()
        while at is not None and mentions[at].kind == "thing" and at not in seen:
            seen.add(at)
            at = mentions[at].other
        if at is not None and mentions[at].kind != "thing":
            return [mentions[at]]
        return [m for m in mentions if m.kind != "thing"][-1:]

    def _dress(self, found: Phrase, people: list[Mention]) -> None:
        """Clothes, hair and faces of people."""
        head = found.head
        facts = {key: value for key, value in head.word.facts.items() if key != "paints"}
        if people and head.word.facts:
            for person in people:
                for key, value in facts.items():
                    person.note(key, value, head.text)
            self.reading.bind(found.words, head, people)
            self.target = (head, people)
        else:
            self.reading.waste(phrase([*(w.text for w in found.words), head.text]))
        self.carried, self.relation = self.relation or self.carried, None
        self.chained = False

    def _locate(self, found: Phrase) -> None:
        """A place: of the picture, not of one thing."""
        self.reading.set_scene(found.head)
        self.reading.bind(found.words, found.head, [])
        self.target = (found.head, [])
        if self.relation and self.relation.text == "in" and found.head.says("hint") == "sky" and self.last is not None:
            self.reading.mentions[self.last].facts.setdefault("air", "yes")
        self.relation, self.chained = None, False

    def _mention(self, head: Chunk, specs: list[Spec]) -> None:
        """New things or people."""
        apart = len(specs) > 1 and (head.plural or any(s.counted for s in specs[1:]))
        if not apart:
            specs = [replace(specs[0], words=[w for s in specs for w in s.words])]
        new: list[int] = []
        for spec in specs:
            if len(self.reading.mentions) == MOST_MENTIONS:
                self.reading.waste(head.text)
                continue
            usually = None if head.plural else int(head.says("count") or 1)
            count = spec.count if spec.count is not None else usually
            kind: Literal["thing", "person", "subject"] = "thing"
            if head.kind in ("person", "subject"):
                kind = "person" if head.kind == "person" else "subject"
            usual = head.word.facts if kind == "person" else {}
            late = "place" in self.reading.setting or bool(self.reading.hints)
            mention = Mention(
                head.text, kind, head.concept or "", count, spec.opened_by("pointed"), spec.exact, late, usual
            )
            if count != 0:
                self.reading.mentions.append(mention)
                new.append(len(self.reading.mentions) - 1)
                self.reading.bind(spec.words, head, [mention])
                if kind == "thing" and (colour := head.says("colour")):
                    mention.facts.setdefault("colour", colour)
        self.reading.set_scene(head)
        if new:
            self._relate(new)
            self.target = (head, [self.reading.mentions[i] for i in new])

    def _relate(self, new: list[int]) -> None:
        """Tie new mentions to the old ones by the relation that was waiting, or make them the subjects."""
        mentions = self.reading.mentions
        waiting = self.relation or self.carried
        relation = waiting.says("relation") if waiting else None
        about = self._free()
        if not about and relation in GIVEN and self.last is not None:
            about = self.subjects if self.last in self.subjects else [self.last]  # a relation of the new ones
        if waiting is not self.relation and mentions[new[0]].kind != "thing":
            relation = None  # "holding a ball and a girl": people are not held
        self.carried, self.relation = None, None
        if relation is None or (not about and relation not in DIRECT):
            self.subjects = [*self.subjects, *new] if self.chained else new
            for i in new:
                if self.fronted and i != self.fronted[1]:
                    mentions[i].relation, mentions[i].other = self.fronted
                if self.side:
                    mentions[i].relation = mentions[i].relation or self.side
            self.chained, self.side = True, None
        elif not about:
            self.fronted, self.subjects, self.chained = (relation, new[0]), [], False
        else:
            self._tie(relation, about, new)
            if relation in ("with", "holding", "holds"):
                self.carried = waiting
            self.chained = False
        self.last = new[-1]

    def _tie(self, relation: str, about: list[int], new: list[int]) -> None:
        mentions = self.reading.mentions
        main = mentions[about[0]]
        for i in new:
            if relation == "around":
                mentions[i].relation, mentions[i].other = "around", about[0]
            elif relation == "with":
                mentions[i].relation, mentions[i].other = self._with(main, mentions[i]), about[0]
            elif relation in ("holding", "holds"):
                hold = relation == "holding" and able(main, self.bank)
                mentions[i].relation, mentions[i].other = "holding" if hold else "on", about[0]
            elif relation == "fills":
                mentions[i].relation, mentions[i].other = "inside", self.last
        if relation == "circling":
            for i in about:
                mentions[i].relation, mentions[i].other = "around", new[0]
        elif relation == "riding":
            main.relation, main.other = "on", new[0]
            if mentions[new[0]].count is None:
                mentions[new[0]].count = main.count  # to each their own
        elif relation == "between":
            if not self.reading.between(about[0], new):
                self.carried = Chunk("between", Word("relation", {"relation": "across"}))
        elif relation == "below":
            mentions[new[0]].relation, mentions[new[0]].other = "above", about[0]
        elif relation in DIRECT:
            anchor = mentions[new[0]]
            if relation == "inside":
                relation = inside(anchor.concept, self.bank) if anchor.kind == "thing" else "beside"
            for i in about:
                mentions[i].relation, mentions[i].other = relation, new[0]

    def _with(self, main: Mention, new: Mention) -> str:
        """What "with" means: in the hand, on the head, or in company."""
        if new.kind != "thing":
            return "with"
        drawing = self.bank[new.concept]
        if main.kind != "thing":
            return "holding" if drawing.size in HELD or drawing.group == "music" else "with"
        wearer = self.bank[main.concept].group in ANIMATE or main.concept.startswith("snowman")
        return "on" if drawing.group == "clothes" and wearer else "with"

    def _free(self) -> list[int]:
        """The mentions that a relation said now is about: the last one, or what it depends on where it is taken."""
        mentions, at, seen = self.reading.mentions, self.last, [-1]
        if at is None:
            return []
        if at in self.subjects:
            return [i for i in self.subjects if mentions[i].relation is None]
        while at is not None and mentions[at].relation is not None and at not in seen:
            seen.append(at)
            at = mentions[at].other
        return [at] if at is not None and mentions[at].relation is None else []

    def _single(self, chunk: Chunk, after: Chunk | None) -> None:
        """A chunk that is no part of a noun phrase."""
        match chunk.kind:
            case "adjective":
                self._describe(chunk)
            case "verb":
                self._act(chunk)
            case "relation" if chunk.says("side"):
                self._aside(chunk.word.facts["side"], after)
            case "relation" if chunk.says("relation") in ("held", "borne"):
                self._carry("holding" if chunk.says("relation") == "held" else "on")
            case "relation" if chunk.says("relation") == "holds" and self.target and self.target[0].kind == "place":
                self.relation, self.carried = None, None  # "a meadow full of flowers": they are everywhere
            case "relation":
                self.relation, self.carried, self.wearing, self.negated = chunk, None, False, False
                for person in self._people() if self.last is not None else []:
                    for key in ("pose", "expression"):
                        if value := chunk.says(key):
                            person.note(key, value, chunk.text)
            case "wear":
                self.wearing, self.relation, self.negated = True, None, False
            case "pronoun":
                self._pronoun(chunk)
            case "their" if after is None or after.kind not in HEADS | {"adjective", "place"}:
                self._pronoun(chunk)
            case "copula":
                self.chained = False
            case "stop" if chunk.text == "of" and self.last is not None:
                if self.reading.mentions[self.last].concept in VESSELS:
                    self.relation = Chunk("of", Word("relation", {"relation": "fills"}))
            case "not":
                self.negated = True
            case "comma":
                self._pause(chunk.text in STOPS)
            case "and":
                self.wearing = self.wearing and after is not None
            case "setting" if self.negated:
                if chunk.says("weather"):
                    self.reading.setting.setdefault("weather", "clear")
            case "place" | "setting":
                self.reading.set_scene(chunk)
            case "vain" | "unknown":
                self.reading.set_scene(chunk)
                self.reading.waste(chunk.text)
                self.carried = None
            case "count" if chunk.text[0].isdigit():
                self.reading.waste(chunk.text)
            case _:
                pass

    def _pause(self, stop: bool) -> None:
        self.relation, self.carried, self.negated = None, None, False
        if stop:
            self.subjects, self.chained, self.fronted, self.wearing, self.target = [], False, None, False, None
            self.last = None

    def _describe(self, chunk: Chunk) -> None:
        """An adjective after its noun: "the cat is black", "fox, red", "dressed in blue"."""
        people = self._people()
        clothed = self.wearing or (self.relation is not None and self.relation.says("relation") == "inside")
        if people and clothed and chunk.says("colour"):
            self.reading.bind([chunk], Chunk("clothes", VOCABULARY["clothes"]), people)
            self.relation = None
        elif self.target:
            self.reading.bind([chunk], *self.target)
        else:
            self.reading.bind([chunk], Chunk("", Word("place", {})), [])

    def _act(self, chunk: Chunk) -> None:
        mentions = self.reading.mentions
        if chunk.says("air"):
            about = [mentions[i] for i in (self.subjects or ([] if self.last is None else [self.last]))]
            for mention in about or mentions[-1:]:
                mention.facts.setdefault("air", "yes")
            if not mentions:
                self.reading.waste(chunk.text)
            return
        # What an animal does cannot be drawn, and is not what the person before it does.
        people = [] if self.last in self.subjects and mentions[self.last or 0].kind == "thing" else self._people()
        for person in people:
            for key, value in chunk.word.facts.items():
                person.note(key, value, chunk.text)
        if not people:
            self.reading.waste(chunk.text)
        self.chained = False

    def _carry(self, relation: str) -> None:
        """ "... in its hand", "... on his head": the thing spoken of last is with whoever was spoken of before it."""
        mentions, self.relation = self.reading.mentions, None
        if self.last is None or mentions[self.last].relation not in (None, "with", "beside", "holding"):
            return
        bearer = mentions[self.last].other
        if bearer is None:
            before = [i for i in range(self.last) if able(mentions[i], self.bank)]
            bearer = before[-1] if before else None
        if bearer is not None and able(mentions[bearer], self.bank):
            mentions[self.last].relation, mentions[self.last].other = relation, bearer

    def _aside(self, side: str, after: Chunk | None) -> None:
        """A side of the picture: of what was just named, else of what comes."""
        if self.last is None or (self.fresh and after is not None and after.kind in OPENERS | HEADS):
            self.side = side
            return
        for i in self.subjects if self.last in self.subjects else [self.last]:
            if self.reading.mentions[i].relation is None:
                self.reading.mentions[i].relation = side
        self.chained = False

    def _pronoun(self, chunk: Chunk) -> None:
        mentions = self.reading.mentions
        human = chunk.text in HUMAN
        kinds = ("person", "subject") if human else ("thing", "person", "subject")
        known = [i for i, m in enumerate(mentions) if m.kind in kinds]
        if human and not known:
            known = [i for i, m in enumerate(mentions) if m.kind == "thing" and self.bank[m.concept].group in ANIMATE]
        if not known and (not human or chunk.kind == "their" or len(mentions) == MOST_MENTIONS or chunk.text == "who"):
            self.relation = None
            return
        if not known:
            mentions.append(Mention(chunk.text, "subject", pointed=True))
            known = [len(mentions) - 1]
            self._relate(known)
        anchor = self._refer(known[-1], known if chunk.text in ("it", "itself") else ())
        build = BUILDS.get(chunk.text)
        if build and mentions[anchor].kind != "thing" and "build" not in mentions[anchor].usual:
            mentions[anchor].facts.setdefault("build", build)

    def _known(self, found: Phrase) -> int | None:
        """The mention that "the hiker" is, where a hiker was named before and nothing parts the two."""
        spec, head = found.specs[0], found.head
        if not spec.opened_by("pointed") or spec.count is not None or head.plural or len(found.specs) > 1:
            return None
        mentions = self.reading.mentions
        same = [i for i, m in enumerate(mentions) if m.noun == head.text and m.count == 1]
        if not same and head.kind in ("person", "subject") and head.text in GENERIC:
            same = [i for i, m in enumerate(mentions) if m.kind != "thing" and m.count == 1]
        if len(same) != 1:
            return None
        facts = {**mentions[same[0]].usual, **mentions[same[0]].facts}
        told = [head.word.facts if head.kind == "person" else {}, *(w.word.facts for w in found.words)]
        agrees = all(facts.get(key, value) == value for fact in told for key, value in fact.items())
        return same[0] if agrees else None

    def _refer(self, anchor: int, known: Sequence[int] = ()) -> int:
        """Speak again of the mention `anchor`, or of the one before it in `known`; which of them it was."""
        mentions = self.reading.mentions
        if self.relation is not None:
            relation = self.relation.says("relation") or "beside"
            about = [i for i in self._free() if i != anchor]
            if len(known) > 1 and anchor == self.last:
                anchor = known[-2]
                about = [
                    i
                    for i in ([self.last] if self.last is not None else [])
                    if mentions[i].relation in (None, "beside", "with")
                ]
            if about and relation in DIRECT and anchor not in about:
                for i in about:
                    mentions[i].relation, mentions[i].other = relation, anchor
            elif not about and relation in (*DIRECT, "circling"):  # "and behind it a dog"
                self.fronted = ("around" if relation == "circling" else relation, anchor)
                self.last, self.subjects, self.chained = anchor, [], False
            self.relation = None
        else:
            self.last, self.subjects, self.chained = anchor, [anchor], False
            known_as = mentions[anchor]
            kind: Kind = "noun" if known_as.kind == "thing" else "person"
            self.target = (Chunk(known_as.noun, Word(kind, {}), known_as.concept or None), [known_as])
        return anchor
