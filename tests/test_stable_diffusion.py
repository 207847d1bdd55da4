"""Stable Diffusion 1, 2 and Turbo paint what diffusers paints, alone and in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from limner.engine import samplers
from limner.engine.core import SamplerName
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import StableDiffusion
from parity import asked, clip_text_config, clip_tokenizer, eight_bit, psnr, seeded

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SCHEDULERS: dict[SamplerName, Any] = {
    "euler": diffusers.EulerDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of Stable Diffusion 2's shape, tiny."""
    path = tmp_path_factory.mktemp("sd")
    pipe = diffusers.StableDiffusionPipeline(
        unet=seeded(
            lambda: diffusers.UNet2DConditionModel(
                block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32,
                attention_head_dim=(2, 4), use_linear_projection=True,
            )
        ),
        vae=seeded(
            lambda: diffusers.AutoencoderKL(
                block_out_channels=(32, 64), in_channels=3, out_channels=3, latent_channels=4,
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            )
        ),
        text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config())).eval(),
        tokenizer=clip_tokenizer(path / "letters"),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path


def theirs(folder: Path, sampler: SamplerName, **fields: Any) -> Any:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = SCHEDULERS[sampler].from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(samplers.noise(7, (4, 32, 32)))[None]
    return eight_bit(pipe(**fields, latents=noise, output_type="np").images)


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_picture_is_that_of_diffusers_for_every_sampler(folder: Path, sampler: SamplerName) -> None:
    expected = theirs(
        folder, sampler, prompt="a red fox", negative_prompt="a dog", num_inference_steps=5, guidance_scale=4.0
    )
    request = asked("a red fox", negative_prompt="a dog", sampler=sampler, steps=5, guidance=4.0)
    assert psnr(paint(StableDiffusion(Parts(folder), Model("tiny", str(folder))), request).pixels, expected) > 50
