"""What places draw by themselves: a wish for one of these is granted by the place, and not drawn a second time.

The tables follow the drawings in `limner.painter.places`. They hold names of the bank's drawings, and words: "barn"
and not "house", for a barn alone is drawn by the farm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner.reading import ANIMATE, Mention, Reading
from limner.painter.planner.setting import Setting
from limner.painter.scene import Place


@dataclass(frozen=True)
class Shown:
    """What a place shows."""

    always: str = ""  # large and always there: "a window" is that one
    several: str = ""  # many and small, or not always there: "mushrooms" are those, "a mushroom" is one more
    words: str = ""  # what the bank has no drawing of


SHOWN: dict[Place, Shown] = {
    "beach": Shown(
        "palm-tree umbrella-on-ground",
        "sailboat spiral-shell umbrella",
        "wave surf foam sand shore shoreline horizon starfish water pebble sandcastle",
    ),
    "forest": Shown(
        "",
        "deciduous-tree evergreen-tree leafless-tree mushroom rock blossom herb maple-leaf fallen-leaf wood",
        "fern grass bush foliage moss trunk branch undergrowth path trail canopy ray sunbeam pine",
    ),
    "mountains": Shown(
        "mountain snow-capped-mountain mount-fuji",
        "evergreen-tree deciduous-tree rock blossom herb",
        "grass path trail slope summit valley pine foliage",
    ),
    "city": Shown(
        "street-lamp",
        "house office-building convenience-store deciduous-tree bank hotel department-store brick window",
        "storefront shopfront facade awning streetlight streetlamp lamppost tree-lined road pavement sidewalk",
    ),
    "desert": Shown("", "cactus rock mountain", "dune sand"),
    "underwater": Shown("", "coral bubbles rock spiral-shell", "seaweed kelp sand anemone ray sunbeam water starfish"),
    "sky": Shown(),
    "space": Shown("", "star glowing-star ringed-planet", "nebula galaxy crater stardust"),
    "room": Shown(
        "window framed-picture lamp potted-plant couch-and-lamp wall",
        "pillow",
        "curtain drape rug carpet floor floorboard cushion ceiling",
    ),
    "library": Shown(
        "window bookshelf books lamp wall",
        "closed-book open-book ladder potted-plant",
        "rug carpet floor floorboard rafter ceiling",
    ),
    "kitchen": Shown(
        "window stove wall wardrobe bookshelf",
        "amphora jar canned-food pot-of-food",
        "counter countertop cabinet tile sink faucet floor",
    ),
    "stage": Shown("", "lamp", "curtain drape spotlight footlight stagelight floor"),
    "farm": Shown(
        "barn",
        "sunflower blossom fence deciduous-tree windmill sheaf-of-rice herb",
        "silo hay haystack crop grass path field meadow",
    ),
    "snow": Shown(
        "mountain snow-capped-mountain mount-fuji",
        "evergreen-tree deciduous-tree snowflake leafless-tree snowman-without-snow",
        "snowdrift drift pine icicle",
    ),
    "park": Shown("", "deciduous-tree street-lamp blossom herb tulip bench", "grass path bush foliage pond lawn"),
}  # fmt: skip
SUNS = frozenset({"sun", "sun-with-face"})
MOONS = frozenset({"crescent-moon", "full-moon", "full-moon-face"})
STARS = frozenset({"star", "glowing-star", "sparkles"})
SKIES = SUNS | MOONS | STARS | {"cloud"}
PARTS = frozenset({"window", "door", "brick", "wheel"})  # of buildings and vehicles
FALLING = {"rain": frozenset({"droplet", "cloud-with-rain"}), "snow": frozenset({"snowflake", "cloud-with-snow"})}
WALLS = frozenset({"window", "bookshelf", "books", "mountain", "snow-capped-mountain"})  # one stands before these
# Colours that say no more than the name does.
NATURAL = {
    "palm-tree": ("green",), "deciduous-tree": ("green",), "evergreen-tree": ("green",), "cactus": ("green",),
    "herb": ("green",), "cloud": ("white", "grey", "pink", "orange", "purple", "gold"), "rock": ("grey",),
    "sun": ("yellow", "gold", "orange", "red"), "full-moon": ("white", "silver", "yellow", "gold"),
    "crescent-moon": ("white", "silver", "yellow", "gold"), "star": ("white", "silver", "yellow", "gold"),
    "bookshelf": ("brown",), "mountain": ("blue", "grey", "purple", "white"), "house": ("red",),
    "sunflower": ("yellow", "gold"), "sheaf-of-rice": ("yellow", "gold"), "barn": ("red", "brown"),
    "snowflake": ("white",),
}  # fmt: skip
WEAK = (None, "with", "around", "beside", "behind", "front")  # relations that a thing of the place can be meant in


def grant(reading: Reading, setting: Setting, shown: dict[int, int], bank: Bank) -> dict[int, int]:
    """Take out of a reading what the place draws anyway; it goes to `reading.granted`.

    Args:
        reading: changed in place.
        setting: where and when the picture is.
        shown: which mention is shown as which reference.
        bank: the drawings.

    Returns:
        `shown` by the new numbers of the mentions.
    """
    mentions = reading.mentions
    given = {
        i
        for i, m in enumerate(mentions)
        if i not in shown and (_drawn(m, setting, bank) or _is_part(m, mentions, bank))
    }
    lively = bool(shown) or any(m.kind != "thing" or bank[m.concept].group in ANIMATE for m in mentions)
    if mentions and not lively and not mentions[0].late:
        given.discard(0)
    while unfit := {i for i in given if not _alone(i, given, mentions, bank)}:
        given -= unfit
    table = SHOWN.get(setting.place, Shown())
    own = _set(table.always, table.several, table.words)
    reading.granted += [mentions[i].noun for i in sorted(given)]
    reading.granted += [word for word in reading.unused if singular_phrase(word) in own]
    reading.unused[:] = [word for word in reading.unused if word not in reading.granted]
    return reading.drop(given, shown)


def _set(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


def _drawn(mention: Mention, setting: Setting, bank: Bank) -> bool:
    """Whether the place draws a thing like this one, looked at by itself."""
    if mention.kind != "thing" or mention.exact:
        return False
    concept, noun = bank[mention.concept].concept, singular_phrase(mention.noun)
    colour, size = mention.facts.get("colour"), mention.facts.get("size")
    if colour is not None and colour not in NATURAL.get(concept, ()):
        return False
    if concept in SKIES:
        return (
            size not in ("large", "huge", "tiny")
            and mention.relation in (*WEAK, "above")
            and _in_sky(concept, mention, setting)
        )
    if concept in FALLING.get(setting.weather, ()):
        return True
    table = SHOWN.get(setting.place, Shown())
    if {concept, noun} & _set(table.always):
        return True
    apart = mention.count != 1 or (mention.relation == "behind" and mention.other is None)
    return apart and bool({concept, noun} & _set(table.several))


def _is_part(mention: Mention, mentions: list[Mention], bank: Bank) -> bool:
    """Whether another thing's drawing shows it: the window of a cottage."""
    if mention.relation not in ("with", "holding", "inside") or mention.other is None or mention.exact:
        return False
    whole = mentions[mention.other]
    return mention.concept in PARTS and whole.kind == "thing" and bank[whole.concept].group in ("building", "vehicle")


