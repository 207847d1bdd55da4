"""A folder of model files, read strictly: its meta.json says what they are and gives the checksum of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from limner.errors import ModelUnusable


def read_folder(
    folder: Path, what: str, expected: Mapping[str, Any], files: Iterable[str], maker: str
) -> tuple[dict[str, Any], list[bytes]]:
    """What meta.json says, and the bytes of each of `files`.

    Args:
        what: how sentences name the whole: "The text encoder".
        expected: what meta.json must say for this program to read the files.
        maker: the module that writes the folder, for sentences.

    Raises:
        ModelUnusable: meta.json cannot be read or says something else, or a file is missing or changed.
    """
    remedy = f"Install Limner again, or rebuild it with `python -m {maker}`."
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{what} has no readable meta.json in {folder}. {remedy}") from error
    if not isinstance(meta, dict):
        raise ModelUnusable(f"{what} has a meta.json in {folder} that is no JSON object. {remedy}")
    for name, value in expected.items():
        if meta.get(name) != value:
            raise ModelUnusable(
                f"{what} in {folder} has {name} {meta.get(name)!r} in its meta.json; this program reads {value!r}. "
                f"{remedy}"
            )
    listed = meta.get("files")
    contents = []
    for name in files:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ModelUnusable(f"{what} lacks its file {name} in {folder}. {remedy}") from error
        if not isinstance(listed, dict) or listed.get(name) != described(content):
            raise ModelUnusable(f"{what} has a file {name} that is not the one of its meta.json in {folder}. {remedy}")
        contents.append(content)
    return meta, contents


def described(content: bytes) -> dict[str, Any]:
    """A file as meta.json lists it under `files`."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
