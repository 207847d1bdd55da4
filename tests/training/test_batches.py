"""Batches: a function of the step, cut where they should be, hidden as the denoiser's own code hides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.painter.denoiser import (
    PATCH,
    REFERENCE_TOKENS,
    STYLES,
    TEXT_DIM,
    TEXT_TOKENS,
    blurred,
    hide,
    reference_patches,
    rotary,
)
from limner.painter.training import batches
from limner.painter.training.batches import CROP, Batch, Pictures, load_batch, load_pictures
from limner.painter.training.data import PAINTINGS, Shard


@dataclass(frozen=True)
class Drawn:
    batch: int = 4
    seed: int = 0
    wholes: bool = False

    def whole(self, step: int) -> bool:
        return self.wholes


CROPS, WHOLES = Drawn(), Drawn(wholes=True)


def shard(rows: int, cols: int, seed: int, scenes: int = 3) -> Shard:
    """Each token of a picture is painted with its own place: red is the row, green the column, blue the picture."""
    rng = np.random.default_rng(seed)
    count = scenes * PAINTINGS
    y, x = (np.repeat(np.repeat(a, PATCH, 0), PATCH, 1) for a in np.indices((rows, cols)))
    target = np.stack([np.stack((y * 10, x * 10, np.full_like(x, i)), axis=-1) for i in range(count)]).astype(np.uint8)
    return Shard(
        draft=target[::PAINTINGS],
        target=target,
        style=(np.arange(count) % len(STYLES)).astype(np.uint8),
        caption=np.array(["a cat"] * count),
        sprite=rng.integers(0, 256, (scenes, 96, 96, 4), dtype=np.uint8),
        box=np.array([[1, 1, 3, 4]] * scenes, np.float32),
        text=np.broadcast_to((np.arange(count) + 1)[:, None, None], (count, TEXT_TOKENS, TEXT_DIM)).astype(np.float16),
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The batches are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    shard(10, 9, 0).save(folder / "00000")
    shard(10, 9, 1).save(folder / "00001")
    shard(9, 12, 2).save(folder / "00002")
    (folder / "00003.partial").mkdir()  # what a killed writer left
    return folder


@pytest.fixture(scope="module")
def shards(folder: Path) -> list[Pictures]:
    return load_pictures(folder, "cpu")


def pixels(x: Any) -> Any:
    return ((x + 1) * 127.5).round()


def test_a_batch_is_a_function_of_its_step(shards: list[Pictures]) -> None:
    for step in (0, 1, 8):
        one = load_batch(CROPS, shards, step)
        load_batch(CROPS, shards, step + 5)
        other = load_batch(CROPS, shards, step)
        for field in fields(Batch):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert not torch.equal(load_batch(CROPS, shards, 0).noise, load_batch(CROPS, shards, 1).noise)
    assert not torch.equal(load_batch(CROPS, shards, 0).noise, load_batch(Drawn(seed=1), shards, 0).noise)


@pytest.mark.parametrize("drawn", [CROPS, WHOLES])
def test_everything_in_a_batch_has_the_shape_and_range_that_the_network_takes(
    shards: list[Pictures], drawn: Drawn
) -> None:
    for step in range(6):
        batch = load_batch(drawn, shards, step)
        size, _, height, width = batch.clean.shape
        grid = (height // PATCH, width // PATCH)
        assert grid in ({(10, 9), (9, 12)} if drawn.wholes else {(CROP, CROP)})
        assert size == (4 * CROP * CROP // (grid[0] * grid[1]) if drawn.wholes else 4)
        assert batch.draft.shape == (size, 4, height, width)
        assert batch.noise.shape == batch.clean.shape
        assert batch.text.shape == (size, TEXT_TOKENS, TEXT_DIM)
        assert batch.reference.shape[1] in (0, REFERENCE_TOKENS)
        tokens = height * width // PATCH**2 + TEXT_TOKENS + batch.reference.shape[1]
        assert batch.cos.shape[:3] == batch.sin.shape[:3] == (size, 1, tokens)
        assert -1 <= batch.clean.min() < batch.clean.max() <= 1
        assert ((batch.t >= 0) & (batch.t < 1)).all()
        assert {value.dtype for value in batch.known.values()} == {torch.float32}


def test_each_example_is_a_window_of_one_picture_and_keeps_its_own_places(shards: list[Pictures]) -> None:
    tops = set()
    for step in range(8):
        batch = load_batch(CROPS, shards, step)
        references = batch.reference.shape[1] // REFERENCE_TOKENS
        for k, clean in enumerate(pixels(batch.clean).long()):
            corner = clean[:, ::PATCH, ::PATCH]  # of each token
            top, left = int(corner[0, 0, 0]) // 10, int(corner[1, 0, 0]) // 10
            tops.add((top, left))
            y, x = torch.meshgrid(torch.arange(top, top + CROP), torch.arange(left, left + CROP), indexing="ij")
            assert torch.equal(corner[0], y * 10)
            assert torch.equal(corner[1], x * 10)
            painting = int(corner[2, 0, 0])
            seen = pixels(batch.draft[k, :3]) == clean - torch.tensor([0, 0, painting % PAINTINGS])[:, None, None]
            if batch.strength[k] == 0:
                assert seen[:, batch.draft[k, 3] == 1].all(), "the draft is of another scene or window"
            assert set(batch.text[k].unique().tolist()) <= {0.0, painting + 1.0}
            for name, table in zip(("cos", "sin"), rotary(*_grid(shards, batch, step), references), strict=True):
                cells = table[: len(table) - TEXT_TOKENS - references * REFERENCE_TOKENS]
                cols = _grid(shards, batch, step)[1]
                wanted = cells.reshape(-1, cols, cells.shape[1])[top : top + CROP, left : left + CROP]
                given = getattr(batch, name)[k, 0].numpy()
                np.testing.assert_array_equal(given[: CROP * CROP], wanted.reshape(CROP * CROP, -1))
                np.testing.assert_array_equal(given[CROP * CROP :], table[len(cells) :])
    assert len(tops) > 4


def _grid(shards: list[Pictures], batch: Batch, step: int) -> tuple[int, int]:
    """The grid that the step's pictures have, told by the rotary table of the last text token and its neighbours."""
    rng = np.random.Generator(np.random.Philox(key=step << 64))
    return shards[int(rng.integers(len(shards)))].grid


