"""Tiny models of each family, saved as folders, and what diffusers' own pipelines paint with them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers
from torch import nn

from limner.engine import samplers
from limner.engine.core import ENDINGS, Failed, Request, SamplerName, UInt8
from limner.engine.engine import Engine
from limner.pipelines.base import Pipeline

CHAT = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
"""Qwen 3's way to write a conversation, without tools."""


@dataclass(frozen=True)
class Case:
    """One line of the parity table."""

    family: str  # as a user says it
    sampler: str
    make: Callable[[Path], None]  # writes the tiny model into an empty folder
    measure: Callable[[Path, str], float]  # (that folder, device of torch) -> PSNR of ours against diffusers', dB

    def __str__(self) -> str:
        return f"{self.family}, {self.sampler}"


class Folders:
    """Tiny models below one folder, each made when it is first asked for."""

    def __init__(self, below: Path) -> None:
        self._below = below
        self._made: dict[Callable[[Path], None], Path] = {}

    def __call__(self, make: Callable[[Path], None]) -> Path:
        if make not in self._made:
            folder = self._below / str(len(self._made))
            make(folder)
            self._made[make] = folder
        return self._made[make]


def asked(prompt: str = "a red fox on a snowy hill", width: int = 64, height: int = 64, **fields: Any) -> Request:
    return Request("test", prompt, fields.pop("seed", 7), width, height, **fields)


def psnr(one: UInt8, other: UInt8) -> float:
    """Peak signal to noise of two pictures of 8 bits, dB; infinite for equal ones."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def together(pipeline: Pipeline, requests: Sequence[Request]) -> tuple[dict[str, UInt8], int]:
    """Pictures by the requests' ids, painted by an engine that has all of them at once, and its calls of evaluate."""
    engine = Engine({request.model: pipeline for request in requests}, limit=len(requests))
    ended: dict[str, Any] = {}
    engine.submit(requests, lambda event: ended.update({event.id: event} if isinstance(event, ENDINGS) else {}))
    while len(ended) < len(requests):
        engine.step()
    for event in ended.values():
        if isinstance(event, Failed):
            raise event.error
    return {name: event.pixels for name, event in ended.items()}, engine.batches


def clip_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """CLIP's tokenizer with the letters of ASCII for a vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def clip_text_config(width: int = 32, **fields: Any) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=190, hidden_size=width, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1, **fields,
    )  # fmt: skip


def t5_tokenizer(folder: Path) -> transformers.T5Tokenizer:
    """T5's tokenizer with the letters of ASCII for a vocabulary; what else there is, is unknown to it."""
    marks = [(mark, 0.0) for mark in ("<pad>", "</s>", "<unk>")]
    letters = [(letter, -2.0) for letter in ("▁", *map(chr, range(33, 127)))]
    tokenizer = transformers.T5Tokenizer(vocab=marks + letters, extra_ids=0, model_max_length=512)
    tokenizer.save_pretrained(folder)
    return tokenizer


def t5_encoder(width: int = 32) -> transformers.T5EncoderModel:
    config = transformers.T5Config(
        vocab_size=98, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    encoder: transformers.T5EncoderModel = strong(seeded(lambda: transformers.T5EncoderModel(config))).eval()
    return encoder


def flow_vae(channels: int = 4) -> Any:
    """An autoencoder of the shape that FLUX.1 and Stable Diffusion 3 have: a cell is 8×8 pixels."""
    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=channels, layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False,
        )
    )  # fmt: skip


def flow_scheduler(sampler: SamplerName, config: Mapping[str, Any]) -> Any:
    """diffusers' scheduler for a sampler of flow matching, on the levels that the Euler of this config takes.

    diffusers' Heun and DPM-Solver++ have neither FLUX.1's shift nor its levels; what they do there is theirs.
    """
    euler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)
    kinds: dict[SamplerName, Any] = {
        "euler": lambda euler: euler,
        "heun": _FlowHeun,
        "dpm++2m": _FlowSolver,
        "multistep": lambda euler: _FlowMultistep.from_config(euler.config),
    }
    scheduler = kinds[sampler](euler)
    scheduler.register_to_config(**{"prediction_type": "flow_prediction", **euler.config, **scheduler.config})
    return scheduler


