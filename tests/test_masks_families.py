"""Repainting a part of a picture: what a mask means, what is held and what is free, in the arithmetic and in every
family.

diffusers' pipelines that repaint put the noised original back after each step. With flow matching and Euler's steps
that is what holding the prediction comes to, so those pipelines are painted beside ours. Those of Stable Diffusion and
SDXL begin with noise alone where ours begins with the known picture in it, as that noise level has it, so that they
differ from ours from their first evaluation on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import test_flux
import test_flux2
import test_qwen_image
import test_stable_diffusion_3
import test_z_image
from limner.engine import levels, samplers
from limner.engine.core import ENDINGS, Event, Held, Request, SamplerName, Stepped, UInt8
from limner.engine.engine import Engine
from limner.models.registry import Model
from limner.pipelines import repaint
from limner.pipelines.base import Pipeline
from limner.pipelines.flux import Flux
from limner.pipelines.flux2 import Flux2
from limner.pipelines.latents import unpacked
from limner.pipelines.parts import Conversion, Parts
from limner.pipelines.qwen_image import QwenImage
from limner.pipelines.stable_diffusion import StableDiffusion
from limner.pipelines.stable_diffusion_3 import StableDiffusion3
from limner.pipelines.stable_diffusion_xl import StableDiffusionXL
from limner.pipelines.z_image import ZImage
from parity import (
    Folders,
    asked,
    eight_bit,
    psnr,
    stable_diffusion_folder,
    stable_diffusion_xl_folder,
    together,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Make = Callable[[Path], None]


def picture(width: int = 64, height: int = 64) -> UInt8:
    """Waves of colour, (height, width, 4), opaque."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    colours = [127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), 255 * x / width, np.full_like(x, 255)]
    return np.stack(colours, -1).astype(np.uint8)


def box(width: int = 64, height: int = 64) -> UInt8:
    """A mask, (height, width), that repaints the right half of the lower part."""
    mask = np.zeros((height, width), np.uint8)
    mask[16:, width // 2 :] = 255
    return mask


def repainting(width: int = 64, height: int = 64, **fields: Any) -> Request:
    given = {"mask": box(width, height), "references": (picture(width, height),), "steps": 2}
    return asked("a red fox", width, height, **{**given, **fields})


# The arithmetic


RUNS: list[tuple[SamplerName, levels.Levels]] = [
    *((name, levels.schedule(5, 3.0)) for name in ("euler", "heun", "multistep", "dpm++2m")),
    *((name, levels.diffusion({"beta_schedule": "scaled_linear"}, 5, name)) for name in samplers.SAMPLERS),
]


@pytest.mark.parametrize(("name", "run"), RUNS, ids=lambda value: value if isinstance(value, str) else value[0].signal)
def test_what_is_held_is_reached_exactly_and_its_path_is_the_known_picture_with_the_noise_of_the_seed(
    name: SamplerName, run: levels.Levels
) -> None:
    draw = np.random.default_rng(0)
    known = draw.standard_normal((3, 8, 8), dtype=np.float32)
    share = np.zeros((8, 8), np.float32)
    share[:4] = 1
    noise = samplers.noise(7, known.shape)
    state = samplers.begin(run[0].noise * noise, run, 7, Held(known, share))
    seen = []
    while not state.finished:
        level = state.level
        expected = level.signal * known + level.noise * noise
        if name != "lcm":  # which draws another noise at each step
            np.testing.assert_allclose(state.x[:, :4], expected[:, :4], rtol=1e-4, atol=1e-4 * max(1, level.noise))
        prediction = samplers.holding(np.tanh(state.x) + 1, Held(known, share))
        seen.append(prediction)
        state = samplers.SAMPLERS[name].advance(state, prediction)
    assert all(np.array_equal(prediction[:, :4], known[:, :4]) for prediction in seen)
    np.testing.assert_allclose(state.result[:, :4], known[:, :4], rtol=1e-4, atol=1e-4)
    assert abs(state.result[:, 4:] - known[:, 4:]).max() > 0.5


def test_the_last_step_ends_on_the_known_picture_bit_for_bit() -> None:
    known = np.random.default_rng(0).standard_normal((3, 8, 8), dtype=np.float32)
    run = levels.schedule(3)
    state = samplers.begin(samplers.noise(7, known.shape), run)
    while not state.finished:
        state = samplers.multistep(state, samplers.holding(state.x, Held(known, np.float32(1))))
    np.testing.assert_array_equal(state.result, known)


def test_a_share_between_is_a_mixture() -> None:
    known, guess = np.ones((2, 2), np.float32), np.full((2, 2), 3, np.float32)
    np.testing.assert_allclose(samplers.holding(guess, Held(known, np.float32(0.25))), 2.5)
    assert samplers.holding(guess, None) is guess


# The mask's grid, and the pixels


def test_a_cell_is_as_free_as_the_freest_of_its_pixels() -> None:
    mask = np.zeros((20, 32), np.uint8)
    mask[0, 0], mask[19, 31], mask[10, 16] = 255, 51, 128
    grid = repaint.coarse(mask, 5, 8)
    assert grid.dtype == np.float32
    expected = np.zeros((5, 8), np.float32)
    expected[0, 0], expected[4, 7], expected[2, 4] = 1, 0.2, 128 / 255
    np.testing.assert_allclose(grid, expected)
    assert repaint.coarse(mask, 3, 7).max() == 1  # of a grid that divides nothing


def test_the_new_picture_comes_in_over_a_few_pixels_inside_the_mask_alone() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:, 20:] = 255
    soft = repaint.feathered(mask)
    assert not soft[mask == 0].any()
    assert (soft[16 + repaint.FEATHER :, 20 + repaint.FEATHER :] == 255).all()  # also along the picture's own edges
    assert (np.diff(soft[40, 19 : 20 + repaint.FEATHER].astype(int)) > 0).all()
    thin = np.zeros((64, 64), np.uint8)
    thin[:, 30:32] = 255
    assert (repaint.feathered(thin)[:, 30:32] > 30).all()  # a line has an effect


