"""Files of the machine that `limner mcp` runs on: pictures written for its user, references read for him.

A chat program chooses names and places here, and a page that it read may have talked it into them. So pictures are
written below one folder alone, never over another file, and no file is read out to a service that is not a picture.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Final
from urllib.request import url2pathname

from PIL import Image

from limner.errors import InvalidRequest, LimnerError

SIDES: Final = (1024, 768, 512, 384, 256, 128)
"""Longest sides that a picture is shown with, pixels, where it is too large as it is."""


def folder(base: Path, asked: str | None) -> Path:
    """The folder of `asked` below `base`, made where it is not there.

    Raises:
        InvalidRequest: it is not below `base`, whatever links it goes through.
        LimnerError: it cannot be made.
    """
    root = base.expanduser().resolve()
    try:
        place = root if asked is None else (root / Path(asked).expanduser()).resolve()
        if not place.is_relative_to(root):
            raise InvalidRequest(
                f"output_directory must be below {root}, to which pictures are kept; give a folder in it, or have "
                f"--base-path (MINIMAX_MCP_BASE_PATH) set to another."
            )
        place.mkdir(parents=True, exist_ok=True)
    except (ValueError, RuntimeError):  # a null character; ~somebody who is not there
        raise InvalidRequest("output_directory must be the path of a folder.") from None
    except OSError as error:
        raise LimnerError(f"The folder {place} cannot be made: {error.strerror}.") from None
    return place


def name(prompt: str, job: str, number: int, form: str) -> str:
    """The name of a picture's file, which begins as the prompt does: letters and digits of every script alone."""
    words, identity = (re.sub(r"\W+", "_", text).strip("_") for text in (prompt[:30], job[:8]))  # 152 bytes of UTF-8
    return f"image_{words}_{identity}_{number}.{'jpg' if form == 'jpeg' else form}"


def write(path: Path, data: bytes) -> Path:
    """Write a new file whole, and say where. Raises LimnerError where it cannot be written, or stands there already."""
    try:
        with path.open("xb") as file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                path.unlink()
                raise
    except OSError as error:
        raise LimnerError(f"{path} could not be written: {error.strerror}.") from None
    return path


def reference(source: str, base: Path | None) -> str | Path:
    """A reference as a client takes it: URLs and data URLs as they are, others as the file that they name.

    A relative path starts at `base`. Where `base` is None no files are taken. The client refuses those that are no
    pictures.

    Raises InvalidRequest where there is no such file.
    """
    if re.match(r"(https?|data):", source, re.IGNORECASE):
        return source
    if base is None:
        raise InvalidRequest(
            "subject_reference must be a URL or a data URL: files of this machine are not read for callers over HTTP."
        )
    named = url2pathname(source.removeprefix("file://")) if source.startswith("file:///") else source
    try:
        path = base.expanduser() / Path(named).expanduser()
        if not path.is_file():
            raise InvalidRequest(f"There is no file {path}; subject_reference takes a path, a URL or a data URL.")
    except RuntimeError:  # ~somebody who is not there
        raise InvalidRequest(f"There is no file {named}: nobody here has such a name.") from None
    except OSError as error:
        raise InvalidRequest(f"{named} cannot be read: {error.strerror}.") from None
    return path


def shown(data: bytes, form: str, most: int) -> bytes:
    """A picture as a JPEG of at most `most` bytes: as it is, or else smaller, then without its metadata.

    Raises LimnerError where the file is damaged.
    """
    if len(data) <= most and form == "jpeg":
        return data
    try:
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # of PIL's decoders
        raise LimnerError("The picture cannot be shown: its file is damaged.") from None
    for side in SIDES:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85, optimize=True)
        if out.tell() <= most:
            break
    return out.getvalue()
