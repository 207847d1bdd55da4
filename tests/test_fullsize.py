"""From the native picture to the exact pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.errors import ModelUnusable
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, grid, one_hot
from limner.painter.draft import Draft, compose
from limner.painter.fullsize import (
    BLOCKS,
    DRAFT,
    PALETTE,
    SEEN,
    WEIGHTS,
    FullSize,
    blocks,
    pixels,
    seen,
    texture,
    widen,
)
from limner.painter.scene import Person, Scene, Style

SIZES = [(1024, 1024), (512, 512), (2048, 2048), (2048, 512), (512, 2048), (1344, 576), (520, 1000)]


@pytest.fixture(scope="module")
def network() -> FullSize:
    return FullSize.load()


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


def test_blocks_are_flat_and_of_few_colours_near_their_means() -> None:
    assert set(BLOCKS) <= set(STYLES)
    native = native_of(scene().draw(1024, 1024))
    full = blocks(native, 1024, 1024, 4)
    cells = full.reshape(64, 16, 64, 16, 3)
    assert np.ptp(cells, axis=(1, 3)).max() == 0
    assert len(np.unique(full.reshape(-1, 3), axis=0)) <= PALETTE
    means = (native.reshape(3, 64, 4, 64, 4).mean(axis=(2, 4)) + 1) * 127.5
    assert np.abs(cells[:, 0, :, 0].transpose(2, 0, 1) - means).mean() < 6


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_blocks_come_in_any_size_with_no_colour_between_them(width: int, height: int) -> None:
    native = native_of(scene(width, height).draw(width, height))
    full = blocks(native, width, height, 4)
    assert full.shape == (height, width, 3)
    steps = (np.diff(full.astype(int), axis=1) != 0).any(axis=(0, 2)).sum()
    assert steps <= native.shape[2] // 4 - 1


@pytest.mark.parametrize("style", STYLES)
def test_a_texture_follows_from_its_seed_and_fills_any_size(style: str) -> None:
    for width, height in ((520, 1000), (513, 515), (2048, 512)):
        one, same = (texture(style, width, height, 2**64 + 5) for _ in range(2))
        assert one.shape == (height, width)
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, same)
        assert 90 < one.mean() < 160
        assert np.ptp(one) > 200
    assert (texture(style, 512, 512, 1) != texture(style, 512, 512, 2)).any() == (style not in ("comic", "medieval"))


@pytest.mark.parametrize("style", ["comic", "medieval"])
def test_a_screen_is_as_fine_in_a_small_picture_as_in_a_large_one(style: str) -> None:
    large = texture(style, 2048, 2048, 0)
    np.testing.assert_allclose(large[::4, ::4], texture(style, 512, 512, 0), atol=1)


def test_watercolour_paper_has_a_bare_margin_on_every_side() -> None:
    paper = texture("watercolor", 1024, 640, 3)
    for edge in (paper[:8], paper[-8:], paper[:, :8], paper[:, -8:]):
        assert edge.max() == 0
    assert paper[60:-60, 60:-60].min() >= 32


def test_cells_hold_the_pixels_in_order_and_repeat_the_last() -> None:
    guide = np.random.default_rng(0).integers(0, 256, (13, 22, 3), np.uint8)
    cells = seen(np.zeros((3, 8, 8), np.float32), guide, guide[..., 1])
    assert cells.shape == (8, 12, SEEN)
    whole = pixels(cells[..., :DRAFT])
    np.testing.assert_array_equal(whole[:13, :22], guide)
    np.testing.assert_array_equal(whole[13:], np.broadcast_to(whole[12], (3, 24, 3)))
    np.testing.assert_array_equal(cells[3, 5, DRAFT : DRAFT + 4], guide[6:8, 10:12, 1].ravel())
    assert (cells[..., -3:] == 128).all()
    flat = seen(np.zeros((3, 8, 8), np.float32), np.full_like(guide, 7), guide[..., 1])
    assert (flat[..., -6:-3] == 7).all()


def painted(network: FullSize, style: Style, guide: UInt8, native: Float32, **options: int) -> UInt8:
    height, width = guide.shape[:2]
    return network(native, guide, one_hot(style), 0.0, texture(style, width, height, 1), **options)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (1344, 576), (520, 1000), (515, 601)])
def test_the_network_paints_exactly_the_size_and_tiles_leave_no_seams(
    network: FullSize, width: int, height: int
) -> None:
    guide = scene(width, height).draw(width, height)
    native = native_of(lit(guide))
    whole = painted(network, "comic", guide, native, tile=2048)
    assert whole.shape == (height, width, 3)
    assert whole.dtype == np.uint8
    for tile in (256, 328):
        error = np.abs(painted(network, "comic", guide, native, tile=tile).astype(int) - whole)
        assert error.max() <= 1


def test_the_network_paints_the_same_bytes_after_others_and_whatever_its_threads(network: FullSize) -> None:
    guide = scene().draw(512, 512)
    native = native_of(lit(guide))
    first = painted(network, "watercolor", guide, native)
    painted(network, "clay", np.ascontiguousarray(guide[:256]), native)
    kept = native.copy()
    np.testing.assert_array_equal(painted(network, "watercolor", guide, native), first)
    np.testing.assert_array_equal(painted(FullSize.load(threads=1), "watercolor", guide, native), first)
    np.testing.assert_array_equal(native, kept)


def test_the_network_draws_ink_that_a_blurred_picture_lacks(network: FullSize) -> None:
    """Lines as dark as ink on the edges of things, where the native picture is grey."""
    guide = scene().draw(1024, 1024)
    native = native_of(lit(guide))
    comic, plain = (painted(network, style, guide, native).min(axis=2) for style in ("comic", "flat"))
    assert (comic < 50).mean() > (plain < 50).mean() + 0.003


def test_the_network_keeps_the_tone_of_the_native_picture(network: FullSize) -> None:
    guide = scene().draw(512, 512)
    bright, dim = (native_of(np.clip(guide * f + 40, 0, 255).astype(np.uint8)) for f in (0.8, 0.6))
    for native in (bright, dim):
        made = painted(network, "storybook", guide, native)
        wanted = native.reshape(3, 16, 16, 16, 16).mean((2, 4))
        assert np.abs(as_native(small(made, 16, 16)) - wanted).mean() * 127.5 < 12


def test_where_strength_hid_the_draft_the_network_trusts_the_picture(network: FullSize) -> None:
    drafted = scene().draw(512, 512)
    native = native_of(compose(Scene(place="beach", variant=9), 1.0, Bank.load()).draw(512, 512))
    paper = texture("storybook", 512, 512, 1)
    made = network(native, drafted, one_hot("storybook"), 1.0, paper)
    near, far = (np.abs(as_native(small(made, 256, 256)) - other).mean() for other in (native, native_of(drafted)))
    assert near < far / 3


@pytest.mark.parametrize("name", ["meta.json", "fullsize.onnx"])
def test_a_network_with_a_missing_or_cut_file_does_not_load(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "fullsize"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnusable, match=name):
        FullSize.load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=name):
        FullSize.load(folder)
