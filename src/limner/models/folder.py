"""What weights on disk are: a folder in diffusers' layout, one file of weights, or a hub's name that is in its cache.

Everything that can be known without reading tensors is checked here, before anything is loaded. The checksum of the
whole is remembered, so that a restart does not read all of it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from limner.errors import ModelUnusable
from limner.models import headers
from limner.models.found import Found, Part, find, readable
from limner.models.headers import shown
from limner.models.layout import read_folder
from limner.models.registry import Model
from limner.models.signs import extra
from limner.models.single import read_single

__all__ = ["Found", "Part", "check", "check_model", "fingerprint", "inspect", "inspect_model", "places"]

SETTLED_SECONDS = 2.0
"""A file that changed more recently may change again without its time showing it; its checksum is not remembered."""


READERS = 4
"""Files read at once: sha256 takes about a core for a gigabyte a second, and threads run it side by side."""


def check(weights: str | Path, base: str | Path | None = None) -> Found:
    """What the weights are, if they can be painted with.

    Raises:
        ModelUnusable: what is wrong, all of it, and what to do.
    """
    return _whole(inspect(weights, base))


def inspect(weights: str | Path, base: str | Path | None = None) -> Found:
    """What the weights are, with their problems.

    Args:
        weights: a folder in diffusers' layout, a .safetensors or .gguf file, or a hub's name, owner/name.
        base: a folder or hub's name of what a single file lacks.

    Raises:
        ModelUnusable: they are not there, cannot be read, or are nothing that can be described.
    """
    with readable(weights):
        path = find(weights)
        if path.is_dir() and base is None:
            return read_folder(path)
        if path.is_dir():
            found = read_folder(path)
            unused = f"{shown(path)} is a whole folder, and a base is for a single file. Leave the base out."
            return replace(found, problems=(*found.problems, unused))
        return read_single(path, base)


def check_model(model: Model) -> Found:
    """What a model's weights are, if they and what its entry adds to them can be painted with.

    Raises:
        ModelUnusable: as `check`.
    """
    return _whole(inspect_model(model))


def _whole(found: Found) -> Found:
    if found.problems:
        raise ModelUnusable(" ".join(found.problems))
    return found


def inspect_model(model: Model) -> Found:
    """What a model's weights are, with their problems and those of the files that its entry adds to them.

    Raises:
        ModelUnusable: as `inspect`.
    """
    found = inspect(model.weights, model.base)
    problems = [*found.problems]
    loras = (*model.loras, *(style.lora for style in model.styles if style.lora))
    for path in dict.fromkeys(lora.path for lora in loras):
        problems += _problem(Path(path), "a LoRA")
    if model.adapter is not None and found.family.references != "adapter":
        problems.append(f"{model.name} names an adapter, which {found.family.name} has no use for. Leave it out.")
    elif model.adapter is not None and not Path(model.adapter).is_dir():
        problems += _problem(Path(model.adapter), "an IP-Adapter")
    return replace(found, problems=tuple(problems))


def _problem(path: Path, kind: str) -> Iterator[str]:
    """What is wrong with a file that should be an addition of this kind, if anything is."""
    try:
        said = extra(headers.read(path))
    except ModelUnusable as error:
        yield error.message
    else:
        if not (said or "").startswith(kind):
            yield f"{shown(path)} should be {kind}, but is {(said or 'none').partition(':')[0]}. Name another file."


def places(found: Found) -> tuple[Path, Path | None]:
    """The folder in diffusers' layout, and the single file that stands before it, if there is one.

    Raises:
        ModelUnusable: a single file has no such folder.
    """
    if found.folder is None:
        raise ModelUnusable(" ".join(found.problems))
    return found.folder, found.file


def fingerprint(found: Found, cache: Path | None = None) -> str:
    """The sha256 of a model's files, their places in it and their contents: 64 hexadecimal digits.

    It does not depend on where the model lies, nor on files that loading it would not read.

    Args:
        cache: a folder whose checksums.json remembers each file's by path, size, time and inode; None remembers
            nothing. A file there that is damaged or cannot be written is as good as none.

    Raises:
        ModelUnusable: a file cannot be read, or changes while it is.
    """
    remembered = {} if cache is None else _remembered(cache)
    with ThreadPoolExecutor(READERS) as readers:
        sums = dict(zip(found.files, readers.map(lambda path: _checksum(path, remembered), found.files), strict=True))
    if cache is not None:
        _remember(cache, found.files, sums)
    whole = hashlib.sha256()
    for path in sorted(sums, key=lambda path: _place(found, path)):
        whole.update(_place(found, path) + b"\0" + bytes.fromhex(sums[path]))
    return whole.hexdigest()


def _place(found: Found, path: Path) -> bytes:
    """Where in the model a file is; a single file stands for itself, whatever its name."""
    if path == found.file or found.folder is None:
        return b"/"
    return os.fsencode(path.relative_to(found.folder).as_posix())


def _checksum(path: Path, remembered: dict[str, list[object]]) -> str:
    try:
        before = _state(path)
        known = remembered.get(_key(path))
        if known is not None and known[:-1] == before:
            return str(known[-1])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _state(path) != before:
            raise ModelUnusable(f"{shown(path)} changed while it was read. Wait until it is copied, then try again.")
    except OSError as error:
        raise ModelUnusable(f"{shown(path)} cannot be read: {error.strerror}. Check that it is there.") from None
    return digest


def _key(path: Path) -> str:
    return os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")


def _state(path: Path) -> list[object]:
    """What changes when a file's content does: size, time of change (nanoseconds), inode."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def _remembered(cache: Path) -> dict[str, list[object]]:
    """What checksums.json holds: by path, the file's state and its checksum. Whatever is odd in it is left out."""
    try:
        document = json.loads((cache / "checksums.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        path: entry
        for path, entry in (document.items() if isinstance(document, dict) else ())
        if isinstance(entry, list)
        and len(entry) == 4
        and isinstance(digest := entry[-1], str)
        and len(digest) == 64
        and set(digest) <= set("0123456789abcdef")
    }


def _remember(cache: Path, paths: Iterable[Path], sums: dict[Path, str]) -> None:
    """Add checksums to what is remembered, in one step. Where that cannot be written, nothing is remembered."""
    with suppress(OSError):
        settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        fresh = {_key(path): [*_state(path), sums[path]] for path in paths if path.stat().st_mtime_ns < settled}
        before = _remembered(cache)
        if before | fresh == before:
            return
        cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache, prefix="checksums.", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(before | fresh, file, indent=0)
            Path(name).replace(cache / "checksums.json")
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
