"""A model's parts, loaded from a folder in diffusers' layout: networks, tokenizers, settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from torch import Tensor, nn

from limner.errors import ModelUnusable
from limner.models.registry import Model

Network = Callable[..., Tensor]
"""A network, called with named tensors; returns its first output, float32, on the device of the parts."""

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
Precision = Literal["f32", "bf16", "f16"]


class Parts:
    """The parts of one model, each loaded when it is first asked for.

    Args:
        folder: in diffusers' layout, with a `model_index.json`.
        device: where the networks run.
        precision: of their weights and arithmetic.

    Raises:
        ModelUnusable: here and in every method, where a part is missing, damaged or of another kind.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", precision: Precision = "f32") -> None:
        self.folder = folder
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.index = _json(folder / "model_index.json")
        self._modules: dict[str, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of every file, and of what decides how they are computed."""
        digest = hashlib.sha256(f"{self.dtype} {self.device.type}".encode())
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            digest.update(str(path.relative_to(self.folder)).encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

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
        return transformers.AutoTokenizer.from_pretrained(self.folder / part, local_files_only=True)

    def module(self, part: str) -> Any:
        """One network as it is, on the device, ready to be evaluated."""
        if part not in self._modules:
            library, name = self.index[part]
            kind = getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
            module = kind.from_pretrained(
                self.folder / part, torch_dtype=self.dtype, local_files_only=True, use_safetensors=True
            )
            self._modules[part] = module.to(self.device).eval().requires_grad_(False)
        return self._modules[part]

    def network(self, part: str, example: Callable[[], dict[str, Tensor]] | None = None) -> Network:
        """One network, called with keyword tensors, which are brought to its device and precision.

        `example` makes inputs of a typical size, for a runtime that compiles the network beforehand. A family whose
        network takes more than tensors uses `module`.
        """
        module = self.module(part)

        def call(**inputs: Tensor) -> Tensor:
            given = {
                name: value.to(self.device, self.dtype if value.is_floating_point() else None)
                for name, value in inputs.items()
            }
            output: Tensor = module(**given, return_dict=False)[0]
            return output.float()

        return call


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
