"""Where and when a scene is, where the prompt does not say: in places where its things are at home."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import cast

from limner.painter.bank import Bank
from limner.painter.planner.reading import Mention, Reading
from limner.painter.scene import Colour, Place, Style, Time, Weather

# Where things are at home, by the bank's groups and, before that, by concept. "+" joins a group to its surface.
HOMES: dict[str, tuple[Place, ...]] = {
    "animal": ("park", "forest", "farm", "mountains"),
    "animal+water": ("underwater",),
    "animal+air": ("sky", "park", "forest", "mountains"),
    "animal-head": ("forest", "mountains", "park"),
    "insect": ("park", "forest"),
    "nature": ("mountains", "park"),
    "plant": ("park", "forest", "farm"),
    "food": ("kitchen", "plain", "park"),
    "drink": ("kitchen", "plain"),
    "dishware": ("kitchen",),
    "sky": ("sky", "mountains", "park"),
    "building": ("park", "mountains", "city"),
    "structure": ("city", "park"),
    "vehicle": ("city", "mountains", "park"),
    "vehicle+air": ("sky",),
    "vehicle+water": ("beach",),
    "marine": ("beach",),
    "toy": ("room", "park", "plain"),
    "sport": ("park", "plain"),
    "music": ("stage", "room"),
    "clothes": ("plain", "room"),
    "furniture": ("room",),
    "household": ("room", "plain"),
    "clock": ("room", "plain"),
    "device": ("room", "plain"),
    "paper": ("library", "room", "plain"),
    "money": ("plain",),
    "tool": ("plain", "room"),
    "heart": ("plain", "sky"),
    "smiley": ("plain", "sky"),
    "gesture": ("plain",),
    "body": ("plain",),
    "shape": ("plain",),
    "fantasy": ("mountains", "forest", "park"),
    "figure": ("park", "city"),
    "person": ("park", "city", "beach", "mountains", "room"),
}
AT_HOME: dict[Place, str] = {
    "underwater": "coral squid octopus jellyfish shrimp lobster diving-mask woman-merpeople man-merpeople oyster "
    "starfish seahorse sea-turtle swordfish manta-ray anglerfish eel kraken seaweed",
    "beach": "crab seal palm-tree desert-island spiral-shell umbrella-on-ground ring-buoy person-surfing "
    "tropical-drink coconut volleyball sand-castle beach-ball surfboard pirate-ship treasure-map seagull",
    "snow": "penguin polar-bear snowman-without-snow sled skis ice-skate mammoth snowboarder snowflake ice-hockey "
    "walrus igloo snowmobile",
    "desert": "camel two-hump-camel cactus scorpion great-pyramid sphinx tumbleweed vulture",
    "space": "rocket satellite flying-saucer alien alien-monster ringed-planet comet astronaut telescope "
    "globe-showing-europe-africa globe-showing-americas starfighter lunar-module mars-rover galaxy space-shuttle",
    "farm": "cow ox pig ewe goat chicken rooster tractor donkey hatching-chick baby-chick sheaf-of-rice goose "
    "barn scarecrow hay-bale pitchfork wheelbarrow",
    "forest": "mushroom deer bear wolf owl chipmunk hedgehog moose person-fairy person-elf tent axe wood badger boar "
    "squirrel treehouse wood-cabin woodpecker acorn pine-cone toadstool",
    "sky": "airplane small-airplane helicopter parachute rainbow cloud phoenix-bird",
    "room": "teddy-bear christmas-tree candle",
    "city": "office-building convenience-store hotel bank school bus taxi police-car vertical-traffic-light bus-stop "
    "skyscraper-tower fire-hydrant parking-meter double-decker-bus limousine supermarket bakery police-station "
    "fire-station",
    "mountains": "castle mountain volcano mount-fuji person-climbing llama eagle",
    "stage": "microphone performing-arts mirror-ball grand-piano drum-kit cello theater-curtains",
    "kitchen": "cooking pot-of-food teapot kettle toaster blender microwave saucepan cutting-board rolling-pin whisk",
    "library": "books closed-book desk-globe typewriter",
    "park": "swan otter fountain person-biking trampoline seesaw sandbox bird-bath pond",
}
HOME_OF: dict[str, Place] = {concept: place for place, concepts in AT_HOME.items() for concept in concepts.split()}
NIGHT = frozenset(
    {
        "crescent-moon", "full-moon", "full-moon-face", "star", "glowing-star", "fireworks", "bat", "owl", "comet",
        "ghost",
    }
)  # fmt: skip
SEEN = NIGHT | {"sun", "sun-with-face", "rainbow"}  # named, they are not behind clouds
GLOWS = ("dawn", "sunset")  # asked for, they are not grey
INDOORS = frozenset({"room", "library", "kitchen", "stage"})
PLEASANT: tuple[tuple[str, Place], ...] = (
    ("cat", "park"), ("rabbit", "forest"), ("hedgehog", "forest"), ("sailboat", "beach"), ("butterfly", "park"),
    ("tulip", "park"), ("penguin", "snow"), ("tropical-fish", "underwater"), ("duck", "farm"), ("owl", "forest"),
    ("teddy-bear", "room"), ("whale", "underwater"),
)  # fmt: skip
WATERS: dict[Place, float] = {"beach": 0.6}  # where boats lie in a place with land and water, in picture heights


class Dice:
    """Random generators by name, all of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, *name: str | int) -> random.Random:
        """The generator for one choice; the same name always starts it afresh."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, name))}")  # noqa: S311 - a picture's variety, no secret


@dataclass(frozen=True)
class Setting:
    """Where and when the picture is, and its style."""

    place: Place
    backdrop: Colour | None
    time: Time
    weather: Weather
    style: Style


def setting_of(reading: Reading, dice: Dice, bank: Bank) -> Setting:
    """Place, hour, weather and style: as they were said, else as the dice say."""
    said = reading.setting
    place = cast("Place", said["place"]) if "place" in said else _place(reading, dice("place"), bank)
    concepts = [m.concept for m in reading.mentions]
    time, weather = said.get("time"), said.get("weather")
    if time is None and place == "plain":
        time = "day"  # a studio's light
    if time is None:
        hours = ("day",) * 7 + ("dawn", "sunset", "dusk")
        night = any(c in NIGHT for c in concepts)
        time = "night" if night else "day" if "sun" in concepts else dice("time").choice(hours)
    if weather is None:
        airs = ("clear",) * 4 + (("snow",) if place == "snow" else ("cloudy",))
        weather = (
            "clear"
            if time == "night" or said.get("time") in GLOWS or SEEN & set(concepts)
            else dice("weather").choice(airs)
        )
    backdrop = said.get("backdrop") if place == "plain" else None
    style = said.get("style", "storybook")
    return Setting(
        place, cast("Colour | None", backdrop), cast("Time", time), cast("Weather", weather), cast("Style", style)
    )


def _place(reading: Reading, rng: random.Random, bank: Bank) -> Place:
    """The likeliest place that the prompt hints at, else one where its things are at home."""
    firm = [h for h in reading.hints if h != ("sky",)]
    if firm[:1] == [("mountains",)] and ("snow",) in firm:
        return "snow"  # its hills are white
    for hint in firm or reading.hints:
        return cast("Place", rng.choice(hint))
    homes = [_home(m, bank) for m in reading.mentions]
    if "weather" in reading.setting or reading.setting.get("time") not in (None, "day"):
        homes = [tuple(p for p in home if p not in INDOORS) or home for home in homes]
    # A place in which nobody is out of place, if there is one; else what furnishes a room decides, or the main subject.
    common = [p for p in homes[0] if all(p in home for home in homes[1:])]
    furnished = next((home for home in homes if home == HOMES["furniture"]), homes[0])
    return rng.choice(common or list(furnished))


def _home(mention: Mention, bank: Bank) -> tuple[Place, ...]:
    if mention.kind != "thing":
        return HOMES["person"]
    if mention.concept in HOME_OF:
        return (HOME_OF[mention.concept],)
    drawing = bank[mention.concept]
    return HOMES.get(f"{drawing.group}+{drawing.surface}") or HOMES.get(drawing.group) or ("plain",)