def _in_sky(concept: str, mention: Mention, setting: Setting) -> bool:
    if setting.place in ("underwater", "space", "plain"):
        return setting.place == "space" and concept in STARS and mention.count != 1
    if concept == "cloud":
        return mention.count != 1 or setting.weather != "clear"
    if concept in STARS:
        return setting.time == "night" and setting.weather == "clear" and mention.count != 1
    if concept in SUNS:
        return setting.time in ("dawn", "day", "sunset") and setting.weather == "clear"
    return setting.time == "night" and setting.weather == "clear" and setting.place != "forest"


def _alone(index: int, given: Collection[int], mentions: list[Mention], bank: Bank) -> bool:
    """Whether nothing that will be drawn needs this one: no cat is on the bench, and the book is in nobody's hand."""
    mention = mentions[index]
    concept = bank[mention.concept].concept
    hung = concept in SKIES
    if mention.relation not in (*WEAK, "above" if hung else None) and mention.other not in given:
        return False
    if mention.relation == "front" and mention.other is None:
        return False
    around = concept in WALLS or mention.count != 1 or hung
    needed: Iterable[Mention] = (m for i, m in enumerate(mentions) if m.other == index and i not in given)
    return all(m.relation == "with" or (m.relation in WEAK and around) for m in needed)
