"""The styles that the denoiser learns: different from each other, textured by chance, the same for the same chance."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations

import numpy as np
import pytest

from limner.engine.core import UInt8
from limner.painter.bank import Bank
from limner.painter.denoiser import STYLES
from limner.painter.draft import Draft, compose
from limner.painter.fullsize import BLOCKS
from limner.painter.scene import Person, Scene, Thing
from limner.painter.training.styles import PAINTERS, Parts, paint, parts

TEXTURED = ("storybook", "watercolor", "medieval", "clay", "papercut")


def draft(*items: Person | Thing, place: str = "park") -> Draft:
    return compose(Scene.model_validate({"place": place, "variant": 4, "items": items}), 1.0, Bank.load())


@pytest.fixture(scope="module")
def lit() -> Parts:
    thing = Thing(concept=Bank.load().names[10], x=0.75, height=0.4)
    return parts(draft(Person(x=0.3, height=0.7), thing).layers(192, 192), (0.2, 0.1))


def painted(style: str, lit: Parts, seed: int = 0) -> UInt8:
    return paint(style, lit, np.random.default_rng(seed))


def test_there_is_a_painter_for_every_style() -> None:
    assert tuple(PAINTERS) == STYLES


@pytest.mark.parametrize("style", STYLES)
def test_a_style_gives_a_picture_and_leaves_its_material_alone(style: str, lit: Parts) -> None:
    before = {field.name: getattr(lit, field.name).copy() for field in fields(Parts)}
    picture = painted(style, lit)
    assert picture.shape == (192, 192, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(lit, name), value)


def test_every_two_styles_differ_plainly_but_show_the_same_scene(lit: Parts) -> None:
    pictures = {style: painted(style, lit).astype(float) for style in STYLES}
    for one, other in combinations(STYLES, 2):
        assert np.abs(pictures[one] - pictures[other]).mean() > 2, (one, other)
    flat = pictures["flat"].mean(2).reshape(24, 8, 24, 8).mean((1, 3)).ravel()
    for style in STYLES:
        coarse = pictures[style].mean(2).reshape(24, 8, 24, 8).mean((1, 3)).ravel()
        assert np.corrcoef(flat, coarse)[0, 1] > 0.7, style


@pytest.mark.parametrize("style", STYLES)
def test_the_same_chance_gives_the_same_picture_and_another_another_texture(style: str, lit: Parts) -> None:
    one, same, other = (painted(style, lit, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() == (style in TEXTURED)
    assert np.abs(one.astype(int) - other).mean() < 25, "a texture, not another picture"


def test_pixel_art_is_made_of_whole_blocks(lit: Parts) -> None:
    side = BLOCKS["pixel"]
    cells = painted("pixel", lit).reshape(192 // side, side, 192 // side, side, 3)
    assert np.ptp(cells, axis=(1, 3)).max() == 0


def test_things_are_lit_from_the_sun() -> None:
    layers = draft(Person(height=0.8), place="plain").layers(192, 192)
    left, right = (parts(layers, (x, 0.0)).form for x in (0.0, 1.0))
    brighter = left - right
    halves = brighter[:, :96].sum(), brighter[:, 96:].sum()
    assert halves[0] > 0 > halves[1]
    np.testing.assert_array_equal(parts(layers, None).form, parts(layers, (0.2, 0.0)).form)


def test_parts_keep_their_ranges_and_the_draft(lit: Parts) -> None:
    for name, least in {"colour": 0, "solid": 0, "form": -1, "cast": 0, "ink": 0}.items():
        plane = getattr(lit, name)
        assert plane.dtype == np.float32
        assert plane.shape[:2] == (192, 192)
        assert least <= plane.min() < plane.max() <= 1, name
    thing = Thing(concept=Bank.load().names[10], x=0.75, height=0.4)
    whole = draft(Person(x=0.3, height=0.7), thing).draw(192, 192)
    assert np.abs(lit.colour * 255 - whole).mean() < 0.5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("items", [(), (Person(x=1.5, y=1.5, height=0.1),), (Person(height=0.004),)])
def test_scenes_with_nothing_to_see_can_be_painted(style: str, items: tuple[Person, ...]) -> None:
    assert painted(style, parts(draft(*items).layers(96, 128), None)).shape == (128, 96, 3)


def test_an_unknown_style_is_a_key_error(lit: Parts) -> None:
    with pytest.raises(KeyError, match="cubist"):
        painted("cubist", lit)
