"""From words to a scene: what to draw is read from the prompt, all that it leaves open is decided by the seed.

The same prompt, seed, aspect, number of references and style give the same plan on every machine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.composition import arrange, portrait
from limner.painter.places import KINDS
from limner.painter.planner.assembly import assemble
from limner.painter.planner.casting import cast_all
from limner.painter.planner.chunks import Lexicon, is_list, settle, tag
from limner.painter.planner.grammar import read
from limner.painter.planner.merge import filled, overlooked
from limner.painter.planner.phrases import Finder
from limner.painter.planner.reader import Reader, TextEncoder, named
from limner.painter.planner.reading import Reading
from limner.painter.planner.setting import WATERS, Dice
from limner.painter.planner.words import language_of, plain, tokens
from limner.painter.scene import Item, Reference, Scene, Style
from limner.painter.words import ACCEPT

LOOKED_UP = 6  # unknown nouns of one prompt that are looked up by meaning, so that no prompt takes long
MOST_REFERENCES = 8
LEADS = 0.8  # the least probability of a word's role with which the network leads
By = Literal["grammar", "network", "both"]
ZOOMS = {"close": 1.35, "wide": 0.6}


@dataclass(frozen=True)
class Plan:
    """A scene, and what of the prompt is not in it."""

    scene: Scene
    unused: tuple[str, ...] = ()  # words that had no effect
    notes: tuple[str, ...] = ()  # sentences for people
    granted: tuple[str, ...] = ()  # words for what the place draws by itself
    placed: bool = True  # the prompt says or hints where it is


class NearWords(TextEncoder, Protocol):
    """What the planner asks of the text encoder: token embeddings, and the concepts nearest to a word with cosines."""

    def nearest(self, word: str, count: int = 5) -> list[tuple[str, float]]: ...


class Planner(Protocol):
    """Turns a prompt into a scene."""

    def plan(
        self,
        prompt: str,
        seed: int,
        aspect: float,
        references: Sequence[float] = (),
        style: Style | None = None,
        busts: Collection[int] = (),
    ) -> Plan:
        """A scene that shows what the prompt says.

        Args:
            prompt: any text, the empty one too.
            seed: any integer; decides all that the prompt leaves open.
            aspect: width over height, from 0.25 to 4.
            references: width over height of each subject cut out of a picture, up to 8; the scene shows each once.
            style: the overall style; None leaves it to the prompt.
            busts: the numbers of those references that their own pictures' lower edges cut; a bust rises from the
                lower edge of the scene, where a whole figure would stand.

        Raises:
            ValueError: `aspect` is out of its range, there are too many references, or one has no shape.
        """
        ...


class ParsingPlanner:
    """Reads a prompt by a grammar or by a trained network, means what the tables say, and lets the seed do the rest."""

    def __init__(self, bank: Bank, words: NearWords | None = None, reader: Reader | None = None) -> None:
        """Keep what prompts are read with.

        Args:
            bank: the drawings.
            words: finds the drawing nearest to an unknown noun; without it, unknown nouns have no effect.
            reader: the trained network, which needs `words`; without both, the grammar reads everything.
        """
        self.bank = bank
        self.words = words
        self.reader = reader
        self.lexicon = Lexicon(bank)
        self._ratio = lru_cache(maxsize=1024)(self._ratio_of)

    def plan(
        self,
        prompt: str,
        seed: int,
        aspect: float,
        references: Sequence[float] = (),
        style: Style | None = None,
        busts: Collection[int] = (),
    ) -> Plan:
        """See `Planner.plan`."""
        if not 0.25 <= aspect <= 4:
            raise ValueError(f"A picture is planned at an aspect from 0.25 to 4, not {aspect}.")
        if len(references) > MOST_REFERENCES:
            raise ValueError(f"A picture shows up to {MOST_REFERENCES} references, not {len(references)}.")
        if not all(0 < ratio < float("inf") for ratio in references):
            raise ValueError(f"The width over height of a reference is a positive number, not one of {references}.")
        reading = self.read(prompt)
        dice = Dice(seed)
        wishes, setting = cast_all(reading, len(references), dice, self.bank, busts)
        ground = KINDS[setting.place]
        zoom = ZOOMS.get(reading.setting.get("frame", ""), 1.0)

        def ratio_of(item: Item) -> float:
            return references[item.index] if isinstance(item, Reference) else self._ratio(item)

        items = arrange(wishes, ground, aspect, dice("where"), self.bank, ratio_of, zoom, WATERS.get(setting.place))
        if reading.setting.get("frame") == "close":
            items = portrait(items, aspect, ratio_of)
        scene = Scene(
            place=setting.place,
            backdrop=setting.backdrop,
            time=setting.time,
            weather=setting.weather,
            style=style or setting.style,
            items=items,
            variant=dice("variant").randrange(2**32),
        )
        placed = "place" in reading.setting or bool(reading.hints)
        return Plan(scene, tuple(reading.unused), tuple(reading.notes), tuple(reading.granted), placed)

    def read(self, prompt: str, by: By = "both") -> Reading:
        """What the prompt says, before the seed decides the rest.

        With "both", the network leads in lists of keywords and where it is sure of every word, unless it overlooks
        something that the grammar found, and the grammar, which the network tells what words name something, leads
        elsewhere; the other fills up what the first left open.
        Other languages than English, and all where there is no network, are the grammar's.
        """
        simple = plain(prompt)
        parts = tokens(simple)
        chunks = tag(parts, self.lexicon)
        notes: list[str] = []
        find = self._finder(notes)
        if self.reader is None or self.words is None or by == "grammar" or language_of(parts):
            reading = read(settle(chunks), self.bank, find)
        else:
            parse = self.reader.parse(simple, chunks, self.words)
            reading = assemble(chunks, parse, self.bank, find)
            if by == "both":
                other = read(settle(chunks, named(chunks, parse)), self.bank, find)
                leads = is_list(chunks) or min(parse.sure, default=1.0) > LEADS
                leads = leads and not overlooked(reading, other)
                reading = filled(reading, other) if leads else filled(other, reading)
        reading.notes[:0] = [note for note in notes if any(f'"{m.noun}"' in note for m in reading.mentions)]
        return reading

    def _finder(self, notes: list[str]) -> Finder:
        """What finds the drawings nearest to the unknown nouns of one prompt, and notes them."""
        found: dict[str, str | None] = {}

        def find(word: str) -> str | None:
            if self.words is None or (len(found) == LOOKED_UP and word not in found):
                return None
            if word not in found:
                concept, cosine = self.words.nearest(word)[0]
                found[word] = concept if cosine >= ACCEPT else None
                if cosine >= ACCEPT:
                    notes.append(f'No drawing of "{word}": the nearest, "{self.bank[concept].label}", stands in.')
            return found[word]

        return find

    def _ratio_of(self, item: Item) -> float:
        return draft.ratio(item, self.bank)
