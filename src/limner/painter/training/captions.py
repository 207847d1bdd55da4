"""Captions of random scenes: what is in them, in the words of the bank, with its grammar minded."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from limner.painter.bank import IRREGULAR, Bank, singular_phrase
from limner.painter.composition import Wish
from limner.painter.scene import Person, Place, Scene, Style, Thing, Time, Weather

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
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
NO_NOUNS = (
    "comic book style", "manga", "vivid", "energetic and bright", "vibrant", "clay", "8-bit", "papercut",
)  # fmt: skip
PLACES: dict[Place, tuple[str, ...]] = {
    "beach": ("on the beach", "at the beach", "on a sandy beach"),
    "forest": ("in the forest", "in a forest"),
    "mountains": ("in the mountains",),
    "city": ("in the city", "on a city street"),
    "desert": ("in the desert", "in a sandy desert"),
    "underwater": ("underwater",),
    "sky": ("in the sky", "up in the sky"),
    "space": ("in space", "in outer space"),
    "room": ("in a room", "in a cosy room"),
    "library": ("in a library", "in the library"),
    "kitchen": ("in a kitchen", "in the kitchen"),
    "stage": ("on a stage", "on stage"),
    "farm": ("on a farm", "at the farm"),
    "snow": ("in the snow", "in a land of snow"),
    "park": ("in the park", "in a park"),
    "plain": ("",),
}
INDOORS = ("room", "library", "kitchen", "stage")
WEATHERLESS = ("underwater", "space")  # no rain falls there
TIMES: dict[Time, tuple[str, ...]] = {
    "dawn": ("at dawn", "at sunrise"),
    "day": ("", "", "by day"),
    "sunset": ("at sunset",),
    "dusk": ("at dusk", "at twilight"),
    "night": ("at night",),
}
WEATHERS: dict[Weather, tuple[str, ...]] = {
    "clear": ("", "", "", "clear sky"),
    "cloudy": ("cloudy", "under clouds"),
    "rain": ("in the rain", "rainy weather"),
    "snow": ("snow is falling", "in falling snow"),
}
OUTSIDE: dict[Weather, str] = {"clear": "", "cloudy": "", "rain": "rain outside", "snow": "snow outside"}
SIZES = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "on": ("on", "on top of"),
    "behind": ("behind",),
    "front": ("in front of",),
    "above": ("above", "over"),
}

KINDS = {  # by age and build
    ("child", "feminine"): ("girl", "little girl"),
    ("child", "masculine"): ("boy", "little boy"),
    ("adult", "feminine"): ("woman", "woman", "young woman"),
    ("adult", "masculine"): ("man", "man", "young man"),
    ("elder", "feminine"): ("old woman", "elderly woman", "grandmother"),
    ("elder", "masculine"): ("old man", "elderly man", "grandfather"),
}
EXPRESSIONS = {
    "smile": "smiling",
    "grin": "grinning",
    "neutral": "",
    "sad": "sad",
    "surprised": "surprised",
    "angry": "angry",
    "asleep": "sleeping",
}
POSES = {
    "standing": "standing",
    "walking": "walking",
    "running": "running",
    "sitting": "sitting",
    "waving": "waving",
    "arms-up": "with raised arms",
    "hands-on-hips": "with hands on hips",
    "reading": "reading a book",
}
HAIR = {  # the colour goes where the mark is
    "short": "short * hair",
    "bob": "a * bob",
    "long": "long * hair",
    "ponytail": "a * ponytail",
    "bun": "a * bun",
    "curly": "curly * hair",
    "afro": "a * afro",
    "braids": "* braids",
    "spiky": "spiky * hair",
}
HATS = {
    "cap": "cap",
    "beanie": "beanie",
    "straw": "straw hat",
    "top": "top hat",
    "wizard": "wizard hat",
    "crown": "crown",
    "helmet": "helmet",
    "chef": "chef's hat",
    "cowboy": "cowboy hat",
}
BEARDS = {"stubble": "stubble", "full": "a beard", "moustache": "a moustache"}
WHOLE = ("dress", "robe")  # what they are worn with is not seen

MANY = {one: many for many, one in reversed(IRREGULAR.items())} | {"fish": "fish", "fez": "fezzes", "oasis": "oases"}
# plural, though the bank knows no singular of theirs
PAIRS = frozenset((
    "glasses", "sunglasses", "jeans", "shorts", "scissors", "binoculars", "goggles", "headphones", "chopsticks",
    "maracas", "fries", "skis", "trousers", "pants",
))  # fmt: skip
# as a noun's last word
MASS = frozenset((
    "bacon", "bamboo", "beef", "bread", "broccoli", "butter", "champagne", "cheddar", "cheese", "chess", "chocolate",
    "coal", "coral", "corn", "cotton", "custard", "dna", "dough", "fire", "flour", "garlic", "ginger", "gold",
    "grain", "grass", "hair", "ham", "honey", "ice", "ivy", "jam", "jelly", "juice", "ketchup", "lace", "lava",
    "lettuce", "lightning", "maize", "mate", "meat", "milk", "moss", "music", "oden", "oil", "paella", "paper",
    "pasta", "perfume", "popcorn", "porridge", "ramen", "rice", "sake", "salt", "sand", "seaweed", "slime", "snow",
    "soap", "soup", "spaghetti", "spinach", "sugar", "sushi", "tennis", "tofu", "toast", "water", "wheat", "whisky",
    "wine", "wood", "wool", "yarn",
))  # fmt: skip
NAMES = frozenset((
    "aquarius", "aries", "capricorn", "frankenstein", "gemini", "libra", "medusa", "mount fuji", "mrs claus",
    "pisces", "sagittarius", "santa claus", "scorpio", "stonehenge", "taurus", "thumbs down", "thumbs up",
    "tower bridge", "virgo",
))  # fmt: skip
THE = ("sun", "kaaba", "statue of liberty", "eiffel tower", "leaning tower of pisa", "colosseum", "space needle")
ONE = ("rhinoceros", "bellows")  # no plural, whatever the bank's rules make of it
CONSONANT = re.compile(r"uni(?!n)|u-|uk|us[abe]|ufo|utensil|eu|one\b|once")  # what begins with y or w, spoken
VOWEL = re.compile(r"[aeiou]|hour|heir|honest|x-|mri|lp\b")


def article(words: str) -> str:
    """The words with a or an before them, as they are spoken."""
    return f"{'an' if VOWEL.match(words) and not CONSONANT.match(words) else 'a'} {words}"


def several(noun: str) -> bool:
    """Whether a noun is a plural already."""
    last = noun.split()[-1]
    return noun not in NAMES and last not in ONE and (singular_phrase(noun) != noun or last in PAIRS)


def plural(noun: str) -> str | None:
    """More than one of a noun, or None where that cannot be said: a plural, a stuff, a name."""
    if several(noun) or noun in NAMES or noun in THE:
        return None
    head, joint, rest = _split(noun)
    before, space, last = head.rpartition(" ")
    if last in MASS:
        return None
    if last in MANY:
        last = MANY[last]
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "es" if last.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return before + space + last + joint + rest


def _split(noun: str) -> tuple[str, str, str]:
    """The part of a noun phrase that its head ends, the word that joins the rest, and the rest."""
    found = re.search(" (of|in|with|on|and|at|to|pointing) ", noun)
    return (noun[: found.start()], found.group(), noun[found.end() :]) if found else (noun, "", "")


@lru_cache(maxsize=4)
def names(bank: Bank) -> dict[str, tuple[str, ...]]:
    """The English words for each concept, its label first."""
    found: dict[str, list[str]] = {name: [bank[name].label] for name in bank.names}
    for word, concept in bank.words.items():
        if word not in found[concept] and word != concept.replace("-", " "):
            found[concept].append(word)
    return {concept: tuple(words) for concept, words in found.items()}


def countable(concept: str, bank: Bank) -> bool:
    """Whether one can say how many of a concept there are."""
    return plural(bank[concept].label) is not None


def thing(item: Thing, count: int, size: str | None, bank: Bank, rng: random.Random) -> tuple[str, str]:
    """A group of things in words, and the bare noun: ("two small red boats", "boats")."""
    noun = bank[item.concept].label if rng.random() < 0.7 else rng.choice(names(bank)[item.concept])
    if count > 1:
        noun = plural(noun) or plural(bank[item.concept].label) or noun
    adjectives = [rng.choice(SIZES[size])] if size in SIZES else []
    words = " ".join([*adjectives, *([item.colour] if item.colour else []), noun])
    if count > 1:
        return f"{NUMBERS[count]} {words}", noun
    if noun in NAMES or noun in THE:
        return (f"the {words}" if noun in THE or words != noun else words), noun
    if several(noun) or _split(noun)[0].split()[-1] in MASS:
        return words, noun
    return article(words), noun


def person(item: Person, rng: random.Random) -> tuple[str, str]:
    """Someone in words, some of what they wear and do left unsaid, and the bare noun."""
    noun = rng.choice(KINDS[item.age, item.build])
    mood = EXPRESSIONS[item.expression] if rng.random() < 0.3 else ""
    hairless = "bald" if item.hair == "bald" and not item.hat and rng.random() < 0.5 else ""
    who = article(" ".join(word for word in (mood, hairless, noun) if word))
    said = mood != "sleeping" and rng.random() < (0.15 if item.pose == "standing" else 0.5)
    pose = POSES[item.pose] if said else ""
    clothes = []
    if rng.random() < 0.6:
        top = f"{item.top_colour} {item.top}"
        clothes.append(top if item.top == "armor" else article(top))
    if item.top not in WHOLE and rng.random() < 0.35:
        bottom = f"{item.bottom_colour} {item.bottom}"
        clothes.append(article(bottom) if item.bottom == "skirt" else bottom)
    details = []
    if item.hat and rng.random() < 0.8:
        details.append(article(f"{item.hat_colour or ''} {HATS[item.hat]}".strip()))
    if item.glasses and rng.random() < 0.8:
        details.append(item.glasses if item.glasses == "sunglasses" else f"{item.glasses} glasses")
    if item.hair != "bald" and rng.random() < 0.4:
        style = HAIR[item.hair].replace("*", item.hair_colour)
        details.append(article(style[2:]) if style.startswith("a ") else style)
    if item.beard and rng.random() < 0.8:
        details.append(BEARDS[item.beard])
    parts = [who, pose]
    parts += [f"in {listed(clothes)}"] if clothes else []
    parts += [f"{'and' if pose.startswith('with ') and not clothes else 'with'} {listed(details)}"] if details else []
    return " ".join(part for part in parts if part), noun.split()[-1]


def listed(parts: Sequence[str]) -> str:
    """One, two, or more things in a row."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def setting(scene: Scene, rng: random.Random) -> list[str]:
    """Where and when, in up to three phrases; by day in clear weather there may be none."""
    where = rng.choice(PLACES[scene.place])
    if scene.place == "plain" and scene.backdrop and rng.random() < 0.6:
        where = f"on {article(f'plain {scene.backdrop} background')}"
    when = rng.choice(TIMES[scene.time])
    if scene.place in WEATHERLESS or (scene.place == "plain" and scene.weather == "clear"):
        weather = ""
    else:
        weather = OUTSIDE[scene.weather] if scene.place in INDOORS else rng.choice(WEATHERS[scene.weather])
    return [phrase for phrase in (where, when, weather) if phrase]