def test_a_mask_of_grey_mixes() -> None:
    request = repainting(mask=np.full((64, 64), 128, np.uint8), references=(np.full((64, 64, 4), 255, np.uint8),))
    laid = repaint.laid(np.zeros((64, 64, 3), np.uint8), request)
    assert np.unique(laid).tolist() == [127]


# Every family

FAMILIES: dict[str, tuple[Make, Callable[[Parts, Model], Pipeline]]] = {
    "Stable Diffusion": (stable_diffusion_folder, StableDiffusion),
    "Stable Diffusion, tiny autoencoder": (partial(stable_diffusion_folder, tiny_vae=True), StableDiffusion),
    "LCM": (partial(stable_diffusion_folder, guidance_embedded=True), StableDiffusion),
    "SDXL": (stable_diffusion_xl_folder, StableDiffusionXL),
    "Stable Diffusion 3": (test_stable_diffusion_3.medium3, StableDiffusion3),
    "FLUX.1 schnell": (test_flux.schnell, Flux),
    "FLUX.1 dev": (test_flux.dev, Flux),
    "FLUX.1 Kontext": (test_flux.kontext, Flux),
    "FLUX.2 dev": (test_flux2.dev, Flux2),
    "FLUX.2 klein base": (test_flux2.base, Flux2),
    "Qwen-Image": (partial(test_qwen_image.folder_of, "QwenImagePipeline"), QwenImage),
    "Qwen-Image-Edit": (partial(test_qwen_image.folder_of, "QwenImageEditPlusPipeline"), QwenImage),
    "Z-Image": (test_z_image.plain, ZImage),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True, scope="module")
def _small_references() -> Any:
    with ExitStack() as changed:
        changed.enter_context(test_qwen_image.small())
        changed.enter_context(test_flux.small_references())
        yield


def loaded(name: str, folders: Folders, **fields: Any) -> Pipeline:
    make, kind = FAMILIES[name]
    folder = folders(make)
    return kind(Parts(folder), Model("tiny", str(folder), **fields))


