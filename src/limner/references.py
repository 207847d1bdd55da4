"""A reference, from what the caller wrote to pixels: URL, data URL or bare base64; never a file of the server.

Files are decoded in threads of their own, of which there are two: that bounds the memory of all references together
to two pictures of `reference_max_pixels`, at four bytes a pixel (WebP: some four times that).
"""

from __future__ import annotations

import asyncio
import re
from binascii import a2b_base64
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from limner.config import Settings
from limner.decode import LONG_SIDE, decode, kind_of, size
from limner.engine.core import UInt8
from limner.errors import InvalidRequest, Reason, ReferenceRefused
from limner.fetch import check_reference, fetch, too_large

Fetch = Callable[[str, Settings], Awaitable[bytes]]

refusals: Counter[Reason] = Counter()
"""How many references this process has refused, by reason."""

_DECODING = ThreadPoolExecutor(2, "limner-decode")


def sources(value: Any) -> tuple[str, ...]:
    """The references of a `subject_reference` in any form that clients send, in their order, not yet read.

    A string, an object or an array of either. In an object `image_file` comes before `image_url`, and `type` is
    `character` or missing. None and an empty array are no reference. Raises InvalidRequest.
    """
    if value is None:
        return ()
    return tuple(_source(item) for item in (value if isinstance(value, list | tuple) else (value,)))


def _source(item: Any) -> str:
    if isinstance(item, dict):
        if item.get("type") not in (None, "character"):
            raise InvalidRequest("subject_reference: the only type is `character`.")
        item = next((item[key] for key in ("image_file", "image_url") if item.get(key) is not None), None)
        if item is None:
            raise InvalidRequest("subject_reference: `image_file` is missing: give a URL or a data URL there.")
    if not isinstance(item, str) or not item.strip():
        raise InvalidRequest("subject_reference: each reference is a URL, a data URL or base64, as a string.")
    return item


def is_url(source: str) -> bool:
    """Whether a reference is fetched, and did not come with the request."""
    scheme = _SCHEME.match(source.strip())
    return scheme is not None and scheme[1].lower() in ("http", "https")


async def read(source: str | bytes, settings: Settings, get: Fetch = fetch, long_side: int = LONG_SIDE) -> UInt8:
    """The picture that `source` stands for: (H, W, 4) uint8, sRGB with straight alpha, upright by its EXIF.

    `source` is an http or https URL, a data URL, bare base64 or a file's bytes, the longer side of the result at most
    `long_side`. Of an animation it is the first frame. `get` fetches a URL.

    Raises ReferenceRefused with a sentence for the caller, counted in `refusals`.
    """
    with _counted():
        if isinstance(source, str):
            source = await get(source.strip(), settings) if is_url(source) else await unpacked(source, settings)
        return await asyncio.get_running_loop().run_in_executor(_DECODING, decode, source, settings, long_side)


async def fetched(source: str, settings: Settings) -> bytes:
    """The file behind a URL. Raises ReferenceRefused, counted in `refusals`."""
    with _counted():
        return await fetch(source.strip(), settings)


async def size_of(data: bytes, settings: Settings) -> tuple[int, int]:
    """Width and height of the picture in a file, upright. Raises ReferenceRefused, counted in `refusals`."""
    with _counted():
        return await asyncio.get_running_loop().run_in_executor(_DECODING, size, data, settings)


@contextmanager
def as_mask(mask: bool) -> Iterator[None]:
    """Name the mask as what is at fault where `mask` says that what is read here is one."""
    try:
        yield
    except ReferenceRefused as refusal:
        refusal.field = "mask" if mask else refusal.field
        raise


def check_url(source: str) -> None:
    """Look at the form of a reference's URL before it is fetched. Raises ReferenceRefused, counted in `refusals`."""
    with _counted():
        check_reference(source.strip())


async def unpacked(source: str, settings: Settings) -> bytes:
    """`unpack`, in a thread. Raises ReferenceRefused, counted in `refusals`."""
    with _counted():
        return await asyncio.get_running_loop().run_in_executor(_DECODING, unpack, source, settings)


@contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except ReferenceRefused as refusal:
        if not refusal.counted:
            refusals[refusal.reason] += 1
            refusal.counted = True
        raise


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_LABEL = re.compile(r"data:([^,]{0,1000}),", re.IGNORECASE)
_PATH = re.compile(r"[~/\\.]|.{0,500}\.\w{1,5}$", re.DOTALL)
_READ = "only http and https URLs, data URLs and base64 are read, never a file of the server"


def unpack(source: str, settings: Settings) -> bytes:
    """The bytes inside a data URL (RFC 2397, whatever its label) or bare base64 (RFC 4648).

    Base64 may be in the standard or the URL-safe alphabet, padded or not, with white space anywhere.

    Raises ReferenceRefused.
    """
    text = source.strip()
    limit = settings.reference_max_bytes
    if len(text) > 4 * limit + 1024:  # base64 wholly percent-encoded
        raise too_large(limit)
    if _DRIVE.match(text):
        raise ReferenceRefused(f"The reference is a file path: {_READ}.", "path")
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() != "data":
        raise ReferenceRefused(f"The reference's scheme is not read: {_READ}.", "scheme")
    if scheme is None:
        data = _base64(text.encode("ascii", "replace"), limit)
        if data is None or kind_of(data) is None:
            if _PATH.match(text):
                raise ReferenceRefused(f"The reference looks like a file path: {_READ}.", "path")
            if data is None:
                raise ReferenceRefused(f"The reference is neither a URL nor base64: {_READ}.", "form")
        return data
    label = _LABEL.match(text)
    if label is None:
        raise ReferenceRefused(
            "The reference's data URL has no comma before its data: write data:image/png;base64,...", "form"
        )
    body = _unescaped(text[label.end() :].encode("utf-8", "replace"))
    if label[1].lower().replace(" ", "").endswith(";base64"):
        data = _base64(body, limit)
        if data is None:
            raise ReferenceRefused("The reference's data URL holds no valid base64: encode the file again.", "form")
        return data
    if len(body) > limit:
        raise too_large(limit)
    return body


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_HEX = np.full(256, 255, np.uint8)
_HEX[list(b"0123456789abcdef")] = np.arange(16)
_HEX[list(b"ABCDEF")] = np.arange(10, 16)


def _base64(text: bytes, limit: int) -> bytes | None:
    """The bytes, or None where it is no base64."""
    packed = text.translate(_TO_STANDARD, b" \t\r\n\v\f").rstrip(b"=")
    if len(packed) * 3 // 4 > limit:
        raise too_large(limit)
    try:
        return a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except ValueError:
        return None


def _unescaped(text: bytes) -> bytes:
    """RFC 3986, section 2.1; by arrays, as the standard library would take minutes and gigabytes for a hostile text."""
    if b"%" not in text:
        return text
    raw = np.frombuffer(text, np.uint8).copy()
    high, low = _HEX[raw[1:-1]], _HEX[raw[2:]]
    escape = (raw[:-2] == ord("%")) & (high < 16) & (low < 16)  # none overlap: a digit is no percent sign
    raw[:-2][escape] = (high << 4 | low)[escape]
    keep = np.ones(len(raw), bool)
    keep[1:-1] &= ~escape
    keep[2:] &= ~escape
    return raw[keep].tobytes()
