"""A file of LoRA, read strictly: halves of low-rank products by the part and the layer that they add to.

Files are read in every form that diffusers can name: diffusers' own, peft's, kohya's, FLUX's. Its converters do the
naming; what they would drop in silence is refused here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.utils import state_dict_utils
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from limner.errors import ModelUnusable
from limner.pipelines.parts import Parts

State = dict[str, Tensor]

HALVES = (("lora_down", "lora_up"), ("lora_A", "lora_B"), (".down.", ".up."))
"""How the two halves of a low-rank product are told apart in the names of a file."""

OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "lora_mid": "LoCon with a middle factor",
    "lora_B.bias": "LoRA with biases",
    ".diff": "differences of whole weights",
}
"""Additions of other kinds, by a part of their names."""

TEXT_NAMES = state_dict_utils.DIFFUSERS_OLD_TO_PEFT | state_dict_utils.DIFFUSERS_TO_PEFT


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """An addition of up @ down to one layer's weight; the file's alpha / rank is in `up`."""

    down: Tensor  # (rank, in), or (rank, in, h, w) for a convolution
    up: Tensor  # (out, rank), or (out, rank, 1, 1)

    def fits(self, layer: nn.Module | None) -> bool:
        """Whether it can be added to this layer's weight."""
        rank = len(self.down)
        if isinstance(layer, nn.Linear):
            return self.down.shape == (rank, layer.in_features) and self.up.shape == (layer.out_features, rank)
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            inner = (rank, layer.in_channels, *layer.kernel_size)
            return self.down.shape == inner and self.up.shape == (layer.out_channels, rank, 1, 1)
        return False

    def of(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the addition gives for the layer's input."""
        x = x.to(self.down.dtype)
        if isinstance(layer, nn.Conv2d):
            inner = functional.conv2d(x, self.down, None, layer.stride, layer.padding, layer.dilation)
            return functional.conv2d(inner, self.up)
        return functional.linear(functional.linear(x, self.down), self.up)


Terms = dict[str, dict[str, Term]]
"""Of one file, by the name of a part and the name of a layer in it."""


def read(path: Path, parts: Parts) -> Terms:
    """Read a .safetensors file as additions to the networks of these parts, on their device, in their precision.

    Whether each fits its layer is seen where it is added: no network is needed here.

    Raises:
        ModelUnusable: it is no such file, is damaged, or is of another kind or for another family of models.
    """
    # Reading follows tensors by autograd, also when it happens in the middle of an evaluation.
    with torch.inference_mode(False):
        with opened(path) as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            settings = _settings(path, file.metadata() or {})
        for sign, kind in OTHER_KINDS.items():
            if any(sign in key for key in state):
                raise ModelUnusable(f"{path} holds {kind}, which cannot be painted with. Use a plain LoRA.")
        named = _converted(path, _scaled(path, state), parts)
        return _sorted(path, named, settings, parts)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, to be read tensor by tensor. Raises ModelUnusable where it is none of safetensors'."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except OSError as error:
        raise ModelUnusable(f"The LoRA {path} cannot be opened: {error.strerror or error}.") from None
    except SafetensorError as error:
        raise ModelUnusable(
            f"The LoRA {path} is no whole .safetensors file ({error}). Copy it again; other kinds of file, pickles "
            "among them, are never loaded."
        ) from None


def _settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What peft wrote beside the weights: of each part its rank, alpha and so on, as `part.name`."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ModelUnusable(f"The settings inside the LoRA {path} are not JSON. Copy the file again.")
    return settings


def _scaled(path: Path, state: State) -> State:
    """The same, float32, with alpha / rank multiplied into the upper halves and each alpha set to its rank.

    Converters differ in what they do with an alpha; after this, all of them do nothing.
    """
    scaled = {key: value.float() for key, value in state.items()}
    left = {key for key in state if key.endswith(".alpha")}
    for down, up in _pairs(path, state):
        rank = state[down].shape[0] if state[down].ndim else 0
        stem = down
        for lower, _ in HALVES:
            stem = stem.split(lower)[0]
        stem = stem.rstrip("._")
        for key in (f"{stem}.alpha", f"{stem.removesuffix('.lora')}.alpha", f"{down}.alpha"):
            if key in left and rank and scaled[key].numel() == 1:
                scaled[up] = scaled[up] * (scaled[key].item() / rank)
                scaled[key] = torch.tensor(float(rank))
                left.remove(key)
    if left:
        raise ModelUnusable(f"The LoRA {path} has {_some(left)} without what they scale. Use a whole file.")
    for key, value in scaled.items():
        if not torch.isfinite(value).all():
            raise ModelUnusable(f"The LoRA {path} holds numbers that are not finite, in {key}. Use another file.")
    return scaled


def _pairs(path: Path, state: State) -> list[tuple[str, str]]:
    """The names of the halves that belong together, lower first."""
    pairs = []
    for key in state:
        for down, up in HALVES:
            if down in key:
                pairs.append((key, key.replace(down, up)))
                break
    known = {key for pair in pairs for key in pair}
    odd = known ^ {key for key in state if not key.endswith(".alpha")}
    if odd:
        raise ModelUnusable(f"The LoRA {path} has {_some(odd)} that are not two halves of a low-rank product.")
    return pairs


def _converted(path: Path, state: State, parts: Parts) -> State:
    """The same under diffusers' names, by the converters of the model's pipeline; nothing is lost on the way."""
    kind = getattr(diffusers, parts.index.get("_class_name", ""), None)
    if kind is None or not hasattr(kind, "lora_state_dict"):
        raise ModelUnusable(f"The model in {parts.folder} takes no LoRA, and {path} is listed for it. Remove it there.")
    extra = {"unet_config": SimpleNamespace(**parts.config("unet"))} if parts.has("unet") else {}
    # A converter renames, cuts and scales; autograd tells which of the file's tensors its result is made of.
    leaves = {key: value.requires_grad_() for key, value in state.items()}
    try:
        with torch.enable_grad():
            given = {key: leaf.clone() for key, leaf in leaves.items()}
            named = kind.lora_state_dict(given, return_lora_metadata=True, **extra)[0]
    except Exception as error:  # a converter raises whatever it stumbles over
        raise other(path, parts, f"its names cannot be read: {type(error).__name__}") from error
    reached = _leaves(named.values())
    lost = set()
    for down, up in _pairs(path, state):
        if state[up].any() and not {id(leaves[down]), id(leaves[up])} <= reached:
            lost |= {down, up}
    if lost:
        raise other(path, parts, f"it has {_some(lost)} that are not known")
    return {key: value.detach() for key, value in named.items()}


def _leaves(results: Iterable[Tensor]) -> set[int]:
    """The ids of the tensors that autograd made these from."""
    seen: set[Any] = set()
    found = set()
    open_ = [result.grad_fn for result in results]
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        open_ += [parent for parent, _ in node.next_functions]
    return found


def _sorted(path: Path, named: State, settings: Mapping[str, Any], parts: Parts) -> Terms:
    """Terms by part and by layer, as the file names it."""
    denoiser = next((part for part in ("transformer", "unet") if parts.has(part)), "")
    convert: Any = state_dict_utils.convert_state_dict
    halves: dict[tuple[str, str], State] = {}
    for key, value in named.items():
        part, _, rest = key.partition(".")
        if not parts.has(part):
            part, rest = denoiser, key
        names = TEXT_NAMES if part.startswith("text_encoder") else state_dict_utils.UNET_TO_DIFFUSERS
        (rest,) = convert({rest: value}, names)
        layer, _, half = rest.rpartition(".lora_")
        if half not in ("A.weight", "B.weight"):
            raise other(path, parts, f"it has {key}, which is not known")
        halves.setdefault((part, layer), {})[half] = value
    terms: Terms = {}
    for (part, layer), pair in halves.items():
        if len(pair) < 2:
            raise other(path, parts, f"{layer} of its {part} is only half there")
        down, up = pair["A.weight"], pair["B.weight"]
        scaled = up * _scale(settings, part, layer, down.shape[0])
        terms.setdefault(part, {})[layer] = Term(*(half.to(parts.device, parts.dtype) for half in (down, scaled)))
    return terms


def _scale(settings: Mapping[str, Any], part: str, layer: str, rank: int) -> float:
    """What peft's settings say that the product is multiplied by; 1 where there are none."""
    usual = settings.get(f"{part}.lora_alpha")
    if usual is None:
        return 1.0
    pattern: dict[str, float] = settings.get(f"{part}.alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(list(pattern), layer), usual)
    return float(alpha) / (math.sqrt(rank) if settings.get(f"{part}.use_rslora") else rank)


def other(path: Path, parts: Parts, why: str) -> ModelUnusable:
    """The error of a LoRA that is listed for a model it was not made for."""
    return ModelUnusable(
        f"The LoRA {path} is not for the model in {parts.folder}: {why}. List it for the model it was made for."
    )


def _some(keys: Iterable[str]) -> str:
    """Three of these names and how many more there are."""
    first = sorted(keys)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
