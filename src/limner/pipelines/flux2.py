"""FLUX.2 dev and klein: a language model's inner layers for text, references in context.

Black Forest Labs, "FLUX.2" (bfl.ai/blog/flux-2, 2025) and "FLUX.2 klein" (2026). A latent's 2×2 cells are one token,
normalized by statistics that the autoencoder carries; text, picture and references are one sequence, told apart by
positions of four numbers: time, row, column, word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from PIL import Image
from torch import Tensor

from limner.engine import samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.errors import InvalidRequest
from limner.models.registry import Model
from limner.pipelines import flow
from limner.pipelines.latents import (
    check,
    chosen,
    held,
    on_white,
    packed,
    padded,
    stacked,
    to_array,
    to_pixels,
    to_tensor,
    unpacked,
)
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import latent_of
from limner.runtime.torch import tiling

TEXT = 512
"""Tokens of every prompt, padding among them; a longer prompt has as many as it needs."""

MOST = 1024 * 1024
"""Pixels of a reference; a larger one is made smaller."""

LEAST = 64
"""Pixels along a side of a reference."""

APART = 10
"""How far references lie from the picture, and from each other, in the position's time."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a language model is shown a prompt, and which of its layers the denoiser reads."""

    layers: tuple[int, ...]
    system: str | None  # said before the prompt
    template: dict[str, Any]  # what the chat template is told
    special: bool  # whether the tokenizer adds its own tokens around the text

    def messages(self, prompt: str) -> list[dict[str, Any]]:
        if self.system is None:
            return [{"role": "user", "content": prompt}]
        said = {"system": self.system, "user": prompt.replace("[IMG]", "")}  # which stands for a picture there
        return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said.items()]


READERS = {
    "Mistral3ForConditionalGeneration": Reader((10, 20, 30), SYSTEM_MESSAGE, {"add_generation_prompt": False}, False),
    "Qwen3ForCausalLM": Reader((9, 18, 27), None, {"add_generation_prompt": True, "enable_thinking": False}, True),
}


@dataclass(frozen=True, slots=True)
class Sequenced(Key):
    """The positions are the same for all rows of an evaluation, so those of the references are too."""

    references: tuple[tuple[int, int], ...] = ()  # rows and columns of each one's tokens


