"""Pixels to picture files: JPEG, PNG, WebP, the visible mark, and the metadata that says a machine made them.

The bytes are a function of the arguments, of this version and of the kind of machine: nothing here reads a clock.
"""

from __future__ import annotations

import functools
import io
import json
import platform
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image, ImageDraw, ImageFile, ImageFont
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

Parameters = Mapping[str, str | int | float]
"""What a picture was made with: prompt, negative_prompt, those that LABELS names, and any others."""

LABELS = {
    "steps": "Steps",
    "sampler": "Sampler",
    "guidance": "CFG scale",
    "seed": "Seed",
    "fingerprint": "Model hash",
    "model": "Model",
    "strength": "Denoising strength",
}
"""Parameters under the names that readers of the `parameters` text look for, in their order: some find the line by
`Steps` at its beginning. Others stand behind them, under their own names."""

_RANKS = {name: rank for rank, name in enumerate(LABELS)}
SAMPLER_LABELS = {"euler": "Euler", "heun": "Heun", "dpm++2m": "DPM++ 2M", "ddim": "DDIM", "lcm": "LCM"}

PROMPT_LONGEST, VALUE_LONGEST = 5000, 200
"""Most code points of a prompt and of another parameter in a file: so all of them fit a JPEG's segment, which holds
65,533 bytes, even where every character is written as six bytes."""

_ILLEGIBLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (2.2: control characters, surrogates, U+FFFE and U+FFFF), and the controls of ISO 6429."""

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
    parameters: Parameters | None = None,
) -> bytes:
    """A picture file of `pixels`, (H, W, 3) uint8, sRGB.

    Its XMP metadata carry SOURCE_TYPE, this version and the kind of machine. `quality` is 1 to 100, of JPEG and WebP.
    `watermark` is drawn in the lower right corner, in `font` or else the built-in Latin one. `parameters` are written
    where readers look for them: prompt and model in XMP (IPTC Photo Metadata Standard 2025.1), and all of them as the
    text that Stable Diffusion's tools call `parameters`, a text chunk of PNG, the Exif UserComment of JPEG and WebP.
    """
    image = Image.fromarray(pixels)
    if watermark is not None:
        image = _marked(image, watermark, font)
    text = None if parameters is None else _infotext(parameters, image.size)
    return _save(image, format, quality, _xmp(parameters or {}), text)


def transcode(
    data: bytes,
    format: Format,  # noqa: A002 - as in encode
    *,
    quality: int = 92,
    side: int | None = None,
) -> bytes:
    """A picture file of ours in another format or smaller, its metadata kept.

    Content credentials are not: they vouch for the bytes of the file that they were signed for, not for others.

    Args:
        side: most pixels of its longer side; one that has no more keeps its size.
    """
    with Image.open(io.BytesIO(data)) as image:
        if side is not None:
            image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
        text = image.info.get("parameters") if comment is None else comment.removeprefix(_UNICODE).decode("utf-16-be")
        return _save(image.convert("RGB"), format, quality, image.info.get("xmp") or _xmp({}), text)


def legible(text: str, longest: int = VALUE_LONGEST) -> str:
    """`text` with U+FFFD for each character that XML cannot hold or that steers a terminal, cut at `longest`."""
    text = _ILLEGIBLE.sub("\ufffd", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


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


_UNICODE = b"UNICODE\0"
"""What begins an Exif UserComment in Unicode (CIPA DC-008, 4.6.5); the field's tools write it in UTF-16, big-endian."""


def _save(image: Image.Image, format: Format, quality: int, xmp: bytes, text: str | None) -> bytes:  # noqa: A002 - as in encode
    options: dict[str, Any]
    match format:
        case "jpeg":  # 4:4:4, since halved colour frays the edges of flat colours; optimised tables take 5 to 10% off
            options = {"quality": quality, "subsampling": 0, "optimize": True, "xmp": xmp}
        case "png":  # level 3 takes half the time of 6 for a tenth more bytes
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            if text is not None:
                info.add_text("parameters", text)
            options = {"compress_level": 3, "pnginfo": info}
        case "webp":  # method 2 takes a third of the time of 4 for 2% more bytes
            options = {"quality": quality, "method": 2, "xmp": xmp}
    if text is not None and format != "png":
        options["exif"] = _exif(text)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _exif(comment: str) -> bytes:
    """An Exif block of a UserComment alone, big-endian as its text is. Pillow's own would be of the wrong type."""
    value = _UNICODE + comment.encode("utf-16-be")
    entry = ">HHHLLL"  # how many entries, tag, type, count, value or its offset; offset of the next directory
    pointer = struct.pack(entry, 1, ExifTags.IFD.Exif, 4, 1, 26, 0)
    content = struct.pack(entry, 1, ExifTags.Base.UserComment, 7, len(value), 44, 0)
    return b"Exif\0\0" + b"MM\0*" + struct.pack(">L", 8) + pointer + content + value


def _xmp(parameters: Parameters) -> bytes:
    """The XMP packet (ISO 16684-1), its properties those of the IPTC Extension schema and of XMP's own.

    An attribute's value is escaped whole, line breaks included, which a parser would else read as spaces.
    """
    model = parameters.get("model")
    prompts = [("", "prompt"), ("Negative prompt: ", "negative_prompt")]
    told = [before + legible(str(parameters[name]), PROMPT_LONGEST) for before, name in prompts if parameters.get(name)]
    properties = {
        "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPE,
        "Iptc4xmpExt:AISystemUsed": "Limner" if model is None else f"Limner ({legible(str(model))})",
        "Iptc4xmpExt:AISystemVersionUsed": __version__,
        "xmp:CreatorTool": f"Limner {__version__} ({machine_kind()})",
    } | ({"Iptc4xmpExt:AIPromptInformation": "\n".join(told)} if told else {})
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:xmp="http://ns.adobe.com/xap/1.0/"{attributes}/>'
        "</rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    ).encode()


def _infotext(parameters: Parameters, size: tuple[int, int]) -> str:
    """Prompt, negative prompt and `name: value` pairs, a line each, as Stable Diffusion's tools write and read them.

    Line breaks become spaces, since what a line is shows in how it begins; XMP keeps those of the prompts.
    """
    prompt, negative = (_line(parameters.get(name, ""), PROMPT_LONGEST) for name in ("prompt", "negative_prompt"))
    ordered = sorted(parameters.keys() - {"prompt", "negative_prompt"}, key=lambda name: (_RANKS.get(name, 99), name))
    named = {LABELS.get(name, name.replace("_", " ").capitalize()): parameters[name] for name in ordered}
    if "Sampler" in named:
        named["Sampler"] = SAMPLER_LABELS.get(str(named["Sampler"]), named["Sampler"])
    named |= {"Size": f"{size[0]}x{size[1]}", "Version": f"Limner {__version__}"}
    pairs = ", ".join(f"{name}: {_quoted(_line(value, VALUE_LONGEST))}" for name, value in named.items())
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), pairs])


def _line(value: object, longest: int) -> str:
    return " ".join(legible(str(value), longest).split())


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(letter in value for letter in ',:"') else value


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
