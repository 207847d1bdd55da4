"""The training set: shard k is a function of k, and a killed writer goes on where it was."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, TEXT_DIM, TEXT_TOKENS, grid
from limner.painter.training import data
from limner.painter.training.data import PAINTINGS, SIZES, Shard, describe, make, write
from limner.painter.words import Words

SCENES = 2


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SCENES", SCENES)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


def assert_equal(one: Shard, other: Shard) -> None:
    for field in fields(Shard):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


def test_a_shard_is_a_function_of_its_number(bank: Bank) -> None:
    one = make(4, bank)
    make(5, bank)
    assert_equal(one, make(4, Bank.load()))
    assert (one.caption != make(4 + len(SIZES), bank).caption).any()


@pytest.mark.parametrize("number", [0, 4, 12])
def test_a_shard_holds_drafts_and_their_paintings(bank: Bank, number: int) -> None:
    shard = make(number, bank)
    rows, cols = grid(*SIZES[number % len(SIZES)])
    assert shard.draft.shape == (SCENES, rows * PATCH, cols * PATCH, 3)
    assert shard.target.shape == (SCENES * PAINTINGS, rows * PATCH, cols * PATCH, 3)
    assert shard.style.shape == shard.caption.shape == (SCENES * PAINTINGS,)
    assert shard.sprite.shape == (SCENES, 96, 96, 4)
    assert (shard.sprite[..., :3] <= shard.sprite[..., 3:]).all(), "premultiplied"
    assert shard.box.shape == (SCENES, 4)
    assert (shard.box[:, :2] < shard.box[:, 2:]).all()
    assert shard.style.max() < len(STYLES)
    assert shard.text is None

    def coarse(image: np.ndarray) -> np.ndarray:
        """Without the outermost tokens: a wash leaves the paper's rim white."""
        return image.reshape(rows, PATCH, cols, PATCH, 3).mean((1, 3, 4))[1:-1, 1:-1]

    drafts = [coarse(draft) for draft in shard.draft]
    for i, painting in enumerate(map(coarse, shard.target)):
        off = [np.abs(painting - draft).mean() for draft in drafts]
        assert int(np.argmin(off)) == i // PAINTINGS, "a painting of another draft"


def test_a_shard_is_kept_and_read_in_place(bank: Bank, tmp_path: Path) -> None:
    shard = make(4, bank)
    shard.save(tmp_path / "00004")
    loaded = Shard.load(tmp_path / "00004")
    assert isinstance(loaded.target, np.memmap)
    assert_equal(loaded, shard)


def test_writing_goes_on_where_a_killed_writer_stopped(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def dies(path: Path, array: np.ndarray) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, array)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            write(4, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00004.partial"]
    assert write(4, tmp_path) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["00004"]
    written = Shard.load(tmp_path / "00004")
    assert written.text is not None
    assert_equal(replace(written, text=None), make(4, bank))


def test_a_shard_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "00004").mkdir()
    assert write(4, tmp_path) == 4
    assert list((tmp_path / "00004").iterdir()) == []


def test_no_shard_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    assert write(4, tmp_path, deadline=0) == 4
    assert list(tmp_path.iterdir()) == []


def test_captions_get_their_token_features_once(bank: Bank, tmp_path: Path) -> None:
    make(4, bank).save(tmp_path / "00004")
    (tmp_path / "00009.partial").mkdir()
    words = Words.load()
    for folder in tmp_path.iterdir():
        describe(folder, words.tokens)
    shard = Shard.load(tmp_path / "00004")
    assert shard.text is not None
    assert shard.text.shape == (SCENES * PAINTINGS, TEXT_TOKENS, TEXT_DIM)
    wanted = words.tokens(str(shard.caption[0]))[:TEXT_TOKENS]
    np.testing.assert_allclose(shard.text[0], wanted, atol=5e-3)
    before = (tmp_path / "00004" / "text.npy").stat().st_mtime_ns
    describe(tmp_path / "00004", words.tokens)
    assert (tmp_path / "00004" / "text.npy").stat().st_mtime_ns == before
    assert list((tmp_path / "00009.partial").iterdir()) == []
