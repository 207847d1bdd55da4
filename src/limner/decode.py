"""A stranger's JPEG, PNG or WebP file to pixels.

Nothing that the caller says of the type is believed: the bytes say it. Size, completeness and the number of pixels
are read from the file's own headers before Pillow sees it, and Pillow sees no more of the file than its picture needs,
so that a small file cannot ask for a large memory or a long time.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from limner.config import Settings
from limner.engine.core import UInt8
from limner.errors import ReferenceRefused

T = TypeVar("T")

LONG_SIDE = 1024
"""A larger reference is reduced to this many pixels along its longer side: no pipeline looks at more."""

MAX_SCANS = 64
"""Most scans of a JPEG. Encoders write some ten; thousands in a small file would keep a core busy for minutes."""

MAX_SEGMENTS = 4096
"""Most segments of a JPEG, outside its scans: the longest metadata takes some hundreds."""


MAX_CHUNKS = 2**15
"""Most chunks of a PNG. Encoders write some thousands; a million tiny ones would keep a core busy for seconds."""


class _Damaged(Exception):
    """The file is not whole, or no encoder made it."""


class _Format(NamedTuple):
    name: str
    examine: Callable[[bytes], tuple[int, int, bytes]]  # width, height, what a decoder needs; struct.error: cut short
    open: Callable[[io.BytesIO], ImageFile]


_PNG_PARTS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IDAT", b"IEND"))


def _examine_png(data: bytes) -> tuple[int, int, bytes]:
    """Leaves out texts, which may be bombs, and animation: its default picture stands in IDAT (PNG, third edition)."""
    width, height = struct.unpack_from(">II", data, 16)
    parts, seen, position = [data[:8]], set(), 8
    for _ in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if kind in _PNG_PARTS and (kind == b"IDAT" or kind not in seen):
            # EXIF may stand behind the pixels, and is read before them.
            parts.insert(2 if kind == b"eXIf" else len(parts), data[position:end])
            seen.add(kind)
        if kind == b"IEND":
            return width, height, b"".join(parts)
        position = end
    raise _Damaged


def _examine_webp(data: bytes) -> tuple[int, int, bytes]:
    """RFC 9649, sections 2.4 to 2.7."""
    length, kind = struct.unpack_from("<I4x4s", data, 4)
    if length + 8 > len(data):
        raise _Damaged
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"), data
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), data
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, data
    raise _Damaged


_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # but for those that stand alone: TEM, restarts, SOI
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _examine_jpeg(data: bytes) -> tuple[int, int, bytes]:
    """Walks the segments (ITU-T T.81, annex B) to the end of the picture."""
    width = height = scans = 0
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None or (not scans and marker.start() > position + 1024):  # junk, which Pillow reads by the byte
            break
        code, start = marker[1][0], marker.end()
        if code == 0xD9:
            return width, height, data[:start]
        if code in _JPEG_FRAMES:
            rows, columns = struct.unpack_from(">HH", data, start + 3)
            width, height = max(width, columns), max(height, rows)
        scans += code == 0xDA
        if scans > MAX_SCANS:
            break
        position = start + max(2, int.from_bytes(data[start : start + 2]))
    raise _Damaged


_MAGIC: tuple[tuple[bytes, _Format | str], ...] = (
    (rb"\xff\xd8\xff", _Format("JPEG", _examine_jpeg, JpegImageFile)),
    (rb"\x89PNG\r\n\x1a\n", _Format("PNG", _examine_png, PngImageFile)),
    (rb"RIFF.{4}WEBP", _Format("WebP", _examine_webp, WebPImageFile)),
    (rb"GIF8", "a GIF"),
    (rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC picture"),
    (rb".{4}ftypavi[fs]", "an AVIF picture"),
    (rb".{4}ftyp", "a video"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL picture"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"BM.{4}\x00\x00\x00\x00", "a BMP"),
    (rb"II\*\x00|MM\x00\*", "a TIFF"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%PDF-", "a PDF"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{,2000})?<svg", "an SVG"),
    (rb"(?i:(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body))", "a web page"),
    (rb"(?i:(\xef\xbb\xbf)?\s*<\?xml)", "an XML document"),
    (rb"\s*[{\[]", "JSON"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
)
_KINDS = tuple((re.compile(magic, re.DOTALL), kind) for magic, kind in _MAGIC)
# EXIF 2.32, tag 0x0112: how to turn the stored rows upright.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
)  # fmt: skip


def kind_of(data: bytes) -> _Format | str | None:
    """What the first bytes say the file is: a format that is read, another's name, or None."""
    return next((kind for magic, kind in _KINDS if magic.match(data)), None)


def decode(data: bytes, settings: Settings, long_side: int = LONG_SIDE) -> UInt8:
    """The picture in a JPEG, PNG or WebP file: (H, W, 4) uint8, sRGB with straight alpha, upright by its EXIF.

    Its longer side is at most `long_side`; of an animation it is the first frame. Blocks for some 50 ms a megapixel at
    worst. Raises ReferenceRefused.
    """
    return _read(data, settings, partial(_pixels, long_side=long_side))


