"""The painter repaints a part of a picture: its subject in the mask, on its own place or on what flows in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from limner.engine.core import Request, UInt8
from limner.evaluation.painting import paint
from limner.painter.cutout import Cutout, cut_out
from limner.painter.matting import Matting
from limner.painter.repaint import Frame, flowing
from limner.painter.scene import Scene, Thing
from limner.pipelines.painter import FLOWS, PainterPipeline


@pytest.fixture(scope="module")
def painter() -> PainterPipeline:
    return PainterPipeline.load()


SIDE = 512
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[200:480, 150:400] = 255
FREE = MASK == 255


def asked(prompt: str, picture: UInt8 | None = None, **fields: Any) -> Request:
    request = Request("test", prompt, fields.pop("seed", 7), SIDE, SIDE, **fields)
    if picture is None:
        return request
    opaque = np.dstack((picture, np.full(picture.shape[:2], 255, np.uint8)))
    return replace(request, references=(opaque, *request.references), mask=fields.get("mask", MASK))


@pytest.fixture(scope="module")
def fox(painter: PainterPipeline) -> UInt8:
    return paint(painter, asked("a red fox on a snowy hill")).pixels


def test_every_pixel_outside_the_mask_stays_and_the_same_request_has_the_same_bytes(
    painter: PainterPipeline, fox: UInt8
) -> None:
    request = asked("a brown bear on a snowy hill", fox)
    bear = paint(painter, request).pixels
    np.testing.assert_array_equal(bear[~FREE], fox[~FREE])
    assert abs(bear[FREE].astype(int) - fox[FREE]).mean() > 10
    paint(painter, asked("a dog"))
    np.testing.assert_array_equal(paint(painter, request).pixels, bear)


def test_what_stands_in_the_scene_stands_in_the_mask(painter: PainterPipeline, fox: UInt8) -> None:
    plan = paint(painter, asked("a brown bear on a snowy hill", fox)).plan
    assert plan is not None
    (bear,) = plan["items"]
    assert 150 / SIDE < bear["x"] < 400 / SIDE
    assert 200 / SIDE < bear["y"] - bear["height"] < bear["y"] <= 480 / SIDE


def test_a_picture_of_its_own_goes_on_behind_a_new_subject(painter: PainterPipeline) -> None:
    """With the prompt's place and the seed of the picture, the ground in the mask is the picture's own."""
    hill = paint(painter, asked("a tiny red apple on a snowy hill")).pixels
    repainted = paint(painter, asked("a tiny red apple on a snowy hill", hill)).pixels
    other = paint(painter, asked("a tiny red apple in the desert", hill)).pixels
    here, there = (np.median(abs(one[FREE].astype(int) - hill[FREE])) for one in (repainted, other))
    assert here <= 3 < 20 < there


def test_without_a_place_in_the_prompt_the_colours_around_the_mask_flow_in(painter: PainterPipeline) -> None:
    blue = np.full((SIDE, SIDE, 3), (30, 60, 220), np.uint8)
    painting = paint(painter, asked("a dog", blue))
    painted = painting.pixels
    assert painting.notes == (FLOWS,)
    edge = FREE.copy()
    edge[220:460, 170:380] = False  # a rim of the mask that the dog does not reach
    assert abs(painted[edge].astype(int) - (30, 60, 220)).mean() < 12
    assert (abs(painted[FREE].astype(int) - (30, 60, 220)).max(-1) > 60).mean() > 0.05  # the dog
    again = paint(painter, asked("a dog", blue, scene=painting.plan))
    assert again.plan == painting.plan
    np.testing.assert_array_equal(again.pixels, painted)


def test_further_references_are_painted_into_the_mask(painter: PainterPipeline, fox: UInt8) -> None:
    figure = np.zeros((200, 160, 4), np.uint8)
    figure[20:180, 40:120] = (30, 60, 220, 255)
    request = asked("it in the snow", fox, references=(figure,))
    encoded = painter.encode(request)
    assert encoded.plan is not None
    assert [item["kind"] for item in encoded.plan["items"]] == ["reference"]
    painted = paint(painter, request).pixels
    np.testing.assert_array_equal(painted[~FREE], fox[~FREE])
    assert (painted[FREE][:, 2].astype(int) - painted[FREE][:, 0] > 80).mean() > 0.03


def test_further_references_are_cut_out_once_for_all_pictures_of_a_call(
    painter: PainterPipeline, fox: UInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[UInt8] = []

    def counted(reference: UInt8, matting: Matting) -> Cutout:
        cuts.append(reference)
        return cut_out(reference, matting)

    monkeypatch.setattr("limner.pipelines.painter.cut_out", counted)
    figure = np.zeros((200, 160, 4), np.uint8)
    figure[20:180, 40:120] = (30, 60, 220, 255)
    request = asked("it in the snow", fox, references=(figure,))
    for seed in (7, 8, 9):
        painter.encode(replace(request, seed=seed))
    assert [cut is figure for cut in cuts] == [True]  # and what is repainted is not cut out
    painter.encode(replace(request, mask=None))
    assert len(cuts) == 3


def test_a_scene_of_the_callers_own_stands_where_it_says(painter: PainterPipeline, fox: UInt8) -> None:
    scene = {"place": "snow", "items": [{"kind": "thing", "concept": "red-apple", "x": 0.5, "y": 0.8, "height": 0.3}]}
    plan = paint(painter, asked("", fox, scene=scene)).plan
    assert plan is not None
    assert (plan["items"][0]["x"], plan["items"][0]["y"]) == (0.5, 0.8)


def test_a_mask_of_the_whole_picture_paints_another(painter: PainterPipeline, fox: UInt8) -> None:
    painted = paint(painter, replace(asked("a dog", fox), mask=np.full((SIDE, SIDE), 255, np.uint8))).pixels
    assert abs(painted.astype(int) - fox).mean() > 20
    assert painted.std() > 20


def test_a_frame_is_around_all_that_is_repainted() -> None:
    frame = Frame.around(MASK)
    assert frame == Frame(150 / SIDE, 200 / SIDE, 250 / SIDE, 280 / SIDE)
    scene = Scene(items=(Thing(concept="x", x=0.5, y=1.0, height=0.5),))
    (item,) = frame.moved(scene, placed=True).items
    assert (item.x, item.y, item.height) == pytest.approx((275 / SIDE, 480 / SIDE, 140 / SIDE))


def test_rows_flow_into_the_mask_from_both_sides() -> None:
    picture = np.repeat(np.linspace(0, 255, SIDE).astype(np.uint8)[:, None, None], SIDE, 1).repeat(3, 2)
    filled = flowing(picture, MASK)
    np.testing.assert_array_equal(filled[~FREE], picture[~FREE])
    assert abs(filled.astype(int) - picture).max() < 25  # a sky stays a sky, from top to bottom
