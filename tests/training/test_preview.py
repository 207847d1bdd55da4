"""The contact sheet of the training set."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from limner.painter.bank import Bank
from limner.painter.training import preview
from limner.painter.training.preview import GAP, LEADING, LINES, SIDE, TYPE, main, pairs, sheet, wrapped

FONT = ImageFont.load_default(TYPE)


def test_pairs_are_a_function_of_the_seed_and_of_the_style_asked_for() -> None:
    bank = Bank.load()
    one, same = pairs(2, 3, "comic", bank), pairs(2, 3, "comic", bank)
    for (draft, target, caption, style), (again, painted, text, _) in zip(one, same, strict=True):
        assert draft.shape == target.shape == (SIDE, SIDE, 3)
        np.testing.assert_array_equal(draft, again)
        np.testing.assert_array_equal(target, painted)
        assert caption == text
        assert style == "comic"
        assert np.abs(draft.astype(int) - target).mean() > 1
    assert pairs(1, 4, None, bank)[0][2] != one[0][2]


def test_captions_are_wrapped_between_words_inside_the_width() -> None:
    text = "a large red fox and two small blue boats on the beach at sunset, watercolor"
    lines = wrapped(text, 200, FONT)
    assert " ".join(lines) == text
    assert len(lines) > 1
    assert all(FONT.getlength(line) <= 200 for line in lines)


def test_a_caption_that_is_too_long_ends_in_dots() -> None:
    lines = wrapped("word " * 200, 200, FONT, 3)
    assert len(lines) == 3
    assert lines[-1].endswith(" ...")
    assert all(FONT.getlength(line) <= 200 for line in lines)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 3, 2)])
def test_the_sheet_has_room_for_all_and_shows_the_captions(count: int, columns: int, rows: int) -> None:
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    shown = sheet([(grey, grey, "a fox", "flat")] * count)
    width, height = 2 * SIDE + GAP, SIDE + LINES * LEADING + GAP
    assert shown.size == (columns * width + GAP, rows * height + GAP)
    pixels = np.asarray(shown.convert("L")).astype(int)
    assert (pixels[GAP + 5, GAP + 5], pixels[GAP + 5, GAP + 2 * SIDE - 5]) == (128, 128)
    assert pixels[GAP + SIDE : GAP + SIDE + LEADING, GAP : GAP + 150].min() < 60, "the caption is in ink"
    assert pixels[GAP + SIDE + 2 * LEADING : height, GAP:].min() > 200, "one line is enough"


def test_the_command_writes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["preview", "-o", str(out), "--scenes", "1", "--seed", "2", "--style", "clay"])
    main()
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width == 2 * SIDE + 2 * GAP


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "x.png", "--scenes", "0"], "--scenes must be at least 1"),
        (["-o", "nowhere/x.png"], "there is no folder nowhere"),
        (["-o", "x.png", "--style", "oil"], "invalid choice"),
        ([], "required: -o"),
    ],
)
def test_wrong_arguments_are_sentences(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["preview", *arguments])
    monkeypatch.setattr(preview.Bank, "load", lambda: pytest.fail("nothing is drawn"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