class _FlowHeun(diffusers.FlowMatchHeunDiscreteScheduler):
    def __init__(self, euler: Any) -> None:
        super().__init__()
        self.euler = euler

    def set_timesteps(self, steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None) -> None:
        self.euler.set_timesteps(steps, device, sigmas, mu)
        super().set_timesteps(len(self.euler.timesteps), device)
        sigmas, times = self.euler.sigmas, self.euler.timesteps
        self.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        self.timesteps = torch.cat([times[:1], times[1:].repeat_interleave(2)])


class _FlowSolver(diffusers.DPMSolverMultistepScheduler):
    def __init__(self, euler: Any) -> None:
        super().__init__(use_flow_sigmas=True, prediction_type="flow_prediction")
        self.euler = euler

    def set_timesteps(self, steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None) -> None:
        if sigmas is None and mu is not None:  # told of such a scheduler, FLUX's pipeline leaves its own sigmas out
            sigmas = np.linspace(1, 1 / steps, steps)
        self.euler.set_timesteps(steps, device, sigmas, mu)
        super().set_timesteps(len(self.euler.timesteps), device)
        self.sigmas, self.timesteps = self.euler.sigmas, self.euler.timesteps


def byte_tokenizer(kind: Any, special: Sequence[str], template: str, **fields: Any) -> Any:
    """A tokenizer of this class, a token for every byte behind the `special` ones, with a chat template."""
    tokens = [*special, *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    return kind(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], chat_template=template,
        model_max_length=4096, **fields,
    )  # fmt: skip


def qwen_tokenizer(template: str = CHAT, **fields: Any) -> transformers.Qwen2Tokenizer:
    """The tokenizer of Qwen 2, 2.5 and 3, with CHAT for a template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return byte_tokenizer(transformers.Qwen2Tokenizer, special, template, additional_special_tokens=special, **fields)


def qwen3_config(layers: int, width: int = 16) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(
        vocab_size=300, hidden_size=width, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def stable_diffusion_folder(path: Path, *, tiny_vae: bool = False, **noising: Any) -> None:
    """A model of Stable Diffusion 2's shape; `noising` are settings of its scheduler.

    With guidance_embedded among them, the denoiser takes guidance as an embedding, as LCM's does.
    """
    embedded = noising.pop("guidance_embedded", False)
    vae = {"block_out_channels": (32, 64), "in_channels": 3, "out_channels": 3, "latent_channels": 4}
    pipe = diffusers.StableDiffusionPipeline(
        unet=seeded(
            lambda: emphatic(diffusers.UNet2DConditionModel(
                block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32,
                attention_head_dim=(2, 4), use_linear_projection=True, time_cond_proj_dim=32 if embedded else None,
            ), 2)
        ),
        vae=seeded(
            lambda: diffusers.AutoencoderTiny(
                encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16), num_encoder_blocks=(1, 1),
                num_decoder_blocks=(1, 1),
            ) if tiny_vae else diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **vae
            )
        ),
        text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config())).eval(),
        tokenizer=clip_tokenizer(path / "letters"),
        scheduler=diffusers.DDIMScheduler(**SCALED_LINEAR | noising),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)


def stable_diffusion_xl_folder(path: Path, **noising: Any) -> None:
    """A model of SDXL's shape, its two texts of other lengths of state; `noising` are settings of its scheduler."""
    pipe = diffusers.StableDiffusionXLPipeline(
        unet=seeded(
            lambda: emphatic(diffusers.UNet2DConditionModel(
                block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=56,
                attention_head_dim=(2, 4), use_linear_projection=True, transformer_layers_per_block=(1, 2),
                addition_embed_type="text_time", addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=8 * 6 + 20,
            ), 2)
        ),
        vae=seeded(
            lambda: diffusers.AutoencoderKL(
                block_out_channels=(32, 64), in_channels=3, out_channels=3, latent_channels=4,
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                scaling_factor=0.13025,
            )
        ),
        text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config())).eval(),
        text_encoder_2=seeded(
            lambda: transformers.CLIPTextModelWithProjection(clip_text_config(24, projection_dim=20, hidden_act="gelu"))
        ).eval(),
        tokenizer=clip_tokenizer(path / "letters"), tokenizer_2=clip_tokenizer(path / "letters"),
        scheduler=diffusers.DDIMScheduler(**SCALED_LINEAR | noising),
    )  # fmt: skip
    pipe.tokenizer_2.pad_token = "!</w>"
    pipe.save_pretrained(path)


