"""Weights of 8 bits: a denoiser in half the memory of bf16, loaded without ever being whole in more than that.

Each row of a large linear layer is a scale and whole numbers of -127 to 127, or numbers of float8_e4m3fn; each call
widens them to its input's precision and computes in that (LLM.int8's vector-wise quantization, of the weights alone:
Dettmers et al. 2022, arXiv:2208.07339, section 2). Of normally distributed rows, int8 keeps 1% of a row's spread as
its error and float8 2.6%.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.errors import ModelUnusable
from limner.models.registry import Quantize

KINDS: dict[Quantize, tuple[torch.dtype, float]] = {
    "int8": (torch.int8, 127.0),
    "fp8": (torch.float8_e4m3fn, 448.0),
}
"""What the weights are, and the greatest of them."""

LEAST = 2**20
"""Weights of the smallest layer that is narrowed. Smaller ones are many, and hold little."""

WEIGHTS = "diffusion_pytorch_model"


class Narrow(nn.Linear):
    """A linear layer with weights of 8 bits. It is empty until `fill`.

    Attributes:
        weight: (out, in), of this kind.
        scale: (out,), float32.
    """

    def __init__(self, layer: nn.Linear, kind: Quantize) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        self.weight = nn.Parameter(torch.empty(layer.weight.shape, dtype=KINDS[kind][0]), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(layer.out_features), requires_grad=False)
        self.bias = layer.bias

    def fill(self, weight: Tensor) -> None:
        """Take rows of (out, in), some at a time, so that little stands beside them."""
        dtype, most = KINDS[self.kind]
        for first in range(0, len(weight), 1024):
            part = slice(first, first + 1024)
            exact = weight[part].detach().float()
            scale = exact.abs().amax(1) / most
            scale[scale == 0] = 1
            shares = exact / scale[:, None]
            self.weight[part] = (shares.round_() if self.kind == "int8" else shares).to(dtype)
            self.scale[part] = scale

    def forward(self, x: Tensor) -> Tensor:
        wide = self.weight.to(x.dtype)
        if x.dtype == torch.float16:  # in which sums of whole numbers could be too large
            return functional.linear(x, wide * self.scale[:, None].to(x.dtype), self.bias)
        sums = (functional.linear(x, wide) * self.scale).to(x.dtype)
        return sums if self.bias is None else sums + self.bias


def narrow(network: nn.Module, kind: Quantize) -> None:
    """Narrow the large linear layers of a network, in place, one after the other."""
    for layer, name, inner in list(_large(network)):
        narrowed = Narrow(inner, kind)
        narrowed.fill(inner.weight)
        setattr(layer, name, narrowed)


def load(network: Any, folder: Path, dtype: torch.dtype, kind: Quantize, variant: str | None = None) -> nn.Module:
    """A network of this class of diffusers', its large linear layers narrowed, all else in `dtype`.

    Tensors come from the file one by one, and nothing of the file stays mapped.

    Raises:
        ModelUnusable: the folder has no such weights, not all of them, or damaged ones.
    """
    with accelerate.init_empty_weights():
        made: nn.Module = network.from_config(network.load_config(folder, local_files_only=True))
    for layer, name, inner in list(_large(made)):
        setattr(layer, name, Narrow(inner, kind))
    for file in _files(folder, variant):
        for name, value in _tensors(file):
            _put(made, name, value, dtype, folder)
    lacking = [name for name, value in made.named_parameters() if value.is_meta]
    if lacking:
        raise ModelUnusable(
            f"The weights of {folder} lack {len(lacking)} tensors that its settings ask for, {lacking[0]} among them. "
            "Copy the model's folder again, whole."
        )
    return made


def _large(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Each linear layer to narrow: the module that it is in, its name there, itself."""
    for module in network.modules():
        for name, inner in module.named_children():
            if isinstance(inner, nn.Linear) and not isinstance(inner, Narrow) and inner.weight.numel() >= LEAST:
                yield module, name, inner


def _files(folder: Path, variant: str | None) -> list[Path]:
    """The files of the weights, named as diffusers names them."""
    name = ".".join(filter(None, (WEIGHTS, variant, "safetensors")))
    index = folder / ".".join(filter(None, (WEIGHTS, "safetensors.index", variant, "json")))
    if index.is_file():
        return sorted({folder / part for part in json.loads(index.read_text("utf-8"))["weight_map"].values()})
    if not (folder / name).is_file():
        raise ModelUnusable(f"{folder} has no {name}, whole or in parts. Copy the model's folder again, whole.")
    return [folder / name]


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a file, valid until the next is asked for."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            names = list(opened.keys())
        for name in names:
            with safetensors.safe_open(file, "pt") as opened:  # anew, since what was read stays mapped while it is open
                yield name, opened.get_tensor(name)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelUnusable(f"{file} cannot be read: {error}. Copy it again, whole.") from None


def _put(network: nn.Module, name: str, value: Tensor, dtype: torch.dtype, folder: Path) -> None:
    """Give a tensor of the file its place in the network."""
    path, _, own = name.rpartition(".")
    try:
        module = network.get_submodule(path)
        there = getattr(module, own)
    except AttributeError:
        raise ModelUnusable(f"The weights of {folder} hold {name}, which its settings do not ask for.") from None
    if there.shape != value.shape:
        raise ModelUnusable(
            f"In the weights of {folder}, {name} is {tuple(value.shape)}; its settings ask for {tuple(there.shape)}."
        )
    if isinstance(module, Narrow) and own == "weight":
        module.fill(value)
        return
    kept = value.to(dtype, copy=True) if value.is_floating_point() else value.clone()
    if own in module._parameters:
        module._parameters[own] = nn.Parameter(kept, requires_grad=False)
    else:
        module._buffers[own] = kept
