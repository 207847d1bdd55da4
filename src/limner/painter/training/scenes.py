"""Random scenes and their captions: what the denoiser is trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, get_args

from limner.painter import draft, places
from limner.painter.bank import Bank
from limner.painter.composition import Wish, arrange
from limner.painter.denoiser import STYLES
from limner.painter.scene import Colour, Item, Person, Place, Scene, Style, Thing, Time, Weather

PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
COLOURS: tuple[Colour, ...] = get_args(Colour)

STYLE_WORDS: dict[Style, tuple[str, ...]] = {
    "storybook": ("", "", "storybook illustration", "picture book"),
    "flat": ("flat illustration", "flat vector art"),
    "watercolor": ("watercolor", "watercolour painting", "aquarelle"),
    "comic": ("comic", "comic book style", "manga"),
    "vivid": ("vivid", "energetic and bright", "vibrant"),
    "medieval": ("medieval manuscript", "illuminated page", "old engraving"),
    "clay": ("3d render", "clay", "claymation"),
    "pixel": ("pixel art", "8-bit"),
    "papercut": ("paper cut-out", "papercut", "layered paper"),
}
NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def random_scene(rng: random.Random, aspect: float, bank: Bank) -> tuple[Scene, str]:
    """A scene of one to five groups, sensibly composed seven times in ten, and its caption without style words."""
    place, time, weather = rng.choice(PLACES), rng.choice(TIMES), rng.choice(WEATHERS + ("clear",) * 4)
    variant = rng.randrange(2**32)
    backdrop = rng.choice(COLOURS) if place == "plain" and rng.random() < 0.6 else None
    ground = places.draw(place, time, weather, aspect, variant, backdrop)
    wishes = [_wish(rng, k, bank) for k in range(rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5)))]
    items = arrange(wishes, ground, aspect, rng, bank, lambda item: draft.ratio(item, bank))
    if rng.random() < 0.3:
        items = tuple(_anywhere(item, rng) for item in items)
    scene = Scene(place=place, backdrop=backdrop, time=time, weather=weather, items=items, variant=variant)
    return scene, caption(wishes, scene, rng)


def with_style(text: str, style: Style, rng: random.Random) -> str:
    """The caption with words for the style before or after it."""
    words = rng.choice(STYLE_WORDS[style])
    if not words:
        return text
    return f"{text}, {words}" if rng.random() < 0.6 else f"{words} of {text}"


def caption(wishes: Sequence[Wish], scene: Scene, rng: random.Random) -> str:
    """One way of saying what a scene shows; every tenth is keywords alone."""
    groups = [_phrase(w, rng) for w in wishes]
    setting = {"plain": ""}.get(scene.place, scene.place)
    when = "" if scene.time == "day" else scene.time
    weather = {"clear": "", "cloudy": "cloudy", "rain": "rain", "snow": "snow"}[scene.weather]
    if rng.random() < 0.1:
        return ", ".join(x for x in (*groups, setting, when, weather) if x)
    joined = groups[0] if len(groups) == 1 else ", ".join(groups[:-1]) + " and " + groups[-1]
    tail = "".join(
        (f" in the {setting}" if setting else "", f" at {when}" if when else "", f", {weather}" if weather else "")
    )
    return joined + tail


def _phrase(wish: Wish, rng: random.Random) -> str:
    item, count = wish.item, wish.count
    if isinstance(item, Person):
        kind = {"child": ("girl", "boy"), "adult": ("woman", "man"), "elder": ("old woman", "old man")}[item.age]
        noun = kind[item.build == "masculine"]
        worn = f" in a {item.top_colour} {item.top}" if rng.random() < 0.6 else ""
        hair = f" with {item.hair_colour} hair" if rng.random() < 0.4 and item.hair != "bald" else ""
        return f"a {noun}{worn}{hair}"
    if not isinstance(item, Thing):
        raise TypeError(f"A caption has no words for {item.kind}.")
    words = [item.colour or "", item.concept.replace("-", " ")]
    noun = " ".join(w for w in words if w)
    return f"{NUMBERS[count]} {noun}{'s' if count > 1 else ''}"


def _wish(rng: random.Random, k: int, bank: Bank) -> Wish:
    if rng.random() < 0.3:
        return Wish(random_person(rng))
    concept = rng.choice(bank.names)
    colour = rng.choice(COLOURS) if bank[concept].recolourable and rng.random() < 0.35 else None
    count = rng.choice((1, 1, 1, 1, 2, 3, 5)) if k == 0 else rng.choice((1, 1, 1, 2))
    relation: Any = rng.choice((None, None, "left", "right", "on", "behind", "front", "above")) if k else None
    size: Any = rng.choice((None, None, None, "small", "large"))
    return Wish(Thing(concept=concept, colour=colour), count, size, relation, 0 if relation else None)


def random_person(rng: random.Random) -> Person:
    """Any person that the schema can say."""
    chosen: dict[str, Any] = {}
    for name, field in Person.model_fields.items():
        options = _options(field.annotation)
        if options and name != "kind":
            rare = name in ("hat", "glasses", "beard")
            chosen[name] = None if rare and rng.random() < 0.65 else rng.choice([o for o in options if o is not None])
    return Person(**chosen)


def _options(annotation: Any) -> tuple[Any, ...]:
    flat: list[Any] = []
    for arg in get_args(annotation):
        flat.extend(_options(arg) if get_args(arg) else [arg] if isinstance(arg, str) else [])
    return tuple(flat)


def _anywhere(item: Item, rng: random.Random) -> Item:
    return item.model_copy(
        update={
            "x": rng.uniform(0.05, 0.95),
            "y": rng.uniform(0.25, 1.05),
            "height": item.height * rng.uniform(0.6, 1.6),
        }
    )


def random_style(rng: random.Random) -> Style:
    """The default style is asked for most, so it is practised most."""
    return rng.choice((*STYLES, *3 * (STYLES[0],)))