def test_drafts_are_hidden_as_the_painter_hides_them(shards: list[Pictures]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    colours = torch.from_numpy((picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1).copy())
    for strength in (0.05, 0.4, 0.9):
        wanted = hide(picture, strength, np.random.default_rng(1))
        mine = blurred(colours[None], torch.tensor([strength]), torch.arange(64.0), torch.arange(96.0))[0].numpy()
        np.testing.assert_allclose(mine * wanted[3], wanted[:3], atol=1e-5)
    hidden = [batch for step in range(8) if (batch := load_batch(Drawn(batch=8), shards, step)).strength.any()]
    assert hidden
    for batch in hidden:
        patches = batch.draft[:, 3].unflatten(2, (CROP, PATCH)).unflatten(1, (CROP, PATCH))
        assert torch.equal(patches.amin((2, 4)), patches.amax((2, 4))), "patches are hidden whole"
        assert set(batch.draft[:, 3].unique().tolist()) <= {0.0, 1.0}
        unseen = (batch.draft[:, 3:] == 0).expand(-1, 3, -1, -1)
        assert (batch.draft[:, :3][unseen] == 0).all()


def test_a_reference_is_the_scenes_own_and_its_place_is_hidden_half_the_time(folder: Path) -> None:
    one = [Pictures.load(folder / "00002", "cpu")]
    kept = Shard.load(folder / "00002")
    covered = seen = 0
    for step in range(12):
        batch = load_batch(replace(WHOLES, batch=12), one, step)
        if not batch.reference.shape[1]:
            continue
        for k in range(len(batch.t)):
            scene = int(pixels(batch.clean[k, 2, 0, 0])) // PAINTINGS
            wanted = torch.from_numpy(reference_patches(kept.sprite[scene]))
            torch.testing.assert_close(batch.reference[k], wanted)
            if batch.strength[k] == 0:
                hidden = batch.draft[k, 3, ::PATCH, ::PATCH] == 0
                box = torch.zeros_like(hidden)
                box[1:3, 1:4] = True
                assert torch.equal(hidden, box) or not hidden.any()
                covered, seen = covered + int(hidden.any()), seen + int(not hidden.any())
    assert 0.2 < covered / (covered + seen) < 0.8


def test_conditions_are_left_out_now_and_then(shards: list[Pictures]) -> None:
    """Else neither guidance nor a prompt without a style would be known."""
    drawn = [load_batch(Drawn(batch=48), shards, step) for step in range(10)]
    assert 0.05 < np.mean([(b.text == 0).all(dim=(1, 2)).float().mean().item() for b in drawn]) < 0.2
    assert 0.05 < np.mean([(b.style == 0).all(dim=1).float().mean().item() for b in drawn]) < 0.2
    assert 0.1 < np.mean([b.reference.shape[1] > 0 for b in drawn]) < 0.9
    assert 0.15 < np.mean([(b.strength > 0).float().mean().item() for b in drawn]) < 0.35
    assert 0.15 < np.mean([(b.t == 0).float().mean().item() for b in drawn]) < 0.35


def test_a_batch_is_of_several_shards_of_one_grid(shards: list[Pictures], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    cut = batches._cut
    monkeypatch.setattr(batches, "_cut", lambda p, *rest: (used.append(p), cut(p, *rest))[1])
    load_batch(CROPS, shards[:2], 0)
    assert {id(p) for p in used} == {id(p) for s in shards[:2] for p in (s.target, s.draft)}


def test_without_shards_or_their_text_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no shards; make them with limner.painter.training.data"):
        load_pictures(tmp_path, "cpu")
    replace(shard(8, 8, 0), text=None).save(tmp_path / "00000")
    with pytest.raises(ValueError, match=r"no text; run limner.painter.training.data again"):
        load_pictures(tmp_path, "cpu")
