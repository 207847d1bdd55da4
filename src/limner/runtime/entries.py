"""The cache of converted networks: a folder each, with the network and a meta.json of checksums.

    unet-bf16-0f3a…/  network.xml  network.bin  meta.json

An entry is written beside its place and renamed when it is whole, so that it is there or not, also where two processes
make it at once. What does not match its checksums is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import openvino as ov
import structlog

log = structlog.get_logger(__name__)

FILES = ("network.xml", "network.bin")

ABANDONED = 3600.0
"""Seconds after which an entry that was never finished is no other process's work any more."""


def read(entry: Path) -> Any | None:
    """The model of a cache entry; None where there is none that can be trusted."""
    try:
        meta = json.loads((entry / "meta.json").read_text("utf-8"))
        whole = all(_digest(entry / name) == meta[name] for name in FILES)
        if whole:
            return ov.Core().read_model(str(entry / FILES[0]))
    except FileNotFoundError:
        if not entry.exists():
            return None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        pass
    log.warning("converted network damaged, it will be converted again", entry=str(entry))
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(entry: Path, model: Any, about: Mapping[str, str]) -> Any | None:
    """Write an entry, whole or not at all, and read it back, so that a first start runs what later ones will.

    `about` goes into meta.json, for whoever reads it. None where the cache cannot be written.
    """
    part = entry.with_name(f"{entry.name}.{secrets.token_hex(4)}.part")
    try:
        _sweep(entry)
        part.mkdir(parents=True)
        ov.save_model(model, str(part / FILES[0]), compress_to_fp16=False)
        meta = dict(about) | {"openvino": ov.__version__} | {name: _digest(part / name) for name in FILES}
        (part / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
        for name in (*FILES, "meta.json"):
            _flush(part / name)
        _flush(part)
        _place(part, entry)
        _flush(entry.parent)
    except (OSError, RuntimeError) as error:  # OpenVINO tells of a full disk by a RuntimeError
        reason = str(error).partition("\n")[0]
        log.warning(
            "The converted network could not be kept, so it will be converted again at the next start. Free space on "
            "the disk or name another cache folder.",
            folder=str(entry.parent),
            reason=reason,
        )
        return None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return read(entry)


def _place(part: Path, entry: Path) -> None:
    """Rename a whole entry to its place. One that another process placed meanwhile stays; a damaged one goes."""
    for _ in range(3):
        with suppress(OSError):  # there is an entry
            part.rename(entry)
            return
        if read(entry) is not None:
            return
        with suppress(FileNotFoundError):
            entry.rename(part.with_name(f"{part.name}.old"))
            shutil.rmtree(part.with_name(f"{part.name}.old"), ignore_errors=True)
    part.rename(entry)


def _sweep(entry: Path) -> None:
    """Remove what processes that died left of this entry."""
    for left in entry.parent.glob(f"{entry.name}.*.part*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the system write a file or a folder through to the disk, where it can."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
