"""Stable Diffusion 1, 2, Turbo and LCM paint what diffusers paints, alone and in any batch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers

from limner.engine.core import Request, SamplerName
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import StableDiffusion, Usual, named_steps, usual
from parity import DIFFUSION, Case, Folders, asked, painted, psnr, stable_diffusion_folder, theirs, together

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NOISE = stable_diffusion_folder
VELOCITY = partial(stable_diffusion_folder, prediction_type="v_prediction")
TURBO = partial(stable_diffusion_folder, timestep_spacing="trailing")
CONSISTENT = partial(stable_diffusion_folder, guidance_embedded=True)
SMALL_DECODER = partial(stable_diffusion_folder, tiny_vae=True)


def model(folder: Path, **fields: Any) -> Model:
    return Model("tiny", str(folder), **fields)


def measured(
    folder: Path, device: str, sampler: SamplerName, steps: int, guidance: float, negative: str | None = "a dog"
) -> float:
    """PSNR of a picture of ours against diffusers', dB."""
    expected = theirs(
        diffusers.StableDiffusionPipeline, folder, sampler, device, prompt="a red fox", negative_prompt=negative,
        num_inference_steps=steps, guidance_scale=guidance, width=64, height=64,
    )  # fmt: skip
    request = asked("a red fox", negative_prompt=negative, sampler=sampler, steps=steps, guidance=guidance)
    family = StableDiffusion(Parts(folder, device=device), model(folder))
    return psnr(paint(family, request).pixels, expected)