def alone(pipeline: Pipeline, request: Request) -> UInt8:
    return together(pipeline, [request])[0][request.id]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_repaints_inside_the_mask_and_leaves_every_pixel_outside(name: str, folders: Folders) -> None:
    pipeline = loaded(name, folders)
    request = repainting()
    free = request.mask == 255
    painted = alone(pipeline, request)
    original = request.references[0][..., :3]
    np.testing.assert_array_equal(painted[~free], original[~free])
    assert abs(painted[free].astype(int) - original[free]).mean() > 3
    # What is around the mask shows inside it: the same mask in another picture is painted otherwise.
    other = replace(request, references=(255 - request.references[0] // 2,))
    assert not np.array_equal(alone(pipeline, other)[free], painted[free])
    encoded = pipeline.encode(request)
    assert encoded.held is not None
    assert encoded.held.clean.shape == encoded.held.share.shape == encoded.key.shape
    assert set(np.unique(encoded.held.share)) == {0, 1}


@pytest.mark.parametrize("name", ["Stable Diffusion", "FLUX.1 Kontext"])
def test_a_picture_is_the_same_alone_and_beside_others_with_and_without_masks(name: str, folders: Folders) -> None:
    pipeline = loaded(name, folders, batch=1)
    requests = [
        replace(repainting(), id="masked"),
        replace(repainting(seed=9, mask=box()[::-1].copy()), id="other"),
        replace(asked("a dog", steps=1), id="free"),
    ]
    pictures, _ = together(pipeline, requests)
    for request in requests:
        np.testing.assert_array_equal(pictures[request.id], alone(pipeline, request))


@pytest.mark.parametrize("name", ["Stable Diffusion", "FLUX.1 schnell"])
def test_a_size_that_no_cell_divides_is_held_too(name: str, folders: Folders) -> None:
    request = repainting(72, 56)
    painted = alone(loaded(name, folders), request)
    assert painted.shape == (56, 72, 3)
    free = request.mask == 255
    np.testing.assert_array_equal(painted[~free], request.references[0][..., :3][~free])


def test_openvino_repaints_the_same_with_the_encoder_that_it_lacks(folders: Folders, tmp_path: Path) -> None:
    make, kind = FAMILIES["Stable Diffusion 3"]
    folder = folders(make)
    converted = kind(Parts(folder, conversion=Conversion(tmp_path, "f32")), Model("tiny", str(folder)))
    assert psnr(alone(converted, repainting()), alone(loaded("Stable Diffusion 3", folders), repainting())) > 50


def test_previews_show_what_is_held(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.engine.engine.PREVIEW_SECONDS", math.inf)
    request = repainting(previews=True, steps=4)
    engine = Engine({request.model: loaded("Stable Diffusion", folders)}, limit=1)
    events: list[Event] = []
    engine.submit([request], events.append)
    while not isinstance(events[-1] if events else None, ENDINGS):
        engine.step()
    shown = [event.preview for event in events if isinstance(event, Stepped)]
    assert [preview is None for preview in shown] == [False, False, False, True]
    rows = [preview[:12] for preview in shown if preview is not None]  # above the mask
    assert abs(rows[0].astype(int) - rows[2]).max() <= 24 < abs(shown[0].astype(int) - shown[2]).max()


# Beside diffusers


def theirs(kind: Any, folder: Path, cell: int, packed: bool, guidance: str, **fields: Any) -> UInt8:
    """What diffusers' pipeline that repaints makes of `repainting()`, from our noise and its autoencoder's mode."""
    request = repainting()
    side = 64 // cell
    if packed:
        channels = fields.pop("channels", 16)
        noise = unpacked(torch.from_numpy(samplers.noise(7, (side // 2, side // 2, channels))))
    else:
        noise = torch.from_numpy(samplers.noise(7, (4, side, side)))
    pipe = kind.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    distribution = "diffusers.models.autoencoders.vae.DiagonalGaussianDistribution"
    with (
        mock.patch(f"{kind.__module__}.randn_tensor", side_effect=lambda shape, **_: noise.reshape(shape)),
        mock.patch(f"{distribution}.sample", autospec=True, side_effect=lambda self, *_, **__: self.mode()),
    ):
        painted = pipe(
            prompt=request.prompt, image=Image.fromarray(request.references[0]).convert("RGB"),
            mask_image=Image.fromarray(request.mask), width=64, height=64, strength=1.0, num_inference_steps=2,
            output_type="np", **{guidance: 3.0}, **fields,
        )  # fmt: skip
    return repaint.laid(eight_bit(painted.images), request)


@pytest.mark.parametrize(
    ("name", "kind", "cell", "packed", "guidance", "told"),
    [
        ("FLUX.1 dev", "FluxInpaintPipeline", 8, True, "guidance_scale", {}),
        ("Qwen-Image", "QwenImageInpaintPipeline", 8, True, "true_cfg_scale", {"negative_prompt": " "}),
        ("Z-Image", "ZImageInpaintPipeline", 2, False, "guidance_scale", {}),
    ],
)
def test_a_picture_is_that_of_diffusers_where_it_does_the_same(
    name: str, kind: str, cell: int, packed: bool, guidance: str, told: dict[str, Any], folders: Folders
) -> None:
    folder = folders(FAMILIES[name][0])
    expected = theirs(getattr(diffusers, kind), folder, cell, packed, guidance, **told)
    asked_for = 4.0 if name == "Z-Image" else 3.0  # whose pipeline counts from 0
    pipeline = loaded(name, folders)
    ours = alone(pipeline, repainting(guidance=asked_for, sampler="euler"))
    free = repainting().mask == 255
    assert psnr(ours[free], expected[free]) > 45
    assert psnr(alone(pipeline, repainting(guidance=asked_for, seed=8))[free], expected[free]) < 40
