"""T5's reading of a prompt (Raffel et al. 2019, arXiv:1910.10683), for FLUX.1 and Stable Diffusion 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.pipelines.parts import Parts

LONGEST = 512  # tokens, of what both families were trained with


class T5:
    """A tokenizer and an encoder of `parts`, by their names.

    The denoisers see the padding as they see words, so that its length belongs to a model's training: a prompt is
    padded to the length that its model was published with, and to `LONGEST` only where it is longer than that.
    """

    def __init__(self, parts: Parts, tokenizer: str, encoder: str) -> None:
        self._tokenizer, self._encoder = parts.tokenizer(tokenizer), parts.module(encoder)
        self._device = parts.device

    def length(self, usual: int, prompts: Sequence[str]) -> int:
        """Tokens to pad each of these prompts to: `usual`, or `LONGEST` where one has more."""
        return usual if all(len(self._ids(prompt)) <= usual for prompt in prompts) else LONGEST

    def states(self, prompt: str, length: int) -> Tensor:
        """The encoder's last states, (length, C); what is longer is cut, and `notes` says so."""
        tokens = self._tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )  # fmt: skip
        with torch.inference_mode():
            states: Tensor = self._encoder(tokens.input_ids.to(self._device))[0][0]
        return states

    def notes(self, prompt: str) -> tuple[str, ...]:
        """Sentences about what of the prompt T5 does not read."""
        ids = self._ids(prompt)
        notes = []
        if len(ids) > LONGEST:
            notes.append(f"The prompt has {len(ids)} tokens, and this model reads the first {LONGEST}; shorten it.")
        if self._tokenizer.unk_token_id in ids:
            notes.append(
                "Some of the prompt is in characters that this model's text encoder does not know, and has little "
                "effect; describe the picture in English."
            )
        return tuple(notes)

    def _ids(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer(prompt, verbose=False).input_ids
        return ids
