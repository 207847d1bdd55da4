"""Stable Diffusion 3 and 3.5: a transformer of flow matching that reads two CLIPs and T5, Esser et al. 2024.

arXiv:2403.03206. Any of the three readers may be absent: zeros stand in its place, as in training, where each was
dropped at times. T5 reads the whole prompt and the CLIPs its beginning; without T5, the CLIPs read all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from limner.engine import levels, samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.errors import ModelUnusable
from limner.models.registry import Model
from limner.pipelines import clip, flow
from limner.pipelines.latents import (
    Conditioning,
    check,
    chosen,
    held,
    padded,
    preview,
    stacked,
    to_array,
    to_pixels,
    to_tensor,
    unguided,
)
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import decoder, encoder
from limner.pipelines.t5 import T5

T5_TOKENS = 256
"""That a prompt is padded to for T5. Longer ones take 512, which the models read, with flaws at a picture's edges."""

Reader = tuple[Any, Any]
"""A CLIP: its tokenizer and its encoder."""


class StableDiffusion3:
    """Stable Diffusion 3 Medium, and 3.5 Medium, Large and Large Turbo."""

    name = "stable-diffusion-3"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self._loras = Loras(parts, model)
        self.fingerprint = parts.fingerprint + self._loras.fingerprint
        self._device = parts.device
        self._config = parts.config("transformer")
        self._clips: list[Reader | None] = [
            (parts.tokenizer(f"tokenizer{end}"), parts.module(f"text_encoder{end}")) if there else None
            for end, there in ((end, parts.has(f"text_encoder{end}")) for end in ("", "_2"))
        ]
        first, second = (reader[1].config.projection_dim if reader else 0 for reader in self._clips)
        absent = self._config["pooled_projection_dim"] - first - second
        self._widths = (first or absent, second or (absent if first else 0))
        self._t5 = T5(parts, "tokenizer_3", "text_encoder_3") if parts.has("text_encoder_3") else None
        if self._t5 is None and not any(self._clips):
            raise ModelUnusable(f"{parts.folder} has no text encoder. Copy the model's folder again, whole.")
        self._decoded, self._encoded = decoder(parts), encoder(parts)
        self._schedule = flow.checked(parts.config("scheduler"))
        self._steps, self._guidance = usual(self._config, model.weights)
        self._channels, self._patch = self._config["in_channels"], self._config["patch_size"]
        self._cell = 2 ** (len(parts.config("vae")["block_out_channels"]) - 1)  # pixels along a side of a latent's cell
        self._denoiser = self._loras.network("transformer", self._example)

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts. Raises InvalidRequest for what this family cannot do."""
        check(request, "Stable Diffusion 3", references=False)
        loras = self._loras.chosen(request)
        steps = chosen(request.steps, self._model.steps, self._steps)
        guidance = chosen(request.guidance, self._model.guidance, self._guidance)
        plain: SamplerName = "euler"
        sampler = chosen(request.sampler, self._model.sampler, plain)
        width, height = padded(request.width, request.height, self._cell * self._patch)
        shape = (self._channels, height // self._cell, width // self._cell)
        tokens = shape[1] * shape[2] // self._patch**2
        run = flow.run(self._schedule, spaced(self._schedule, steps), flow.shift(self._schedule, tokens), sampler)
        prompts = [request.prompt] if guidance == 1 else [request.prompt, request.negative_prompt or ""]
        with self._loras.applied(loras):
            told = self._read(prompts)
        text = len(told[0]["encoder_hidden_states"])
        return Encoded(
            key=Key(request.model, shape, text, loras),
            levels=run,
            guidance=guidance,
            cost=float(tokens + text),
            conditioning=told[0],
            unconditional=told[-1],
            sampler=sampler,
            notes=(self._t5.notes(request.prompt) if self._t5 else ()) + unguided(request, guidance),
            held=held(request, width, height, self._encoded),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, 16, H/8, W/8)."""
        with self._loras.applied(batch.key.loras):
            output = self._denoiser(
                hidden_states=to_tensor(batch.x, self._device),
                timestep=to_tensor(batch.noise, self._device) * 1000,
                **stacked(batch.conditioning),
            )
        clean: Float32 = samplers.clean_from("flow_prediction", to_array(output), batch)
        return clean

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return to_pixels(self._decoded(x), request.width, request.height)

    @torch.inference_mode()
    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return preview(self._decoded, x, request, self._cell)

    def _read(self, prompts: Sequence[str]) -> list[Conditioning]:
        """What the transformer is told of each prompt: both CLIPs' states side by side, then T5's, and a summary."""
        length = self._t5.length(T5_TOKENS, prompts) if self._t5 else T5_TOKENS
        joint = self._config["joint_attention_dim"]
        clips = [self._glance(reader, width, prompts) for reader, width in zip(self._clips, self._widths, strict=True)]
        tokens = max(len(states) for read in clips for states, _ in read)
        told: list[Conditioning] = []
        for prompt, *read in zip(prompts, *clips, strict=True):
            beside = torch.cat([pad(states, (0, 0, 0, tokens - len(states))) for states, _ in read], dim=-1)
            last = self._t5.states(prompt, length) if self._t5 else beside.new_zeros(length, joint)
            states = torch.cat([pad(beside, (0, joint - beside.shape[-1])), last])
            pooled = torch.cat([pooled for _, pooled in read])
            told.append({"encoder_hidden_states": states, "pooled_projections": pooled})
        return told

    def _glance(self, reader: Reader | None, width: int, prompts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """One CLIP's states of each prompt before its last layer, (77 K, C), and its summary of the beginning, (C,)."""
        if reader is None:
            zeros = torch.zeros(77, width, device=self._device)
            return [(zeros, zeros[0]) for _ in prompts]
        tokenizer, encoder = reader
        most = 1 if self._t5 else None
        windows = [tokens[:most].to(self._device) for tokens in clip.windows(tokenizer, prompts)]
        outputs = [encoder(tokens, output_hidden_states=True) for tokens in windows]
        return [(clip.joined(output.hidden_states[-2]), output.text_embeds[0]) for output in outputs]

    def _example(self) -> dict[str, Tensor]:
        """Inputs of one evaluation of a picture of half the sides that the model was trained on."""
        side = self._config["sample_size"] // 2
        return {
            "hidden_states": torch.zeros(1, self._channels, side, side),
            "timestep": torch.tensor([1000.0]),
            "encoder_hidden_states": torch.zeros(1, 77 + T5_TOKENS, self._config["joint_attention_dim"]),
            "pooled_projections": torch.zeros(1, self._config["pooled_projection_dim"]),
        }


def usual(config: Mapping[str, Any], weights: str) -> tuple[int, float]:
    """The steps and the guidance that the model of this transformer was published with; Turbo is known by its name."""
    if "turbo" in Path(weights).name.lower():
        return 4, 1.0
    if config.get("dual_attention_layers"):
        return 40, 4.5  # 3.5 Medium
    return (28, 3.5) if config.get("qk_norm") else (28, 7.0)  # 3.5 Large, 3 Medium


def spaced(config: Mapping[str, Any], steps: int) -> list[float]:
    """Noises from 1 to the least of the training, evenly: where its scheduler's shift is a fixed one, it bends both."""
    least = 1 / config.get("num_train_timesteps", 1000)
    if not config.get("use_dynamic_shifting"):
        least = levels.shifted(least, flow.shift(config, 0))
    return [1 - (1 - least) * i / max(1, steps - 1) for i in range(steps)]
