"""The reference task: is a character still herself in the scene that the prompt asks for?

A hundred characters and twenty things that nothing of Limner learned from are given as reference pictures, half of
them cut out already and half before a ground. Three figures come of it: the traits that the picture keeps (`traits`),
and how often a character, or a thing, is nearest to its own reference among all of them (`identity`). The ceiling of
each is what the same judge says of the true drawing in the same scene, flat, without cutting out and without painting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from limner.engine.core import Float32, Request, UInt8
from limner.evaluation import traits
from limner.evaluation.characters import SIDE as DRAWN
from limner.evaluation.characters import Character, Ground, draw, load, picture_of
from limner.evaluation.identity import Identity, of_picture, rank
from limner.evaluation.painting import paint
from limner.evaluation.score import Share
from limner.painter.bank import Bank
from limner.painter.scene import Reference, Scene
from limner.pipelines.base import Pipeline

SIDE = 512  # of a painted picture, pixels
SEED = 5_900_000  # of the first picture; no training draws with seeds from 5,530,000 on
GROUNDS: tuple[Ground, ...] = ("alpha", "plain", "alpha", "busy")  # in turn
PROMPTS = (
    "a portrait of the {} in a library",
    "the {} is sitting in a kitchen",
    "the {} on the beach at sunset",
    "a watercolor of the {} in a park",
    "the {} in a snowy forest",
    "the {} stands on a stage",
    "a comic drawing of the {} in the city at night",
    "the {} in the mountains at dawn",
    "the {} in a cosy room",
    "the {} on a farm, a red barn behind",
    "the {} in the desert under a blue sky",
    "the {} in the rain in a city street",
    "a close-up of the {} by a library window, golden hour",
    "the {} next to a dog in a park",
    "the {} in space",
    "a paper cut-out of the {} in the mountains",
    "the {} under water with fish",
    "the {} holding a balloon on the beach",
    "the {} and a white cat in a living room",
    "a clay figure of the {} in a kitchen",
    "the {} in front of a castle",
    "the {} at a birthday party with a cake",
    "the {} beside a red car in the city",
    "a storybook picture of the {} at dusk",
    "the {} walking through a forest with autumn leaves, soft light, detailed",
)
"""What is asked for, by turns; `{}` is "person" or the thing's name."""


