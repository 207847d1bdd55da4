"""The TOML file of models: read strictly, and written an entry at a time.

One table a model, named as requests name it; the keys are the fields of `registry.Model`:

    [image-01]
    weights = "FLUX.1-schnell"          # relative to this file's folder
    aliases = ["gpt-image-1"]
    loras = [{ path = "detail.safetensors", weight = 0.7 }]

    [image-01.styles."漫画"]
    phrase = "comic book art"
    lora = { path = "comic.safetensors" }
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from limner.config import Settings
from limner.errors import SettingsInvalid
from limner.models.registry import (
    IMAGE,
    LIVE_STYLES,
    Lora,
    Model,
    Registry,
    Style,
    absolute,
    check_name,
    located,
    nearest,
    style_name,
)


def load(settings: Settings) -> Registry:
    """The models that the settings name. No weights are looked at.

    Raises:
        SettingsInvalid: a sentence with the file, the table and the key; or two models share a name.
    """
    path = models_file(settings)
    entries = read(text_of(path), path) if settings.models_file is None else read_file(path)
    return Registry.of(entries, settings.models, settings.model_aliases)


def models_file(settings: Settings) -> Path:
    """Where the entries are kept: `models_file`, else models.toml in `data_dir`, whether it exists or not."""
    return settings.models_file or settings.data_dir / "models.toml"


def read_file(path: Path) -> tuple[Model, ...]:
    """The entries of a TOML file, in its order.

    Raises:
        SettingsInvalid: it cannot be read, is not TOML, or an entry is wrong.
    """
    return read(_text(path), path)


def text_of(path: Path) -> str:
    """What is in the file, empty where there is none. Raises SettingsInvalid where it cannot be read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        pass  # reading it will tell
    return _text(path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SettingsInvalid(f"The models file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"The models file {path} is not UTF-8 text. Save it as UTF-8.") from None


def read(text: str, path: Path) -> tuple[Model, ...]:
    """The entries in the text of the file `path`, in its order; relative weights are relative to its folder.

    Raises:
        SettingsInvalid: it is not TOML, a table or key is unknown or of the wrong kind, or two entries share a name.
    """
    models = tuple(_entry(name, table, path) for name, table in _toml(text, path).items())
    claimed: dict[str, str] = {}
    for model in models:
        for name in (model.name, *model.aliases):
            if name in claimed:
                raise SettingsInvalid(
                    f"In {path}, [{claimed[name]}] and [{model.name}] both claim the name {name}. Take it from one "
                    "of them."
                )
            claimed[name] = model.name
    return models


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsInvalid(f"The models file {path} is not valid TOML: {str(error)[:200]}.") from None


def _entry(name: str, table: object, path: Path) -> Model:
    """One table as a model."""
    where = f"[{name}] in {path}"
    if not isinstance(table, dict):
        raise SettingsInvalid(
            f"{name} in {path} stands outside any model. The file holds one table a model: [{IMAGE}], then "
            "weights = ... below it."
        )
    check_name(name, f"a table of {path}")
    _known(table, Model, where, besides={"name"})
    if "weights" not in table:
        raise SettingsInvalid(f"{where} has no weights. Name a folder, a file or a hub's name: weights = ...")
    styles = _styles(table.get("styles", {}), where)
    for number, lora in enumerate(table.get("loras", ()) if isinstance(table.get("loras", ()), list) else ()):
        _known(lora, Lora, f"{where}, loras {number + 1}")
    try:
        model = _MODEL.validate_python({**table, "name": name, "styles": styles})
    except ValidationError as error:
        raise SettingsInvalid(_sentence(error, where, [style["name"] for style in styles])) from None
    for alias in model.aliases:
        check_name(alias, f"aliases of {where}")
    return _resolved(model, path.parent)


def _styles(table: object, where: str) -> list[dict[str, Any]]:
    """The `styles` of an entry with their names inside, live styles under their names here."""
    if not isinstance(table, dict) or not all(isinstance(style, dict) for style in table.values()):
        raise SettingsInvalid(f"styles of {where} must be tables: styles.{next(iter(LIVE_STYLES))}.phrase = ...")
    styles = []
    for name, style in table.items():
        _known(style, Style, f"{where}, styles.{name}", besides={"name"})
        if "lora" in style:
            _known(style["lora"], Lora, f"{where}, styles.{name}.lora")
        if not style:
            raise SettingsInvalid(f"styles.{name} of {where} is empty. Give it a phrase or a lora.")
        styles.append({**style, "name": style_name(name)})
    names = [style["name"] for style in styles]
    for name in names:
        if names.count(name) > 1:
            raise SettingsInvalid(f"styles of {where} has {name} twice, under two of its names. Leave one out.")
    return styles


def _known(table: object, kind: type, where: str, besides: Iterable[str] = ()) -> None:
    """Refuse keys of `table` that are no field of `kind`, with the nearest that is."""
    known = [field.name for field in fields(kind) if field.name not in besides]
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            raise SettingsInvalid(
                f"{key} is no key of {where} that Limner knows. Did you mean {nearest(key, known)}? There are "
                f"{', '.join(known)}."
            )


def _sentence(error: ValidationError, where: str, styles: list[str]) -> str:
    """The first mistake that Pydantic found."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = list(first["loc"])
    if place[:1] == ["styles"] and len(place) > 1:
        place[1] = styles[int(place[1])]
    elif len(place) > 1 and isinstance(place[1], int):
        place[1] += 1
    key = ".".join(str(part) for part in place)
    message = first["msg"].removeprefix("Value error, ")
    for theirs, ours in (("a valid tuple", "a list"), ("a dictionary or an instance of Lora", "a table")):
        message = message.replace(theirs, ours)
    return f"{key} of {where} cannot be used: {message[:1].lower()}{message[1:]}."


def _resolved(model: Model, folder: Path) -> Model:
    """The model with its paths absolute."""

    def lora(given: Lora | None) -> Lora | None:
        return given and replace(given, path=absolute(given.path, folder))

    return replace(
        model,
        weights=located(model.weights, folder),
        base=model.base and located(model.base, folder),
        adapter=model.adapter and absolute(model.adapter, folder),
        styles=tuple(replace(style, lora=lora(style.lora)) for style in model.styles),
        loras=tuple(replace(given, path=absolute(given.path, folder)) for given in model.loras),
    )


_MODEL = TypeAdapter(Model)


# Writing


def added(text: str, path: Path, name: str, table: Mapping[str, Any]) -> str:
    """`text` with an entry appended; what stands in it is left as it is, comments too.

    Raises:
        SettingsInvalid: the name is taken, or the entry is wrong, or something in `text` is.
    """
    read(text, path)
    if name in tomllib.loads(text):
        raise SettingsInvalid(f"{path} has a model {name} already. Take it out first: limner models remove {name}.")
    check_name(name, "the command line")
    lines = [f"[{_key(name)}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    whole = f"{text.rstrip()}\n\n" if text.strip() else ""
    whole += "\n".join(lines) + "\n"
    read(whole, path)
    return whole


def removed(text: str, path: Path, name: str) -> str:
    """`text` without the entry of this name; comments right above the next table stay.

    Raises:
        SettingsInvalid: there is no such entry, or it is not written as tables of its own, or `text` is no TOML.
    """
    before = _toml(text, path)
    if name not in before:
        names = f" There are {', '.join(before)}." if before else ""
        raise SettingsInvalid(f"{path} has no model {name}.{names}")
    kept: list[str] = []
    waiting: list[str] = []  # comments and blank lines that may belong to the next table
    inside = False
    for line in text.splitlines(keepends=True):
        header = _header(line)
        if header is not None:
            kept += waiting
            waiting, inside = [], header == name
        if not inside:
            kept.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            waiting = []
        else:
            waiting.append(line)
    without = "".join(kept).rstrip("\n") + "\n" if "".join(kept).strip() else ""
    try:
        same = tomllib.loads(without) == {key: value for key, value in before.items() if key != name}
    except ValueError:
        same = False
    if not same:
        raise SettingsInvalid(f"{name} in {path} is not written as tables of its own. Take it out by hand.")
    return without


def write(path: Path, text: str) -> None:
    """Replace the file in one step, keeping its permissions. Raises SettingsInvalid."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = path.resolve()  # a link stays one
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".models.", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(part).chmod(mode)
            Path(part).replace(target)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsInvalid(f"The models file {path} cannot be written: {error.strerror}.") from None


def _header(line: str) -> str | None:
    """The model that a line such as [image-01.styles.comic] opens a table of; None where it opens none."""
    if not line.lstrip().startswith("["):
        return None
    try:
        return next(iter(tomllib.loads(line)), None)
    except ValueError:
        return None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    """A TOML value. JSON's texts, numbers and lists are TOML's too."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8").decode("utf-8").replace("\x7f", "\\u007f")
    except UnicodeEncodeError:
        raise SettingsInvalid(
            f"{str(value).encode('ascii', 'backslashreplace').decode()} is not UTF-8, so it cannot stand in a TOML "
            "file. Rename it."
        ) from None
