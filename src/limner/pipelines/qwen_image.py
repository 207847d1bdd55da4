"""Qwen-Image, Qwen-Image-Edit and Edit-Plus: a vision-language model reads, a transformer paints in packed latents.

Wu et al. 2025, arXiv:2508.02324. References are shown to the reader, and stand in the transformer's sequence as tokens
of the VAE, each with a grid of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor

from limner.engine import samplers
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.models.registry import Model
from limner.pipelines import flow
from limner.pipelines.latents import (
    check,
    chosen,
    further,
    held,
    on_white,
    packed,
    padded,
    to_array,
    to_pixels,
    to_tensor,
    unguided,
    unpacked,
)
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Parts
from limner.pipelines.stable_diffusion import latent_of

Grid = tuple[int, int, int]
"""Frames, rows and columns of tokens of one picture in the sequence."""

BUCKET = 64
"""Texts are padded to a multiple of so many tokens, so that many share a batch."""

REFERENCE_AREA = 1024 * 1024
"""Pixels of a reference, as near as sides that 32 divides come, before the VAE encodes it."""

LONGEST = 16
"""How many times as long as wide a reference may be."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model was taught to be asked: its reader's instructions, and how it is shown references."""

    instructions: str
    dropped: int  # tokens of the instructions, whose states are no part of the conditioning
    references: int | None = 0  # most of them; None: any number
    area: int = REFERENCE_AREA  # pixels of a reference, as near as sides that 32 divides come, for the reader
    label: str = ""  # before each reference; {} is its number, from 1


DESCRIBE = Reading(
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:",
    dropped=34,
)
_ALTER = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain "
    "how the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate."
)
READINGS = {
    "QwenImagePipeline": DESCRIBE,
    "QwenImageEditPipeline": Reading(_ALTER, dropped=64, references=1),
    "QwenImageEditPlusPipeline": Reading(_ALTER, dropped=64, references=None, area=384 * 384, label="Picture {}: "),
}
"""By the pipeline that a model's folder names. A model that edits is asked as `DESCRIBE` where it gets no reference."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What the transformer is told beside latent and time."""

    text: Tensor  # (L, C), L a multiple of BUCKET
    mask: Tensor  # (L,), bool: where there is text
    references: Tensor  # (N, C) tokens of all references
    grids: tuple[Grid, ...]  # of the picture, then of each reference


