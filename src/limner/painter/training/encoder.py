"""The text encoder in torch, from the weights that ship: for machines that train and have no OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from limner.painter.training import export
from limner.painter.words import DEFAULT, DIM, Encode, Float32, Words

HEADS = 12


def words_in_torch(folder: Path = DEFAULT) -> Words:
    """`Words.load` without OpenVINO.

    Raises:
        ModelUnusable: as `Words.load`.
    """
    return Words.load(folder, network=encoder(export.weights(folder / "encoder.onnx")))


def encoder(weights: Mapping[str, Tensor]) -> Encode:
    """all-MiniLM-L6-v2 after its look-up of token embeddings (Wang et al., "MiniLM", 2020; a BERT of six layers).

    Args:
        weights: of the shipped encoder.onnx by name, its int8 matrices under `.values` with a `.scale` for each row.
    """
    held = {name.removesuffix(".values"): w for name, w in weights.items() if not name.endswith(".scale")}
    held |= {name.removesuffix(".scale"): held[name.removesuffix(".scale")] * w for name, w in weights.items()
             if name.endswith(".scale")}  # fmt: skip
    layers = sorted({int(name.split(".")[1]) for name in held if name.startswith("layers.")})

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (DIM,), held[f"{name}.weight"], held[f"{name}.bias"], 1e-12)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, held[f"{name}.weight"], held[f"{name}.bias"])

    @torch.inference_mode()
    def encode(inputs: Mapping[str, Float32]) -> Float32:
        embedded = torch.from_numpy(inputs["embedded"])
        x = norm(embedded + held["positions"][: embedded.shape[1]], "norm")
        for k in layers:
            at = f"layers.{k}"
            q, key, v = (
                linear(x, f"{at}.{part}").reshape(1, -1, HEADS, DIM // HEADS).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(q, key, v).transpose(1, 2).flatten(2)
            x = norm(x + linear(mixed, f"{at}.joined"), f"{at}.attended")
            x = norm(x + linear(functional.gelu(linear(x, f"{at}.wide")), f"{at}.narrow"), f"{at}.finished")
        features: Float32 = x.numpy()
        return features

    return encode
