"""Torch networks: where and how precisely they run, compiled, with small weights, in little memory."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import structlog
import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from limner.errors import ModelUnusable, OutOfMemory

log = structlog.get_logger(__name__)

Precision = Literal["f32", "bf16", "f16"]
Quantize = Literal["int8", "fp8"]
How = Literal["blocks", "whole", "graphs"]
"""What of a network is compiled: the blocks that repeat, once for all of them; all of it; all of it, replayed as CUDA
graphs."""

SHAPES = 16
"""Most shapes of inputs that one network is compiled for; others run as they are."""

CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
"""The variable by which torch's compiler is told where to keep what it made."""

BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Features of CPUs that compute in bf16."""

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""How torch says on its devices that memory is short, where it is no `torch.OutOfMemoryError`."""

PER_PIXEL = 1024
"""Numbers that an autoencoder holds for each pixel of a picture at its widest: 919 were measured for that of Stable
Diffusion."""

LARGE = 2**20
"""Weights of the smallest layer that is rounded to 8 bits. Smaller ones are many, and hold little."""

TILED = 0.5
"""The share of a device's memory that a picture being decoded may take whole."""

SPARE = 2 * 2**30
"""Bytes of a GPU that weights leave free, for what is computed with them."""


def device_of(asked: str) -> torch.device:
    """The device of this name; `auto` is the first GPU, else the CPU.

    Raises:
        ModelUnusable: there is no such device here.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = asked.partition(":")
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(kind, 0)
    if not (number or "0").isdecimal() or int(number or 0) >= count:
        raise ModelUnusable(
            f"There is no device {asked!r} here. Set device to auto, cpu, mps, cuda or cuda:N; "
            f"this machine has {torch.cuda.device_count() or 'no'} GPU of CUDA."
        )
    return torch.device(asked)


def precision_of(asked: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """The precision asked for; `auto` is bf16 where the device computes in it, else f32."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        has = torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    elif device.type == "mps":
        has = torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        features: Any = torch.cpu.get_capabilities()
        has = any(features.get(name) for name in BF16)
    return "bf16" if has else "f32"


def lacks_memory(error: BaseException) -> bool:
    """Whether torch says by this that memory is short."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, MemoryError)


@contextmanager
def sparing() -> Iterator[None]:
    """Turn a lack of memory inside into OutOfMemory, with what was taken given back. Also a decorator."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        log.warning("no memory for an evaluation", reason=f"{type(error).__name__}: {error}"[:200])
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled it
    else:
        return
    give_back()
    raise OutOfMemory from None


def give_back() -> None:
    """Free what nothing holds any more, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fits(network: nn.Module, device: torch.device) -> bool:
    """Whether the device has room for the network's weights beside what is computed with them."""
    return device.type != "cuda" or weight(network) + SPARE <= torch.cuda.mem_get_info(device)[0]


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on the device, or beside it, layer by layer, where the device has no room for all of it."""
    if not fits(network, device):
        log.warning("weights stay in main memory", network=type(network).__name__, bytes=weight(network))
        offload(network, device)
        return network
    network.to(device)
    if device.type == "cuda":
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as matrix units read them
    return network


def weight(network: nn.Module) -> int:
    """Bytes of the parameters and buffers."""
    return sum(value.nbytes for value in (*network.parameters(), *network.buffers()))


def offload(network: nn.Module, device: torch.device) -> None:
    """Keep the weights in main memory and bring each layer's to the device for its turn, the next one's meanwhile."""
    apply: Any = apply_group_offloading
    apply(
        network, onload_device=device, offload_device=torch.device("cpu"), offload_type="leaf_level",
        use_stream=device.type == "cuda",
    )  # fmt: skip


def takes_torchao(device: torch.device) -> bool:
    """Whether `quantized` can be used: its weights are made for a GPU's matrix units."""
    return device.type == "cuda" and importlib.util.find_spec("torchao") is not None