def caption(wishes: Sequence[Wish], scene: Scene, bank: Bank, rng: random.Random, placed: bool = True) -> str:
    """One way of saying what a scene shows; every tenth is keywords alone.

    Args:
        wishes: what was asked for, things and people alone; the relations are to the first of them.
        placed: whether their sizes and relations were kept.
    """
    said = [_said(wish, bank, rng, placed) for wish in wishes]
    where = setting(scene, rng)
    if rng.random() < 0.1:
        return ", ".join([*(re.sub("^(a|an|the) ", "", words) for words, _ in said), *where])
    (main, noun), *others = said
    related = [w.relation if placed and w.relation in RELATIONS and rng.random() < 0.85 else None for w in wishes[1:]]
    if len(others) == 1 and related[0]:
        words = f"{others[0][0]} {rng.choice(RELATIONS[related[0]])} {main}"
    else:
        near = [words for (words, _), relation in zip(others, related, strict=True) if relation is None]
        words = listed([main, *near])
        tied = [
            f"{group} {rng.choice(RELATIONS[relation])} the {noun}"
            for (group, _), relation in zip(others, related, strict=True)
            if relation is not None
        ]
        words += f", with {listed(tied)}" if tied else ""
    # "at dusk" is said in one breath, "cloudy" after a pause
    for phrase in where:
        words += (" " if re.match("(in|on|at|up|by|under|underwater)\\b", phrase) else ", ") + phrase
    return words


def _said(wish: Wish, bank: Bank, rng: random.Random, placed: bool) -> tuple[str, str]:
    if isinstance(wish.item, Person):
        return person(wish.item, rng)
    if not isinstance(wish.item, Thing):
        raise TypeError(f"A caption has no words for {wish.item.kind}.")
    return thing(wish.item, wish.count, wish.size if placed and rng.random() < 0.8 else None, bank, rng)


def with_style(text: str, style: Style, rng: random.Random) -> str:
    """The caption with words for the style before or after it."""
    words = rng.choice(STYLE_WORDS[style])
    if not words:
        return text
    if rng.random() < 0.6:
        return f"{text}, {words}"
    return f"{words} picture of {text}" if words in NO_NOUNS else f"{words} of {text}"
