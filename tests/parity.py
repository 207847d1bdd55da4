"""Tiny models of each family, saved as folders, and what diffusers' own pipelines paint with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from limner.engine.core import Request, UInt8


def asked(prompt: str = "a red fox on a snowy hill", width: int = 64, height: int = 64, **fields: Any) -> Request:
    return Request("test", prompt, fields.pop("seed", 7), width, height, **fields)


def psnr(one: UInt8, other: UInt8) -> float:
    """Peak signal to noise of two pictures of 8 bits, dB; infinite for equal ones."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


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


def seeded(make: Any, seed: int = 0) -> Any:
    """What `make()` gives with torch's generator at a seed of its own: the same weights in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def eight_bit(pictures: Any) -> UInt8:
    """diffusers' output of type np, (1, H, W, 3) in [0, 1], as our pictures are."""
    rounded: UInt8 = (np.asarray(pictures)[0] * 255).round().astype(np.uint8)
    return rounded