CASES: list[Case] = [
    Case("Stable Diffusion", sampler, NOISE, partial(measured, sampler=sampler, steps=5, guidance=4.0))
    for sampler in DIFFUSION
]
CASES += [
    Case("Stable Diffusion 2 of velocity", sampler, VELOCITY, partial(measured, sampler=sampler, steps=4, guidance=3.0))
    for sampler in DIFFUSION
]
CASES += [
    Case(
        f"Stable Diffusion Turbo, {steps} steps",
        "euler",
        TURBO,
        partial(measured, sampler="euler", steps=steps, guidance=1.0),
    )
    for steps in (1, 4)
]
CASES += [
    Case("LCM", "lcm", CONSISTENT, partial(measured, sampler="lcm", steps=4, guidance=8.0)),
    Case(
        "Stable Diffusion with a tiny decoder", "ddim", SMALL_DECODER,
        partial(measured, sampler="ddim", steps=3, guidance=4.0),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def family(folders: Folders) -> StableDiffusion:
    """Alone is exactly alone: batches of one."""
    folder = folders(NOISE)
    return StableDiffusion(Parts(folder), model(folder))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 60


LONG = "a red fox on a snowy hill under a pale sun, " * 4
"""136 letters and commas: two windows of CLIP with a vocabulary of letters."""


def test_a_prompt_beyond_77_tokens_is_read_to_its_end(folders: Folders, family: StableDiffusion) -> None:
    """Its windows are what diffusers makes of each alone, one after the other, and the empty prompt's are as many."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folders(NOISE))
    tokens = pipe.tokenizer(LONG, add_special_tokens=False, verbose=False).input_ids
    windows = [pipe.tokenizer.decode(tokens[i : i + 75]) for i in range(0, len(tokens), 75)]
    assert len(windows) == 2
    with torch.inference_mode():
        read = [pipe.encode_prompt(text, "cpu", 1, True) for text in windows]
    expected = painted(
        pipe, "ddim", prompt_embeds=torch.cat([states for states, _ in read], 1),
        negative_prompt_embeds=torch.cat([states for _, states in read], 1), num_inference_steps=3, guidance_scale=4.0,
        width=64, height=64,
    )  # fmt: skip
    assert psnr(paint(family, asked(LONG, sampler="ddim", steps=3, guidance=4.0)).pixels, expected) > 50


def test_a_longer_negative_prompt_fills_the_prompt_up(family: StableDiffusion) -> None:
    encoded = family.encode(asked("a fox", negative_prompt=LONG, guidance=4.0))
    assert encoded.key.tokens == 2 * 77
    assert encoded.conditioning["encoder_hidden_states"].shape == encoded.unconditional["encoder_hidden_states"].shape


def test_a_model_whose_index_skips_clips_last_layers_does_so(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "skipping"
    shutil.copytree(folders(NOISE), folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"clip_skip": 1}))
    encoded = StableDiffusion(Parts(folder), model(folder)).encode(asked("a fox"))
    text = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokens = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")(
        "a fox", padding="max_length", return_tensors="pt"
    )
    with torch.inference_mode():
        states = text.final_layer_norm(text(tokens.input_ids, output_hidden_states=True).hidden_states[-2])
    assert torch.allclose(encoded.conditioning["encoder_hidden_states"], states[0], atol=1e-6)


def test_a_picture_of_another_size_is_the_middle_of_a_padded_one(folders: Folders, family: StableDiffusion) -> None:
    """As 520×1048 is of 576×1088, where sides are of 64 pixels; here they are of four."""
    request = asked("a red fox", width=54, height=86, sampler="ddim", steps=3, guidance=4.0)
    whole = theirs(
        diffusers.StableDiffusionPipeline, folders(NOISE), "ddim", prompt="a red fox", num_inference_steps=3,
        guidance_scale=4.0, width=56, height=88,
    )  # fmt: skip
    pixels = paint(family, request).pixels
    assert pixels.shape == (86, 54, 3)
    assert psnr(pixels, whole[1:-1, 1:-1]) > 50


MIXED = [
    asked("a red fox", sampler="euler", steps=3, guidance=4.0),
    asked("a dog", seed=8, sampler="heun", steps=4, guidance=1.0),
    asked("a cat in the rain", seed=9, sampler="lcm", steps=2, guidance=2.0, negative_prompt="snow"),
    asked("a hen", seed=10, sampler="dpm++2m", steps=5, guidance=7.0),
]
"""Neighbours that share nothing but the size of their latents."""


def numbered(requests: list[Request]) -> list[Request]:
    return [replace(request, id=str(number)) for number, request in enumerate(requests)]


@pytest.mark.parametrize("make", [NOISE, CONSISTENT], ids=["guided", "guidance embedded"])
def test_neighbours_of_other_steps_guidance_and_samplers_change_no_picture(make: Any, folders: Folders) -> None:
    folder, requests = folders(make), numbered(MIXED)
    family = StableDiffusion(Parts(folder), model(folder, batch=4))
    pictures, calls = together(family, requests)
    alone = {request.id: paint(family, request).pixels for request in requests}
    assert calls < sum(together(family, [request])[1] for request in requests)  # they did share evaluations
    assert min(psnr(pictures[name], alone[name]) for name in alone) > 50


def test_batches_of_one_are_exact_in_any_company(family: StableDiffusion) -> None:
    requests = numbered(MIXED)
    pictures, _ = together(family, requests)
    assert family.max_batch == 1
    assert all((pictures[request.id] == paint(family, request).pixels).all() for request in requests)


@pytest.mark.parametrize(
    ("noising", "unet", "weights", "expected"),
    [
        ({}, {}, "sd15", Usual("dpm++2m", 25, 7.5)),
        ({"timestep_spacing": "trailing"}, {}, "sd-turbo", Usual("euler", 4, 1.0)),
        ({"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, {}, "sd21", Usual("dpm++2m", 25, 7.5)),
        ({"_class_name": "LCMScheduler"}, {}, "lcm-fused", Usual("lcm", 4, 1.0)),
        ({}, {"time_cond_proj_dim": 256}, "LCM_Dreamshaper_v7", Usual("lcm", 4, 8.0)),
        ({}, {}, "/models/sdxl_lightning_8step.safetensors", Usual("euler", 8, 1.0)),
    ],
)
def test_a_model_is_painted_with_as_it_was_published(
    noising: dict[str, Any], unet: dict[str, Any], weights: str, expected: Usual
) -> None:
    assert usual(noising, unet, weights, guidance=7.5) == expected


@pytest.mark.parametrize(
    ("name", "steps"),
    [("sdxl_lightning_4step_unet.safetensors", 4), ("Hyper-SD15-1-step", 1), ("a/4step/model", None), ("step12", None),
     ("model-at-1000steps", None), ("8 steppes", None)],
)  # fmt: skip
def test_the_steps_that_weights_are_for_are_read_from_their_name_alone(name: str, steps: int | None) -> None:
    assert named_steps(name) == steps


def test_weights_for_some_steps_are_run_at_the_end_of_the_noise(folders: Folders, tmp_path: Path) -> None:
    """As Lightning is, whatever spacing the base's scheduler has."""
    named = StableDiffusion(Parts(folders(NOISE)), model(tmp_path / "fox_lightning_2step"))
    assert [level.t for level in named.encode(asked()).levels] == [999, 499, 0]


def test_the_entry_goes_before_the_family_and_the_request_before_both(folders: Folders) -> None:
    folder = folders(NOISE)
    family = StableDiffusion(Parts(folder), model(folder, steps=9, guidance=2.0, sampler="heun"))
    assert (encoded := family.encode(asked())).steps == 9
    assert (encoded.sampler, encoded.guidance) == ("heun", 2.0)
    assert family.encode(asked(steps=3)).steps == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"references": (np.zeros((8, 8, 4), np.uint8),)}, "FLUX.1 Kontext, FLUX.2, Qwen-Image-Edit"),
        ({"strength": 0.5}, "has no strength"),
        ({"style": "comic"}, "has no style"),
        ({"scene": {}}, "has no scene"),
        ({"steps": 60, "sampler": "lcm"}, "at most 50 steps"),
    ],
)
def test_what_it_cannot_do_is_refused(family: StableDiffusion, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        family.encode(asked(**fields))


def test_a_negative_prompt_without_guidance_is_said_to_have_no_effect(family: StableDiffusion) -> None:
    assert family.encode(asked(negative_prompt="a dog", guidance=4.0)).notes == ()
    (note,) = family.encode(asked(negative_prompt="a dog", guidance=1.0)).notes
    assert "no effect without guidance" in note


def test_a_negative_prompt_where_guidance_is_embedded_is_said_to_have_no_effect(folders: Folders) -> None:
    folder = folders(CONSISTENT)
    family = StableDiffusion(Parts(folder), model(folder))
    (note,) = family.encode(asked(negative_prompt="a dog", guidance=8.0)).notes
    assert "guides itself" in note


def test_a_model_that_predicts_something_unknown_is_refused(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(folders(NOISE), folder)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "colour"}))
    with pytest.raises(ModelUnusable, match="predicts 'colour'"):
        StableDiffusion(Parts(folder), model(folder))
