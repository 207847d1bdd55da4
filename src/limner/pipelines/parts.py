"""A model's networks, tokenizers and settings, from a folder in diffusers' layout or a single file and its base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import diffusers
import safetensors.torch
import torch
import transformers
from diffusers.loaders import single_file_utils
from torch import Tensor, nn

from limner.errors import ModelUnusable
from limner.models.registry import Model, Quantize
from limner.pipelines import narrow
from limner.runtime.torch import (
    Compiled,
    Precision,
    fits,
    give_back,
    lacks_memory,
    placed,
    quantized,
    sparing,
    takes_torchao,
    tiling,
)

Network = Callable[..., Tensor]
"""A network, called with named tensors; returns its first output, float32, on the device of the parts."""

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

CELL = 8
"""Pixels along a side of a latent's cell, in all published autoencoders but a few coarser ones."""

DENOISERS = ("unet", "transformer")
LIBRARIES = {"diffusers": diffusers, "transformers": transformers}

for quiet in (diffusers.utils.logging, transformers.utils.logging):  # their bars and hints are not the service's log
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class Wrap:
    """What makes of a network that takes more than tensors one that takes tensors alone."""

    around: Callable[[nn.Module], nn.Module]
    adds: str = ""  # checksum of weights that it adds


class Conversion:
    """How networks are converted to OpenVINO, and where they are kept.

    Args:
        folder: of the cache.
        arithmetic: of the denoiser; other networks take bf16 where it says int8.
        threads: 0 takes all cores.
    """

    def __init__(self, folder: Path, arithmetic: Literal["f32", "bf16", "int8"] = "bf16", threads: int = 0) -> None:
        self.folder = folder
        self.arithmetic: Literal["f32", "bf16", "int8"] = arithmetic
        self.threads = threads


