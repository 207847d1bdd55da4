"""A folder in diffusers' layout: model_index.json, and a folder for each part that it names.

Each part must be there with its settings and weights, each shard of an index, each header intact. Folders come from
strangers: no code of one is run, no pickle is read, no name leads out of it (links may: a hub's cache is made of them).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from limner.errors import ModelUnusable
from limner.models import headers
from limner.models.families import FAMILIES, family_of
from limner.models.found import CONVERT, PICKLES, Found, Part, measured, read_json
from limner.models.headers import AGAIN, Header, shown
from limner.models.signs import extra, sign_of

OWN_LIBRARIES: Final = ("stable_diffusion", "flux", "kandinsky", "deepfloyd_if", "latent_diffusion", "kolors")
"""Modules of diffusers' own pipelines that published folders name as the library of a part."""

OURS: Final = re.compile(r"unet|transformer|vae|scheduler|processor|(text_encoder|tokenizer)(_\d)?")
"""The parts that families of our own load. A safety checker, say, may be missing, and takes no memory."""

STEMS: Final = {"diffusers": "diffusion_pytorch_model"}
"""How a library's files of weights are named, where not `model`."""

CONFIGS: Final = (
    "config.json", "scheduler_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer_config.json", "tokenizer.json", "vocab.json",
)  # fmt: skip
"""Settings that are read where they are there."""

LOADED: Final = (".json", ".model", ".txt", ".jinja")
"""Ends of the files that tokenizers, processors and schedulers are made of."""

SETTINGS: Final = {
    "Scheduler": ("scheduler_config.json",),
    "Tokenizer": ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt"),
    "TokenizerFast": ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt"),
    "FeatureExtractor": ("preprocessor_config.json",),
    "ImageProcessor": ("preprocessor_config.json", "processor_config.json"),
    "ImageProcessorFast": ("preprocessor_config.json", "processor_config.json"),
    "Processor": ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"),
}
"""Parts without weights, by the end of their class's name, and the files of which each needs one."""


def read_folder(folder: Path, without: frozenset[str] = frozenset()) -> Found:
    """A folder in diffusers' layout; the weights of the parts `without` may be missing."""
    index_path = folder / "model_index.json"
    if not (index_path.is_symlink() or index_path.exists()):
        raise ModelUnusable(_no_index(folder))
    index = read_json(index_path)
    pipeline = index.get("_class_name")
    if isinstance(pipeline, list):
        raise ModelUnusable(
            f"{shown(index_path)} names a pipeline of its own code ({str(pipeline[-1:])[2:-2][:80]}). Code that comes "
            "with weights is never run; use a model that diffusers itself knows."
        )
    if not isinstance(pipeline, str) or not pipeline.isidentifier():
        raise ModelUnusable(f"{shown(index_path)} names no pipeline (_class_name). {AGAIN}")
    family = family_of(pipeline)
    parts, problems = [], []
    for name, value in index.items():
        if name.startswith("_") or not _names_part(value) or (pipeline in FAMILIES and not OURS.fullmatch(name)):
            continue
        try:
            parts.append(_part(folder, name, value[0], value[1], optional=name in without))
        except ModelUnusable as error:
            problems.append(error.message)
    problems += [
        f"{shown(index_path)} names no {name}, which a {pipeline} must have. {AGAIN}"
        for name in (family.denoiser, "vae", "scheduler")
        if pipeline in FAMILIES and not _names_part(index.get(name))
    ]
    return Found(
        folder, "diffusers", folder, pipeline, family, f"{family.about} ({pipeline})", tuple(parts), tuple(problems)
    )


