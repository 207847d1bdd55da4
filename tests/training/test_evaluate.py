"""Measuring the denoiser: the numbers mean what the module says, and the table holds every setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from limner.painter.denoiser import STYLES
from limner.painter.training.data import PAINTINGS, Shard
from limner.painter.training.evaluate import Setting, evaluate, in_torch, measures, paint, table
from limner.painter.training.network import Config, Network


@pytest.fixture(scope="module")
def target() -> Any:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.NEAREST), np.float32)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.float32)


def blurred(image: Any) -> Any:
    picture = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    return np.asarray(picture, np.float32)


def test_the_target_itself_is_without_fault(target: Any) -> None:
    assert measures(target, target) == (0.0, 1.0, 0.0)


def test_blur_costs_detail_and_look_and_noise_adds_to_both(target: Any) -> None:
    _, detail, look = measures(blurred(target), target)
    assert detail < 0.8
    assert look > 0.1
    noisy = target + np.random.default_rng(1).normal(0, 25, target.shape).astype(np.float32)
    _, detail, look = measures(noisy, target)
    assert detail > 1.1
    assert look > 0.05


def test_other_grain_of_the_same_kind_is_an_error_but_looks_alike(target: Any) -> None:
    rng = np.random.default_rng(2)
    plain = np.full((64, 64, 3), 128, np.float32)
    one, other = (plain + rng.normal(0, 20, plain.shape).astype(np.float32) for _ in range(2))
    error, detail, look = measures(one, other)
    smooth_error, _, smooth_look = measures(plain, other)
    assert smooth_error < error, "the mean error favours what has no grain"
    assert look < 0.1 < smooth_look
    assert detail == pytest.approx(1, abs=0.05)


def shard() -> Shard:
    rng = np.random.default_rng(0)
    return Shard(
        draft=rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8),
        target=rng.integers(0, 256, (2 * PAINTINGS, 32, 48, 3), dtype=np.uint8),
        style=np.arange(2 * PAINTINGS).astype(np.uint8),
        caption=np.array(["a cat"] * 2 * PAINTINGS),
        sprite=np.zeros((2, 96, 96, 4), np.uint8),
        box=np.zeros((2, 4), np.float32),
    )


def test_the_table_has_the_draft_and_every_setting_and_a_perfect_denoiser_is_seen() -> None:
    data = shard()

    def perfect(inputs: Mapping[str, Any]) -> Any:
        style = int(inputs["style"].argmax())  # each painting has another
        return (data.target[style].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]

    def lazy(inputs: Mapping[str, Any]) -> Any:
        return inputs["draft"][:, :3]

    rows = evaluate([Setting("perfect", perfect, 2), Setting("lazy", lazy, 1)], data, 6)
    draft, best, worst = rows
    assert [row.name for row in rows] == ["draft", "perfect", "lazy"]
    assert best.error < 0.01
    assert best.look < 0.01
    assert worst.error == pytest.approx(draft.error, abs=0.01)
    assert set(draft.by_style) == set(STYLES[:6])
    text = table(rows)
    assert all(name in text for name in ("perfect", "lazy", "detail", STYLES[0]))


def test_guidance_takes_the_conditions_away_and_goes_beyond() -> None:
    def shows_style(inputs: Mapping[str, Any]) -> Any:
        return np.full_like(inputs["x"], 0.1 * inputs["style"].sum() + 0.1 * inputs["text"].any())

    text = np.ones((24, 384), np.float32)
    plain, strong = (paint(Setting("", shows_style, 1, w), text, shard(), 3, 0.0) for w in (1.0, 3.0))
    np.testing.assert_allclose(plain, 0.2, atol=1e-6)
    np.testing.assert_allclose(strong, 0.6, atol=1e-6)


def test_a_checkpoints_network_paints_in_torch() -> None:
    torch.manual_seed(0)
    denoise = in_torch(Network(Config(depth=2, styles=len(STYLES))), "cpu")
    x = paint(Setting("", denoise, 2), np.zeros((24, 384), np.float32), shard(), 0, 0.0)
    wanted = shard().draft[0].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(x, wanted, atol=1e-5)  # untrained, it returns the draft
