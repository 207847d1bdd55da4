"""From the native picture to the exact pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, grid
from limner.painter.draft import Draft, compose
from limner.painter.fullsize import BLOCKS, blocks, widen
from limner.painter.scene import Person, Scene

SIZES = [(1024, 1024), (512, 512), (2048, 2048), (2048, 512), (512, 2048), (1344, 576), (520, 1000)]


def scene(width: int = 1024, height: int = 1024) -> Draft:
    return compose(Scene(place="city", variant=2, items=(Person(height=0.7),)), width / height, Bank.load())


def small(picture: UInt8, width: int, height: int) -> UInt8:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def as_native(picture: UInt8) -> Float32:
    return picture.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1


def native_of(picture: UInt8) -> Float32:
    rows, cols = grid(picture.shape[1], picture.shape[0])
    return as_native(small(picture, cols * PATCH, rows * PATCH))


def lit(picture: UInt8) -> UInt8:
    """Painted over: graded, and lit from the upper left."""
    height, width = picture.shape[:2]
    y, x = np.linspace(1, 0, height)[:, None, None], np.linspace(1, 0, width)[None, :, None]
    return np.clip(20 + picture * [0.9, 0.8, 0.7] * (0.6 + 0.4 * x * y), 0, 255).astype(np.uint8)


def psnr(a: UInt8, b: UInt8) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_any_size_is_exact_and_made_small_again_it_is_the_native_picture(width: int, height: int) -> None:
    guide = scene(width, height).draw(width, height)
    native = native_of(lit(guide))
    native += np.random.default_rng(0).normal(0, 0.05, native.shape).astype(np.float32)  # grain that the draft lacks
    full = widen(native, guide)
    assert full.shape == (height, width, 3)
    assert full.dtype == np.uint8
    again = as_native(small(full, native.shape[2], native.shape[1]))
    error = np.abs(again - np.clip(native, -1, 1)) * 127.5
    # Widening smooths grain that is one pixel wide by a little.
    assert error.mean() < 2.5


def test_without_grain_it_is_the_native_picture_nearly_exactly() -> None:
    guide = scene().draw(1024, 1024)
    native = native_of(lit(guide))
    error = np.abs(as_native(small(widen(native, guide), 256, 256)) - native) * 127.5
    assert error.mean() < 0.5
    assert np.quantile(error, 0.999) < 12


def test_a_picture_that_is_the_draft_becomes_the_draft_at_full_size() -> None:
    guide = scene().draw(1024, 1024)
    full = widen(native_of(guide), guide)
    error = np.abs(full.astype(int) - guide)
    assert error.mean() < 0.5
    assert error.max() <= 3


def test_edges_are_far_crisper_than_bicubic_interpolation_has_them() -> None:
    guide = scene().draw(1024, 1024)
    truth = lit(guide)
    native = native_of(truth)
    plain = np.asarray(Image.fromarray(small(truth, 256, 256)).resize((1024, 1024), Image.Resampling.BICUBIC))
    assert psnr(widen(native, guide), truth) > psnr(plain, truth) + 6


def test_a_picture_that_has_nothing_of_the_draft_shows_nothing_of_it() -> None:
    """Where the draft was hidden, trust is 0 and its edges do not come back."""
    drafted = scene().draw(1024, 1024)
    other = compose(Scene(place="beach", variant=9), 1.0, Bank.load()).draw(1024, 1024)
    native = native_of(other)
    plain = widen(native, np.full_like(drafted, 128), trust=0)
    error = np.abs(widen(native, drafted, trust=0).astype(int) - plain)
    assert error.mean() < 3
    flat = np.zeros((3, 256, 256), np.float32)
    assert np.ptp(widen(flat, drafted, trust=0)) <= 1


def test_values_out_of_range_are_clipped() -> None:
    guide = np.full((512, 512, 3), 128, np.uint8)
    assert (widen(np.full((3, 256, 256), 1.7, np.float32), guide) == 255).all()
    assert (widen(np.full((3, 256, 256), -3.0, np.float32), guide) == 0).all()


def test_the_same_picture_has_the_same_bytes_also_after_others() -> None:
    guide = scene().draw(1024, 1024)
    native = native_of(lit(guide))
    first = widen(native, guide)
    widen(native_of(guide[:512]), np.ascontiguousarray(guide[:512]))
    kept = native.copy()
    np.testing.assert_array_equal(widen(native, guide), first)
    np.testing.assert_array_equal(native, kept)


def test_blocks_are_flat_and_crisp_and_keep_their_mean() -> None:
    assert set(BLOCKS) <= set(STYLES)
    native = native_of(scene().draw(1024, 1024))
    full = blocks(native, 1024, 1024, 4)
    cells = full.reshape(64, 16, 64, 16, 3)
    assert np.ptp(cells, axis=(1, 3)).max() == 0
    means = (native.reshape(3, 64, 4, 64, 4).mean(axis=(2, 4)) + 1) * 127.5
    assert np.abs(cells[:, 0, :, 0].transpose(2, 0, 1) - means).max() <= 0.51


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_blocks_come_in_any_size_with_no_colour_between_them(width: int, height: int) -> None:
    native = native_of(scene(width, height).draw(width, height))
    full = blocks(native, width, height, 4)
    assert full.shape == (height, width, 3)
    steps = (np.diff(full.astype(int), axis=1) != 0).any(axis=(0, 2)).sum()
    assert steps <= native.shape[2] // 4 - 1
