"""A picture, at hand or behind its link: read once, saved in the format of the file's name, shown in notebooks."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from limner.client.errors import InvalidRequest, LimnerAPIError, ServiceFailed

Format = Literal["jpeg", "png", "webp"]

SUFFIXES: Final[dict[str, Format]] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
"""Endings of files that a picture can be saved in."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a picture is and what the server said of it."""

    url: str | None
    seed: int | None = None
    width: int | None = None  # pixels
    height: int | None = None
    format: Format = "jpeg"  # that the file is expected to have
    data: bytes | None = None  # where the reply held the file itself


class Picture:
    """What `Image` and `AsyncImage` have in common.

    Attributes:
        url: link to the file; None where the reply held the file itself.
        seed: signed 64-bit: with n=1 it gives this picture again; None where the server did not say.
        width, height: pixels; None where the server did not say and the file has not been read.
        format: "jpeg", "png" or "webp": of the file.
    """

    def __init__(self, source: Source) -> None:
        self.url = source.url
        self.seed = source.seed
        self.width = source.width
        self.height = source.height
        self.format: Format = source.format
        self._files: dict[Format, bytes] = {}
        if source.data is not None:
            self._keep(source.data, None)

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height} " if self.width and self.height else ""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<{type(self).__name__} {size}{self.format}{seed}>"

    def _kept(self, kind: Format | None) -> bytes | None:
        return self._files.get(kind or self.format)

    def _to_ask(self, kind: Format | None) -> Format | None:
        """The format to ask the server for: None, for the file as it is."""
        return None if kind == self.format else kind

    def _keep(self, data: bytes, kind: Format | None) -> bytes:
        """Remember a file that was to be a `kind`.

        Raises:
            ServiceFailed: it is no picture.
            InvalidRequest: it is another kind of picture.
        """
        seen = sniff(data)
        if seen is None:
            raise ServiceFailed("What the picture's link leads to is no JPEG, PNG or WebP.")
        found, width, height = seen
        self._files[found] = data
        self.width, self.height = width, height
        if self._to_ask(kind) is None:
            self.format = found
        if kind is not None and found != kind:
            raise InvalidRequest(f"The server sends this picture as {found} alone, not as {kind}: save it as .{found}.")
        return data

    def _at_hand(self) -> bytes | None:
        """The file, for showing it, if it can be had."""
        return self._kept(None)

    def _repr_png_(self) -> bytes | None:
        """A PNG for notebooks; None where the picture is none."""
        data = self._at_hand()
        return data if self.format == "png" else None

    def _repr_jpeg_(self) -> bytes | None:
        """A JPEG for notebooks; None where the picture is none."""
        data = self._at_hand()
        return data if self.format == "jpeg" else None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:  # noqa: ARG002 - IPython's
        """A WebP for notebooks, which have no method of its own; empty for other formats."""
        data = self._at_hand()
        if data is None or self.format != "webp":
            return {}
        return {"image/webp": base64.b64encode(data).decode(), "text/html": self._html(self.height or 512) or ""}

    def _html(self, height: int) -> str | None:
        """The picture as HTML, `height` pixels high; None where it is not at hand."""
        if (data := self._at_hand()) is None:
            return None
        text = base64.b64encode(data).decode()
        label = "" if self.seed is None else f"seed {self.seed}"
        return f'<img src="data:image/{self.format};base64,{text}" height="{height}" alt="{label}" title="{label}"> '


class Image(Picture):
    """A picture of a `Client`'s. Its file is fetched when it is first needed, and once."""

    def __init__(self, source: Source, fetch: Callable[[Format | None], bytes]) -> None:
        super().__init__(source)
        self._fetch = fetch
        self._lock = threading.Lock()

    @property
    def data(self) -> bytes:
        """The file. Raises LimnerAPIError where it cannot be fetched."""
        return self.read()

    def read(self, format: Format | None = None) -> bytes:  # noqa: A002 - the word for it everywhere
        """The file, as it is or in another format, which a Limner server makes of it.

        Raises:
            NotFound: the link has ended.
            InvalidRequest: the server sends no such format.
            LimnerAPIError: it cannot be fetched.
        """
        with self._lock:
            return self._kept(format) or self._keep(self._fetch(self._to_ask(format)), format)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file: as JPEG, PNG or WebP, as the ending of `path` says. Another file there is replaced.

        It is written whole or not at all. The metadata of the picture, which says that it was generated, stays in it.

        Raises:
            InvalidRequest: the ending is none of .jpg, .jpeg, .png, .webp, or the server sends no such format.
            LimnerAPIError: it cannot be fetched.
            OSError: it cannot be written.
        """
        return write(Path(path), self.read(format_of(path)))

    def _at_hand(self) -> bytes | None:
        with suppress(LimnerAPIError):
            return self.read()
        return None


class AsyncImage(Picture):
    """A picture of an `AsyncClient`'s. Its file is fetched when it is first awaited, and once.

    Notebooks show it once it has been read.
    """

    def __init__(self, source: Source, fetch: Callable[[Format | None], Awaitable[bytes]]) -> None:
        super().__init__(source)
        self._fetch = fetch
        self._lock = asyncio.Lock()

    async def read(self, format: Format | None = None) -> bytes:  # noqa: A002 - the word for it everywhere
        """As `Image.read`."""
        async with self._lock:
            return self._kept(format) or self._keep(await self._fetch(self._to_ask(format)), format)

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """As `Image.save`."""
        data = await self.read(format_of(path))
        return await asyncio.to_thread(write, Path(path), data)


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that a file's ending says. Raises InvalidRequest."""
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise InvalidRequest(f"A picture is saved as {', '.join(SUFFIXES)}; {Path(path).name!r} ends in none of these.")
    return kind


def write(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all: readers see the old one or the new one. Raises OSError."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        new.write_bytes(data)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return path


def sniff(data: bytes) -> tuple[Format, int, int] | None:
    """Format, width and height of a file, from its own header; None where it is no JPEG, PNG or WebP."""
    with suppress(IndexError):
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return "png", _number(data, 16, 4), _number(data, 20, 4)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return ("webp", *_webp_size(data))
        if data.startswith(b"\xff\xd8\xff"):
            return ("jpeg", *_jpeg_size(data))
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the frame header (ITU-T T.81, B.2.2), which comes after any number of other segments."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise IndexError(at)
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte, of which there may be any number (B.1.1.2)
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data, at + 7, 2), _number(data, at + 5, 2)
        at += 2 + _number(data, at + 2, 2)


def _webp_size(data: bytes) -> tuple[int, int]:
    """From the first chunk (RFC 9649, 2.5 to 2.7)."""
    match data[12:16]:
        case b"VP8X":
            return 1 + _number(data, 24, 3, "little"), 1 + _number(data, 27, 3, "little")
        case b"VP8L":
            bits = _number(data, 21, 4, "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case _:
            return _number(data, 26, 2, "little") & 0x3FFF, _number(data, 28, 2, "little") & 0x3FFF


def _number(data: bytes, at: int, size: int, order: Literal["big", "little"] = "big") -> int:
    """Raises IndexError where the file ends before that."""
    if at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], order)