def size(data: bytes, settings: Settings) -> tuple[int, int]:
    """Width and height in pixels of the picture in a JPEG, PNG or WebP file, upright by its EXIF; no pixel is decoded.

    Raises ReferenceRefused, but not for what is wrong behind the headers.
    """
    return _read(data, settings, _size)


def _read(data: bytes, settings: Settings, read: Callable[[ImageFile], T]) -> T:
    """What `read` finds in a file of one of the three formats. Raises ReferenceRefused."""
    kind = kind_of(data)
    if not isinstance(kind, _Format):
        raise ReferenceRefused(
            f"The reference is {kind or 'of an unknown type'}: send a JPEG, PNG or WebP picture.", "type"
        )
    damaged = ReferenceRefused(
        f"The reference's {kind.name} file is damaged or cut short: save it anew and send all of it.", "damaged"
    )
    try:
        width, height, needed = kind.examine(data)
    except (_Damaged, struct.error):
        raise damaged from None
    if width * height > settings.reference_max_pixels:
        limit = settings.reference_max_pixels / 1e6
        raise ReferenceRefused(
            f"The reference has {width}×{height} pixels, over {limit:g} megapixels: send a smaller one.", "pixels"
        )
    try:
        with kind.open(io.BytesIO(needed)) as image:
            if image.size != (width, height):
                raise damaged
            return read(image)
    except ReferenceRefused:
        raise
    except Exception:  # decoders fail in a dozen ways on hostile files, and all of them mean the same
        raise damaged from None


def _size(image: ImageFile) -> tuple[int, int]:
    width, height = image.size
    # Of a PNG that has no EXIF Pillow would decode the pixels, to look behind them.
    turn = 1 if isinstance(image, PngImageFile) and "exif" not in image.info else image.getexif().get(_ORIENTATION, 1)
    return (height, width) if _UPRIGHT.get(turn) in _SIDEWAYS else (width, height)


def _pixels(image: ImageFile, long_side: int) -> UInt8:
    width, height = image.size
    scale = max(1.0, max(width, height) / long_side)
    target = max(1, round(width / scale)), max(1, round(height / scale))
    image.draft(None, target)  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that suffices
    image.load()
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:  # of 16-bit colours, which come out of the decoder with 8
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    profile = image.info.get("icc_profile")
    small = _reduced(image, max(1, max(image.size) // (2 * long_side)))
    if small.size != target:
        small = small.resize(target, Image.Resampling.LANCZOS)
    small = _srgb(small, profile)
    return np.asarray(small if turn is None else small.transpose(turn)).copy()


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """The mean of each factor × factor block, in a mode that can be resampled; strip by strip, to spare memory."""
    if factor == 1:
        return _resamplable(image)
    width, height = image.size
    rows = 64 * factor
    strips = [
        _resamplable(image.crop((0, top, width, min(height, top + rows)))).reduce(factor)
        for top in range(0, height, rows)
    ]
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for index, strip in enumerate(strips):
        whole.paste(strip, (0, index * 64))
    return whole


def _resamplable(image: Image.Image) -> Image.Image:
    """L, CMYK, RGB or, where there is transparency, RGBA."""
    if image.mode.startswith("I"):  # 16-bit grey
        grey = np.asarray(image).astype(np.uint32)
        clear = image.info.get("transparency")
        small = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        if not isinstance(clear, int):
            return small
        return Image.merge("LA", (small, Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))).convert(
            "RGBA"
        )
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        return image.convert("RGBA")
    return image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGBA in sRGB; colours of a profile that is broken, or of another kind than the pixels, are taken as they are."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    if profile and _of_use(profile):
        try:
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(colours, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
            colours = converted or colours
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    colours = colours.convert("RGBA")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _of_use(profile: bytes) -> bool:
    """Whether an ICC profile (ICC.1:2022) is to be applied: not sRGB's own, and with tables as long as they say.

    The library makes room for a table before it reads it, and for as many translations of a description as a tag says
    it has: half a gigabyte for what a few bytes declare. So neither is left to it.
    """
    whole = memoryview(profile)
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for number in range(min(count, 256)):
            name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
            data = whole[offset : offset + size]
            if name == b"desc" and b"sRGB" in bytes(data[:4096]).replace(b"\0", b""):
                return False
            kind, needed = bytes(data[:4]), 0
            if kind in (b"mft1", b"mft2"):  # 10.10, 10.11
                inputs, outputs, points = data[8:11]
                needed = points**inputs * outputs * int(kind[3:])
            elif kind in (b"mAB ", b"mBA "):  # 10.12, 10.13
                inputs, outputs = data[8:10]
                (start,) = struct.unpack_from(">I", data, 24)
                needed = math.prod(data[start : start + inputs]) * outputs * data[start + 16] if start else 0
            if needed > len(data) or kind == b"mpet":  # of elements, which no camera writes
                return False
    except (struct.error, ValueError, IndexError):
        return False
    return True
