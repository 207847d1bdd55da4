"""Torch networks on the CPU by OpenVINO: converted once, kept on disk, and loaded from there at every later start."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openvino as ov
import structlog
import torch
from openvino._offline_transformations import apply_moc_transformations, compress_model_transformation
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.preprocess import PrePostProcessor
from torch import Tensor, nn

from limner.errors import ModelUnusable
from limner.runtime import entries, graph
from limner.runtime.openvino import Network

log = structlog.get_logger(__name__)

Arithmetic = Literal["f32", "bf16", "int8"]
"""Of convolutions and products with weights; int8 leaves the rest, attention and norms, in bf16."""

FORMAT = 1
"""Counts up when an older entry must not be loaded any more: when what is done to a network here changes."""

PACKAGES = ("openvino", "torch", "diffusers", "transformers")
"""Whose code makes a network what it is; another version of one of them converts again."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines a converted network, beside its example and the code that makes it."""

    kind: str  # what it is, such as "unet": names the entry and tells networks of the same weights apart
    checksum: str  # of its weights, and of whatever else changes the network, such as LoRAs folded into it
    arithmetic: Arithmetic = "bf16"


def entry(recipe: Recipe, example: Mapping[str, Tensor]) -> str:
    """Name of a network's folder in the cache."""
    given = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in example.items()]
    said = json.dumps([FORMAT, [_version(name) for name in PACKAGES], asdict(recipe), given])
    digest = hashlib.sha256(said.encode()).hexdigest()[:24]
    return f"{re.sub('[^A-Za-z0-9]+', '-', recipe.kind)}-{recipe.arithmetic}-{digest}"


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class Converted:
    """A torch network that runs by OpenVINO. Not to be called from two threads at once."""

    def __init__(
        self,
        recipe: Recipe,
        make: Callable[[], nn.Module],
        example: Mapping[str, Tensor],
        folder: Path,
        *,
        calibrate: Callable[[Callable[..., Tensor]], object] | None = None,
        threads: int = 0,
    ) -> None:
        """Load the network from `folder`, or make, convert and keep it there.

        Args:
            recipe: what the network is; equal recipes with examples of equal names and shapes are one entry.
            make: gives the module, of any floating type, when there is no entry yet. It is called with the keywords of
                `example`, and its output, or the first of its outputs, is the network's.
            example: inputs that the module is traced with. Sizes are free in every later call; what the module derives
                from sizes by Python's own branches is as it was for the example.
            folder: the cache. Where it cannot be written, the network serves all the same and is converted again at
                the next start.
            calibrate: needed for int8. Called when there is no entry yet, with the network before it is rounded; calls
                it as it will be called, on a few prompts, so that the range of every input inside is seen.
            threads: 0 takes all cores.

        Raises:
            ModelUnusable: OpenVINO cannot convert this module.
            ValueError: int8 without `calibrate`.
        """
        if recipe.arithmetic == "int8" and calibrate is None:
            raise ValueError("int8 needs `calibrate`, which runs the network on inputs like those to come")
        place = folder / entry(recipe, example)
        model = entries.read(place)
        self.from_disk = model is not None
        """Whether torch was not needed."""
        if model is None:
            model = _convert(recipe, make(), example, calibrate, threads)
            model = entries.keep(place, model, asdict(recipe)) or model
            gc.collect()  # tracing leaves the module in cycles, with all of its weights
        self._run = _runner(model, tuple(example), recipe.arithmetic, threads)

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Run the network on inputs named as in the example; returns its output, float32, on the CPU.

        Raises:
            ValueError: an input is missing or unknown.
            RuntimeError: an input is not of a shape that the network takes. OpenVINO does not look at the width of
                what goes into a product with a matrix, so the caller does.
        """
        return self._run(**inputs)


def _runner(model: Any, names: tuple[str, ...], arithmetic: Arithmetic, threads: int) -> Callable[..., Tensor]:
    """The compiled model as a function of named tensors."""
    types = {port.any_name: port.get_element_type().to_dtype() for port in model.inputs}
    network = Network(model, precision="f32" if arithmetic == "f32" else "bf16", threads=threads)

    def run(**inputs: Tensor) -> Tensor:
        if set(inputs) != set(names):
            raise ValueError(f"the network takes {', '.join(names)}, not {', '.join(inputs)}")
        # A module may ignore what it is given; such an input is none of the network's.
        return torch.from_numpy(network({name: _array(inputs[name], dtype) for name, dtype in types.items()}))

    return run


def _array(tensor: Tensor, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()  # numpy has no bfloat16
    return np.ascontiguousarray((tensor.float() if tensor.is_floating_point() else tensor).numpy(), dtype)


class Named(nn.Module):
    """A module as a function of tensors in order, which tracing takes, to one tensor."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        output = self.module(**dict(zip(self.names, inputs, strict=True)))
        while not isinstance(output, Tensor):  # diffusers' and transformers' outputs are mappings, some in tuples
            output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
        return output