def _names_part(value: object) -> bool:
    """Whether an entry of model_index.json is a part that is there: a library and a class."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


def _no_index(folder: Path) -> str:
    """Why a folder without model_index.json is not one, and which is meant."""
    entries = sorted(folder.iterdir())
    if not entries:
        return f"{shown(folder)} is empty. Copy the model into it, or name another folder."
    below = (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/model_index.json"))
    inside = next(below, None)
    if inside is not None:
        return f"{shown(folder)} holds no model_index.json, but {shown(inside.parent)} does. Name that folder."
    if (folder.parent / "model_index.json").is_file():
        return f"{shown(folder)} is one part of a model. Name the whole model, the folder {shown(folder.parent)}."
    weights = [entry for entry in entries if entry.suffix in (".safetensors", ".gguf")]
    whole = [entry for entry in weights if not entry.name.startswith(("model", "diffusion_pytorch_model"))]
    if len(whole) == 1:
        return f"{shown(folder)} holds no model_index.json, but one file of weights. Name {shown(whole[0])} itself."
    if (folder / "config.json").is_file() and weights:
        return (
            f"{shown(folder)} is one part of a model, without model_index.json. Name the folder of the whole model, "
            "which has one folder for each part."
        )
    if any(entry.suffix in PICKLES for entry in entries):
        return f"{shown(folder)} holds pickles and no model_index.json. {CONVERT.replace('convert it', 'convert them')}"
    return (
        f"{shown(folder)} holds no model_index.json, so it is no model in diffusers' layout. Name the folder that "
        "has one, or a .safetensors or .gguf file."
    )


def _part(folder: Path, name: str, library: str, kind: str, *, optional: bool) -> Part:
    """One part, checked. Raises ModelUnusable."""
    where = folder / name
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise ModelUnusable(f"{shown(folder)} names a part {name[:80]!r} that is no folder's name. {AGAIN}")
    if (
        library not in ("diffusers", "transformers", *OWN_LIBRARIES)
        or (where / f"{library}.py").exists()
        or not kind.isidentifier()
    ):
        raise ModelUnusable(
            f"{shown(folder)} takes its {name} from {library[:80]!r}, which is neither diffusers nor transformers. "
            "Code that comes with weights is never run; use a model that needs none."
        )
    if not where.is_dir():
        raise ModelUnusable(f"{shown(folder)} lacks the folder of its {name} ({kind}). {AGAIN}")
    configs = {
        file: read_json(where / file) for file in CONFIGS if (where / file).is_symlink() or (where / file).exists()
    }
    for file, config in configs.items():
        if "auto_map" in config:
            raise ModelUnusable(
                f"{shown(where / file)} asks for code of its own (auto_map). Code that comes with weights is never "
                "run; use a model that needs none."
            )
    settings = next((files for end, files in SETTINGS.items() if kind.endswith(end)), None)
    if settings is not None:
        if not any((where / file).is_file() for file in settings):
            raise ModelUnusable(f"{shown(where)} has none of {', '.join(settings)} for its {kind}. {AGAIN}")
        files = sorted(path for path in where.iterdir() if path.is_file() and path.suffix in LOADED)
        return Part(name, library, kind, tuple(files))
    if "config.json" not in configs:
        raise ModelUnusable(f"{shown(where)} lacks config.json, the settings of its {kind}. {AGAIN}")
    _same_kind(where, library, kind, configs["config.json"])
    config_files = (where / "config.json",)
    files, variant = _weights(where, library)
    if not files and optional:
        return Part(name, library, kind, config_files)
    if not files:
        raise ModelUnusable(_no_weights(where, STEMS.get(library, "model")))
    broken = next((path for path in files if not path.exists()), None)
    if broken is not None:
        raise ModelUnusable(f"{shown(broken)} is a link to a file that is not there. Finish the download.")
    shards = [path for path in files if path.suffix == ".safetensors"]
    read = {path: headers.read(path) for path in shards}
    if len(files) > len(shards):
        _complete(files[0], read)
    _right_network(where, library, kind, read)
    return measured(Part(name, library, kind, (*config_files, *files), variant=variant), read.values())


def _same_kind(where: Path, library: str, kind: str, config: dict[str, Any]) -> None:
    """Refuse settings of another network than model_index.json says. Some classes are known by a shorter name too."""
    said = config.get("_class_name", kind)
    if library == "diffusers" and isinstance(said, str) and not (said.endswith(kind) or kind.endswith(said)):
        raise ModelUnusable(
            f"{shown(where)} should hold a {kind} but its config.json says {said[:80]}. Put the right part "
            "there, or copy the model again, whole."
        )


def _weights(where: Path, library: str) -> tuple[list[Path], str | None]:
    """The files of a part's weights, an index first if there is one, and the variant in their names.

    Where a whole file and an index of shards stand side by side, diffusers reads the shards and transformers the file.
    """
    stem = STEMS.get(library, "model")
    pattern = re.compile(
        rf"{stem}\.safetensors\.index(?:\.(?P<a>[\w-]+))?\.json|{stem}(?:\.(?P<b>[\w-]+))?\.safetensors"
    )
    names = sorted(path.name for path in where.iterdir())
    found = [match for name in names if (match := pattern.fullmatch(name))]
    found = [match for match in found if not re.search(r"-\d{5}-of-\d{5}$", match["b"] or "")]
    if not found:
        return [], None
    variants = {match["a"] or match["b"] for match in found}
    variant = None if None in variants else "fp16" if "fp16" in variants else min(variants)
    chosen = [match[0] for match in found if (match["a"] or match["b"]) == variant]
    index = next((where / name for name in chosen if name.endswith(".json")), None)
    if index is not None and (library == "diffusers" or len(chosen) == 1):
        return [index, *_shards(index)], variant
    return [where / name for name in chosen if name.endswith(".safetensors")], variant


def _shards(index: Path) -> list[Path]:
    """The files that an index of shards names, all there."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise ModelUnusable(f"{shown(index)} has no table of tensors and files (weight_map). {AGAIN}")
    names = sorted(set(table.values()))
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ModelUnusable(
                f"{shown(index)} names {name[:80]!r}, which is no safetensors file of its own folder. {AGAIN}"
            )
    lacking = [name for name in names if not (index.parent / name).exists()]
    if lacking:
        raise ModelUnusable(
            f"{shown(index.parent)} lacks {len(lacking)} of {len(names)} files of weights, {lacking[0]} among them. "
            "Finish the download, or copy the folder again, whole."
        )
    return [index.parent / name for name in names]


