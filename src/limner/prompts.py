"""A prompt, checked and, where the caller asks for it, expanded: by a pure function or by a chat endpoint."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import unicodedata
from typing import Any

import httpx2
import structlog

from limner.config import Settings
from limner.errors import IllegalCharacters, InvalidRequest, LimnerError

log = structlog.get_logger(__name__)

MAX_REPLY_BYTES = 64 * 1024
"""The most of a chat endpoint's reply that is read."""

_FORMAT = {"Cc", "Cf", "Cn", "Co"}  # Unicode general categories of what cannot be seen
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # of other categories, and still nothing to see
_MEANT = "\t\n\r"
# Joiners and tags that stand inside an emoji or a word, where they are part of what is seen (Unicode TR 51, 2.6 and
# 2.8; the joiners also shape Persian and Indic words).
_SHAPING = re.compile(
    "(?<=[^\\s\u200c\u200d])[\u200c\u200d](?=[^\\s\u200c\u200d])|(?<=\U0001f3f4)[\U000e0020-\U000e007e]+\U000e007f"
)


def check(prompt: str, settings: Settings, field: str = "prompt") -> str:
    """The prompt that will be painted: `prompt` itself, or cut at max_prompt_chars, and logged, where long_prompts says
    `cut`. `field` is what its sentences call it.

    Raises:
        InvalidRequest: it is blank, no Unicode text, or too long where long_prompts says `refuse`.
        IllegalCharacters: over a tenth of its code points are invisible: controls other than tab and line ends,
            format characters outside emoji and words, private or unassigned.
    """
    if not prompt.strip():
        raise InvalidRequest(f"Field {field} is required and must hold words: say what to paint.", field)
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise InvalidRequest(
            f"Field {field} must be Unicode text; it holds half of a surrogate pair. Send UTF-8.", field
        )
    limit = settings.max_prompt_chars
    if len(prompt) > limit and settings.long_prompts == "refuse":
        raise InvalidRequest(f"Field {field} must be at most {limit} characters; got {len(prompt)}. Shorten it.", field)
    text = prompt[:limit]
    if len(text) < len(prompt):
        log.info("prompt cut", characters=len(prompt), limit=limit)
    seen = _SHAPING.sub("", text)
    invisible = sum(
        (unicodedata.category(letter) in _FORMAT and letter not in _MEANT) or letter in _BLANK_LETTERS
        for letter in seen
    )
    if invisible * 10 > len(text):
        raise IllegalCharacters("Over a tenth of the prompt is invisible or control characters. Remove them.")
    return text


async def optimize(prompt: str, settings: Settings) -> str:
    """`prompt` with more detail: by the chat endpoint of optimizer_url where there is one, else by `expand`.

    An endpoint that fails, is slow or answers badly leaves the prompt as it is, and a line in the log.
    """
    if settings.optimizer_url is None:
        return expand_within(prompt, settings)
    try:
        async with asyncio.timeout(settings.optimizer_seconds):
            return await _ask(prompt, settings)
    except TimeoutError:
        reason = f"no answer within {settings.optimizer_seconds:g} s"
    except _BadReply as error:
        reason = str(error)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        reason = type(error).__name__
    log.warning("prompt optimizer failed, plain prompt used", reason=reason)
    return prompt


class _BadReply(Exception):
    """What a chat endpoint answered is no prompt; says why, without quoting it."""


