"""Clauses of captions: who stands where, holds, wears and does what, and where and when the picture is."""

from __future__ import annotations

from limner.painter.planner.reader import Relation, Role
from limner.painter.planner.words import VOCABULARY
from limner.painter.training.planner_phrases import Entity, Phrases, Token, known, vocabulary

VESSELS = ("bowl", "basket", "bucket", "box", "jar", "vase", "pot", "crate", "sack", "barrel", "cup", "plate", "bag")
LABELS = {
    "place": ("place:", "setting:", "background:", "location:", "the scene takes place in", "it is set in"),
    "time": ("time:", "time of day:"), "weather": ("weather:",), "style": ("style:", "technique:", "medium:"),
}  # fmt: skip
RELATIONS: dict[Relation, tuple[str, ...]] = {
    "on": ("on", "on", "on", "on top of", "atop", "upon", "sitting on", "perched on", "standing on", "lying on",
           "resting on", "balancing on", "sprawled on", "asleep on", "on the back of", "on the edge of", "parked on"),
    "under": ("under", "beneath", "underneath", "below", "hiding under", "sheltering under",
              "sleeping beneath", "lying under"),
    "above": ("above", "over", "hovering over", "flying above", "floating over", "high above", "drifting over",
              "hanging above", "soaring over", "leaping over", "circling above"),
    "below": ("below",),
    "left": ("to the left of", "left of", "on the left of", "on the left side of", "standing left of"),
    "right": ("to the right of", "right of", "on the right of", "on the right side of", "standing right of"),
    "behind": ("behind", "hiding behind", "in back of", "half hidden behind",
               "peeking out from behind", "standing behind"),
    "front": ("in front of", "in front of", "before", "standing in front of", "parked in front of"),
    "beside": ("next to", "beside", "near", "by", "alongside", "close to", "at", "not far from", "chasing", "watching",
               "looking at", "playing with", "guarding", "talking to", "leaning against", "with", "accompanied by",
               "along with", "next to", "beside", "sitting by", "standing near", "toward", "past"),
    "inside": ("in", "inside", "inside of", "within", "hiding in", "sitting in", "trapped in", "stuck in"),
    "riding": ("riding", "riding", "driving", "riding on", "steering", "on the back of", "aboard", "piloting"),
    "holding": ("holding", "holding", "carrying", "clutching", "eating", "playing", "with", "lifting", "gripping"),
    "between": ("between", "in between", "standing between"),
    "around": ("around", "all around", "circling", "gathered around"),
    "wear": ("wearing", "in", "with", "dressed in", "wears"),
}  # fmt: skip
ASIDE = (
    ("on the left", "to the left", "on the left side", "at left"),
    ("on the right", "to the right", "on the right side"),
    ("in the background", "in the distance", "far away"),
    ("in the foreground",),
    ("in the sky", "overhead"),
)
BORNE = (
    "on its back", "on his shoulder", "on her shoulder", "on its head", "on his head", "on her head",
    "sitting on its back", "on their heads", "on her knees",
)  # fmt: skip
WEARABLE = ("hat", "scarf", "crown", "top hat", "cowboy hat", "sunglasses", "glasses", "chef hat", "wizard hat",
            "necktie",
            "cap", "helmet", "coat", "dress", "party hat", "bow tie", "straw hat", "beret", "sweater")  # fmt: skip
POSTURES = ("stands", "sits", "lies", "is", "waits", "rests", "sat", "stood", "standing", "sitting", "can be seen",
            "appears", "is placed", "lives", "hides", "sleeps", "grows", "hangs", "are", "was",
            "kneels", "walks", "runs")  # fmt: skip
PREPOSITIONS = {
    "place": ("in", "in a", "in the", "at the", "on the", "through a", "in the middle of a", "deep in the", "across a",
              "somewhere in a", "at the edge of a", "on a", "along the", "in an old", "in a quiet", "outside in the"),
    "time": ("at", "at", "in the", "during a", "on a", "late at", "just before", "in the early", "under a", "by"),
    "weather": ("in the", "under a", "on a", "during a", "despite the", "with", "in"),
    "style": ("in the style of", "in", "as a", "done in", "", "like a", "a classic"),
}  # fmt: skip
TIMED = ("the sun is setting", "the sun goes down", "as the sun sets", "the sun is rising", "night has fallen")
RAINY = ("it is raining", "snow is falling", "rain is pouring down", "it is snowing", "it rains", "it snows")
THEIR = {"masculine": "his", "feminine": "her", "": "their", "thing": "its"}