def _complete(index: Path, read: dict[Path, Header]) -> None:
    """Refuse shards that lack a tensor which the index says is in them."""
    for tensor, name in read_json(index)["weight_map"].items():
        if tensor not in read[index.parent / name].tensors:
            raise ModelUnusable(f"{shown(index.parent / name)} lacks the tensor {tensor[:80]} of {index.name}. {AGAIN}")


def _no_weights(where: Path, stem: str) -> str:
    entries = [path.name for path in where.iterdir()]
    pickles = [name for name in entries if name.endswith(PICKLES)]
    if pickles:
        return f"{shown(where)} has weights as a pickle only ({pickles[0]}). {CONVERT}"
    other = next((name for name in sorted(entries) if name.endswith(".safetensors")), None)
    hint = f"; {other} is there, which is not the name that is looked for" if other else ""
    return f"{shown(where)} lacks its weights, {stem}.safetensors{hint}. {AGAIN}"


def _right_network(where: Path, library: str, kind: str, read: dict[Path, Header]) -> None:
    """Refuse a file whose tensors are plainly of another network: an autoencoder's where a UNet's should be."""
    whole = Header("safetensors", {name: t for header in read.values() for name, t in header.tensors.items()}, {})
    added = extra(whole) if "ControlNet" not in kind else None
    if added:
        raise ModelUnusable(f"{shown(where)} should hold a {kind} but holds {added}. {AGAIN}")
    sign = sign_of(whole)
    autoencoder = "Autoencoder" in kind or kind.endswith("VAE") or kind == "VQModel"
    role = "autoencoder" if autoencoder else "denoiser" if library == "diffusers" else "text"
    if sign is not None and sign.role not in (role, "other"):
        raise ModelUnusable(f"{shown(where)} should hold a {kind} but holds {sign.about}. Put the right part there.")
