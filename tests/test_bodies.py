"""Faces of the bank become whole animals: which ones, in whose colours, and that the box says where they are."""

from __future__ import annotations

import re

import numpy as np
import pytest
import skia

from limner.engine.core import UInt8
from limner.painter import draft
from limner.painter.bank import Bank, recolour
from limner.painter.bodies import COATS, ROWS, STANCES, TAILS, whole
from limner.painter.scene import Colour, Thing

HEX = re.compile(r"#[0-9a-f]+")
EVERY = sorted(ROWS)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


def rendered(svg: str, box: tuple[float, float, float, float]) -> UInt8:
    """The fragment with 20 units of room round its box, two pixels a unit: (H, W, 4) uint8."""
    x, y, width, height = (box[0] - 20, box[1] - 20, box[2] + 40, box[3] + 40)
    pixels = np.zeros((round(2 * height), round(2 * width), 4), np.uint8)
    info = skia.ImageInfo.Make(pixels.shape[1], pixels.shape[0], skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Canvas.MakeRasterDirect(info, pixels, pixels.shape[1] * 4)
    root = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x} {y} {width} {height}">{svg}</svg>'
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(root.encode()))
    dom.setContainerSize(skia.Size(pixels.shape[1], pixels.shape[0]))
    dom.render(canvas)
    return pixels


@pytest.mark.parametrize("name", EVERY)
def test_a_row_names_a_drawing_its_colours_and_shapes_that_exist(name: str, bank: Bank) -> None:
    row, svg = ROWS[name], bank[name].svg
    for colour in (row.fur, row.belly, row.limb, row.foot, row.pad, row.tip, row.mane, row.rim):
        assert not colour or colour in svg, f"{name} has no {colour}"
    assert row.stance in STANCES
    assert row.tail in TAILS
    assert not row.coat or row.coat in COATS


def test_every_animal_head_of_the_bank_has_a_body(bank: Bank) -> None:
    heads = [each for name in bank.names for each in bank.variants(name) if bank[each].group == "animal-head"]
    assert len(heads) >= 30
    assert set(heads) <= set(ROWS)


@pytest.mark.parametrize("word", ["cat", "dog", "tiger", "cow", "pig", "monkey", "mouse", "rabbit", "horse", "dragon"])
def test_an_animal_drawn_both_ways_is_named_by_its_whole_drawing(word: str, bank: Bank) -> None:
    found = bank.find(word)
    assert found is not None
    assert found not in ROWS


@pytest.mark.parametrize("name", EVERY)
def test_the_box_holds_the_animal_closely_and_its_feet_are_at_the_bottom(name: str, bank: Bank) -> None:
    svg, box = whole(bank[name], bank[name].svg)
    rows, columns = np.nonzero(rendered(svg, box)[..., 3] > 24)
    left, top = columns.min() / 2 - 20, rows.min() / 2 - 20
    right, bottom = (columns.max() + 1) / 2 - 20 - box[2], (rows.max() + 1) / 2 - 20 - box[3]
    assert abs(bottom) <= 1
    assert abs(top) <= 1.5
    assert abs(left) <= 3
    assert abs(right) <= 3


@pytest.mark.parametrize("name", EVERY)
def test_the_head_is_about_half_of_the_animal_and_lies_on_the_body(name: str, bank: Bank) -> None:
    drawing = bank[name]
    svg, box = whole(drawing, drawing.svg)
    placed = re.search(r"scale\(([\d.]+)\)\">" + re.escape(drawing.svg[:40]), svg)
    assert placed is not None
    assert svg.endswith(f"{drawing.svg}</g></g>")
    assert 0.45 <= float(placed[1]) * drawing.box[3] / box[3] <= 0.68


@pytest.mark.parametrize("name", EVERY)
def test_the_fragment_keeps_to_what_the_renderers_agree_on(name: str, bank: Bank) -> None:
    drawing = bank[name]
    body = whole(drawing, drawing.svg)[0].replace(drawing.svg, "")
    assert not re.search(r"<(filter|clipPath|mask|ellipse|style)|\bid=", body)
    assert all(len(colour) == 7 for colour in HEX.findall(body))
    assert body.count("<g") == body.count("</g>")


@pytest.mark.parametrize(
    ("name", "colour"),
    [("fox", "blue"), ("bear", "purple"), ("koala", "pink"), ("wolf", "green"), ("frog", "blue"), ("cow-face", "blue")],
)
def test_a_recoloured_face_brings_a_recoloured_body(name: str, colour: Colour, bank: Bank) -> None:
    drawing = bank[name]
    own, box = whole(drawing, drawing.svg)
    other, other_box = whole(drawing, recolour(drawing, colour))
    assert other_box == box
    fur = ROWS[name].fur
    assert own.count(fur) > drawing.svg.count(fur)
    assert fur not in other
    middle = (rendered(own, box), rendered(other, box))
    torso = [pixels[-80:-40, :, :3][pixels[-80:-40, :, 3] > 250].mean(axis=0) for pixels in middle]
    assert np.abs(torso[0] - torso[1]).max() > 30


@pytest.mark.parametrize("name", EVERY)
def test_a_colour_word_means_the_fur_and_not_the_muzzle_or_belly(name: str, bank: Bank) -> None:
    assert ROWS[name].fur in bank[name].body
    assert bank[name].recolourable


def test_a_frog_is_green_and_not_as_yellow_as_its_belly(bank: Bank) -> None:
    assert bank["frog"].colours[0] == "green"


def test_a_drawing_that_is_whole_already_stays_as_it_is(bank: Bank) -> None:
    apple = bank["red-apple"]
    assert whole(apple, apple.svg) == (apple.svg, apple.box)


def test_the_draft_shows_a_fox_with_its_body(bank: Bank) -> None:
    thing = Thing(concept="fox")
    box = whole(bank["fox"], bank["fox"].svg)[1]
    assert draft.ratio(thing, bank) == pytest.approx(box[2] / box[3])
    face_alone = bank["fox"].box[2] / bank["fox"].box[3]
    assert draft.ratio(thing, bank) < 0.8 * face_alone
