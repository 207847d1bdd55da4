"""Z-Image and Z-Image-Turbo: Qwen 3 reads the prompt, one stream of tokens holds text and picture.

Image Team 2025, arXiv:2511.22699. Guidance is as everywhere in Limner, 1 for none: the published settings and code of
Z-Image count from 0, so that their 4 is 5 here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.engine import samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.models.registry import Model
from limner.pipelines import flow
from limner.pipelines.latents import check, chosen, held, padded, preview, to_array, to_pixels, to_tensor
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import decoder, encoder

BUCKET = 32
"""The network fills texts up to a multiple of so many tokens; those of one multiple need no mask beside each other."""

TURBO_SHIFT = 3.0
"""The greatest shift of a scheduler made for few steps: Turbo's is 3, Z-Image's 6; nothing else tells them apart."""


class ZImage:
    """A latent is (16, H/8, W/8), read as tokens of 2×2 cells."""

    name = "z-image"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self._loras = Loras(parts, model)
        self.fingerprint = parts.fingerprint + self._loras.fingerprint
        self._device, self._dtype = parts.device, parts.dtype
        self._tokenizer, self._text = parts.tokenizer(), parts.module("text_encoder").base_model
        # The network takes a list of tensors for the texts, whose lengths differ: no network of tensors alone.
        self._denoiser = parts.module("transformer")
        self._decoded, self._encoded = decoder(parts), encoder(parts)
        self._noising = flow.checked(parts.config("scheduler"))
        settings = parts.config("transformer")
        self._channels = settings["in_channels"]
        self._longest = (settings["axes_lens"][0] - 2) // BUCKET * BUCKET  # positions of text, and one for the picture
        self._cell = 2 ** (len(parts.config("vae")["block_out_channels"]) - 1)  # pixels along a side of a latent's cell
        self._turbo = not self._noising.get("use_dynamic_shifting") and flow.shift(self._noising, 0) <= TURBO_SHIFT

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts. Raises InvalidRequest for what this family cannot do."""
        check(request, self._model.name, references=False)
        loras = self._loras.chosen(request)
        steps = chosen(request.steps, self._model.steps, 8 if self._turbo else 50)
        guidance = chosen(request.guidance, self._model.guidance, 1.0 if self._turbo else 5.0)
        sampler: SamplerName = chosen(request.sampler, self._model.sampler, "euler")
        width, height = padded(request.width, request.height, 2 * self._cell)
        shape = (self._channels, height // self._cell, width // self._cell)
        tokens = shape[1] * shape[2] // 4
        prompts = [request.prompt] if guidance == 1 else [request.prompt, request.negative_prompt or ""]
        with self._loras.applied(loras):
            read = [self._read(prompt) for prompt in prompts]
        (text, *negative), notes = [states for states, _ in read], tuple(note for _, said in read for note in said)
        if guidance == 1 and request.negative_prompt is not None:
            notes += ("The negative prompt has no effect, since guidance is 1.",)
        bucket = -(-len(text) // BUCKET) * BUCKET
        return Encoded(
            key=Key(request.model, shape, bucket, loras),
            levels=flow.run(self._noising, flow.even(steps), flow.shift(self._noising, tokens), sampler),
            guidance=guidance,
            cost=float(tokens + bucket),
            conditioning=text,
            unconditional=negative[0] if negative else None,
            sampler=sampler,
            notes=notes,
            held=held(request, width, height, self._encoded),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, 16, H/8, W/8)."""
        x = to_tensor(batch.x, self._device).to(self._dtype)
        with self._loras.applied(batch.key.loras):
            output = self._denoiser(
                list(x[:, :, None]),  # each of one frame
                to_tensor(batch.t, self._device),
                list(batch.conditioning),
                return_dict=False,
            )[0]
        velocity = -torch.stack(output)[:, :, 0]  # the network's points toward the picture
        clean: Float32 = samplers.clean_from("flow_prediction", to_array(velocity), batch)
        return clean

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return to_pixels(self._decoded(x), request.width, request.height)

    @torch.inference_mode()
    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return preview(self._decoded, x, request, self._cell)

    def _read(self, prompt: str) -> tuple[Tensor, tuple[str, ...]]:
        """The text encoder's states before its last layer, (N, C), and notes."""
        said = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        tokens: Any = self._tokenizer(text).input_ids
        notes: tuple[str, ...] = ()
        if len(tokens) > self._longest:
            notes = (f"Only the first {self._longest} of the prompt's {len(tokens)} tokens were read.",)
            tokens = tokens[: self._longest]
        states = self._text(
            input_ids=torch.tensor([tokens], device=self._device), output_hidden_states=True, use_cache=False
        ).hidden_states
        read: Tensor = states[-2][0]
        return read, notes
