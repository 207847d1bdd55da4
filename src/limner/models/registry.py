"""Which models there are: names, the weights behind them, and how each is painted with by default.

Entries come from a TOML file, one table a model, and from NAME=WEIGHTS pairs of the command line or LIMNER_MODELS. A
pair wins over a table of its name, whole: steps that suited other weights would not suit these.

`image-01` and `image-01-live` are the built-in painter until something claims them. Weights of image-01 are those of
image-01-live too where nothing else claims it, since its callers expect the same model in another style; the live
styles are then phrases behind the prompt, or what the entry's `styles` say. Weights of image-01-live alone leave
image-01 the painter.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from limner.engine.core import RANGES, SamplerName
from limner.errors import InvalidRequest, SettingsInvalid

Precision = Literal["auto", "f32", "bf16", "f16"]
Runtime = Literal["auto", "torch", "openvino"]
Quantize = Literal["int8", "fp8"]

PAINTER = "painter"
"""As `Model.weights`: the built-in painter."""

IMAGE, LIVE = "image-01", "image-01-live"
"""The names that every client of MiniMax's API knows."""

LiveStyle = Literal["漫画", "元气", "中世纪", "水彩"]

LIVE_STYLES: dict[LiveStyle, str] = {"漫画": "comic", "元气": "vivid", "中世纪": "medieval", "水彩": "watercolor"}
"""MiniMax's styles of image-01-live, and the name each has here."""


def style_name(name: str) -> str:
    """The name here of a style that MiniMax may name otherwise."""
    return next((ours for theirs, ours in LIVE_STYLES.items() if theirs == name), name)


Steps = Annotated[int, Field(strict=True, ge=RANGES["steps"][0], le=RANGES["steps"][1])]
Guidance = Annotated[float, Field(strict=True, ge=RANGES["guidance"][0], le=RANGES["guidance"][1])]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,2})?", name):
        raise ValueError("give auto, cpu, cuda, cuda:1 or mps")
    return name


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank changes to a model's weights (Hu et al. 2021, arXiv:2106.09685), from a file."""

    path: Text  # a .safetensors file
    weight: Annotated[float, Field(strict=True, ge=-4, le=4)] = 1.0


@dataclass(frozen=True, slots=True)
class Style:
    """What a style does to a model's pictures."""

    name: Text  # of a live style its name here: comic, vivid, medieval, watercolor
    phrase: Annotated[str, Field(max_length=500)] = ""  # put behind the prompt
    lora: Lora | None = None


STYLES = (
    Style("comic", "comic book illustration, bold ink outlines, flat bright colours, halftone shading"),
    Style("vivid", "vivid energetic illustration, bright saturated colours, lively mood"),
    Style("medieval", "medieval illuminated manuscript painting, gold leaf, flat perspective, parchment"),
    Style("watercolor", "watercolor painting, soft transparent washes, visible paper texture"),
)
"""The live styles on weights whose entry says nothing of them."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as the operator describes it. None is the family's own choice."""

    name: str
    weights: Text  # a folder in diffusers' layout, a .safetensors or .gguf file, a hub's name, or PAINTER
    base: Text | None = None  # folder or hub's name of what a single file lacks: text encoders, tokenizers, settings
    aliases: tuple[str, ...] = ()
    steps: Steps | None = None
    guidance: Guidance | None = None
    sampler: SamplerName | None = None
    device: Annotated[str, AfterValidator(_device)] = "auto"
    precision: Precision = "auto"  # of the arithmetic
    quantize: Quantize | None = None  # of the denoiser's weights
    runtime: Runtime = "auto"
    batch: Annotated[int, Field(strict=True, ge=1, le=64)] | None = None  # most evaluations together; 1 is exact
    adapter: Text | None = None  # IP-Adapter's weights, for families that take references by one
    reference_strength: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.6  # of an adapter
    first_block: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0  # of FLUX.1: threshold of its cache; 0 is off
    styles: tuple[Style, ...] = ()
    loras: tuple[Lora, ...] = ()  # always on

    def style(self, name: str) -> Style | None:
        """What a style of this name (漫画 or comic, say) does here, or None where the model has no such style."""
        name = style_name(name)
        return next((style for style in (*self.styles, *STYLES) if style.name == name), None)

    @property
    def style_names(self) -> tuple[str, ...]:
        """The names of all its styles, its entry's own first."""
        return tuple(dict.fromkeys(style.name for style in (*self.styles, *STYLES)))