class Parts:
    """The parts of one model, each loaded when it is first asked for.

    Args:
        folder: in diffusers' layout, with a `model_index.json`; where `file` is given, it has what the file lacks.
        file: a .safetensors or .gguf with the denoiser or more, and `held`, the names of the parts in it.
        device: where the networks run.
        precision: of their weights and arithmetic.
        conversion: networks whose inputs are tensors alone run by OpenVINO; None: by torch.
        compiling: where what torch compiles of denoisers is kept; None: they run as they are.
        quantize: the denoiser's weights in 8 bits, where torch computes it; they pass through memory one by one.
        checksum: of all weights; None takes it here.
        fingerprint: of the weights and of what else decides a picture; None takes it here.
        variants: of the names of weights, by part: fp16 where they are in model.fp16.safetensors.
        loaded: told the name of each part that has come.

    Raises:
        ModelUnusable: here and in every method, where a part is missing, damaged or of another kind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file: Path | None = None,
        held: Collection[str] = (),
        device: str = "cpu",
        precision: Precision = "f32",
        conversion: Conversion | None = None,
        compiling: Path | None = None,
        quantize: Quantize | None = None,
        checksum: str | None = None,
        fingerprint: str | None = None,
        variants: Mapping[str, str | None] = MappingProxyType({}),
        loaded: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self.file, self._held = file, held
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.conversion = conversion
        self.compiling = compiling
        self.quantize: Quantize | None = quantize
        self.index = _json(folder / "model_index.json")
        self._checksum, self._fingerprint = checksum, fingerprint
        self._variants = variants
        self._loaded = loaded
        self._modules: dict[str, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of all weights, and of what else decides a picture."""
        if self._fingerprint is not None:
            return self._fingerprint
        how = f"{self.dtype} {self.device.type} {self.conversion and self.conversion.arithmetic} {self.quantize}"
        return hashlib.sha256(f"{self.checksum} {how}".encode()).hexdigest()[:16]

    @cached_property
    def checksum(self) -> str:
        """Of every file."""
        if self._checksum is not None:
            return self._checksum
        digest = hashlib.sha256()
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        for path in sorted(files) + ([self.file] if self.file else []):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def max_batch(self, model: Model) -> int:
        """Most evaluations together: on a CPU a batch is no faster, and alone is exactly alone."""
        return model.batch or (1 if self.device.type == "cpu" else 8)

    def has(self, part: str) -> bool:
        return self.index.get(part, [None])[0] is not None

    def config(self, part: str) -> dict[str, Any]:
        """The settings of one part."""
        names = ("scheduler_config.json", "config.json")
        found = next((path for name in names if (path := self.folder / part / name).is_file()), None)
        if found is None:
            raise ModelUnusable(f"{self.folder} has no settings of its {part}. Copy the model's folder again, whole.")
        return _json(found)

    def tokenizer(self, part: str = "tokenizer") -> Any:
        return self.settings(transformers.AutoTokenizer, part)

    def settings(self, kind: Any, part: str) -> Any:
        """A part without weights, of a class that reads it from its folder."""
        try:
            return kind.from_pretrained(self.folder / part, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelUnusable(_unread(self.folder / part, error)) from error

    def module(self, part: str) -> Any:
        """One network as it is, on the device, ready to be evaluated."""
        if part not in self._modules:
            quantize = self.quantize if part in DENOISERS else None
            by_torchao = quantize is not None and takes_torchao(self.device)
            module = self._load(part, self.dtype, None if by_torchao else quantize)
            if quantize is not None and by_torchao:
                if fits(module, self.device):
                    quantized(module.to(self.device), quantize)
                    give_back()  # what its weights were rounded from
                    self._modules[part] = module
                    return module
                narrow.narrow(module, quantize)
            self._modules[part] = placed(module, self.device)
        return self._modules[part]

    def network(
        self,
        part: str,
        example: Callable[[], dict[str, Tensor]] | None = None,
        method: str = "forward",
        wrap: Wrap | None = None,
        calibrate: Callable[[Network], None] | None = None,
    ) -> Network:
        """One network, called with keyword tensors, which are brought to its device and precision.

        `example` makes inputs of a typical size, for a runtime that compiles the network beforehand. A family whose
        network takes more than tensors uses `wrap`. `method` is what is called: an autoencoder's `decode`, say.
        `calibrate` calls a denoiser as it will be called, so that its arithmetic can be rounded to 8 bits; without it,
        8 bits are for weights alone, by torch.
        """
        how = self.conversion
        rounded = how is not None and how.arithmetic == "int8" and part in DENOISERS
        if how is not None and example is not None and not (rounded and calibrate is None):
            return self._converted(part, example, method, how, wrap, calibrate if rounded else None)
        module = self.module(part)
        whole = wrap.around(module) if wrap else module
        call = getattr(whole, method)
        if self.compiling is not None and part in DENOISERS:
            call = Compiled(whole, self.compiling)

        def run(**inputs: Tensor) -> Tensor:
            if method == "decode":
                latent = next(iter(inputs.values()))
                tiling(module, latent.shape[-2] * latent.shape[-1] * CELL**2, self.device)
            given = {
                # A timestep stays as it is: the 8 bits of bf16 would make 980 of 981.
                name: value.to(self.device, self.dtype if value.is_floating_point() and name != "timestep" else None)
                for name, value in inputs.items()
            }
            output: Tensor = call(**given, return_dict=False)[0]
            return output.float()

        return run

    def _converted(
        self,
        part: str,
        example: Callable[[], dict[str, Tensor]],
        method: str,
        how: Conversion,
        wrap: Wrap | None,
        calibrate: Callable[[Network], None] | None,
    ) -> Network:
        from limner.runtime.convert import Converted, Recipe

        def make() -> nn.Module:
            module = self._load(part, torch.float32)
            # What is wrapped around it may hold weights of its own, in the parts' precision.
            return _Method(wrap.around(module) if wrap else module, method).float()

        recipe = Recipe(
            kind=part if method == "forward" else f"{part}.{method}",
            checksum=self.checksum + (wrap.adds if wrap else ""),
            arithmetic="bf16" if how.arithmetic == "int8" and calibrate is None else how.arithmetic,
        )
        return Converted(recipe, make, example(), how.folder, calibrate=calibrate, threads=how.threads)

    @sparing()
    def _load(self, part: str, dtype: torch.dtype, quantize: Quantize | None = None) -> nn.Module:
        library, name = self.index[part]
        kind = getattr(LIBRARIES[library], name)
        try:
            if self.file is not None and part in self._held:
                module = _from_file(kind, self.file, self.folder, part, dtype)
                if quantize is not None and self.file.suffix != ".gguf":
                    narrow.narrow(module, quantize)
            elif quantize is not None:
                module = narrow.load(kind, self.folder / part, dtype, quantize, self._variants.get(part))
            else:
                module, said = kind.from_pretrained(
                    self.folder / part,
                    torch_dtype=dtype,
                    local_files_only=True,
                    use_safetensors=True,
                    variant=self._variants.get(part),
                    output_loading_info=True,
                )
                lacking = [*said["missing_keys"], *(key for key, *_ in said["mismatched_keys"])]
                if lacking:
                    raise ModelUnusable(
                        f"The weights of {self.folder / part} lack {len(lacking)} tensors that its settings ask for, "
                        f"{lacking[0]} among them. Copy the model's folder again, whole."
                    )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            if lacks_memory(error):
                raise
            raise ModelUnusable(_unread(self.file or self.folder / part, error)) from error
        made: nn.Module = module.eval().requires_grad_(False)
        self._loaded(part)
        return made


class _Method(nn.Module):
    """One method of a module as a module."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, **inputs: Tensor) -> Tensor:
        output: Tensor = getattr(self.module, self.method)(**inputs, return_dict=False)[0]
        return output


def _from_file(kind: Any, file: Path, base: Path, part: str, dtype: torch.dtype) -> Any:
    """A part out of a single file, by the settings of its namesake in the base."""
    if part.startswith("text_encoder"):
        make: Any = single_file_utils.create_diffusers_clip_model_from_ldm
        tensors = safetensors.torch.load_file(file)
        return make(kind, tensors, subfolder=part, config=str(base), torch_dtype=dtype, local_files_only=True)
    more: dict[str, Any] = {}
    if file.suffix == ".gguf":
        quantization: Any = diffusers.GGUFQuantizationConfig
        more["quantization_config"] = quantization(compute_dtype=dtype)
    return kind.from_single_file(
        str(file), config=str(base), subfolder=part, torch_dtype=dtype, local_files_only=True, **more
    )


def _unread(path: Path, error: Exception) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"{path} cannot be read as a part of a model: {first}. Copy it again, whole."


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}. Copy the model's folder again, whole.") from None
    except ValueError as error:
        raise ModelUnusable(f"{path} is not JSON: {error}. Copy the model's folder again, whole.") from None
    if not isinstance(document, dict):
        raise ModelUnusable(f"{path} does not hold one JSON object. Copy the model's folder again, whole.")
    return document