SCALED_LINEAR = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
"""The noise of Stable Diffusion."""


class _Multistep(diffusers.EulerDiscreteScheduler):
    """Our multistep sampler, which diffusers lacks, for its pipelines: D of the model linear in the noise."""

    def set_timesteps(self, *args: Any, **fields: Any) -> None:
        super().set_timesteps(*args, **fields)
        self.seen: list[Any] = []

    def step(self, output: Any, t: Any, x: Any, **fields: Any) -> Any:
        if self.step_index is None:
            self._init_step_index(t)
        n, m = (float(sigma) for sigma in self.sigmas[self.step_index : self.step_index + 2])
        clean = x - n * output
        if self.config.prediction_type == "v_prediction":
            clean = x / (n**2 + 1) - n / (n**2 + 1) ** 0.5 * output
        self.seen.append((n, clean))
        moved = clean + (x - clean) * m / n
        if len(self.seen) > 1 and m:
            (before, past), _ = self.seen[-2:]
            # The integral of (u - n) / u^2 over u from n to m, which is ln(m / n) + n / m - 1, times -m.
            moved = moved - m * (math.log(m / n) + n / m - 1) * (clean - past) / (n - before)
        self._step_index += 1
        return (moved,)


class _FlowMultistep(diffusers.FlowMatchEulerDiscreteScheduler):
    """The same for a flow, whose D is x - n * output, too."""

    step = _Multistep.step

    def set_timesteps(self, steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None) -> None:
        super().set_timesteps(steps, device, sigmas, mu)
        self.seen: list[Any] = []


DIFFUSION: dict[SamplerName, Any] = {
    "euler": diffusers.EulerDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
    "multistep": _Multistep,
    "lcm": diffusers.LCMScheduler,
}
"""diffusers' schedulers of our samplers for diffusion models."""


def theirs(kind: Any, folder: Path, sampler: SamplerName, device: str = "cpu", **fields: Any) -> UInt8:
    """What diffusers' pipeline of this class paints with the noise of seed 7 and the arguments of its call."""
    pipe = kind.from_pretrained(folder).to(device)
    return painted(pipe, sampler, **fields)


def painted(pipe: Any, sampler: SamplerName, **fields: Any) -> UInt8:
    """The same of a pipeline of Stable Diffusion or SDXL that is there."""
    pipe.scheduler = DIFFUSION[sampler].from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    width, height = fields.get("width", 64), fields.get("height", 64)
    shape = (4, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
    draws = (torch.from_numpy(samplers.noise(7, shape, draw))[None].to(pipe.device) for draw in itertools.count())
    with mock.patch("diffusers.schedulers.scheduling_lcm.randn_tensor", side_effect=lambda *_, **__: next(draws)):
        return eight_bit(pipe(**fields, latents=next(draws), output_type="np").images)


def seeded(make: Any, seed: int = 0) -> Any:
    """What `make()` gives with torch's generator at a seed of its own: the same weights in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def strong(network: Any, gain: float = 3.0) -> Any:
    """The network with its weights multiplied, so that every one of its inputs shows in a picture."""
    with torch.no_grad():
        for weight in network.parameters():
            weight *= gain
    return network


def emphatic(network: Any, factor: float) -> Any:
    """The network with larger weights: as made, it hardly heeds what it is told, and parity would show little."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight *= factor
    return network


def lora_file(path: Path, network: nn.Module, part: str, rank: int = 4) -> Path:
    """A LoRA of random weights for every attention of a network, as peft names them, that shows in a picture."""
    draw = torch.Generator().manual_seed(5)
    layers = {f"{part}.{name}": layer.weight for name, layer in network.named_modules() if name.endswith("to_q")}
    shapes = {
        name: {"lora_A": (rank, weight.shape[1]), "lora_B": (weight.shape[0], rank)} for name, weight in layers.items()
    }
    tensors = {
        f"{name}.{half}.weight": torch.randn(shape, generator=draw)
        for name, halves in shapes.items()
        for half, shape in halves.items()
    }
    safetensors.torch.save_file(tensors, path)
    return path


def eight_bit(pictures: Any) -> UInt8:
    """diffusers' output of type np, (1, H, W, 3) in [0, 1], as our pictures are."""
    rounded: UInt8 = (np.asarray(pictures)[0] * 255).round().astype(np.uint8)
    return rounded
