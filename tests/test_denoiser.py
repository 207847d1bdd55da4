"""What the denoiser takes: token grids, rotary tables, hiding, reference tokens; and its files."""

from __future__ import annotations

import doctest
import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from limner.errors import ModelUnusable
from limner.painter import denoiser
from limner.painter.denoiser import (
    FILE,
    HEAD_DIM,
    PATCH,
    REFERENCE_SIDE,
    REFERENCE_TOKENS,
    STYLES,
    TEXT_TOKENS,
    TOKENS,
    grid,
    hide,
    one_hot,
    read_weights,
    reference_patches,
    rotary,
)
from limner.painter.scene import Scene, Style
from limner.pipelines.painter import WEIGHTS

RATIOS = [(1024, 1024), (1280, 720), (1152, 864), (1248, 832), (832, 1248), (864, 1152), (720, 1280), (1344, 576)]


def test_the_examples_of_the_docstrings_hold() -> None:
    results = doctest.testmod(denoiser)
    assert results.attempted >= 1
    assert results.failed == 0


def test_every_size_has_a_grid_near_its_aspect_with_nearly_all_tokens() -> None:
    for width in range(512, 2049, 8):
        for height in range(512, 2049, 56):
            rows, cols = grid(width, height)
            assert 220 <= rows * cols <= TOKENS, (width, height)
            assert abs(math.log(cols / rows / (width / height))) < 0.09, (width, height)


@pytest.mark.parametrize(("width", "height"), RATIOS)
def test_the_eight_ratios_are_hardly_stretched(width: int, height: int) -> None:
    rows, cols = grid(width, height)
    assert abs(math.log(cols / rows / (width / height))) < 0.05
    assert rows * cols >= 240


def test_a_grid_turned_over_is_the_grid_of_the_turned_picture() -> None:
    assert [grid(height, width) for width, height in RATIOS] == [grid(*size)[::-1] for size in RATIOS]


@pytest.mark.parametrize("references", [0, 1, 4])
def test_rotary_tables_cover_every_token_once(references: int) -> None:
    cos, sin = rotary(12, 21, references)
    tokens = 12 * 21 + TEXT_TOKENS + references * REFERENCE_TOKENS
    assert cos.shape == sin.shape == (tokens, HEAD_DIM // 2)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(cos**2 + sin**2, 1, atol=1e-6)
    text = slice(12 * 21, 12 * 21 + TEXT_TOKENS)
    assert (cos[text] == 1).all(), "text stands at the centre"
    pictured = np.concatenate((cos, sin), axis=1)
    spatial = np.delete(pictured, np.r_[text], axis=0)
    assert len(np.unique(spatial.round(5), axis=0)) == len(spatial), "two tokens at one place"


def test_a_wider_grid_only_adds_cells_at_the_sides() -> None:
    wide = rotary(10, 24, 0)[0][: 10 * 24].reshape(10, 24, -1)
    narrow = rotary(10, 20, 0)[0][: 10 * 20].reshape(10, 20, -1)
    np.testing.assert_allclose(wide[:, 2:-2], narrow, atol=1e-6)


@pytest.fixture
def drafted() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (256, 320, 3), dtype=np.uint8)


def test_strength_0_hides_nothing(drafted: np.ndarray) -> None:
    seen = hide(drafted, 0.0, np.random.default_rng(0))
    assert seen.shape == (4, 256, 320)
    assert seen.dtype == np.float32
    assert (seen[3] == 1).all()
    np.testing.assert_allclose((seen[:3].transpose(1, 2, 0) + 1) * 127.5, drafted, atol=1e-4)


def test_strength_1_hides_everything(drafted: np.ndarray) -> None:
    assert not hide(drafted, 1.0, np.random.default_rng(0)).any()


def test_strength_half_blurs_and_drops_a_quarter_of_the_patches(drafted: np.ndarray) -> None:
    seen = hide(drafted, 0.5, np.random.default_rng(0))
    patches = seen[3].reshape(16, PATCH, 20, PATCH)
    assert (np.ptp(patches, axis=(1, 3)) == 0).all(), "patches are hidden whole"
    assert 0.15 < 1 - seen[3].mean() < 0.35
    assert (seen[:3, seen[3] == 0] == 0).all()
    visible = seen[:3, seen[3] == 1]
    assert visible.std() < 0.2 * (drafted / 127.5).std(), "noise survives the blur"


def test_what_is_hidden_follows_from_the_generator(drafted: np.ndarray) -> None:
    one, same, other = (hide(drafted, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_reference_tokens_are_the_patches_of_the_sprite_rows_first() -> None:
    sprite = np.random.default_rng(0).integers(0, 256, (96, 96, 4), dtype=np.uint8)
    tokens = reference_patches(sprite)
    assert tokens.shape == (REFERENCE_TOKENS, 4 * PATCH * PATCH)
    row, col = 2, 4
    patch = tokens[row * REFERENCE_SIDE + col].reshape(4, PATCH, PATCH).transpose(1, 2, 0)
    part = sprite[row * PATCH : (row + 1) * PATCH, col * PATCH : (col + 1) * PATCH]
    np.testing.assert_allclose(patch * 255, part, atol=1e-4)


def test_styles_are_those_of_the_scene_and_the_first_is_its_default() -> None:
    assert get_args(Style) == STYLES
    assert Scene().style == STYLES[0]
    for k, style in enumerate(STYLES):
        vector = one_hot(style)
        assert vector.shape == (1, len(STYLES))
        assert vector.argmax() == k
        assert vector.sum() == 1
    half = one_hot(STYLES[3], 0.25)
    assert half[0, 3] == 0.25
    assert half[0, 0] == 0.75


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "denoiser"))


def rewrite(folder: Path, **changes: Any) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))


def test_the_weights_of_the_package_are_whole() -> None:
    meta, network = read_weights(WEIGHTS)
    assert network == WEIGHTS / FILE
    assert meta["parameters"] > 1_000_000
    assert network.stat().st_size < 20e6


@pytest.mark.parametrize("name", ["meta.json", FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=rf"The denoiser.* {name} in .*Install Limner again.*training\.export"):
        read_weights(folder)


def test_a_changed_network_is_refused(folder: Path) -> None:
    data = bytearray((folder / FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(ModelUnusable, match=f"file {FILE} that is not the one of its meta.json"):
        read_weights(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", "\xff"])
def test_a_meta_json_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "meta.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelUnusable, match=r"no readable meta\.json|no JSON object|has kind None"):
        read_weights(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "has format 2 in its meta.json; this program reads 1"),
        ({"kind": "limner-planner"}, "has kind 'limner-planner'"),
        ({"styles": ["storybook"]}, r"has styles \['storybook'\]"),
        ({"patch": 8}, "has patch 8"),
        ({"files": {}}, "is not the one"),
        ({"files": [FILE]}, "is not the one"),
    ],
)
def test_weights_of_another_kind_are_refused(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ModelUnusable, match=sentence):
        read_weights(folder)
