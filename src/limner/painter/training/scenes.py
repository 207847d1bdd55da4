"""Random scenes and their captions: what the denoiser is trained on."""

from __future__ import annotations

import random
from typing import Any, get_args

from limner.painter import draft, places
from limner.painter.bank import Bank
from limner.painter.composition import Wish, arrange
from limner.painter.denoiser import STYLES
from limner.painter.scene import Colour, Item, Person, Place, Scene, Style, Thing, Time, Weather
from limner.painter.training.captions import caption, countable

PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
COLOURS: tuple[Colour, ...] = get_args(Colour)


def random_scene(rng: random.Random, aspect: float, bank: Bank) -> tuple[Scene, str]:
    """A scene of one to five groups, sensibly composed seven times in ten, and its caption without style words."""
    place, time, weather = rng.choice(PLACES), rng.choice(TIMES), rng.choice(WEATHERS + ("clear",) * 4)
    variant = rng.randrange(2**32)
    backdrop = rng.choice(COLOURS) if place == "plain" and rng.random() < 0.6 else None
    ground = places.draw(place, time, weather, aspect, variant, backdrop)
    wishes = [_wish(rng, k, bank) for k in range(rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5)))]
    items = arrange(wishes, ground, aspect, rng, bank, lambda item: draft.ratio(item, bank))
    scattered = rng.random() < 0.3
    if scattered:
        items = tuple(_anywhere(item, rng) for item in items)
    scene = Scene(place=place, backdrop=backdrop, time=time, weather=weather, items=items, variant=variant)
    return scene, caption(wishes, scene, bank, rng, placed=not scattered)


def _wish(rng: random.Random, k: int, bank: Bank) -> Wish:
    if rng.random() < 0.3:
        return Wish(random_person(rng))
    concept = rng.choice(bank.names)
    colour = rng.choice(COLOURS) if bank[concept].recolourable and rng.random() < 0.35 else None
    count = rng.choice((1, 1, 1, 1, 2, 3, 5)) if k == 0 else rng.choice((1, 1, 1, 2))
    count = count if countable(concept, bank) else 1
    relation: Any = rng.choice((None, None, "left", "right", "on", "behind", "front", "above")) if k else None
    size: Any = rng.choice((None, None, None, "small", "large"))
    return Wish(Thing(concept=concept, colour=colour), count, size, relation, 0 if relation else None)


def random_person(rng: random.Random) -> Person:
    """Anyone that the schema can say; nearly all beards are grown men's."""
    chosen: dict[str, Any] = {}
    for name, field in Person.model_fields.items():
        options = _options(field.annotation)
        if options and name != "kind":
            rare = name in ("hat", "glasses", "beard")
            chosen[name] = None if rare and rng.random() < 0.65 else rng.choice([o for o in options if o is not None])
    if (chosen["age"] == "child" or chosen["build"] == "feminine") and rng.random() < 0.95:
        chosen["beard"] = None
    return Person(**chosen)


def _options(annotation: Any) -> tuple[Any, ...]:
    flat: list[Any] = []
    for arg in get_args(annotation):
        flat.extend(_options(arg) if get_args(arg) else [arg] if isinstance(arg, str) else [])
    return tuple(flat)


def _anywhere(item: Item, rng: random.Random) -> Item:
    """Wherever it can be seen: of what is moved, at most a tenth is above the picture's upper edge."""
    height = item.height * rng.uniform(0.6, 1.6)
    y = rng.uniform(min(1.05, max(0.25, 0.9 * height)), 1.05)
    return item.model_copy(update={"x": rng.uniform(0.05, 0.95), "y": y, "height": height})


def random_style(rng: random.Random) -> Style:
    """The default style is asked for most, so it is practised most."""
    return rng.choice((*STYLES, *3 * (STYLES[0],)))
