"""Stable Diffusion 1, 2 and Turbo: CLIP's text, a convolutional denoiser of noise or velocity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.engine import levels, samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.errors import InvalidRequest
from limner.models.registry import Model
from limner.pipelines.latents import chosen, padded, stacked, to_array, to_pixels, to_tensor
from limner.pipelines.parts import Parts


class StableDiffusion:
    """Rombach et al. 2022, arXiv:2112.10752; Turbo: Sauer et al. 2023, arXiv:2311.17042."""

    name = "stable-diffusion"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self.fingerprint = parts.fingerprint
        self._device = parts.device
        self._tokenizer, self._text = parts.tokenizer(), parts.module("text_encoder")
        self._denoiser, self._vae = parts.network("unet"), parts.module("vae")
        self._noising = parts.config("scheduler")
        unet, vae = parts.config("unet"), self._vae.config
        self._channels = unet["in_channels"]
        self._cell = 2 ** (len(vae.block_out_channels) - 1)  # pixels along a side of a latent's cell
        self._multiple = self._cell * 2 ** (len(unet["block_out_channels"]) - 1)
        self._distilled = self._noising.get("timestep_spacing") == "trailing"

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts. Raises InvalidRequest for what this family cannot do."""
        steps = chosen(request.steps, self._model.steps, 4 if self._distilled else 25)
        guidance = chosen(request.guidance, self._model.guidance, 1.0 if self._distilled else 7.5)
        usual: SamplerName = "euler" if self._distilled else "dpm++2m"
        sampler = chosen(request.sampler, self._model.sampler, usual)
        try:
            run = levels.diffusion(self._noising, steps, sampler)
        except ValueError as error:
            raise InvalidRequest(f"This run cannot be made: {error}.") from None
        width, height = padded(request.width, request.height, self._multiple)
        shape = (self._channels, height // self._cell, width // self._cell)
        text = self._text_of(request.prompt)
        return Encoded(
            key=Key(request.model, shape, len(text)),
            levels=run,
            guidance=guidance,
            cost=float(shape[1] * shape[2]),
            conditioning={"encoder_hidden_states": text},
            unconditional={"encoder_hidden_states": self._text_of(request.negative_prompt or "")},
            sampler=sampler,
            spread=levels.spread(run, self._noising, sampler),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, 4, H/8, W/8)."""
        output = self._denoiser(
            sample=to_tensor(batch.x, self._device),
            timestep=to_tensor(batch.t, self._device),
            **stacked(batch.conditioning),
        )
        kind = self._noising.get("prediction_type", "epsilon")
        clean: Float32 = samplers.clean_from(kind, to_array(output), batch)
        return clean

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        latent = to_tensor(x[None], self._device) / self._vae.config.scaling_factor
        picture = self._vae.decode(latent.to(self._vae.dtype), return_dict=False)[0]
        return to_pixels(picture[0], request.width, request.height)

    def _text_of(self, prompt: str) -> Tensor:
        """The text encoder's last states, (77, C)."""
        tokens: Any = self._tokenizer(
            prompt, padding="max_length", max_length=self._tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        states: Tensor = self._text(tokens.input_ids.to(self._device))[0][0]
        return states
