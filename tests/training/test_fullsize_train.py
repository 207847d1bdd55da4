"""Training of the full-size network: its crops, its batches, its loss, and that a killed run goes on exactly."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.painter.bank import Bank
from limner.painter.denoiser import STYLES, one_hot
from limner.painter.fullsize import CELL, DRAFT, FILTERED, SEEN, FullSize, pixels, seen, widen
from limner.painter.training import fullsize_data, fullsize_train
from limner.painter.training.fullsize_data import HELD_OUT, PAINTED, SIDE, Crops, Painting, crops, paintings
from limner.painter.training.fullsize_evaluate import edge_error, psnr, ssim
from limner.painter.training.fullsize_train import Run, load_batch, load_crops, loss_of, train


@pytest.fixture(scope="module")
def painted() -> list[Painting]:
    return paintings(HELD_OUT, Bank.load(), len(PAINTED), (512, 512), strength=0.0)


@pytest.fixture(scope="module")
def some() -> Crops:
    """Crops of chance, of the right shapes."""
    rng = np.random.default_rng(0)
    side = 32  # smaller than those of scenes, to be quick
    n, cells = 6, side // CELL
    told = np.zeros((n, len(STYLES) + 2), np.float32)
    told[:, 2], told[3:, len(STYLES)] = 1, 0.8

    def picture(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    return Crops(
        picture(n, cells, cells, SEEN), picture(n, 2, cells, cells, 3), picture(n, cells, cells, SEEN),
        picture(n, side, side, 3), rng.normal(0, 9, (n, side // 8, side // 8, 3)).astype(np.float32), told,
    )  # fmt: skip


def test_a_scene_is_painted_in_every_style_and_its_natives_show_it(painted: list[Painting]) -> None:
    assert {p.style for p in painted} == set(PAINTED)
    for painting in painted:
        small = np.asarray(Image.fromarray(painting.target).resize((256, 256), Image.Resampling.BOX)).astype(float)
        for native, most in zip(painting.natives, (1, 12, 40), strict=True):
            assert native.shape == (3, 256, 256)
            assert np.abs((native.transpose(1, 2, 0) + 1) * 127.5 - small).mean() < most, painting.style
        assert (painting.draft != painting.other).any()


def test_a_scene_follows_from_its_number() -> None:
    (one,), (same,), (other,) = (paintings(number, Bank.load(), 1, (256, 256)) for number in (13, 13, 14))
    for name in ("draft", "other", "paper", "target", "natives"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert (one.style, one.strength) == (same.style, same.strength)
    assert (one.draft != other.draft).any()


def test_crops_are_of_the_same_place_in_all_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fullsize_data, "SIZES", ((512, 512),))
    monkeypatch.setattr(fullsize_data, "STRONG", 0)
    made = crops(13, Bank.load())
    assert len(made.seen) == fullsize_data.PAINTINGS * fullsize_data.CROPS
    native = made.seen[..., SEEN - 3 :].astype(float)
    target = made.target.reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean((2, 4))
    draft = made.seen[..., :DRAFT].reshape(-1, SIDE // 2, SIDE // 2, 4, 3).mean(3)
    for k in range(len(target)):
        assert np.abs(native[k] - target[k]).mean() < 8
        assert np.abs(made.natives[k, 0] - target[k]).mean() < 16
        assert np.abs(made.seen[k][..., SEEN - 6 : SEEN - 3] - draft[k]).mean() < 8
    assert np.abs(made.drift).max() < 128


def test_a_batch_follows_from_its_number(some: Crops) -> None:
    run = Run(batch=4, side=24)
    one, same, other = (load_batch(run, some, step) for step in (5, 5, 6))
    assert one.seen.shape == (4, 12, 12, SEEN)
    assert one.target.shape == (4, 12, 12, DRAFT)
    assert torch.equal(one.seen, same.seen)
    assert torch.equal(one.target, same.target)
    assert not torch.equal(one.seen, other.seen)
    assert one.seen.min() >= 0
    assert one.seen.max() <= 255


def test_cells_of_training_are_the_cells_of_use() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 24, 3), np.uint8)
    cells = seen(np.zeros((3, 8, 8), np.float32), picture, picture[..., 0])[..., :DRAFT]
    np.testing.assert_array_equal(fullsize_train._as_cells(picture.astype(np.float32)), cells)
    np.testing.assert_array_equal(fullsize_train.pixels(torch.from_numpy(cells)[None])[0].permute(1, 2, 0), picture)
    np.testing.assert_array_equal(pixels(fullsize_train._mirrored(cells)), picture[:, ::-1])


def test_the_loss_counts_an_edge_at_another_place_more_than_another_tone(some: Crops) -> None:
    batch = load_batch(Run(batch=2, side=32), some, 0)
    target = torch.zeros_like(batch.target)
    target[:, :, :8] = 100

    def loss(answer: torch.Tensor) -> float:
        return loss_of(lambda *_: answer, fullsize_train.Batch(batch.seen, batch.condition, target)).item()

    assert loss(target) == 0
    moved = torch.roll(target, 1, dims=2)
    same_mean = target + (moved - target).abs().mean()
    assert loss(moved) > 2 * loss(same_mean) > 0


def test_a_killed_run_ends_in_the_weights_of_an_unbroken_one(
    some: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(steps=3, batch=1, side=32, warmup=1)
    whole = train(run, some, tmp_path / "whole")
    for expected in (2, 3):
        monkeypatch.setattr(fullsize_train.time, "monotonic", itertools.count().__next__)
        stopped = train(run, some, tmp_path / "parts", seconds=3)  # of a clock that is read once a step
        assert torch.load(tmp_path / "parts" / "checkpoint.pt")["step"] == expected
    for a, b in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_run_is_refused(some: Crops, tmp_path: Path) -> None:
    train(Run(steps=1, batch=1, side=32), some, tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(Run(steps=2, batch=1, side=32), some, tmp_path)


def test_a_folder_without_crops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no crops"):
        load_crops(tmp_path)


def test_measures_know_better_from_worse() -> None:
    rng = np.random.default_rng(0)
    target = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    noisy, noisier = (np.clip(target + rng.normal(0, s, target.shape), 0, 255).astype(np.uint8) for s in (5, 20))
    assert psnr(target, target) == float("inf")
    assert psnr(noisy, target) > psnr(noisier, target)
    assert ssim(target, target) == pytest.approx(1)
    assert 1 > ssim(noisy, target) > ssim(noisier, target)
    assert 0 == edge_error(target, target) < edge_error(noisy, target) < edge_error(noisier, target)


def test_the_shipped_network_beats_the_guided_filter_on_pictures_painted_small(painted: list[Painting]) -> None:
    """On edges where a style has grain or ink of its own, in structure in every style that it is used for."""
    network = FullSize.load()
    for painting in painted:
        if painting.style not in FILTERED:
            made = network(painting.natives[1], painting.draft, one_hot(painting.style), 0.0, painting.paper)
            filtered = widen(painting.natives[1], painting.draft)
            assert ssim(made, painting.target) > ssim(filtered, painting.target) - 0.005, painting.style
            if painting.style in ("storybook", "papercut", "comic", "watercolor"):
                assert edge_error(made, painting.target) < edge_error(filtered, painting.target), painting.style
