"""What weights turn out to be: the nouns of a check, and how paths and small files are read for it."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from limner.errors import ModelUnusable
from limner.models.families import Family
from limner.models.headers import AGAIN, Header, shown
from limner.models.registry import expanded, is_hub_name

JSON_MAX = 200 * 10**6
"""Largest JSON file of a model, bytes; tokenizers have some tens of millions."""

PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

CONVERT = "Pickles can run code and are never loaded: convert it to safetensors, or download the safetensors version."


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model."""

    name: str  # unet, text_encoder_2
    library: str
    kind: str  # the class: UNet2DConditionModel
    files: tuple[Path, ...]  # all that loading it reads
    bytes: int = 0  # of its weights
    parameters: int = 0
    precision: str = ""  # of most of its weights: f16, bf16, f32, q4_k; empty where it has none
    variant: str | None = None  # of the weights' names: fp16 in model.fp16.safetensors


@dataclass(frozen=True, slots=True)
class Found:
    """What weights are, and what is wrong with them."""

    path: Path  # the folder or file itself
    layout: Literal["diffusers", "safetensors", "gguf"]
    folder: Path | None  # in diffusers' layout: the path itself, or a file's base; None where a file has no base
    pipeline: str | None  # diffusers' class; None where it cannot be told
    family: Family
    about: str  # in words, for people
    parts: tuple[Part, ...] = ()
    problems: tuple[str, ...] = ()  # sentences: what is wrong, and what to do

    @property
    def file(self) -> Path | None:
        """The single file; None where the weights are a folder."""
        return None if self.layout == "diffusers" else self.path

    @property
    def files(self) -> tuple[Path, ...]:
        """All that loading the model reads, each once."""
        index = () if self.folder is None else (self.folder / "model_index.json",)
        return tuple(dict.fromkeys((*index, *(file for part in self.parts for file in part.files))))

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)


@contextmanager
def readable(weights: str | Path) -> Iterator[None]:
    """Tells errors of the file system as ModelUnusable."""
    try:
        yield
    except OSError as error:
        raise ModelUnusable(
            f"{shown(error.filename or weights)} cannot be read: {error.strerror}. Check the path and that this user "
            "may read it."
        ) from None


def find(weights: str | Path) -> Path:
    """The folder or file that is meant. Raises ModelUnusable, OSError."""
    path = expanded(weights)
    if "\0" in str(path):
        raise ModelUnusable(f"{shown(path)!r} cannot be a path. Write it again, without the zero character.")
    with suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
        if not path.exists():
            raise ModelUnusable(f"{shown(path)} is a link to {shown(path.readlink())}, which is not there.")
        return path
    if isinstance(weights, str) and is_hub_name(weights):
        return _snapshot(weights)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f" Did you mean {shown(path.parent / near[0])}?" if near else ""
    raise ModelUnusable(f"{shown(path)} is not there.{hint}")


def hub_cache() -> Path:
    """Where the hub's own tools keep what they downloaded."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        if os.environ.get(variable):
            return expanded(os.environ[variable]) / below
    return expanded("~/.cache/huggingface/hub")


def _snapshot(name: str) -> Path:
    """The folder of a hub's name in the hub's cache: what its main branch was when it was downloaded."""
    folder = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    snapshot = folder / "snapshots" / revision
    if re.fullmatch(r"[0-9a-f]{40}", revision) and snapshot.is_dir():
        return snapshot
    raise ModelUnusable(
        f"{name} is neither a path here nor a model in the hub's cache ({shown(hub_cache())}). Where there is a "
        f"network, fetch it first with `hf download {name}`; elsewhere give the path of a folder."
    )


def measured(part: Part, read: Iterable[Header]) -> Part:
    """The part with the size of its weights and the precision of most of them."""
    kinds: Counter[str] = Counter()
    parameters = 0
    for header in read:
        kinds += header.kinds
        parameters += header.parameters
    precision = kinds.most_common(1)[0][0].lower() if kinds else ""
    return replace(part, bytes=kinds.total(), parameters=parameters, precision=precision)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelUnusable, OSError."""
    if not path.exists():
        raise ModelUnusable(f"{shown(path)} is a link to a file that is not there. Finish the download.")
    if path.stat().st_size > JSON_MAX:
        raise ModelUnusable(f"{shown(path)} is larger than the {JSON_MAX} bytes that settings may have. {AGAIN}")
    try:
        document = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise ModelUnusable(f"{shown(path)} is not JSON: {reason}. {AGAIN}") from None
    if not isinstance(document, dict):
        raise ModelUnusable(f"{shown(path)} does not hold one JSON object. {AGAIN}")
    return document