class Painter(Pipeline, Protocol):
    """A pipeline whose plans are scenes and that shows what it cuts out."""

    def cutouts(self, references: tuple[UInt8, ...]) -> tuple[UInt8, ...]:
        """The subjects of reference pictures, each (H, W, 4) uint8 with straight alpha, as the plan places them."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One reference, the picture that was painted of it, and what was judged."""

    character: Character
    ground: Ground
    prompt: str
    reference: UInt8  # (H, W, 4), straight alpha
    picture: UInt8  # (SIDE, SIDE, 3)
    style: str
    tall: float  # of the subject in the picture, as a fraction of the picture
    kept: dict[str, bool]  # trait to whether it was kept
    kept_flat: dict[str, bool]  # the same of the true drawing, flat
    place: int  # of its own reference among all, by likeness: 0 is first
    place_flat: int
    cut: float  # how well it was cut out: intersection over union with the true alpha

    @property
    def lost(self) -> list[str]:
        """The traits that the picture does not keep."""
        return [trait for trait, kept in self.kept.items() if not kept]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All cases of one run."""

    cases: tuple[Case, ...]

    @property
    def kept(self) -> Share:
        """Traits kept, of all that can be seen in the scene."""
        return _share(kept for case in self.cases for kept in case.kept.values())

    @property
    def kept_ceiling(self) -> Share:
        """The same of the true drawings, flat."""
        return _share(kept for case in self.cases for kept in case.kept_flat.values())

    @property
    def first(self) -> Share:
        """Characters that are nearest to their own reference."""
        return _share(case.place == 0 for case in self.cases if case.character.traits)

    @property
    def first_ceiling(self) -> Share:
        """The same of the true drawings, flat."""
        return _share(case.place_flat == 0 for case in self.cases if case.character.traits)

    @property
    def things_first(self) -> Share:
        """Things that are nearest to their own reference."""
        return _share(case.place == 0 for case in self.cases if not case.character.traits)

    @property
    def things_first_ceiling(self) -> Share:
        """The same of the true drawings, flat."""
        return _share(case.place_flat == 0 for case in self.cases if not case.character.traits)

    @property
    def cut(self) -> float:
        """How well the subjects were cut out: mean intersection over union with the true alpha, in [0, 1]."""
        return float(np.mean([case.cut for case in self.cases])) if self.cases else 0.0

    def by(self, key: Callable[[Case], str]) -> dict[str, tuple[Share, Share]]:
        """Traits kept and right identities first, things too, by what `key` says of each case."""
        groups: dict[str, list[Case]] = {}
        for case in self.cases:
            groups.setdefault(key(case), []).append(case)
        return {
            name: (_share(v for case in group for v in case.kept.values()), _share(case.place == 0 for case in group))
            for name, group in sorted(groups.items())
        }

    def by_trait(self) -> dict[str, Share]:
        """Traits kept, by trait."""
        asked = Counter(trait for case in self.cases for trait in case.kept)
        lost = Counter(trait for case in self.cases for trait in case.lost)
        return {trait: Share(asked[trait] - lost[trait], asked[trait]) for trait in sorted(asked)}


def evaluate(
    pipeline: Painter,
    characters: int = 100,
    things: int = 20,
    *,
    strength: float | None = None,
    steps: int | None = None,
    style: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Paint each character and thing into a scene and judge the pictures; about half a second each on two cores.

    Args:
        characters: how many of the hundred, evenly taken.
        things: how many of the twenty things.
        strength, steps, style: of every request; None leaves them to the pipeline and the prompt.
        progress: told how many of all are done.

    Raises:
        LimnerError: the pipeline cannot paint a request, or the judge's own files are unusable.
        ValueError: the pipeline gives no plan, or one that does not show the reference.
    """
    bank, identity = Bank.load(), Identity.load()
    every = load()
    people, rest = [c for c in every if c.traits], [c for c in every if not c.traits]
    gallery = identity.gallery([draw(c.drawn(), 128) for c in (*people, *rest)])
    galleries = {True: gallery[: len(people)], False: gallery}  # characters among characters, things among all
    todo = [people[k * len(people) // characters] for k in range(characters)] + rest[:things]
    cases: list[Case] = []
    for number, character in enumerate(todo):
        own = (*people, *rest).index(character)
        request = _request(character, own, strength, steps, style)
        cases.append(_case(pipeline, bank, identity, character, own, request, galleries[bool(character.traits)]))
        if progress is not None:
            progress(number + 1, len(todo))
    return Result(tuple(cases))


def _request(
    character: Character, number: int, strength: float | None, steps: int | None, style: str | None
) -> Request:
    reference = picture_of(draw(character.drawn()), _ground(number), number)
    prompt = PROMPTS[number % len(PROMPTS)].format(character.word)
    return Request(
        character.name, prompt, SEED + number, SIDE, SIDE, strength=strength, steps=steps, style=style,
        references=(reference,),
    )  # fmt: skip


def _ground(number: int) -> Ground:
    return GROUNDS[(number + number // len(PROMPTS)) % len(GROUNDS)]  # so that each prompt sees each ground


def _case(
    pipeline: Painter,
    bank: Bank,
    identity: Identity,
    character: Character,
    own: int,
    request: Request,
    gallery: Float32,
) -> Case:
    painted = paint(pipeline, request)
    if painted.plan is None:
        raise ValueError("The reference task judges pictures by their plan, and this pipeline gives none.")
    scene = Scene.model_validate(painted.plan)
    index, item = next(((k, item) for k, item in enumerate(scene.items) if isinstance(item, Reference)), (-1, None))
    if item is None:
        raise ValueError(f"The plan of {request.prompt!r} does not show the reference.")
    (cutout,) = pipeline.cutouts(request.references)
    corner = traits.corner_of(cutout, request.references[0])
    spot = traits.spot(item, cutout, corner, 1.0)
    stage = traits.stage(scene, index, spot, 1.0, bank, [cutout])
    flat = traits.pixels(stage.shows(character.drawn()))
    box = box_of(character, spot)
    looks = [of_picture(picture, *box, spot.flip) for picture in (painted.pixels, flat)]
    place, place_flat = (rank(feature, gallery, own) for feature in identity.features(looks))
    kept, kept_flat = traits.kept((painted.pixels, flat), character, stage)
    return Case(
        character, _ground(own), request.prompt, request.references[0], painted.pixels, scene.style, box[3],
        kept, kept_flat, place, place_flat, _overlap(character, cutout, corner),
    )  # fmt: skip


def box_of(character: Character, spot: traits.Spot) -> tuple[float, float, float, float]:
    """Left, top, width and height of what the drawing shows, in the picture's height."""
    alpha = draw(character.drawn())[..., 3] > 24
    rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
    left, right = columns[0], columns[-1] + 1
    if spot.flip:
        left, right = DRAWN - right, DRAWN - left
    unit = spot.side / DRAWN
    width, height = (right - left) * unit, (rows[-1] + 1 - rows[0]) * unit
    return float(spot.left + left * unit), float(spot.top + rows[0] * unit), float(width), float(height)


def _overlap(character: Character, cutout: UInt8, corner: tuple[int, int]) -> float:
    """Intersection over union of what was cut out and what should be."""
    true = np.pad(draw(character.drawn())[..., 3] > 127, DRAWN)
    top, left = corner[0] + DRAWN, corner[1] + DRAWN
    cut = np.zeros_like(true)
    cut[top : top + cutout.shape[0], left : left + cutout.shape[1]] = cutout[..., 3] > 127
    return float((true & cut).sum() / (true | cut).sum())


def sheet(cases: Sequence[Case], columns: int = 4, side: int = 256) -> UInt8:
    """Reference and picture side by side, with what was judged below: (H, W, 3) uint8."""
    rows = -(-len(cases) // columns)
    page = Image.new("RGB", (columns * (2 * side + 8), rows * (side + 34)), "white")
    pen = ImageDraw.Draw(page)
    for number, case in enumerate(cases):
        x, y = number % columns * (2 * side + 8), number // columns * (side + 34)
        reference = Image.fromarray(case.reference).resize((side, side))
        page.paste(Image.alpha_composite(Image.new("RGBA", reference.size, "white"), reference).convert("RGB"), (x, y))
        page.paste(Image.fromarray(case.picture).resize((side, side)), (x + side, y))
        right = not case.lost and case.place == 0
        found = "first" if case.place == 0 else f"number {case.place + 1}"
        pen.text((x + 4, y + side + 2), case.prompt[:84], "black")
        pen.text(
            (x + 4, y + side + 17), f"{found}; lost: {', '.join(case.lost) or 'nothing'}", "green" if right else "red"
        )
    return np.asarray(page)


def _share(verdicts: Iterable[bool]) -> Share:
    listed = list(verdicts)
    return Share(sum(listed), len(listed))