class Clauses(Phrases):
    """Writes clauses into a caption."""

    def relation(self, kind: Relation, text: str, subject: Token, anchor: Token | None) -> Token:
        """Write a relation; posture words in it ("sitting on") belong to the phrase."""
        return self.say(text, "relation", subject, anchor, kind) or subject

    def kind(self) -> Relation:
        weights = {"on": 4, "under": 2, "above": 2, "left": 2, "right": 2, "behind": 2, "front": 2, "beside": 3,
                   "inside": 2,
                   "riding": 1, "holding": 3, "between": 1, "around": 1, "below": 1, "wear": 1}  # fmt: skip
        return self.rng.choices(list(weights), list(weights.values()))[0]  # type: ignore[return-value]  # keys are relations

    def posture(self, entity: Entity) -> None:
        """ "stands", "is", or nothing: before a relation."""
        text = self.pick(POSTURES)
        word = VOCABULARY.get(text)
        posed = word is not None and word.kind == "verb" and bool(word.facts)
        self.say(text, "pose" if posed else "none", entity.token if posed else None)

    def stands(self) -> None:
        """A being and how it stands to another, in one of the orders that English has."""
        kind = self.kind()
        text = self.pick(RELATIONS[kind])
        match kind:
            case "holding" | "wear":
                self._has(kind, text)
                return
            case "between":
                first = self.being()
                if self.chance(0.5):
                    self.posture(first)
                rel = self.relation(kind, text, first.token, None)
                second = self.thing()
                rel.other = second.token
                if self.chance(0.6):
                    self.say("and")
                    self.thing(second.token)
                return
            case "around":
                if self.chance(0.5):
                    centre = self.being()
                    rel = self.relation(
                        kind,
                        self.pick(("surrounded by", "among", "amid", "in the middle of", "encircled by")),
                        centre.token,
                        centre.token,
                    )
                    rel.head = self.thing().token
                    return
            case "riding":
                rider = self.person() if self.chance(0.6) else self.thing(few=True)
                rel = self.relation(kind, text, rider.token, None)
                rel.other = self.thing(few=True).token
                return
            case _:
                pass
        order = self.rng.randrange(9)
        if order <= 3:
            subjects = self.row()
            if self.chance(0.4):
                self.posture(subjects[0])
            elif self.chance(0.15):
                self.say(self.pick(("that is", "which is", "that stands", "who is", ", which sits")))
            rel = self.relation(kind, text, subjects[0].token, None)
            rel.other = self.being().token
            if order == 3 and self.chance(0.4):
                self.say(self.pick((",", "and", "")))
                self._second(subjects[0])
        elif order <= 5:  # "On the table there is a vase"
            rel = self.relation(kind, text, Token(""), None)
            rel.other = (
                self.again(self.rng.choice(self.entities), False)
                if self.entities and self.chance(0.35)
                else self.being().token
            )
            self.say(
                self.pick(
                    (
                        "there is",
                        "there are",
                        "stands",
                        "sits",
                        "lies",
                        ":",
                        "is",
                        "you can see",
                        "we see",
                        "hangs",
                        ", there stands",
                        "waits",
                        ",",
                    )
                )
            )
            rel.head = self.row()[0].token
        elif order == 6:  # "a house with two balloons above it"
            anchor = self.being()
            self.say(self.pick(("with", "with", "and", ",", "that has")))
            subject = self.thing()
            rel = self.relation(kind, text, subject.token, None)
            rel.other = self.say(self.pick(("it", "it", "him", "her", "them")), "again", anchor.token)
        elif order == 7:  # "There is a house, and behind it a dog"
            anchor = self.being()
            self.say(self.pick((", and", ";", "and", ", with", ".")))
            rel = self.relation(kind, text, Token(""), None)
            rel.other = self.say(self.pick(("it", "it", "him", "them")), "again", anchor.token)
            self.say(self.pick(("", "is", "stands", "there is", "sits", "lies")))
            rel.head = self.being().token
        else:
            words = self.rng.choice(ASIDE)
            if self.chance(0.5):
                mark = self.say(self.pick(words), "side")
                self.say(self.pick(("", ",", "there is", "we see", ":", "stands")))
                entity = self.being()
            else:
                entity = self.being()
                self.say(self.pick(("", "", "is", "stands")))
                mark = self.say(self.pick(words), "side")
            if mark is not None:
                mark.head = entity.token

    def _second(self, subject: Entity) -> None:
        kind = self.kind()
        if kind in ("left", "right", "behind", "front", "beside", "under", "above"):
            rel = self.relation(kind, self.pick(RELATIONS[kind]), subject.token, None)
            rel.other = self.thing().token

    def _has(self, kind: Relation, text: str) -> None:
        """Someone holds something, or an animal wears it."""
        if kind == "wear":
            holder = self.thing()
            rel = self.relation(kind, text, holder.token, None)
            head = Token("", "thing")
            self.say("a", "count", head)
            if self.chance(0.6):
                self.say(self.colour(), "colour", head)
            self._noun(self.pick(WEARABLE), head)
            self.entities.append(Entity(head, head.text, "thing", False))
            rel.other = head
            return
        holder = self.being()
        match self.rng.randrange(7):
            case 6:
                self.say(self.pick(("with", "with", ",", "has", "and")))
                borne = self.thing().token
                self.relation("on", self.pick(BORNE), borne, holder.token)
            case 0:
                rel = self.relation(kind, self.pick(("with", "who has", ",", "and")), holder.token, None)
                if rel.text == "," or rel.text == "and":
                    rel.role, rel.head, rel.relation = "none", None, None
                    held = self.thing()
                    where = self.pick(vocabulary()["held"]).split()
                    mark = self.relation(kind, where[0], holder.token, held.token)
                    mark.relation = kind
                    self.say(" ".join(where[1:]))
                    return
                rel.other = self.thing().token
                self.say(self.pick(vocabulary()["held"]))
            case 1:
                rel = self.relation(kind, self.pick(vocabulary()["holds"]), holder.token, None)
                rel.other = self.thing().token
            case 2:
                rel = self.relation(
                    kind,
                    self.pick(
                        ("who holds", "that is holding", "who carries", ", holding", "and holding", "who is eating")
                    ),
                    holder.token,
                    None,
                )
                rel.other = self.thing().token
            case _:
                rel = self.relation(kind, text, holder.token, None)
                first = self.thing()
                rel.other = first.token
                if self.chance(0.2):
                    self.say("and")
                    self.thing(first.token)

    def fills(self) -> None:
        """ "a bowl of apples", "a basket full of kittens"."""
        head = Token("", "thing")
        self.say("a", "count", head)
        if self.chance(0.3):
            self.say(self.colour(), "colour", head)
        self._noun(self.pick(VESSELS), head)
        rel = self.relation(
            "inside", self.pick(("of", "of", "full of", "filled with", "with", "containing")), head, head
        )
        rel.head = self.thing().token

    def gives(self) -> None:
        """ "A robot hands a screwdriver to her", "the girl's balloon is red"."""
        giver = self.being()
        if self.chance(0.5):
            rel = self.relation(
                "holding",
                self.pick(("hands", "gives", "shows", "offers", "brings", "throws", "passes")),
                giver.token,
                None,
            )
            rel.other = self.thing().token
            to = self.relation("beside", "to", giver.token, None)
            to.other = (
                self.again(self.entities[0], False)
                if len(self.entities) > 2 and self.chance(0.4)
                else self.being().token
            )
            return
        self.say("'s")
        owned = Token("", "thing")
        self._noun(self.pick(self.nouns), owned)
        self.say("is")
        self.say(self.colour(), "colour", owned)

    def acts(self) -> None:
        """One being does something to another, or nothing in particular."""
        first = self.row()[0] if not self.entities or self.chance(0.7) else None
        subject = first.token if first else self.again(self.rng.choice(self.entities))
        human = first is None or first.token.role == "person"
        if human and self.chance(0.5):
            self._does(subject)
        elif self.chance(0.65):
            rel = self.relation("beside", self.pick(vocabulary()["verb"]), subject, None)
            rel.other = self.being().token
        elif self.chance(0.3):
            self._does(subject)
        else:
            self.say(self.pick(vocabulary()["idle"]))

    def _does(self, subject: Token) -> None:
        """Write a pose or an expression: "is running through a park", "smiles at the viewer", "looks very sad"."""
        verbs = known("verb", "pose") + known("verb", "expression") + known("verb", "expression")
        self.say(self.pick(("", "", "", "is", "is", "was", "who", "who is", "slowly", "happily", "now", "just")))
        if self.chance(0.2):
            self.say(self.pick(("looks", "is", "looks very", "seems", "is a little", "appears")))
            self.say(self.pick(known("adjective", "expression")), "trait", subject)
        else:
            self.say(self.pick(verbs), "pose", subject)
        match self.rng.randrange(6):
            case 0:
                way = self.pick(("after", "towards", "past", "away from", "around", "at", "with", "alongside"))
                rel = self.relation("beside", way, subject, None)
                rel.other = self.being().token
            case 1:
                self.say(
                    self.pick(
                        (
                            "at the viewer",
                            "at us",
                            "for a long time",
                            "alone",
                            "all day",
                            "with joy",
                            "hand in hand",
                            "in silence",
                            "for the camera",
                            "with both hands",
                            "quietly",
                            "by accident",
                            "at the camera",
                            "in slow motion",
                        )
                    )
                )
            case 2:
                self.setting("place")
            case 3:
                self.say("and")
                self.say(self.pick(verbs), "pose", subject)
            case _:
                pass

    def tells(self) -> None:
        """A sentence about someone named before: what they wear, hold, do, or what colour it is."""
        entity = self.rng.choice(self.entities)
        human = entity.build != "thing" and entity.token.role == "person"
        their = THEIR[entity.build if not entity.plural else ""]
        kind = self.rng.randrange(6)
        if not human:
            head = self.again(entity)
            verb = "are" if entity.plural else "is"
            if kind <= 2:
                self.say(f"{verb} {self.pick(('', 'very', 'completely', 'painted'))}")
                self.say(self.colour(), "colour", head)
            elif kind == 3:
                self.say(verb)
                self.say(self.pick(known("adjective", "size")), "trait", head)
            else:
                rel = self.relation(
                    "holding" if kind == 4 else "beside",
                    self.pick(vocabulary()["holds" if kind == 4 else "verb"]),
                    head,
                    None,
                )
                rel.other = self.thing().token
        elif kind <= 1:
            head = self.again(entity)
            self.say(self.pick(("wears", "is wearing", "is dressed in", "has on", "has")))
            self.garment(head)
            if self.chance(0.5):
                self.say("and")
                (self.hair if self.chance(0.3) else self.garment)(head)
        elif kind == 2:
            opener = Token(their)
            noun = Token("hair", "garment", entity.token)
            opener.role, opener.head = "count", noun
            self.caption.tokens += [opener, noun]
            self.caption.surfaces += [their, "hair"]
            self.say("is")
            self.say(self.pick(known("adjective", "length")), "trait", noun)
            self.say("and")
            self.say(self.pick(("black", "brown", "blonde", "red", "grey", "white")), "colour", noun)
        elif kind == 3:
            self.garment(entity.token, their)
            token = self.caption.tokens[-1]
            self.say("is")
            self.say(self.colour(), "colour", token)
        elif kind == 4:
            head = self.again(entity)
            self.say(self.pick(("is", "looks", "is very", "seems")))
            if self.chance(0.5):
                self.say(self.pick(known("adjective", "expression")), "trait", head)
            else:
                self.say(self.pick(known("verb", "pose") + known("verb", "expression")), "pose", head)
        else:
            head = self.again(entity)
            rel = self.relation("holding", self.pick(vocabulary()["holds"]), head, None)
            rel.other = self.thing().token

    def setting(self, role: Role) -> None:
        """Where, when, in what weather or style."""
        if role == "time" and self.chance(0.15):
            self.say(self.pick(("as", "while", "and", "")))
            self.say(self.pick(TIMED), "time")
            return
        if role == "weather" and self.chance(0.3):
            self.say(self.pick(("while", "and", "")))
            self.say(self.pick(RAINY), "weather")
            return
        if role == "place" and self.chance(0.12):
            self.say(self.pick(("on a", "against a", "in front of a", "with a")))
            if self.chance(0.4):
                self.say(self.pick(("plain", "simple", "clean", "solid")))
            colour, head = self.colour() if self.chance(0.7) else "", Token("background", "place")
            if colour:
                self.say(colour, "colour", head)
            self._noun("background", head)
            return
        words = (
            [w for w in known("place") if "paints" not in VOCABULARY[w].facts]
            if role == "place"
            else known("setting", role)
        )
        self.say(self.pick(LABELS[role] if self.chance(0.06) else PREPOSITIONS[role]))
        if role == "place" and self.chance(0.2):
            extra = self.pick(("snowy", "rainy", "foggy", "misty", "moonlit", "sunlit", "sunny", "cloudy"))
            facts = VOCABULARY[extra].facts
            self.say(extra, "weather" if "weather" in facts else "time")
        elif self.chance(0.2):
            self.say(self.pick(vocabulary()["adjective"]))
        self.say(self.pick(words), role)