@dataclass(frozen=True, slots=True)
class Registry:
    """Every model of this service.

    Attributes:
        models: each has weights of its own; the painter is among them where a name leads to it.
        names: every name that requests may give, image-01 and image-01-live first, and the `Model.name` it leads to.
        live: the names that stand for image-01-live, with its rules on the wire, whatever weights are behind it.
    """

    models: tuple[Model, ...]
    names: Mapping[str, str]
    live: frozenset[str]

    @classmethod
    def of(
        cls, entries: Iterable[Model], pairs: Mapping[str, str] | None = None, aliases: Mapping[str, str] | None = None
    ) -> Registry:
        """A registry of `entries`, of `pairs` of a name and weights, which win, and of `aliases` for names of both.

        Raises:
            SettingsInvalid: a name cannot be one, two models share it, or an alias leads nowhere.
        """
        pairs, aliases = pairs or {}, aliases or {}
        for name in (*pairs, *aliases):
            check_name(name, "models or model_aliases")
        kept = [
            replace(entry, aliases=tuple(alias for alias in entry.aliases if alias not in pairs))
            for entry in entries
            if entry.name not in pairs
        ]
        models = [*kept, *(Model(name, located(weights, Path())) for name, weights in pairs.items())]
        names: dict[str, str] = {}
        for model in models:
            for name in (model.name, *model.aliases):
                if name in names:
                    raise SettingsInvalid(
                        f"Models {names[name]} and {model.name} both claim the name {name}. Take it from one of them."
                    )
                names[name] = model.name
        live = {LIVE, *(alias for model in models if model.name == LIVE for alias in model.aliases)}
        for alias in aliases:
            if alias in names:
                raise SettingsInvalid(
                    f"model_aliases gives the name {alias} to {aliases[alias]}, but it is a name of model "
                    f"{names[alias]}. Take it from one of them."
                )
        for name in (IMAGE, LIVE):
            target = aliases.get(name)
            if target is not None and (target in names or target not in (IMAGE, LIVE)):
                names[name] = _led(name, target, names)
            elif name not in names and name == IMAGE:
                names[IMAGE] = IMAGE
                models.append(Model(IMAGE, PAINTER))
            elif name not in names:
                names[LIVE] = names[IMAGE]
        for alias, target in aliases.items():
            if alias not in names:
                names[alias] = _led(alias, target, names)
                live |= {alias} if target in live else set()
        order = dict.fromkeys((IMAGE, LIVE, *names))
        return cls(tuple(models), MappingProxyType({name: names[name] for name in order}), frozenset(live))

    def lookup(self, name: str) -> Model:
        """The model of a name or alias. Raises InvalidRequest, which names the models."""
        if name not in self.names:
            raise InvalidRequest(f"There is no model {name[:80]!r}; there are {', '.join(self.names)}.")
        return next(model for model in self.models if model.name == self.names[name])


def _led(alias: str, target: str, names: Mapping[str, str]) -> str:
    known = list(names) or [IMAGE]
    if target not in names:
        raise SettingsInvalid(
            f"model_aliases gives the name {alias} to {target}, which is no model. Did you mean "
            f"{nearest(target, known)}? There are {', '.join(known)}."
        )
    return names[target]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def check_name(name: str, where: str) -> None:
    """Refuse a name that could not stand in a pair, in a path of the api, or on a terminal."""
    if not 0 < len(name) <= 100 or not name.isprintable() or name != name.strip() or set(name) & set("=,/\\"):
        raise SettingsInvalid(
            f"{name[:100]!r} of {where} cannot be a model's name: give 1 to 100 printable characters without =, "
            "comma or slash, and no space at its ends."
        )


def located(weights: str, folder: Path) -> str:
    """Weights as `Model` keeps them: PAINTER and a hub's name as they are, a path absolute.

    A relative path is relative to `folder`. What has the form of a hub's name, owner/name, is one unless it is there
    as a path; ./owner/name is always a path.
    """
    if weights == PAINTER:
        return weights
    path = absolute(weights, folder)
    return weights if is_hub_name(weights) and not os.path.lexists(path) else path


def absolute(path: str, folder: Path) -> str:
    """A path that may be relative to `folder` or begin with ~, absolute; links stay, which a hub's cache is made of."""
    return os.path.abspath(folder / expanded(path))  # noqa: PTH100 -- resolve() would follow links


def expanded(path: str | Path) -> Path:
    """A path with ~ replaced by the home folder, where there is such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_hub_name(weights: str) -> bool:
    """Whether this has the form owner/name of a hub, which a file's name and a path from . or ~ have not."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", weights)) and not weights.endswith(
        (".safetensors", ".gguf")
    )
