"""Clip art and silhouettes become drawings of the bank; the bank draws what people ask for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from limner.painter.bank import Bank
from limner.painter.colours import SHADES, shade
from limner.painter.training import lexicon
from limner.painter.training.clipart import MARGIN, SIDE, icon_of
from limner.painter.training.normalise import CannotNormalise, by_resvg, by_skia, normalise
from limner.painter.training.silhouettes import coloured, contours, parts

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="200mm" height="100mm">'


def drawn(inner: str, side: float = SIDE) -> np.ndarray:
    """(64, 64, 4) uint8, premultiplied."""
    return by_skia(inner, (0.0, 0.0, side, side), 64)


def test_clip_art_is_cropped_to_what_it_shows() -> None:
    alpha = drawn(icon_of(f'{HEAD}<rect x="300" y="40" width="40" height="20" style="fill:#f00"/></svg>'))[..., 3] > 128
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    edge = round(MARGIN * 64 / SIDE)
    assert (columns[0], columns[-1]) == (edge, 63 - edge)
    assert rows[-1] - rows[0] == pytest.approx(30, abs=1.5)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(31.5, abs=1)


def test_styles_classes_and_units_of_clip_art_become_plain_attributes() -> None:
    text = (
        f'{HEAD}<style>.a{{fill:blue}}</style><g id="layer1"><path class="a" d="M0 0h10v10H0z"/>'
        '<path style="fill:rgb(0,128,0);stroke:none" d="M10 0h10v10H10z"/>'
        '<path style="display:none;fill:red" d="M0 0h99v99H0z"/>'
        '<polygon style="fill:yellow;stroke:#000;stroke-width:2px" points="0,10 20,10 20,20 0,20"/></g></svg>'
    )
    svg = normalise(icon_of(text), "x", SIDE)
    assert {"#0000ff", "#008000", "#ffff00"} <= set(re.findall("#[0-9a-f]{6}", svg))
    assert "style" not in svg
    assert "#ff0000" not in svg
    box = (0.0, 0.0, SIDE, SIDE)
    assert np.abs(drawn(svg).astype(int) - by_resvg(svg, box, 64)).mean() < 2


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("<text>hello</text>", "element <text>"),
        ('<image href="a.png"/>', "element <image>"),
        ('<path style="filter:url(#a)" d="M0 0h9v9z"/>', "a filter or a mask"),
        ('<path fill="none" d="M0 0h9v9z"/>', "nothing to see"),
        ("<path", "not well formed"),
    ],
)
def test_clip_art_that_cannot_be_plain_is_refused(inside: str, fault: str) -> None:
    with pytest.raises(CannotNormalise, match=fault):
        icon_of(f"{HEAD}{inside}</svg>")


RING = "M10 10h80v80h-80z M30 30v40h40v-40z"


def test_a_hole_stays_with_the_part_that_it_is_in_and_an_island_in_it_is_a_part() -> None:
    island = "m15 15h10v10h-10z"
    found = parts(contours(RING + island))
    assert len(found) == 2
    assert found[0].count("M") == 2
    assert found[1].count("M") == 1


def test_relative_lines_curves_and_arcs_are_followed_to_where_they_end() -> None:
    (line,) = contours("m10 10 h20 v10 c0 5 5 5 5 10 a5 5 0 01-5 5 L10 40z")
    assert line.points == [(10, 10), (30, 10), (30, 20), (35, 30), (30, 35), (10, 40)]


def test_a_silhouette_has_its_parts_in_the_colours_asked_for_inside_darker_lines() -> None:
    svg = coloured(f'<path fill="currentColor" d="{RING}M80 92h8v6h-8z"/>', 100, ("silver", "brown"))
    silver, brown = SHADES["silver"], SHADES["brown"]
    assert set(re.findall("#[0-9a-f]{6}", svg)) == {silver, brown, shade(silver, 0.5), shade(brown, 0.5)}
    pixels = drawn(svg, 100)
    assert pixels[32, 32, 3] == 0, "the hole is open"
    assert "#" + "".join(f"{part:02x}" for part in pixels[13, 32, :3]) == silver


@pytest.mark.parametrize(("paths", "tints"), [(2, ("red",)), (1, ()), (1, ("crimson",))])
def test_a_silhouette_without_its_colours_is_refused(paths: int, tints: tuple[str, ...]) -> None:
    with pytest.raises(CannotNormalise, match="a silhouette of"):
        coloured(paths * f'<path d="{RING}"/>', 100, tints)


def test_the_bank_draws_nearly_all_of_the_common_things_that_people_ask_for() -> None:
    lines = Path(lexicon.__file__).with_name("nouns.txt").read_text().splitlines()
    nouns = [noun.strip() for line in lines if line[:1] != "#" for noun in line.split(",") if noun.strip()]
    assert len(nouns) >= 1250
    assert len(set(nouns)) == len(nouns)
    bank = Bank.load()
    missing = [noun for noun in nouns if bank.find(noun) is None]
    assert len(missing) <= 0.02 * len(nouns), missing


def test_what_a_face_does_is_no_name_of_a_smiley() -> None:
    bank = Bank.load()
    assert bank.find("crying smiley") == "crying-face"
    for words in ("crying face", "smiling face", "angry face", "sad face", "waving hand", "raised hand"):
        assert bank.find(words) is None, words


@pytest.mark.parametrize(
    ("language", "word", "concept"),
    [("zh", "松鼠", "squirrel"), ("es", "espantapájaros", "scarecrow"), ("fr", "phare", "lighthouse"),
     ("de", "bücherregal", "bookshelf"), ("ja", "灯台", "lighthouse")],
)  # fmt: skip
def test_things_without_an_emoji_have_names_in_other_languages(language: str, word: str, concept: str) -> None:
    assert Bank.load().foreign(language)[word] == concept  # type: ignore[arg-type]  # parametrised