def quantized(network: nn.Module, kind: Quantize) -> None:
    """Round the weights of the network's large linear layers, in place, by torchao.

    fp8 also computes in it where the device can; int8 widens the weights. `Compiled` makes one kernel of both.
    """
    quantization: Any = importlib.import_module("torchao.quantization")

    def chosen(layer: nn.Module, _: str) -> bool:
        # The matrix units take rows of 16 numbers and more.
        return (
            isinstance(layer, nn.Linear)
            and layer.in_features % 16 == layer.out_features % 16 == 0
            and layer.weight.numel() >= LARGE
        )

    device = next(network.parameters()).device
    if kind == "int8":
        config = quantization.Int8WeightOnlyConfig()
    elif device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        config = quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
    else:
        config = quantization.Float8WeightOnlyConfig()
    quantization.quantize_(network, config, filter_fn=chosen)


class Compiled:
    """A network compiled for the shapes it is called with, each once and at most `SHAPES` of them.

    Its results are those of the network, called with the same keywords; with CUDA graphs, the next call overwrites
    them. What is compiled is kept in `cache`, and a later start finds it there. Where it cannot be compiled, for want
    of a compiler say, and inside `altered`, it runs as it is.
    """

    def __init__(self, network: nn.Module, cache: Path, how: How = "blocks", backend: str = "inductor") -> None:
        """`backend` is one of torch.compile's."""
        # torch sets the variable itself when it is imported; the operator's own choice stands.
        if os.environ.get(CACHE_DIR) in (None, default_cache_dir()):
            os.environ[CACHE_DIR] = str(cache / "inductor")
        self._network = network
        # What takes a network's inputs in another form, a wrapper, is compiled with it.
        inner: Any = next((part for part in network.modules() if getattr(part, "_repeated_blocks", None)), network)
        self._inner: nn.Module = inner
        self._known: set[object] = set()
        self._usable = True
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        mode = "reduce-overhead" if how == "graphs" and backend == "inductor" else None
        options: dict[str, Any] = {"dynamic": False, "backend": backend, "mode": mode}
        if how == "blocks" and getattr(inner, "_repeated_blocks", None):
            inner.compile_repeated_blocks(**options)
        else:
            network.compile(**options)

    @property
    def shapes(self) -> int:
        """For how many it is compiled."""
        return len(self._known)

    def __call__(self, **inputs: Any) -> Any:
        shape = _shape(inputs)
        eager = not self._usable or bool(getattr(self._inner, "altered", 0))
        if not eager and len(self._known) < SHAPES:
            self._known.add(shape)
        if eager or shape not in self._known:
            return self._as_it_is(inputs)
        try:
            begin: Any = torch.compiler.cudagraph_mark_step_begin
            begin()
            return self._network(**inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            log.warning("a network could not be compiled and runs as it is", reason=str(error)[:200])
            self._usable = False
        return self._as_it_is(inputs)

    def _as_it_is(self, inputs: dict[str, Any]) -> Any:
        with torch.compiler.set_stance("force_eager"):
            return self._network(**inputs)


def _shape(inputs: Any) -> object:
    """What of the inputs a compiled network is made for."""
    if isinstance(inputs, Tensor):
        return inputs.shape, inputs.dtype
    if isinstance(inputs, dict):
        return tuple((name, _shape(inputs[name])) for name in sorted(inputs))
    return inputs


@contextmanager
def altered(network: nn.Module) -> Iterator[None]:
    """While the block runs, the network has hooks that what was compiled does not know."""
    marked: Any = network
    marked.altered = getattr(marked, "altered", 0) + 1
    try:
        yield
    finally:
        marked.altered -= 1


def tiling(vae: Any, pixels: int, device: torch.device) -> None:
    """Have the autoencoder work tile by tile where a picture of so many pixels would take most of the device's memory.

    Of all of it, not of what is free: the same request is to give the same picture at every hour.
    """
    if TILED * capacity(device) < pixels * PER_PIXEL * next(vae.parameters()).element_size():
        vae.enable_tiling()
    else:
        vae.disable_tiling()


def capacity(device: torch.device) -> int:
    """Bytes of memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def room(device: torch.device) -> int:
    """Free bytes; on a CPU, with what the system would give up for them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return capacity(device)
