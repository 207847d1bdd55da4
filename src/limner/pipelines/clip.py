"""CLIP's reading of prompts of any length, by as many windows as it takes.

CLIP was trained on 77 tokens, the first and the last of which say that the text begins and ends. A longer prompt is
read 75 tokens at a time, each window with a beginning and an end of its own, and the windows' states are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def windows(tokenizer: Any, prompts: Sequence[str]) -> list[Tensor]:
    """The tokens of each prompt, (K, 77), with K the same for all; up to 75 tokens are one window.

    Prompts that need fewer windows than the longest are filled up with windows of the empty text.
    """
    room = min(tokenizer.model_max_length, 77) - 2
    texts = [tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids for prompt in prompts]
    count = max(1, *(-(-len(text) // room) for text in texts))

    def window(text: list[int], start: int) -> list[int]:
        read = [tokenizer.bos_token_id, *text[start : start + room], tokenizer.eos_token_id]
        return read + [tokenizer.pad_token_id] * (room + 2 - len(read))

    return [torch.tensor([window(text, i * room) for i in range(count)]) for text in texts]


def joined(states: Tensor) -> Tensor:
    """The states of K windows, (K, 77, C), as one sequence, (K * 77, C)."""
    return states.flatten(0, 1)