class QwenImage:
    """A model whose folder names one of `READINGS`.

    Raises:
        ModelUnusable: its settings ask for what no published model of the family has.
    """

    name = "qwen-image"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.max_batch = parts.max_batch(model)
        self._loras = Loras(parts, model)
        self.fingerprint = parts.fingerprint + self._loras.fingerprint
        self._device = parts.device
        self._noising = flow.checked(parts.config("scheduler"))
        config = parts.config("transformer")
        odd = [name for name in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope") if config.get(name)]
        if odd:
            raise ModelUnusable(f"The transformer's settings {', '.join(odd)} are of no model that is known here.")
        self._editing = READINGS[parts.index["_class_name"]]
        self._tokenizer, self._reader = parts.tokenizer(), parts.module("text_encoder").model
        if self._editing.references != 0:
            self._eye = parts.settings(transformers.Qwen2VLImageProcessorPil, "processor")
        self._transformer, self._vae = parts.module("transformer"), parts.module("vae")
        self._channels = config["in_channels"]
        self._cell = 2 ** len(self._vae.config.temperal_downsample)  # pixels along a side of a latent's cell
        self._side = 2 * self._cell  # and of a token, which is 2×2 cells
        self._mean, self._deviation = (
            torch.tensor(self._vae.config[name], device=self._device)[:, None, None]
            for name in ("latents_mean", "latents_std")
        )

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts and the references. Raises InvalidRequest for what this family cannot do."""
        pictures, loras = self._pictures(request), self._loras.chosen(request)
        steps = chosen(request.steps, self._model.steps, 50)
        guidance = chosen(request.guidance, self._model.guidance, 4.0)
        usual: SamplerName = "euler"
        sampler = chosen(request.sampler, self._model.sampler, usual)
        width, height = padded(request.width, request.height, self._side)
        rows, columns = height // self._side, width // self._side
        run = flow.run(self._noising, flow.even(steps), flow.shift(self._noising, rows * columns), sampler)
        seen = [_resized(picture, self._editing.area) for picture in pictures]
        negative = " " if request.negative_prompt is None else request.negative_prompt
        texts = [
            self._read(prompt, seen) for prompt in ([request.prompt, negative] if guidance != 1 else [request.prompt])
        ]
        latents = [packed(self._encoded(_pixels(_resized(picture, REFERENCE_AREA)))) for picture in pictures]
        grids = ((1, rows, columns), *((1, *latent.shape[:2]) for latent in latents))
        longest = -(-max(len(text) for text in texts) // BUCKET) * BUCKET
        self._fits(longest, grids)
        tokens = torch.cat(
            [torch.empty(0, self._channels, device=self._device), *(latent.flatten(0, 1) for latent in latents)]
        )
        told = [Told(*_filled(text, longest), tokens, grids) for text in texts]
        return Encoded(
            key=Key(request.model, (rows, columns, self._channels), longest + len(tokens), loras),
            levels=run,
            guidance=guidance,
            cost=float(rows * columns + longest + len(tokens)),
            conditioning=told[0],
            unconditional=told[-1],
            sampler=sampler,
            guiding="norm-kept",
            notes=unguided(request, guidance),
            held=held(request, width, height, self._encoded, packed),
        )

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, H/16, W/16, C)."""
        velocity = np.empty_like(batch.x)
        alike: dict[tuple[Grid, ...], list[int]] = {}  # the transformer takes rows whose grids are the same
        for row, told in enumerate(batch.conditioning):
            alike.setdefault(told.grids, []).append(row)
        with self._loras.applied(batch.key.loras):
            for grids, rows in alike.items():
                told = [batch.conditioning[row] for row in rows]
                velocity[rows] = self._velocity(batch.x[rows], batch.noise[rows], told, grids)
        clean: Float32 = samplers.clean_from("flow_prediction", velocity, batch)
        return clean

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        latent = unpacked(to_tensor(x, self._device)) * self._deviation + self._mean
        frames = self._vae.decode(latent[None, :, None].to(self._vae.dtype), return_dict=False)[0]
        return to_pixels(frames[0, :, 0], request.width, request.height)

    def _velocity(self, x: Float32, noise: Float32, told: Sequence[Told], grids: tuple[Grid, ...]) -> Float32:
        latent = to_tensor(x, self._device).flatten(1, 2)
        sequence = torch.cat([latent, torch.stack([one.references for one in told])], dim=1)
        output = self._transformer(
            hidden_states=sequence.to(self._transformer.dtype),
            timestep=to_tensor(noise, self._device),
            encoder_hidden_states=torch.stack([one.text for one in told]).to(self._transformer.dtype),
            encoder_hidden_states_mask=torch.stack([one.mask for one in told]),
            img_shapes=[list(grids)] * len(told),
            return_dict=False,
        )[0]
        return to_array(output[:, : latent.shape[1]]).reshape(x.shape)

    def _pictures(self, request: Request) -> list[Image.Image]:
        """The references, checked, on white."""
        most = self._editing.references
        check(request, "Qwen-Image" if most == 0 else "Qwen-Image-Edit", references=most != 0)
        references = further(request) if most == 0 else request.references
        if most is not None and len(references) > most:
            raise InvalidRequest(f"Qwen-Image-Edit takes {most} reference, not {len(references)}. Send one.")
        pictures = [Image.fromarray(on_white(reference)) for reference in references]
        for picture in pictures:
            if max(picture.size) > LONGEST * min(picture.size):
                raise InvalidRequest(
                    f"A reference has {picture.width}×{picture.height} pixels: more than {LONGEST} times as long as "
                    "wide. Cut it."
                )
        return pictures

    def _read(self, prompt: str, pictures: Sequence[Image.Image]) -> Tensor:
        """The reader's last states, (L, C), of all but its instructions.

        Names of control tokens in the prompt are read as the letters that they are.
        """
        reading = self._editing if pictures else DESCRIBE
        shown, given = "", {}
        if pictures:
            given = {**self._eye(images=list(pictures), return_tensors="pt")}
            counts = given["image_grid_thw"].prod(-1) // self._eye.merge_size**2
            shown = "".join(
                f"{reading.label.format(number)}<|vision_start|>{'<|image_pad|>' * int(count)}<|vision_end|>"
                for number, count in enumerate(counts, 1)
            )
        head = f"<|im_start|>system\n{reading.instructions}<|im_end|>\n<|im_start|>"
        user = f"user\n{shown}"
        ids: list[int] = [
            *self._tokenizer.encode(head + user if pictures else head),
            *self._tokenizer.encode(prompt if pictures else user + prompt, split_special_tokens=True),
            *self._tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n"),
        ]
        tokens = torch.tensor([ids], device=self._device)
        pad = self._reader.config.image_token_id
        states: Tensor = self._reader(
            input_ids=tokens,
            mm_token_type_ids=(tokens == pad).int(),  # else a reference's tokens have no places in two dimensions
            use_cache=False,
            **{name: value.to(self._device) for name, value in given.items()},
        ).last_hidden_state[0]
        return states[reading.dropped :]

    def _encoded(self, picture: Tensor) -> Tensor:
        """The clean latent, (C, h, w), of a picture, (3, H, W) in [-1, 1]."""
        latent = latent_of(self._vae, picture[:, None])[:, 0]  # of one frame
        return (latent - self._mean) / self._deviation

    def _fits(self, text: int, grids: Sequence[Grid]) -> None:
        """Raises InvalidRequest where the text is longer than the transformer has places for."""
        places = len(self._transformer.pos_embed.pos_freqs) - max(max(grid) // 2 for grid in grids)
        if text > places:
            raise InvalidRequest(
                f"The prompt, with its references, is {text} tokens long; this model reads {places}. Shorten it."
            )


def _pixels(picture: Image.Image) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)


def _filled(text: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The text, zeros behind it, and where it is."""
    missing = length - len(text)
    mask = torch.arange(length, device=text.device) < len(text)
    return torch.nn.functional.pad(text, (0, 0, 0, missing)), mask


def _resized(picture: Image.Image, area: int) -> Image.Image:
    """The picture in about so many pixels, with sides that 32 divides and about its own shape."""
    ratio = picture.width / picture.height
    width = math.sqrt(area * ratio)
    return picture.resize((round(width / 32) * 32, round(width / ratio / 32) * 32), Image.Resampling.LANCZOS)
