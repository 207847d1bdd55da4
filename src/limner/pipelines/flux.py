"""FLUX.1 by Black Forest Labs: schnell, dev and Kontext. A transformer of flow matching that reads T5's text.

No paper came with schnell and dev; their code is github.com/black-forest-labs/flux. Kontext, which takes references as
tokens beside those of the picture: Labs et al. 2025, arXiv:2506.15742.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.engine import samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.models.registry import Model
from limner.pipelines import clip, flow
from limner.pipelines.first_block import FirstBlockCache, Told
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
    unguided,
    unpacked,
)
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import decoder, encoder
from limner.pipelines.t5 import LONGEST, T5

SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688),
    (1568, 672),
)  # fmt: skip
"""(width, height) of the references that Kontext was trained with, pixels."""


class Flux:
    """A token is a square of 2×2 cells of the autoencoder; latents are (H/16, W/16, 64), tokens on their grid.

    dev and Kontext learned guidance: it is one of their inputs, at the price of one evaluation. With a negative prompt
    they are told a guidance of 1, which is none, and each step is guided by two evaluations, as schnell's always is.
    """

    name = "flux"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self._loras = Loras(parts, model)
        self.fingerprint = parts.fingerprint + self._loras.fingerprint
        self._device = parts.device
        self._tokenizer, self._clip = parts.tokenizer("tokenizer"), parts.module("text_encoder")
        self._t5 = T5(parts, "tokenizer_2", "text_encoder_2")
        self._decoded, self._encoded = decoder(parts), encoder(parts)
        self._config = parts.config("transformer")
        self._channels = self._config["in_channels"]  # of a token
        self._schedule = flow.checked(parts.config("scheduler"))
        self._token = 2 ** len(parts.config("vae")["block_out_channels"])  # pixels along its side
        self._learned_guidance = bool(self._config.get("guidance_embeds"))
        self._edits = parts.index.get("_class_name") == "FluxKontextPipeline"
        self._denoiser = self._loras.network("transformer", self._example)
        caching = model.first_block > 0
        self._cache = FirstBlockCache(parts.module("transformer"), model.first_block) if caching else None

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts and the references. Raises InvalidRequest for what this family cannot do."""
        guided = self._learned_guidance
        kind = "Kontext" if self._edits else "dev" if guided else "schnell"
        check(request, f"FLUX.1 {kind}", references=self._edits)
        loras = self._loras.chosen(request)
        steps = chosen(request.steps, self._model.steps, 28 if guided else 4)
        usual = 2.5 if self._edits else 3.5 if guided else 1.0
        guidance = chosen(request.guidance, self._model.guidance, usual)
        plain: SamplerName = "euler"
        sampler = chosen(request.sampler, self._model.sampler, plain)
        width, height = padded(request.width, request.height, self._token)
        rows, columns = height // self._token, width // self._token
        run = flow.run(self._schedule, flow.even(steps), flow.shift(self._schedule, rows * columns), sampler)
        learned, beyond = (guidance, 1.0) if guided and not request.negative_prompt else (1.0, guidance)
        prompts = [request.prompt] if beyond == 1 else [request.prompt, request.negative_prompt or ""]
        length = self._t5.length(LONGEST if guided else 256, prompts)
        shown = request.references if self._edits else ()  # what another repaints, it only holds
        seen, layout = self._look(shown)
        if guided:
            seen["guidance"] = torch.tensor(learned)
        with self._loras.applied(loras):
            told = [Told(seen | self._read(prompt, length)) for prompt in prompts]
        return Encoded(
            key=Key(request.model, (rows, columns, self._channels), bucket(length, layout), loras),
            levels=run,
            guidance=beyond,
            cost=float(rows * columns + length + len(seen["references"])),
            conditioning=told[0],
            unconditional=told[-1],
            sampler=sampler,
            notes=self._t5.notes(request.prompt) + unguided(request, beyond),
            held=held(request, width, height, self._encoded, packed),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, H/16, W/16, 64)."""
        with self._loras.applied(batch.key.loras):
            if self._cache is None:
                velocity = self._velocity(batch.x, batch.noise, batch.conditioning)
            else:
                velocity = np.concatenate([*self._remembered(batch, self._cache)])
        clean: Float32 = samplers.clean_from("flow_prediction", velocity, batch)
        return clean

    def _remembered(self, batch: Batch, cache: FirstBlockCache) -> Iterator[Float32]:
        """The velocity of each row, for which the cache has a memory of its own."""
        for row, told in enumerate(batch.conditioning):
            with cache.row(told):
                yield self._velocity(batch.x[row, None], batch.noise[row, None], [told])

    def _velocity(self, x: Float32, noise: Float32, told: Sequence[Told]) -> Float32:
        inputs = stacked(told)
        picture, references = to_tensor(x, self._device).flatten(1, 2), inputs.pop("references")
        layout = inputs.pop("places")[0]  # that of every row: `bucket` tells them apart
        output = self._denoiser(
            hidden_states=torch.cat([picture, references], dim=1),
            timestep=to_tensor(noise, self._device),
            img_ids=torch.cat([places(*x.shape[1:3]), layout]),
            txt_ids=torch.zeros(inputs["encoder_hidden_states"].shape[1], 3, dtype=torch.int64),
            **inputs,
        )
        return to_array(output[:, : picture.shape[1]]).reshape(x.shape)

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        latent = to_array(unpacked(torch.from_numpy(x)))
        return to_pixels(self._decoded(latent), request.width, request.height)

    def _read(self, prompt: str, length: int) -> dict[str, Tensor]:
        """T5's states, (length, C), of the whole prompt, and CLIP's summary, (C,), of its beginning."""
        beginning = clip.windows(self._tokenizer, [prompt])[0][:1]
        return {
            "encoder_hidden_states": self._t5.states(prompt, length),
            "pooled_projections": self._clip(beginning.to(self._device)).pooler_output[0],
        }

    def _look(self, references: Sequence[UInt8]) -> tuple[dict[str, Tensor], list[Grid]]:
        """The tokens of all references, (N, 64), and their places, (N, 3); and how they lie."""
        tokens = [self._tokens(reference) for reference in references]
        layout = beside([(len(grid), grid.shape[1]) for grid in tokens])
        nothing = torch.empty(0, self._channels, device=self._device), torch.empty(0, 3, dtype=torch.int64)
        return {
            "references": torch.cat([nothing[0], *(grid.flatten(0, 1) for grid in tokens)]),
            "places": torch.cat([nothing[1], *(places(*grid) for grid in layout)]),
        }, layout

    def _tokens(self, reference: UInt8) -> Tensor:
        """A reference's tokens on their grid, (rows, columns, 64), in the one of `SIZES` that bends it least."""
        picture = Image.fromarray(on_white(reference))
        shape = picture.width / picture.height
        sides = min(SIZES, key=lambda size: abs(shape - size[0] / size[1]))
        width, height = (side // self._token * self._token for side in sides)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.float32) / 127.5 - 1
        return packed(self._encoded(torch.from_numpy(pixels).permute(2, 0, 1)))

    def _example(self) -> dict[str, Tensor]:
        """Inputs of one evaluation of a picture of 512×512."""
        rows = columns = 512 // self._token
        inputs = {
            "hidden_states": torch.zeros(1, rows * columns, self._channels),
            "timestep": torch.ones(1),
            "img_ids": places(rows, columns),
            "txt_ids": torch.zeros(LONGEST, 3, dtype=torch.int64),
            "encoder_hidden_states": torch.zeros(1, LONGEST, self._config["joint_attention_dim"]),
            "pooled_projections": torch.zeros(1, self._config["pooled_projection_dim"]),
        }
        return inputs | ({"guidance": torch.ones(1)} if self._learned_guidance else {})


Grid = tuple[int, int, int, int, int]
"""Rows and columns of a picture's tokens, and the place of the first: index of the picture, row and column."""


def places(rows: int, columns: int, index: int = 0, top: int = 0, left: int = 0) -> Tensor:
    """Where the tokens of a picture stand for the transformer, (rows * columns, 3): index, row, column."""
    return torch.cartesian_prod(
        torch.tensor([index]), torch.arange(top, top + rows), torch.arange(left, left + columns)
    )


def beside(shapes: Sequence[tuple[int, int]]) -> list[Grid]:
    """Where references of these (rows, columns) lie, all of index 1 and none over another.

    Kontext's weights were trained with one reference, so that several are shown to it as one large one: each is laid
    below or to the right of those before it, whichever leaves the whole less long.
    """
    grids: list[Grid] = []
    bottom = right = 0
    for rows, columns in shapes:
        top, left = (0, right) if bottom + rows > right + columns else (bottom, 0)
        grids.append((rows, columns, 1, top, left))
        bottom, right = max(bottom, top + rows), max(right, left + columns)
    return grids


def bucket(length: int, layout: Sequence[Grid]) -> int:
    """One number for how long the text is and where the references lie, which rows of a batch have in common."""
    return int("".join(f"{number:04}" for number in (length, *chain.from_iterable(layout))))