def _convert(
    recipe: Recipe,
    module: nn.Module,
    example: Mapping[str, Tensor],
    calibrate: Callable[[Callable[..., Tensor]], object] | None,
    threads: int,
) -> Any:
    """A model of OpenVINO's operations with float32 inputs and output, its constants as small as they are kept."""
    began = time.perf_counter()
    names = tuple(example)
    if recipe.arithmetic != "bf16":
        module = module.float()  # also for int8, whose scales are finer than 16 bits tell
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    given = tuple(t.to(dtype) if t.is_floating_point() else t for t in example.values())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # A branch on a size: see `example`.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined] # it is not in __all__
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # OpenVINO's affair
            model = traced(Named(module.eval(), names), given)
    except Exception as error:  # the frontend raises many kinds, and so does a module that is given what it can't take
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelUnusable(
            f"The network {recipe.kind} cannot be converted for the CPU by OpenVINO ({reason}). Run it by torch."
        ) from error
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    model = _in_float32(model)
    graph.fold_upsampling(model)
    if recipe.arithmetic == "int8" and calibrate is not None:
        graph.quantize(model, _ranges(model, calibrate, threads))
    if recipe.arithmetic != "f32":
        compress_model_transformation(model)
    log.info("network converted", kind=recipe.kind, seconds=round(time.perf_counter() - began, 1))
    return model


def traced(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """The module in OpenVINO's operations.

    As `openvino.convert_model` does it, which also sends events over the network, from processes that it forks, and
    evaluates the module thrice.
    """
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
    model = frontend.convert(frontend.load(decoder))
    apply_moc_transformations(model, cf=False, smart_reshape=True)
    return model


def _in_float32(model: Any) -> Any:
    """The model with float32 where it takes and gives 16 bits."""
    outside = PrePostProcessor(model)
    for index, port in enumerate(model.inputs):
        if port.get_element_type().is_real():
            outside.input(index).tensor().set_element_type(ov.Type.f32)
    outside.output(0).tensor().set_element_type(ov.Type.f32)
    return outside.build()


def _ranges(model: Any, calibrate: Callable[[Callable[..., Tensor]], object], threads: int) -> graph.Ranges:
    """What the operations inside take in while `calibrate` runs the model."""
    observed, operations = graph.observe(model)
    types = {port.any_name: port.get_element_type().to_dtype() for port in model.inputs}
    network = Network(observed, precision="bf16", threads=threads)
    seen: list[npt.NDArray[np.float32]] = []

    def run(**inputs: Tensor) -> Tensor:
        first, *others = network.all({name: _array(inputs[name], dtype) for name, dtype in types.items()})
        seen.append(np.array(others, np.float32).reshape(len(operations), 2))
        return torch.from_numpy(first)

    calibrate(run)
    if not seen:
        raise ValueError("`calibrate` never called the network")
    return dict(
        zip(operations, zip(np.min(seen, 0)[:, 0].tolist(), np.max(seen, 0)[:, 1].tolist(), strict=True), strict=True)
    )
