"""Reading a prompt: what it names, what each is like, how they stand to each other, and where it all is.

Nothing is chosen here: what a prompt leaves open stays open. The chunks of `planner_chunks` are walked from left to right, noun
phrase by noun phrase, and adjectives, clothes, poses and relations are bound to what they are about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner_chunks import HEADS, OPENERS, Chunk
from limner.painter.planner_words import STOPS, VOCABULARY, Word, phrase

MOST_MENTIONS = 8
MOST_OF_ONE = 20
SETTINGS = ("place", "time", "weather", "style", "frame")
LOOKS = ("age", "build", "skin", "hair", "hair_colour", "beard", "glasses", "hat", "top", "expression", "pose", "size")
CLOTHES = {"top": "top_colour", "bottom": "bottom_colour", "hat": "hat_colour"}
HAIR_COLOURS = {
    "yellow": "blonde", "gold": "blonde", "beige": "blonde", "orange": "red", "silver": "grey", "navy": "blue", "teal": "blue",
}  # fmt: skip
SKINS = {
    "white": "light", "black": "dark", "brown": "brown", "beige": "tan", "gold": "tan", "pale": "pale", "dark": "dark",
}  # fmt: skip
HELD = ("tiny", "small")  # sizes of what a person who is "with" it holds
INVERSE = ("with", "holding", "riding", "holds", "between", "below", "fills")  # say where the second is, or do more
VESSELS = frozenset(
    {
        "bowl-with-spoon", "basket", "package", "bucket", "wastebasket", "shopping-cart", "teacup-without-handle", "jar",
        "amphora", "pot-of-food", "bouquet", "luggage", "money-bag", "wrapped-gift", "backpack", "shopping-bags",
    }
)  # fmt: skip
ANIMATE = frozenset({"animal", "animal-head", "insect", "figure", "fantasy"})

Finder = Callable[[str], str | None]  # the concept for a word that nobody knows, or None


@dataclass(slots=True)
class Mention:
    """A group of equal things or people that the prompt names."""

    noun: str
    kind: Literal["thing", "person", "subject"]
    concept: str = ""
    count: int | None = 1  # None: a plural without a number
    pointed: bool = False  # "this dog", "the girl"
    usual: Mapping[str, str] = field(default_factory=dict)  # what the noun says of itself: a king has a crown
    facts: dict[str, str] = field(default_factory=dict)  # what was said of this one; "" denies a part
    said: dict[str, str] = field(default_factory=dict)  # by which words
    relation: str | None = None
    other: int | None = None  # which mention it stands to


@dataclass(slots=True)
class Reading:
    """What a prompt says."""

    mentions: list[Mention] = field(default_factory=list)
    setting: dict[str, str] = field(default_factory=dict)  # place, backdrop, time, weather, style, frame
    hints: list[tuple[str, ...]] = field(default_factory=list)  # places that it makes likely
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def waste(self, text: str) -> None:
        if text and text not in self.unused:
            self.unused.append(text)


@dataclass(slots=True)
class _Spec:
    """What stands before a noun, once: "a small red"; "a red and a blue balloon" has two."""

    words: list[Chunk] = field(default_factory=list)
    opener: Chunk | None = None
    count: int | None = None

    @property
    def counted(self) -> bool:
        return self.opener is not None or self.count is not None


@dataclass(slots=True)
class _Phrase:
    head: Chunk
    specs: list[_Spec]
    end: int


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
        at = 0
        self.fresh = True
        while at < len(self.chunks):
            found = self._phrase(at)
            if found:
                self._take(found)
                at = found.end
                self.fresh = False
            else:
                self._single(self.chunks[at], self.chunks[at + 1] if at + 1 < len(self.chunks) else None)
                self.fresh = self.chunks[at].kind in ("comma", "and", "setting", "place", "quiet") or (
                    self.fresh and at == 0
                )
                at += 1

    def _phrase(self, start: int) -> _Phrase | None:
        """The noun phrase that begins at `start`, if one does."""
        specs, at = [_Spec()], start
        while at < len(self.chunks):
            chunk, spec = self.chunks[at], specs[-1]
            after = self.chunks[at + 1] if at + 1 < len(self.chunks) else None
            match chunk.kind:
                case "article" | "their" if not spec.words and spec.opener is None:
                    spec.opener = chunk
                case "count" if not spec.words and spec.count is None:
                    spec.count = min(int(chunk.word.facts["count"][:4]), MOST_OF_ONE)
                case "adjective" | "unknown":
                    spec.words.append(chunk)
                case "verb" if at > start or self.fresh:
                    spec.words.append(chunk)
                case "setting" | "vain" | "quiet" if at > start:
                    if chunk.kind != "quiet":
                        spec.words.append(chunk)
                case "and" | "comma" if self._joins(spec, chunk, at):
                    specs.append(_Spec())
                case "noun" | "person" | "subject" | "garment" | "feature":
                    if after and self._compound(chunk, after, spec):
                        if chunk.kind == "noun" and after.kind == "person":
                            return _Phrase(chunk, [*specs[:-1], replace(spec, words=[*spec.words, after])], at + 2)
                        spec.words.append(chunk)
                    else:
                        return _Phrase(chunk, specs, at + 1)
                case "place":
                    if after is None or after.kind not in ("noun", "person", "garment") or not spec.counted:
                        return _Phrase(chunk, specs, at + 1)
                    spec.words.append(chunk)
                case _:
                    break
            at += 1
        return self._unknown(specs, start, at)

    def _joins(self, spec: _Spec, chunk: Chunk, at: int) -> bool:
        """Whether "and" or a comma stands between adjectives of one noun."""
        if not any(w.kind == "adjective" for w in spec.words) or chunk.text in STOPS:
            return False
        after = [c.kind for c in self.chunks[at + 1 : at + 3]]
        if after[:1] == ["and"]:
            after = [c.kind for c in self.chunks[at + 2 : at + 4]]
        if after[:1] == ["adjective"]:
            return True
        return spec.counted and len(after) == 2 and after[0] in ("article", "count") and after[1] == "adjective"

    def _compound(self, chunk: Chunk, after: Chunk, spec: _Spec) -> bool:
        """Whether the next noun is the head and this one only says more of it: "a robot dog"."""
        if chunk.plural or not {chunk.kind, after.kind} <= {"noun", "person"}:
            return False
        return spec.counted or bool(spec.words) or (chunk.kind, after.kind) == ("person", "person")

    def _unknown(self, specs: list[_Spec], start: int, end: int) -> _Phrase | None:
        """A phrase whose noun nobody knows: its nearest concept, if there is one."""
        words = specs[-1].words
        if not words or words[-1].kind != "unknown" or words[-1] is not self.chunks[end - 1]:
            return None
        name = words[-1].text
        verbal = name.endswith(("ing", "ed", "ly", "'s")) or (
            not specs[-1].counted and not self.fresh and self.relation is None
        )
        concept = None if verbal or self.negated else self.find(name)
        if concept is None:
            return None
        words.pop()
        return _Phrase(Chunk(name, Word("noun", {}), concept, singular_phrase(name) != name), specs, end)

    def _take(self, found: _Phrase) -> None:
        head, specs = found.head, found.specs
        if self.negated:
            self._deny(head)
        elif head.kind == "place":
            self._locate(head, [w for s in specs for w in s.words])
        elif head.kind == "feature":
            self._dress(head, specs, self._people())
        elif head.kind == "garment":
            self._garment(head, specs)
        elif self._people() and (self.wearing or self._listed(head, specs)):
            for spec in specs:
                self.reading.waste(phrase([*(w.text for w in spec.words), head.text]))
        elif self._reads(head):
            pass
        else:
            self._mention(head, specs)

    def _garment(self, head: Chunk, specs: list[_Spec]) -> None:
        """Clothes go on whoever is spoken of; with nobody there, or "a hat" in a list, they are things."""
        people = self._people()
        listed = not self.wearing and self.relation is None and self.carried is None and not self._theirs(specs)
        relation = self.relation.says("relation") if self.relation else None
        thing = not people or relation not in (None, "with", "inside") or (listed and specs[0].opener is not None)
        if not thing:
            self._dress(head, specs, people)
        elif head.concept is None:
            self.reading.waste(head.text)
        else:
            if self.wearing and self.last is not None:
                self.relation = Chunk("wearing", Word("relation", {"relation": "holds"}))
            self._mention(replace(head, word=Word("noun", {})), specs)

    def _listed(self, head: Chunk, specs: list[_Spec]) -> bool:
        """Whether these are clothes in a list, "red dress, blue boots", that nobody can be drawn in."""
        worn = head.kind == "noun" and bool(head.concept) and self.bank[head.concept or ""].group == "clothes"
        free = specs[0].opener is None and specs[0].count is None
        return (
            worn and (free or self._theirs(specs)) and (self.relation is None or self.relation.text in ("in", "with"))
        )

    @staticmethod
    def _theirs(specs: list[_Spec]) -> bool:
        return specs[0].opener is not None and specs[0].opener.kind == "their"

    def _reads(self, head: Chunk) -> bool:
        """The book of someone who reads is drawn with them."""
        people = self._people()
        return (
            bool(people)
            and people[-1].facts.get("pose") == "reading"
            and head.concept in ("closed-book", "open-book", "books")
        )

    def _deny(self, head: Chunk) -> None:
        for person in self._people():
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
        at = self.last
        while at is not None and mentions[at].kind == "thing" and mentions[at].other is not None:
            at = mentions[at].other if mentions[at].other != at else None
            if at is not None and mentions[at].kind != "thing":
                return [mentions[at]]
            if at is not None and mentions[at].other == self.last:
                break
        return [m for m in mentions if m.kind != "thing"][-1:]

    def _dress(self, head: Chunk, specs: list[_Spec], people: list[Mention]) -> None:
        if not people:
            self.reading.waste(head.text)
            return
        for person in people:
            for key, value in head.word.facts.items():
                if key != "paints":
                    self._set(person, key, value, head.text)
        if head.word.facts:
            self._bind([w for s in specs for w in s.words], head, people)
        else:
            self.reading.waste(phrase([*(w.text for s in specs for w in s.words), head.text]))
        self.target = (head, people)
        self.carried, self.relation = self.relation or self.carried, None
        self.chained = False

    def _locate(self, head: Chunk, words: list[Chunk]) -> None:
        """A place: of the picture, not of one thing."""
        self._setting(head)
        self._bind(words, head, [])
        self.target = (head, [])
        if self.relation and self.relation.text == "in" and head.says("hint") == "sky" and self.last is not None:
            self.reading.mentions[self.last].facts.setdefault("air", "yes")
        self.relation, self.chained = None, False

    def _mention(self, head: Chunk, specs: list[_Spec]) -> None:
        """New things or people."""
        apart = len(specs) > 1 and (head.plural or any(s.counted for s in specs[1:]))
        if not apart:
            specs = [_Spec([w for s in specs for w in s.words], specs[0].opener, specs[0].count)]
        new: list[int] = []
        for spec in specs:
            if len(self.reading.mentions) == MOST_MENTIONS:
                self.reading.waste(head.text)
                note = f"Only the first {MOST_MENTIONS} groups that the prompt names are drawn."
                if note not in self.reading.notes:
                    self.reading.notes.append(note)
                continue
            count = spec.count if spec.count is not None else None if head.plural else 1
            kind: Literal["thing", "person", "subject"] = "thing"
            if head.kind in ("person", "subject"):
                kind = "person" if head.kind == "person" else "subject"
            pointed = spec.opener is not None and spec.opener.says("pointed") is not None
            mention = Mention(
                head.text, kind, head.concept or "", count, pointed, head.word.facts if kind == "person" else {}
            )
            if count != 0:
                self.reading.mentions.append(mention)
                new.append(len(self.reading.mentions) - 1)
                self._bind(spec.words, head, [mention])
        self._setting(head)
        if new:
            self._relate(new)
            self.target = (head, [self.reading.mentions[i] for i in new])

    def _relate(self, new: list[int]) -> None:
        """Tie new mentions to the old ones by the relation that was waiting, or make them the subjects."""
        mentions = self.reading.mentions
        waiting = self.relation or self.carried
        relation = waiting.says("relation") if waiting else None
        about = self._free()
        if waiting is not self.relation and mentions[new[0]].kind != "thing":
            relation = None  # "holding a ball and a girl": people are not held
        self.carried, self.relation = None, None
        if relation is None or (not about and relation in INVERSE):
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
            if relation == "with":
                mentions[i].relation, mentions[i].other = self._with(main, mentions[i]), about[0]
            elif relation in ("holding", "holds"):
                able = main.kind != "thing" or self.bank[main.concept].group in ANIMATE
                hold = able and relation == "holding"
                mentions[i].relation, mentions[i].other = "holding" if hold else "on", about[0]
            elif relation == "fills":
                mentions[i].relation, mentions[i].other = "inside", self.last
        if relation == "riding":
            main.relation, main.other = "on", new[0]
            if mentions[new[0]].count is None:
                mentions[new[0]].count = main.count  # to each their own
        elif relation == "between":
            self._between(about[0], new)
        elif relation == "below":
            mentions[new[0]].relation, mentions[new[0]].other = "above", about[0]
        elif relation not in INVERSE:
            anchor = mentions[new[0]]
            if relation == "inside" and anchor.kind != "thing":
                relation = "beside"
            elif relation == "inside" and self.bank[anchor.concept].group == "building":
                relation = "front"  # a house is drawn from outside
            for i in about:
                mentions[i].relation, mentions[i].other = relation, new[0]

    def _with(self, main: Mention, new: Mention) -> str:
        """What "with" means: in the hand, on the head, or at the side."""
        if new.kind != "thing":
            return "beside"
        drawing = self.bank[new.concept]
        if main.kind != "thing":
            return "holding" if drawing.size in HELD else "beside"
        wearer = self.bank[main.concept].group in ANIMATE or main.concept.startswith("snowman")
        return "on" if drawing.group == "clothes" and wearer else "beside"

    def _between(self, middle: int, new: list[int]) -> None:
        mentions = self.reading.mentions
        one = mentions[new[0]]
        if len(new) == 1 and (one.count or 2) > 1 and len(mentions) < MOST_MENTIONS:
            twin = replace(one, count=(one.count or 2) // 2, facts=dict(one.facts), said=dict(one.said))
            one.count = (one.count or 2) - (twin.count or 1)
            mentions.append(twin)
            new = [*new, len(mentions) - 1]
        for i, side in zip(new, ("left", "right"), strict=False):
            mentions[i].relation, mentions[i].other = side, middle
        if len(new) == 1:
            self.carried = Chunk("between", Word("relation", {"relation": "across"}))

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
            case "relation":
                self.relation, self.carried, self.wearing, self.negated = chunk, None, False, False
                for person in self._people() if self.last is not None else []:
                    for key in ("pose", "expression"):
                        if value := chunk.says(key):
                            self._set(person, key, value, chunk.text)
            case "wear":
                self.wearing, self.relation, self.negated = True, None, False
            case "pronoun":
                self._pronoun(chunk)
            case "their" if after is None or after.kind not in (
                "noun",
                "person",
                "garment",
                "feature",
                "adjective",
                "place",
            ):
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
            case "place" | "setting":
                self._setting(chunk)
            case "vain" | "unknown":
                self._setting(chunk)
                self.reading.waste(chunk.text)
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
            self._bind([chunk], Chunk("clothes", VOCABULARY["clothes"]), people)
            self.relation = None
        elif self.target:
            self._bind([chunk], *self.target)
        else:
            self._bind([chunk], Chunk("", Word("place", {})), [])

    def _act(self, chunk: Chunk) -> None:
        mentions = self.reading.mentions
        if chunk.says("air"):
            about = [mentions[i] for i in (self.subjects or ([] if self.last is None else [self.last]))]
            for mention in about or mentions[-1:]:
                mention.facts.setdefault("air", "yes")
            if not mentions:
                self.reading.waste(chunk.text)
            return
        people = (
            self._people()
            if self.last is None
            or self.subjects == []
            or mentions[self.last].kind != "thing"
            or self.last not in self.subjects
            else []
        )
        for person in people:
            for key, value in chunk.word.facts.items():
                self._set(person, key, value, chunk.text)
        if not people:
            self.reading.waste(chunk.text)
        self.chained = False

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
        human = chunk.text in ("he", "she", "him", "her", "who", "himself", "herself", "his")
        kinds = ("person", "subject") if human else ("thing", "person", "subject")
        known = [i for i, m in enumerate(mentions) if m.kind in kinds]
        if human and not known:
            known = [i for i, m in enumerate(mentions) if m.kind == "thing" and self.bank[m.concept].group in ANIMATE]
        if not known and (not human or len(mentions) == MOST_MENTIONS or chunk.text == "who"):
            self.relation = None
            return
        if not known:
            mentions.append(Mention(chunk.text, "subject", pointed=True))
            known = [len(mentions) - 1]
            self._relate(known)
        build = {"he": "masculine", "him": "masculine", "she": "feminine", "her": "feminine"}.get(chunk.text)
        if self.relation is not None:
            relation = self.relation.says("relation") or "beside"
            about = [i for i in self._free() if i != known[-1]]
            anchor = known[-1]
            if chunk.text in ("it", "itself") and len(known) > 1 and anchor == self.last:
                anchor = known[-2]
                about = [
                    i
                    for i in ([self.last] if self.last is not None else [])
                    if mentions[i].relation in (None, "beside")
                ]
            if (
                about
                and relation in ("on", "under", "above", "left", "right", "behind", "front", "beside", "inside")
                and anchor not in about
            ):
                for i in about:
                    mentions[i].relation, mentions[i].other = relation, anchor
            self.relation = None
        else:
            self.last, self.subjects, self.chained = known[-1], [known[-1]], False
            anchor = known[-1]
        if build and mentions[anchor].kind != "thing" and "build" not in mentions[anchor].usual:
            mentions[anchor].facts.setdefault("build", build)

    def _bind(self, words: list[Chunk], head: Chunk, to: list[Mention]) -> None:
        """Give adjectives to what they are about; those that say nothing of it had no effect."""
        for word in words:
            if word.kind in ("unknown", "vain", "noun"):
                self.reading.waste(word.text)
                continue
            used = [
                self._say(key, value, word, head, to) for key, value in word.word.facts.items() if key not in SETTINGS
            ]
            if not any(used) and word.word.facts and not self._setting(word):
                self.reading.waste(word.text)

    def _say(self, key: str, value: str, word: Chunk, head: Chunk, to: list[Mention]) -> bool:
        """Say one fact of the head. False where it is of no use there."""
        paints = head.says("paints")
        fields: list[str] = []
        match head.kind:
            case "noun" if key in ("colour", "size", "air"):
                fields = [key]
            case "person" | "subject" if key in LOOKS:
                fields = [key]
            case "person" | "subject" if key == "colour":
                fields, value = (["skin"], SKINS[value]) if value in ("white", "black") else (["top_colour"], value)
            case "garment" if key == "colour" and paints == "clothes":
                fields = ["top_colour", "bottom_colour"]
            case "garment" if key == "colour":
                fields = [CLOTHES[part] for part in head.word.facts if part in CLOTHES] or (
                    ["glasses_colour"] if "glasses" in head.word.facts else []
                )
            case "garment" | "feature" if key in ("expression", "pose"):
                fields = [key]
            case "feature" if paints == "hair_colour" and key in ("colour", "hair_colour"):
                fields, value = ["hair_colour"], HAIR_COLOURS.get(value, value)
            case "feature" if paints == "hair_colour" and key in ("length", "hair"):
                fields = ["hair"]
            case "feature" if paints == "skin" and key in ("colour", "tone", "skin"):
                fields, value = ["skin"], SKINS.get(value, "tan" if key == "colour" else value)
            case "feature" if "hair" in head.word.facts and key in ("colour", "hair_colour"):
                fields, value = ["hair_colour"], HAIR_COLOURS.get(value, value)
            case "feature" if "beard" in head.word.facts and key in ("colour", "hair_colour", "length"):
                return True
            case "place" if key == "colour" and paints == "backdrop":
                self.reading.setting.setdefault("place", "plain")
                self.reading.setting.setdefault("backdrop", value)
                return True
        done = [self._set(mention, name, value, word.text) for mention in to for name in fields]
        return any(done)

    @staticmethod
    def _set(mention: Mention, name: str, value: str, text: str) -> bool:
        if name in mention.facts and mention.facts[name] != value:
            return False
        mention.facts[name] = value
        mention.said.setdefault(name, text)
        return True

    def _setting(self, chunk: Chunk) -> bool:
        """Take what a chunk says of the whole picture. False where it says nothing."""
        said = False
        setting = self.reading.setting
        for key, value in chunk.word.facts.items():
            if key in SETTINGS:
                setting.setdefault(key, value)
                said = said or setting[key] == value or key == "place"
            elif key == "hint":
                self.reading.hints.append(tuple(value.split(",")))
                said = True
        return said