class Flux2:
    """Three kinds of weights, told apart by their settings: dev, klein and klein base.

    Dev is told how strongly to follow the prompt (guidance embedding), klein is distilled to paint without guidance,
    and klein base is guided by a second, negative evaluation.
    """

    name = "flux-2"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self._loras = Loras(parts, model)
        self.fingerprint = parts.fingerprint + self._loras.fingerprint
        self._device = parts.device
        self._tokenizer, self._text = parts.tokenizer(), parts.module("text_encoder").base_model
        self._reader = READERS[parts.index["text_encoder"][1]]
        self._vae = parts.module("vae")
        self._noising = flow.checked(parts.config("scheduler"))
        settings = parts.config("transformer")
        self._channels = settings["in_channels"]
        self._embedded = settings["guidance_embeds"]
        self._distilled = bool(parts.index.get("is_distilled"))
        self._multiple = 2 ** len(self._vae.config.block_out_channels)  # pixels along a side of a token
        self._denoiser = self._loras.network("transformer", lambda: self._example(settings["joint_attention_dim"]))
        channels = self._channels // 4
        self._decoded = parts.network("vae", lambda: {"z": torch.zeros(1, channels, 64, 64)}, "decode")
        bn = self._vae.bn
        self._mean = bn.running_mean.float()
        self._deviation = (bn.running_var.float() + self._vae.config.batch_norm_eps).sqrt()

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read prompts and references. Raises InvalidRequest for what these weights cannot do."""
        check(request, self._model.name, references=True)
        loras = self._loras.chosen(request)
        steps = chosen(request.steps, self._model.steps, 4 if self._distilled else 28 if self._embedded else 50)
        asked = chosen(request.guidance, self._model.guidance, 1.0 if self._distilled else 4.0)
        guidance, notes = self._guidance(request, asked)
        sampler: SamplerName = chosen(request.sampler, self._model.sampler, "euler")
        width, height = padded(request.width, request.height, self._multiple)
        rows, cols = height // self._multiple, width // self._multiple
        bent = shift(rows * cols, steps) if self._noising.get("use_dynamic_shifting") else flow.shift(self._noising, 0)
        negative = [request.negative_prompt or ""] if guidance != 1 else []
        with self._loras.applied(loras):
            texts = self._read([request.prompt, *negative])
        references = [self._latent_of(reference) for reference in request.references]
        grids = tuple((latent.shape[0], latent.shape[1]) for latent in references)
        shared: dict[str, Tensor] = {
            "txt_ids": positions(words=len(texts[0])),
            "img_ids": torch.cat(
                [positions(0, rows, cols), *(positions(APART * (i + 1), *grid) for i, grid in enumerate(grids))]
            ),
        }
        if self._embedded:
            shared["guidance"] = torch.tensor(asked)
        if references:
            shared["references"] = torch.cat([latent.flatten(0, 1) for latent in references])
        told = [shared | {"encoder_hidden_states": text} for text in texts]
        return Encoded(
            key=Sequenced(request.model, (rows, cols, self._channels), len(texts[0]), loras, references=grids),
            levels=flow.run(self._noising, flow.even(steps), bent, sampler),
            guidance=guidance,
            cost=float(len(texts[0]) + len(shared["img_ids"])),
            conditioning=told[0],
            unconditional=told[-1],
            sampler=sampler,
            notes=notes,
            held=held(request, width, height, lambda picture: unpacked(self._tokens(picture)), packed),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, H/16, W/16, C)."""
        x = to_tensor(batch.x, self._device).flatten(1, 2)
        given = stacked(batch.conditioning)
        context = [given.pop("references")] if "references" in given else []
        with self._loras.applied(batch.key.loras):
            output = self._denoiser(
                hidden_states=torch.cat([x, *context], dim=1),
                timestep=to_tensor(batch.noise, self._device),
                **given,
            )
        velocity = output[:, : x.shape[1]].reshape(batch.x.shape)
        clean: Float32 = samplers.clean_from("flow_prediction", to_array(velocity), batch)
        return clean

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        cells = unpacked(to_tensor(x, self._device) * self._deviation + self._mean)
        return to_pixels(self._decoded(z=cells[None])[0], request.width, request.height)

    def _guidance(self, request: Request, asked: float) -> tuple[float, tuple[str, ...]]:
        """What two predictions are combined with, and notes of what has no effect."""
        if self._embedded or self._distilled:
            if request.negative_prompt is not None:
                raise InvalidRequest(
                    f"{self._model.name} is guided without a second evaluation, and a negative prompt has no effect. "
                    "Leave it out, and say what you want to see in the prompt."
                )
            if self._distilled and asked != 1:
                raise InvalidRequest(
                    f"{self._model.name} is distilled to paint without guidance. Leave guidance out, or set it to 1."
                )
            return 1.0, ()
        if asked == 1 and request.negative_prompt is not None:
            return asked, ("The negative prompt has no effect, since guidance is 1.",)
        return asked, ()

    def _read(self, prompts: Sequence[str]) -> list[Tensor]:
        """The states of three layers side by side, (N, 3 * C) for each prompt, with the same N."""
        reader = self._reader
        texts = [
            self._tokenizer.apply_chat_template(reader.messages(prompt), tokenize=False, **reader.template)
            for prompt in prompts
        ]
        lengths = [len(self._tokenizer(text, add_special_tokens=reader.special).input_ids) for text in texts]
        read = []
        for text in texts:
            tokens = self._tokenizer(
                text, add_special_tokens=reader.special, padding="max_length", max_length=max(TEXT, *lengths),
                return_tensors="pt",
            )  # fmt: skip
            states = self._text(
                input_ids=tokens.input_ids.to(self._device), attention_mask=tokens.attention_mask.to(self._device),
                output_hidden_states=True, use_cache=False,
            ).hidden_states  # fmt: skip
            read.append(torch.cat([states[layer][0] for layer in reader.layers], dim=-1))
        return read

    def _latent_of(self, reference: UInt8) -> Tensor:
        """A reference's tokens as the denoiser sees a picture's, (H/16, W/16, C), its middle kept."""
        if min(reference.shape[:2]) < LEAST:
            raise InvalidRequest(f"A reference needs at least {LEAST} pixels a side here. Send a larger one.")
        picture = Image.fromarray(on_white(reference))
        if picture.width * picture.height > MOST:
            scale = math.sqrt(MOST / (picture.width * picture.height))
            size = int(picture.width * scale), int(picture.height * scale)
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        width, height = (side // self._multiple * self._multiple for side in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        pixels = np.asarray(picture.crop((left, top, left + width, top + height)), np.float32) / 127.5 - 1
        return self._tokens(torch.from_numpy(pixels).permute(2, 0, 1))

    def _tokens(self, picture: Tensor) -> Tensor:
        """A picture, (3, H, W) in [-1, 1], as the denoiser sees it: (H/16, W/16, C)."""
        tiling(self._vae, picture.shape[1] * picture.shape[2], self._device)  # as decoding may have left it otherwise
        tokens: Tensor = (packed(latent_of(self._vae, picture)) - self._mean) / self._deviation
        return tokens

    def _example(self, text: int) -> dict[str, Tensor]:
        """What the denoiser is given for 1024×1024 pixels, with `text` channels of text."""
        side = 1024 // self._multiple
        told = {
            "hidden_states": torch.zeros(1, side * side, self._channels),
            "timestep": torch.ones(1),
            "encoder_hidden_states": torch.zeros(1, TEXT, text),
            "txt_ids": positions(words=TEXT)[None],
            "img_ids": positions(0, side, side)[None],
        }
        return told | ({"guidance": torch.ones(1)} if self._embedded else {})


def shift(tokens: int, steps: int) -> float:
    """How strongly the noises of a picture of so many tokens are bent: e^mu, where mu was fitted to what looks best.

    Linear in the tokens at 10 and at 200 steps, and in the steps between; that of 200 steps for large pictures.
    """
    few, many = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    return math.exp(many if tokens > 4300 else many + (many - few) / 190 * (steps - 200))


def positions(time: int = 0, rows: int = 1, cols: int = 1, words: int = 1) -> Tensor:
    """The position of each token, (N, 4) whole numbers, of a picture, a reference or a text."""
    return torch.cartesian_prod(torch.tensor([time]), torch.arange(rows), torch.arange(cols), torch.arange(words))
