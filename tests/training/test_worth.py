"""The denoiser's worth for the eye: sheets of the right pictures, pairs that do not tell, answers counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.engine.core import Request
from limner.evaluation.painting import paint
from limner.painter.training import worth
from limner.painter.training.worth import LABEL, STRENGTHS, draft_of, pairs, score, seeds, strengths
from limner.pipelines.painter import PainterPipeline

SIDE = 512


@pytest.fixture(scope="module")
def painter() -> PainterPipeline:
    return PainterPipeline.load(threads=1)


def test_the_strengths_stand_beside_their_draft(painter: PainterPipeline) -> None:
    sheet = strengths(painter, ["a red fox"], SIDE)
    assert sheet.shape == (SIDE + 2 * LABEL, SIDE * (1 + len(STRENGTHS)), 3)
    shown = np.split(sheet[2 * LABEL :], 1 + len(STRENGTHS), axis=1)
    request = Request("worth", "a red fox", 0, SIDE, SIDE)
    np.testing.assert_array_equal(shown[0], draft_of(painter, request))
    np.testing.assert_array_equal(shown[1], paint(painter, request).pixels)
    apart = [np.abs(picture.astype(float) - shown[0]).mean() for picture in shown[1:]]
    assert apart[0] < apart[2] < apart[3], "more strength leaves the draft more"


def test_each_seed_has_its_own_picture(painter: PainterPipeline) -> None:
    sheet = seeds(painter, "a red fox", SIDE, across=2)
    assert sheet.shape == (2 * SIDE + LABEL, 2 * SIDE, 3)
    shown = [half for row in np.split(sheet[LABEL:], 2) for half in np.split(row, 2, axis=1)]
    np.testing.assert_array_equal(shown[3], paint(painter, Request("worth", "a red fox", 3, SIDE, SIDE)).pixels)
    assert all((shown[0] != other).any() for other in shown[1:])


def test_pairs_hold_draft_and_picture_and_only_the_key_says_where(
    painter: PainterPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worth, "PAIRS_A_SHEET", 4)
    pairs(painter, ["a red fox", "a blue boat"], 6, SIDE, tmp_path, seed=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "pairs-00.png", "pairs-01.png"]
    data = (tmp_path / "key").read_bytes()
    assert b"left" not in data
    assert b"right" not in data
    with Image.open(tmp_path / "pairs-00.png") as image:
        sheet = np.asarray(image)
    sides = []
    for number, row in enumerate(np.split(sheet, 4)):
        request = Request("worth", ("a red fox", "a blue boat")[number % 2], 3 + number, SIDE, SIDE)
        left, right = row[LABEL:, :SIDE], row[LABEL:, -SIDE:]
        both = (draft_of(painter, request), paint(painter, request).pixels)
        painted_left = (left == both[1]).all()
        np.testing.assert_array_equal(right, both[0] if painted_left else both[1])
        sides.append("left" if painted_left else "right")
    best = "".join(f"{k} {side}\n" for k, side in enumerate(sides)) + "4 same\n5 same"
    assert score(tmp_path, best) == {
        "picture": 4, "draft": 0, "same": 2, "share": 1.0, "interval": pytest.approx((0.51, 1.0), abs=0.01),
    }  # fmt: skip
    worst = best.replace("left", "x").replace("right", "left").replace("x", "right")
    assert score(tmp_path, worst + " # no matter")["draft"] == 4
    assert json.dumps(score(tmp_path, best))


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ("0 left", "Each of the pairs 0 to 1"),
        ("0 left\n1 up", "'1 up' is no answer"),
        ("0 left\n0 right\n1 left", "Pair 0 has two answers"),
        ("0 left\n1 left\n2 left", "Each of the pairs 0 to 1"),
        ("one left", "is no answer"),
    ],
)
def test_answers_that_are_none_are_refused(tmp_path: Path, answers: str, sentence: str) -> None:
    (tmp_path / "key").write_bytes(worth.base64.b64encode(worth.zlib.compress(b'["left", "right"]')))
    with pytest.raises(ValueError, match=sentence):
        score(tmp_path, answers)