async def _ask(prompt: str, settings: Settings) -> str:
    """One chat completion, as OpenAI's API specifies it."""
    key = settings.optimizer_key
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    question = {
        "model": settings.optimizer_model,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": _INSTRUCTION.format(limit=settings.max_prompt_chars)},
            {"role": "user", "content": prompt},
        ],
    }
    url = f"{settings.optimizer_url}/chat/completions"
    body = bytearray()
    async with (
        httpx2.AsyncClient(timeout=settings.optimizer_seconds) as client,
        client.stream("POST", url, json=question, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise _BadReply(f"status {response.status_code}")
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                raise _BadReply(f"reply of over {MAX_REPLY_BYTES} bytes")
    try:
        answer: Any = json.loads(bytes(body))["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _BadReply("reply is no chat completion") from None
    if not isinstance(answer, str) or len(answer.strip()) > settings.max_prompt_chars:
        raise _BadReply("reply holds no text, or more than a prompt may have")
    try:
        return check(answer.strip(), settings)
    except LimnerError as error:
        raise _BadReply(f"reply is no prompt ({error.code.name.lower()})") from None


_INSTRUCTION = (
    "You write prompts for an image model. Rewrite the user's prompt with more detail of light, place and composition, "
    "in its own language. Keep every thing, count, colour, place, time, style and name that it has. Answer with the "
    "new prompt alone, in at most {limit} characters, without quotation marks or explanations."
)


def expand_within(prompt: str, settings: Settings) -> str:
    """`expand`, or the prompt as it is where that would pass max_prompt_chars."""
    expanded = expand(prompt)
    return expanded if len(expanded) <= settings.max_prompt_chars else prompt


def expand(prompt: str) -> str:
    """`prompt` in its own words, followed by what it leaves open of place, hour, weather and view.

    A pure function of the prompt. All that is added are words that the planner draws by. It knows English: a prompt
    with letters or small words of another language comes back as it is, because what it says of place and light would
    not be noticed. Colours, counts and styles are never added.
    """
    words = _words(_IN_CLOTHES.sub(" ", prompt.lower()))
    if not words or words & _OTHER_LANGUAGES or any(letter.isalpha() and not letter.isascii() for letter in prompt):
        return prompt
    choice = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8])
    additions = []
    if not words & _PLACE_GIVEN:
        open_places = _PLACES if not words & _PREPOSITIONS else _ROOMS
        place = next((place for subjects, place in open_places if words & subjects), None)
        if place is not None:
            additions.append(place)
            words |= _words(place)
    if not words & _LIGHT_GIVEN:
        lights = _LIGHTS_INDOORS if words & _INDOORS else _LIGHTS
        additions.append(lights[choice % len(lights)])
    if not words & _COMPOSITION_GIVEN:
        view = _VIEWS[choice // 8 % len(_VIEWS)]
        additions += [view] if view else []
    if not additions:
        return prompt
    said = prompt.rstrip()
    if said[-1] in ".!?":
        return f"{said} {additions[0][0].upper()}{', '.join(additions)[1:]}."
    return f"{said.rstrip(',;:')}, {', '.join(additions)}"


def _words(text: str) -> set[str]:
    """The words of `text` in lower case, each also without a plural's s."""
    words = re.findall(r"[a-z]+", text.lower())
    return {*words, *(word.removesuffix("es") for word in words), *(word.removesuffix("s") for word in words)}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_OTHER_LANGUAGES = _set("""
    un une le les des du el los las una del der das ein eine einer und mit il lo gli della uno uma os nao com och ett
    het een van di dengan dan yang bir ve""")

_PLAIN = _set("""
    no without plain simple minimal isolated background backdrop transparent icon logo sticker pattern silhouette""")

# "In a red dress" says nothing of where, but "in a boat" does; on a sofa one is in a room all the same.
_IN_CLOTHES = re.compile(
    r"\b(?:in|wearing) (?:(?:a|an|the|his|her|their|my) )?(?:[\w-]+ ){0,3}?(?:t-?shirts?|shirts?|dress(?:es)?|coats?|"
    r"jackets?|suits?|hats?|caps?|sweaters?|hoodies?|robes?|armou?r|gowns?|uniforms?|scar(?:f|ves)|boots|glasses)\b"
)
_PREPOSITIONS = _set("""
    in on at inside outside under beneath below near above over across through among against behind between
    along around by amid upon""")

_PLACE_GIVEN = _PLAIN | _set("""
    indoors outdoors underwater
    beach sea ocean shore coast island harbor harbour pier lake river pond waterfall forest wood jungle tree mountain
    hill valley cliff canyon cave volcano city town village street road bridge building skyscraper castle palace tower
    house home room bedroom bathroom kitchen library school office shop cafe restaurant market station airport desert
    dune sky cloud space galaxy planet moon stage theater theatre concert farm field meadow garden park playground
    snow snowy winter ice arctic church temple museum hospital interior landscape scene scenery""")

_LIGHT_GIVEN = _PLAIN | _set("""
    dawn sunrise morning noon midday day daylight daytime afternoon sunset dusk evening twilight night nighttime
    midnight moon moonlit moonlight star starry sun sunny sunlight sunlit sunshine light lighting lit lamp lantern
    candle candlelight neon glow glowing dark darkness shadow shady bright dim backlit spotlight firelight campfire
    aurora rain rainy raining storm stormy thunder lightning fog foggy mist misty cloudy overcast snowing blizzard
    rainbow eclipse golden hour underwater space galaxy indoor interior""")

_COMPOSITION_GIVEN = _set("""
    close closeup portrait wide panorama panoramic view viewed angle centered centred center centre foreground
    symmetrical symmetry composition composed framing framed macro isometric overhead aerial shot zoomed crop cropped
    profile silhouette pattern icon logo sticker""")

_ROOMS: tuple[tuple[frozenset[str], str], ...] = (
    (_set("sofa couch bed armchair pillow rug crib television"), "in a cosy living room"),
    (_set("cake bread pizza soup pie chef cook pan pancake teapot plate stove fridge sandwich"), "in a bright kitchen"),
    (_set("book bookshelf librarian desk"), "in a quiet library"),
)
_PLACES: tuple[tuple[frozenset[str], str], ...] = (
    (_set("fish whale shark octopus dolphin jellyfish squid coral submarine mermaid diver seahorse"), "under water"),
    (_set("rocket astronaut alien ufo spaceship satellite comet"), "in outer space"),
    (_set("penguin snowman reindeer sled sleigh igloo skier"), "in the snow"),
    (_set("camel cactus scorpion"), "in the desert"),
    (_set("dragon castle knight king queen wizard eagle climber goat hiker"), "in the mountains"),
    (_set("fox deer bear owl wolf squirrel hedgehog rabbit raccoon mushroom boar moose badger"), "in a quiet forest"),
    (_set("cow pig sheep horse hen chicken rooster duck tractor farmer lamb donkey"), "on a farm"),
    (_set("crab seagull surfer surfboard sandcastle seashell sailboat sailor ship pirate"), "on a beach"),
    (_set("car bus taxi bicycle motorcycle scooter truck tram policeman"), "on a city street"),
    (_set("singer dancer guitarist band violinist actor"), "on a stage"),
    *_ROOMS,
    (_set("dog puppy girl boy woman man child kid baby butterfly"), "in a park"),
)
_INDOORS = _set("room kitchen library stage house home indoors bedroom cafe shop office interior")
# Each says an hour, and some the weather too, in words that the planner knows.
_LIGHTS = (
    "in soft morning light", "on a sunny day under a clear sky", "in warm afternoon light", "at sunset",
    "in the early morning with mist", "in gentle daylight", "at dusk in calm evening light",
)  # fmt: skip
_LIGHTS_INDOORS = ("in soft morning light", "in warm afternoon light", "in gentle daylight", "in cosy evening light")
_VIEWS = ("", "", "a wide view", "")
