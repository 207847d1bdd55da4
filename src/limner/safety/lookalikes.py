"""Characters that are read as Latin letters, and the digits and signs that stand for them.

Written for Limner after the principle of Unicode TR 39 (a skeleton that look-alikes share), not taken from its data:
the letters of other scripts, phonetic alphabets and symbols that fancy-text generators and people in fact put for
Latin ones. What compatibility normalisation (NFKC) already unites, such as full-width and mathematical letters, is not
in here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_TWINS = {
    "a": "а α А Α Ꭺ ꓮ ᗩ",
    "b": "в ь Ь β В Β Ᏼ ꓐ ᗷ",
    "c": "с С Ꮯ ꓚ ᑕ",
    "d": "ԁ Ԁ Ꭰ ꓓ ᗪ",
    "e": "е є ε Е Ε Ꭼ ꓰ",
    "f": "ꓝ ᖴ ϝ",
    "g": "ց ԍ Ԍ Ꮐ ꓖ",
    "h": "н һ Һ հ Н Η Ꮋ ꓧ ᕼ",
    "i": "і ι І Ι Ꭵ ꓲ",
    "j": "ј ϳ յ Ј Ꭻ ꓙ ᒍ",
    "k": "к κ К Κ Ꮶ ꓗ",
    "l": "ӏ Ӏ լ Լ Ꮮ ꓡ ᒪ",
    "m": "м М Μ Ꮇ ꓟ ᗰ",
    "n": "η Ν ո ռ ꓠ ᑎ",
    "o": "о ο О Ο օ Օ Ꮎ ꓳ ס",
    "p": "р ρ Р Ρ Ꮲ ꓑ ᑭ",
    "q": "ԛ Ԛ զ ᑫ",
    "r": "г Ꭱ ꓣ ᖇ",
    "s": "ѕ Ѕ Տ Ꮪ ꓢ ᔕ",
    "t": "т τ Т Τ Ꭲ ꓔ",
    "u": "υ μ ս Ս ꓴ ᑌ",
    "v": "ν ѵ Ѵ Ꮩ ꓦ ᐯ",
    "w": "ω ѡ ԝ Ԝ Ꮤ ꓪ ᗯ",
    "x": "х χ Х Χ ꓫ ᙭",
    "y": "у γ ү У Υ Ү Ꮍ ꓬ",
    "z": "Ζ Ꮓ ꓜ ᘔ",
}
"""Letters of other scripts that look the same in one of their two cases."""

_LOOSE = {
    "a": "д",
    "b": "б ъ",
    "c": "ς",
    "d": "δ",
    "e": "з э ξ",
    "n": "п и π",
    "o": "ф θ σ φ",
    "q": "գ",
    "r": "я",
    "u": "ц",
    "w": "ш щ ա",
    "x": "ж",
    "y": "ч",
    "z": "ζ",
}
"""Letters that only suggest a Latin one. They count in a word that mixes scripts, where nobody means their own."""

_ODD = {"a": "ɑ", "c": "ɔ", "e": "ə", "f": "ɟ", "g": "ƃ", "i": "ɩ", "j": "ɾ", "n": "ŋ", "p": "ƿ", "u": "ʊ", "y": "ɣ"}
_NAMED_ODD = re.compile(
    "LATIN (?:SMALL |CAPITAL )?LETTER "
    "(?:(?:SMALL CAPITAL|TURNED|REVERSED|SIDEWAYS|INSULAR|SCRIPT|OPEN|BARRED) )*([A-Z])(?: WITH .+)?"
)
"""Small capitals, turned, hooked and phonetic letters, by their names but for those that are read as another letter:
Latin by name, and in a word still a disguise."""

_SIGNS = {
    "a": "4 @ ₳ ∀",
    "b": "8 ฿",
    "c": "( < ¢ © ₵",
    "d": "∂ ₫",
    "e": "3 € ℮ ∃",
    "f": "₣",
    "g": "6 9 ₲",
    "i": "1 ! ¡",
    "k": "₭",
    "l": "| £ ₤",
    "m": "₥",
    "n": "₦ ∩",
    "o": "0 ○ ◯ ● ⭕ ∅ °",
    "p": "₱",
    "r": "®",
    "s": "5 $ § ₴",
    "t": "7 + † ₮",
    "u": "∪",
    "w": "₩",
    "x": "×",
    "y": "¥",
    "z": "2",
}
"""Digits and signs that stand for letters."""

_STROKED = dict(zip("øđðłħŧƀıȷɨʉŀɫ", "oddlhtbijiull", strict=True)) | {"æ": "ae", "œ": "oe", "þ": "th"}
"""Letters of honest words whose stroke does not come off as a combining mark does."""

SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts written without spaces between words, by the first word of their characters' Unicode names."""

_UNDOUBTED = frozenset("fglnruvz")
"""Latin letters that no Cyrillic letter looks the same as."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What one character of a word is.

    Attributes:
        own: the character itself, case folded, strokes taken off.
        reading: the Latin letter that it is read as in a disguised word; else `own`.
        script: the first word of its Unicode name, such as LATIN or CYRILLIC; empty for digits and signs.
        twin: whether it looks the same as its reading, so that a whole word of such letters can pass for Latin.
        odd: whether it stands in no word of its own script.
        sign: whether it is a sign, which is part of a word only between letters.
    """

    own: str
    reading: str
    script: str = ""
    twin: bool = False
    odd: bool = False
    sign: bool = False


def _spread(table: dict[str, str]) -> dict[str, str]:
    return {twin: latin for latin, twins in table.items() for twin in twins if twin != " "}


_TWIN_OF, _LOOSE_OF, _ODD_OF, _SIGN_OF = _spread(_TWINS), _spread(_LOOSE), _spread(_ODD), _spread(_SIGNS)


@lru_cache(maxsize=4096)
def letter(character: str, digits: bool = True, marks: bool = True) -> Letter | None:
    """What a character is in a word, or None where it stands between words.

    Args:
        character: of a text in NFKC, without combining marks.
        digits: whether digits and signs may stand for letters.
        marks: whether a stroke through a letter comes off, as marks do.
    """
    code = ord(character)
    own = character.casefold().replace("\u0307", "")  # which folding İ leaves
    if character.isascii() and character.isalpha():
        return Letter(own, own, "LATIN", twin=own not in _UNDOUBTED)
    for first in (0x1F150, 0x1F170, 0x1F1E6):  # letters in black circles and squares, regional indicators
        if first <= code < first + 26:
            return Letter(character, chr(97 + code - first), odd=True)
    if character in _SIGN_OF and not character.isdigit():
        return Letter(character, _SIGN_OF[character], sign=True, odd=True) if digits else None
    category = unicodedata.category(character)
    if category == "Nd":
        digit = str(unicodedata.digit(character))
        return Letter(digit, _SIGN_OF.get(digit, digit) if digits else digit)
    if category[0] not in "LNM":
        return None
    name = unicodedata.name(character, "UNNAMED")
    script = name.partition(" ")[0].partition("-")[0]
    if character in _TWIN_OF:
        return Letter(own, _TWIN_OF[character], script, twin=True)
    if loose := _LOOSE_OF.get(character) or _LOOSE_OF.get(own):
        return Letter(own, loose, script)
    if own in _STROKED:
        own = _STROKED[own] if marks else own
    elif own in _ODD_OF:
        return Letter(own, _ODD_OF[own], script, odd=True)
    elif unicodedata.decomposition(character) == "" and (named := _NAMED_ODD.fullmatch(name)):
        return Letter(own, named[1].lower(), script, odd=True)
    return Letter(own, own, script)
