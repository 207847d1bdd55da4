"""From words to a scene: what to draw is read from the prompt, all that it leaves open is decided by the seed.

The same prompt, seed, aspect, number of references and style give the same plan on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.composition import arrange
from limner.painter.places import KINDS
from limner.painter.planner.casting import cast_all
from limner.painter.planner.chunks import Lexicon, settle, tag
from limner.painter.planner.grammar import read
from limner.painter.planner.reading import Reading
from limner.painter.planner.setting import WATERS, Dice
from limner.painter.planner.words import tokens
from limner.painter.scene import Item, Reference, Scene, Style
from limner.painter.words import ACCEPT

LOOKED_UP = 6  # unknown nouns of one prompt that are looked up by meaning, so that no prompt takes long
MOST_REFERENCES = 8
ZOOMS = {"close": 1.35, "wide": 0.6}


@dataclass(frozen=True)
class Plan:
    """A scene, and what of the prompt is not in it."""

    scene: Scene
    unused: tuple[str, ...] = ()  # words that had no effect
    notes: tuple[str, ...] = ()  # sentences for people
    granted: tuple[str, ...] = ()  # words for what the place draws by itself


class NearWords(Protocol):
    """What the planner asks of the text encoder: concepts and their cosines to a word, the nearest first."""

    def nearest(self, word: str, count: int = 5) -> list[tuple[str, float]]: ...


class Planner(Protocol):
    """Turns a prompt into a scene."""

    def plan(
        self, prompt: str, seed: int, aspect: float, references: Sequence[float] = (), style: Style | None = None
    ) -> Plan:
        """A scene that shows what the prompt says.

        Args:
            prompt: any text, the empty one too.
            seed: any integer; decides all that the prompt leaves open.
            aspect: width over height, from 0.25 to 4.
            references: width over height of each subject cut out of a picture, up to 8; the scene shows each once.
            style: the overall style; None leaves it to the prompt.

        Raises:
            ValueError: `aspect` is out of its range, there are too many references, or one has no shape.
        """
        ...


class ParsingPlanner:
    """A planner without learning: a grammar, tables of words, and for nouns in neither the nearest drawing."""

    def __init__(self, bank: Bank, words: NearWords | None = None) -> None:
        """Keep the drawings, and the finder of near words; without that, unknown nouns have no effect."""
        self.bank = bank
        self.words = words
        self.lexicon = Lexicon(bank)
        self._ratio = lru_cache(maxsize=1024)(self._ratio_of)

    def plan(
        self, prompt: str, seed: int, aspect: float, references: Sequence[float] = (), style: Style | None = None
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
        wishes, setting = cast_all(reading, len(references), dice, self.bank)
        ground = KINDS[setting.place]
        zoom = ZOOMS.get(reading.setting.get("frame", ""), 1.0)

        def ratio_of(item: Item) -> float:
            return references[item.index] if isinstance(item, Reference) else self._ratio(item)

        items = arrange(wishes, ground, aspect, dice("where"), self.bank, ratio_of, zoom, WATERS.get(setting.place))
        scene = Scene(
            place=setting.place,
            backdrop=setting.backdrop,
            time=setting.time,
            weather=setting.weather,
            style=style or setting.style,
            items=items,
            variant=dice("variant").randrange(2**32),
        )
        return Plan(scene, tuple(reading.unused), tuple(reading.notes), tuple(reading.granted))

    def read(self, prompt: str) -> Reading:
        """What the prompt says, before the seed decides the rest."""
        notes: list[str] = []

        def find(word: str) -> str | None:
            if self.words is None or len(asked) == LOOKED_UP:
                return None
            asked.append(word)
            concept, cosine = self.words.nearest(word)[0]
            if cosine < ACCEPT:
                return None
            notes.append(f'No drawing of "{word}": the nearest, "{self.bank[concept].label}", stands in.')
            return concept

        asked: list[str] = []
        reading = read(settle(tag(tokens(prompt), self.lexicon)), self.bank, find)
        reading.notes[:0] = notes
        return reading

    def _ratio_of(self, item: Item) -> float:
        return draft.ratio(item, self.bank)
