"""One file of weights: safetensors or GGUF, with the denoiser or more, and the folder of what it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from limner.errors import ModelUnusable
from limner.models import headers
from limner.models.families import family_of
from limner.models.found import CONVERT, PICKLES, Found, Part, find, measured, readable
from limner.models.headers import Header, shown
from limner.models.layout import read_folder
from limner.models.signs import Sign, extra, parts_in, sign_of


def read_single(path: Path, base: str | Path | None) -> Found:
    if path.name == "model_index.json":
        raise ModelUnusable(f"{shown(path)} is part of a model. Name its folder, {shown(path.parent)}.")
    if path.suffix in PICKLES:
        raise ModelUnusable(f"{shown(path)} is a pickle by its name. {CONVERT}")
    header = headers.read(path)
    added = extra(header)
    if added:
        raise ModelUnusable(f"{shown(path)} is no model but {added}.")
    sign = sign_of(header)
    if sign is not None and sign.role != "denoiser":
        raise ModelUnusable(f"{shown(path)} is no model by itself but {sign.about}. Name a model's folder or denoiser.")
    if sign is None:
        said = header.metadata.get("general.architecture")
        says = f"; its general.architecture is {str(said)[:80]!r}" if said else ""
        raise ModelUnusable(
            f"{shown(path)} holds no network that Limner knows{says}. Name a folder in diffusers' layout, or a file of "
            "Stable Diffusion, FLUX, Qwen-Image or Z-Image."
        )
    if base is None:
        family = family_of(sign.pipelines[0])
        problem = (
            f"{shown(path)} is a single file, which lacks tokenizers and settings, and often text encoders. Name a "
            f"folder of {sign.about} in diffusers' layout as its base (--base, or base = ...)."
        )
        parts = _parts_of(path, header, family.denoiser, sign)
        return Found(path, header.container, None, None, family, sign.about, parts, (problem,))
    return _with_base(path, header, sign, base)


def _with_base(path: Path, header: Header, sign: Sign, base: str | Path) -> Found:
    """A single file and the folder of what it lacks."""
    denoiser = family_of(sign.pipelines[0]).denoiser
    held = {part.name: part for part in _parts_of(path, header, denoiser, sign)}
    with readable(base):
        folder = find(base)
        if not folder.is_dir():
            raise ModelUnusable(
                f"{shown(folder)}, the base of {shown(path)}, is no folder. Name a folder in diffusers' layout."
            )
        below = read_folder(folder, without=frozenset(held))
    problems = list(below.problems)
    if below.pipeline not in sign.pipelines:
        problems.append(
            f"{shown(path)} is {sign.about}, but its base {shown(folder)} is a {below.pipeline}. Name a base of the "
            "same family."
        )
    parts = tuple(_laid_over(part, held[part.name]) if part.name in held else part for part in below.parts)
    return Found(path, header.container, folder, below.pipeline, below.family, sign.about, parts, tuple(problems))


def _laid_over(part: Part, held: Part) -> Part:
    """A part of the base whose weights are in the single file."""
    settings = tuple(file for file in part.files if file.name == "config.json")
    return replace(held, library=part.library, kind=part.kind, files=(*settings, *held.files))


def _parts_of(path: Path, header: Header, denoiser: str, sign: Sign) -> tuple[Part, ...]:
    """What a single file holds, measured; the classes are the base's to say."""
    return tuple(
        measured(
            Part(denoiser if part == "denoiser" else part, "", sign.about if part == "denoiser" else "", (path,)),
            [Header(header.container, {name: header.tensors[name] for name in names}, {})],
        )
        for part, names in parts_in(header).items()
    )
