"""SDXL, its Turbo and Lightning paint what diffusers paints, alone and in any batch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from limner.engine.core import SamplerName
from limner.errors import InvalidRequest
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion_xl import StableDiffusionXL
from parity import DIFFUSION, Case, Folders, asked, painted, psnr, stable_diffusion_xl_folder, theirs, together

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

BASE = stable_diffusion_xl_folder
TURBO = partial(stable_diffusion_xl_folder, timestep_spacing="trailing")


def model(folder: Path, **fields: Any) -> Model:
    return Model("tiny", str(folder), **fields)


def measured(
    folder: Path, device: str, sampler: SamplerName, steps: int, guidance: float, negative: str | None = None
) -> float:
    """PSNR of a picture of ours against diffusers', dB."""
    expected = theirs(
        diffusers.StableDiffusionXLPipeline, folder, sampler, device, prompt="a red fox", negative_prompt=negative,
        num_inference_steps=steps, guidance_scale=guidance, width=64, height=64,
    )  # fmt: skip
    request = asked("a red fox", negative_prompt=negative, sampler=sampler, steps=steps, guidance=guidance)
    family = StableDiffusionXL(Parts(folder, device=device), model(folder))
    return psnr(paint(family, request).pixels, expected)


CASES: list[Case] = [
    Case("SDXL", sampler, BASE, partial(measured, sampler=sampler, steps=4, guidance=4.0)) for sampler in DIFFUSION
]
CASES += [
    Case(
        "SDXL, negative prompt", "euler", BASE, partial(measured, sampler="euler", steps=3, guidance=4.0, negative=text)
    )
    for text in ("a dog", "")
]
CASES += [
    Case(f"SDXL Turbo, {steps} steps", "euler", TURBO, partial(measured, sampler="euler", steps=steps, guidance=1.0))
    for steps in (1, 4)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def family(folders: Folders) -> StableDiffusionXL:
    return StableDiffusionXL(Parts(folders(BASE)), model(folders(BASE)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 60


def test_a_prompt_beyond_77_tokens_is_read_to_its_end(folders: Folders, family: StableDiffusionXL) -> None:
    """Its windows are what diffusers makes of each, one after the other; the whole is pooled from the first."""
    prompt = "a red fox on a snowy hill under a pale sun, " * 4
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folders(BASE))
    tokens = pipe.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    with torch.inference_mode():
        read = [
            pipe.encode_prompt(
                pipe.tokenizer.decode(tokens[i : i + 75]), device="cpu", do_classifier_free_guidance=True,
                negative_prompt="a dog" if i == 0 else "",
            )
            for i in range(0, len(tokens), 75)
        ]  # fmt: skip
    assert len(read) == 2
    expected = painted(
        pipe, "ddim", prompt_embeds=torch.cat([states for states, *_ in read], 1),
        negative_prompt_embeds=torch.cat([states for _, states, *_ in read], 1), pooled_prompt_embeds=read[0][2],
        negative_pooled_prompt_embeds=read[0][3], num_inference_steps=3, guidance_scale=4.0, width=64, height=64,
    )  # fmt: skip
    request = asked(prompt, negative_prompt="a dog", sampler="ddim", steps=3, guidance=4.0)
    assert psnr(paint(family, request).pixels, expected) > 50


def test_a_picture_of_another_size_is_the_middle_of_a_padded_one(folders: Folders, family: StableDiffusionXL) -> None:
    """The denoiser is told the padded size, which is what it paints."""
    whole = theirs(
        diffusers.StableDiffusionXLPipeline, folders(BASE), "ddim", prompt="a red fox", num_inference_steps=3,
        guidance_scale=4.0, width=56, height=88,
    )  # fmt: skip
    request = asked("a red fox", width=54, height=86, sampler="ddim", steps=3, guidance=4.0)
    assert psnr(paint(family, request).pixels, whole[1:-1, 1:-1]) > 50


def test_neighbours_of_other_steps_guidance_and_samplers_change_no_picture(folders: Folders) -> None:
    requests = [
        asked("a red fox", sampler="euler", steps=3, guidance=4.0),
        asked("a dog", seed=8, sampler="heun", steps=4, guidance=1.0),
        asked("a cat in the rain", seed=9, sampler="lcm", steps=2, guidance=2.0, negative_prompt="snow"),
        asked("a hen", seed=10, sampler="dpm++2m", steps=5, guidance=7.0),
    ]
    requests = [replace(request, id=str(number)) for number, request in enumerate(requests)]
    family = StableDiffusionXL(Parts(folders(BASE)), model(folders(BASE), batch=4))
    pictures, calls = together(family, requests)
    assert calls < sum(together(family, [request])[1] for request in requests)  # they did share evaluations
    assert min(psnr(pictures[request.id], paint(family, request).pixels) for request in requests) > 50


def test_in_half_precision_the_decoder_computes_in_float32(folders: Folders) -> None:
    """SDXL's decoder leaves float16's range, as this latent does."""
    half, whole = (
        StableDiffusionXL(Parts(folders(BASE), precision=precision), model(folders(BASE)))
        for precision in ("f16", "f32")
    )
    request = asked("a red fox", steps=3, guidance=4.0)
    encoded = half.encode(request)
    latent = 1e5 * np.ones(encoded.key.shape, np.float32)
    assert psnr(half.decode(request, encoded, latent), whole.decode(request, encoded, latent)) > 40
    assert psnr(paint(half, request).pixels, paint(whole, request).pixels) > 30


def test_turbo_and_lightning_are_painted_without_guidance(folders: Folders) -> None:
    turbo = StableDiffusionXL(Parts(folders(TURBO)), model(folders(TURBO))).encode(asked())
    assert (turbo.sampler, turbo.steps, turbo.guidance) == ("euler", 4, 1.0)
    lightning = StableDiffusionXL(Parts(folders(BASE)), model(Path("sdxl_lightning_2step"))).encode(asked())
    assert (lightning.sampler, lightning.steps, lightning.guidance) == ("euler", 2, 1.0)
    assert lightning.levels[0].t == 999


def test_a_reference_without_an_adapter_is_refused(family: StableDiffusionXL) -> None:
    with pytest.raises(InvalidRequest, match=r"SDXL takes no references.*Stable Diffusion and SDXL with an IP-Adapter"):
        family.encode(asked(references=(np.zeros((8, 8, 4), np.uint8),)))
