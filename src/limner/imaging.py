"""Pixels to picture files: JPEG, PNG, WebP, the visible mark, and the metadata that says a machine made them.

The bytes are a function of the arguments, of this version and of the kind of machine: nothing here reads a clock.
"""

from __future__ import annotations

import functools
import io
import platform
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFile, ImageFont
from PIL.PngImagePlugin import PngInfo

from limner import __version__
from limner.engine.core import UInt8
from limner.errors import SettingsInvalid

Format = Literal["jpeg", "png", "webp"]
MEDIA_TYPES: dict[Format, str] = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

ImageFile.MAXBLOCK = 4 * 2048 * 2048
"""Room for one JPEG, bytes: Pillow guesses one byte a pixel, and pure noise takes three."""

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC digital source type of pictures that a trained model made (IPTC Photo Metadata Standard 2021.1)."""

_INSTRUCTION_SETS = (  # flag of /proc/cpuinfo, name; the first that is there decides how the networks round
    ("amx_bf16", "amx-bf16"),
    ("avx512_bf16", "avx512-bf16"),
    ("avx512f", "avx512"),
    ("avx2", "avx2"),
    ("sve", "sve"),
    ("bf16", "neon-bf16"),
    ("asimdhp", "neon-fp16"),
)


@functools.cache
def machine_kind() -> str:
    """The kind of machine as far as it decides how networks round: `x86-64 avx512-bf16`, say.

    Machines of one kind paint the same bytes. Where the system does not tell its instruction sets, the architecture
    alone is named.
    """
    architecture = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower() or "unknown"
    )
    try:
        flags = set(Path("/proc/cpuinfo").read_text("utf-8", "replace").split())
    except OSError:
        flags = set()
    return " ".join([architecture, *(name for flag, name in _INSTRUCTION_SETS if flag in flags)][:2])


def encode(
    pixels: UInt8,
    format: Format = "jpeg",  # noqa: A002 - Pillow's own word for it
    *,
    quality: int = 92,
    watermark: str | None = None,
    font: Path | None = None,
) -> bytes:
    """A picture file of `pixels`, (H, W, 3) uint8, sRGB.

    Its XMP metadata carry SOURCE_TYPE, this version and the kind of machine. `quality` is 1 to 100, of JPEG and WebP.
    `watermark` is drawn in the lower right corner, in `font` or else the built-in Latin one.
    """
    image = Image.fromarray(pixels)
    if watermark is not None:
        image = _marked(image, watermark, font)
    return _save(image, format, quality, _xmp())


def transcode(
    data: bytes,
    format: Format,  # noqa: A002 - as in encode
    *,
    quality: int = 92,
) -> bytes:
    """A picture file of ours in another format, its metadata kept."""
    with Image.open(io.BytesIO(data)) as image:
        return _save(image.convert("RGB"), format, quality, image.info.get("xmp") or _xmp())


def check_watermark(text: str, font: Path | None = None) -> None:
    """See that the font can draw every letter of `text`.

    Raises:
        SettingsInvalid: it cannot, or the file is no font.
    """
    try:
        face = _face(32, font)
    except OSError:
        raise SettingsInvalid(
            f"watermark_font {font} is not a font that can be read. Name a .ttf or .otf file."
        ) from None
    missing_glyph = bytes(face.getmask("\uffff"))
    lacking = sorted({letter for letter in text if letter.strip() and bytes(face.getmask(letter)) == missing_glyph})
    if lacking:
        raise SettingsInvalid(
            f"watermark_text holds letters that {'the font' if font else 'the built-in font'} cannot draw: "
            f"{' '.join(lacking)}. Name a font that has them in watermark_font, or use other letters."
        )


def _save(image: Image.Image, format: Format, quality: int, xmp: bytes) -> bytes:  # noqa: A002 - as in encode
    options: dict[str, Any]
    match format:
        case "jpeg":  # 4:4:4, since halved colour frays the edges of flat colours; optimised tables take 5 to 10% off
            options = {"quality": quality, "subsampling": 0, "optimize": True, "xmp": xmp}
        case "png":  # level 3 takes half the time of 6 for a tenth more bytes
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options = {"compress_level": 3, "pnginfo": info}
        case "webp":  # method 2 takes a third of the time of 4 for 2% more bytes
            options = {"quality": quality, "method": 2, "xmp": xmp}
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _xmp() -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"'
        f' xmp:CreatorTool="Limner {__version__} ({machine_kind()})"/>'
        "</rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    ).encode()


def _face(size: float, font: Path | None) -> ImageFont.FreeTypeFont:
    # The basic layout needs no shaping library, whose presence would change the bytes.
    if font is not None:
        return ImageFont.truetype(font, size, layout_engine=ImageFont.Layout.BASIC)
    face = ImageFont.load_default(size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise SettingsInvalid("This Pillow was built without FreeType, so no mark can be drawn. Install its wheel.")
    return face


def _marked(image: Image.Image, text: str, font: Path | None) -> Image.Image:
    """`image` with `text` in white on a dark translucent plate in the lower right corner.

    The letters are a fortieth of the shorter side, less, down to 6 pixels, where the text would pass 60% of the width.
    """
    size = max(12.0, min(image.size) / 40)
    face = _face(size, font)
    room = 0.6 * image.width
    if face.getlength(text) > room:
        face = _face(max(6.0, size * room / face.getlength(text)), font)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(text, anchor="ls"))
    ascent, descent = face.getmetrics()
    pad = round(face.size * 0.5)
    width, height = right - left + 2 * pad, ascent + descent + pad
    x, y = image.width - width - pad, image.height - height - pad
    scale = 4  # Pillow draws hard edges, so the plate is drawn large and reduced
    plate = Image.new("L", (width * scale, height * scale))
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, width * scale - 1, height * scale - 1), radius=height * scale // 3, fill=170
    )
    plate = plate.resize((width, height), Image.Resampling.BOX)
    marked = image.copy()
    marked.paste((16, 16, 20), (x, y), plate)
    middle = y + height // 2
    ImageDraw.Draw(marked).text(
        (x + pad - left, middle - (top + bottom) // 2), text, fill=(255, 255, 255), font=face, anchor="ls"
    )
    return marked
