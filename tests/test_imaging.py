from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageFont

from limner import __version__
from limner.engine.core import UInt8
from limner.errors import SettingsInvalid
from limner.imaging import MEDIA_TYPES, SOURCE_TYPE, Format, check_watermark, encode, machine_kind, transcode

FORMATS: tuple[Format, ...] = tuple(MEDIA_TYPES)


def gradient(height: int = 96, width: int = 160) -> UInt8:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)


def flat(level: int, side: int = 512) -> UInt8:
    return np.full((side, side, 3), level, np.uint8)


def decoded(data: bytes) -> UInt8:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def metadata(data: bytes) -> dict[str, str]:
    """The properties of a file's XMP packet, as an XML parser reads them."""
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"]
    root = ElementTree.fromstring(packet)
    description = root.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description is not None
    return dict(description.attrib)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_keeps_its_size_its_pixels_and_its_format(kind: Format) -> None:
    data = encode(gradient(), kind)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (160, 96)
        assert image.format == kind.upper()
    error = np.abs(decoded(data).astype(int) - gradient()).mean()
    assert error < (0.01 if kind == "png" else 4)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("watermark", [None, "AI generated"])
def test_every_picture_says_that_a_model_made_it_marked_or_not(kind: Format, watermark: str | None) -> None:
    found = metadata(encode(gradient(), kind, watermark=watermark))
    assert found["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == SOURCE_TYPE
    assert SOURCE_TYPE == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    tool = found["{http://ns.adobe.com/xap/1.0/}CreatorTool"]
    assert tool == f"Limner {__version__} ({machine_kind()})"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_pixels_give_the_same_bytes_in_another_process(kind: Format) -> None:
    script = (
        "import hashlib, numpy as np\nfrom limner.imaging import encode\n"
        "pixels = (np.arange(96 * 160 * 3) % 251).astype(np.uint8).reshape(96, 160, 3)\n"
        f"print(hashlib.sha256(encode(pixels, {kind!r}, watermark='AI generated')).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 64


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_transcoded_picture_keeps_pixels_and_metadata(kind: Format) -> None:
    original = encode(gradient(), "jpeg", watermark="AI generated")
    other = transcode(original, kind)
    assert metadata(other) == metadata(original)
    error = np.abs(decoded(other).astype(int) - decoded(original)).mean()
    assert error < (0.01 if kind == "png" else 4)
    assert transcode(original, kind) == other


@pytest.mark.parametrize("quality", [92, 95, 100])
def test_pure_noise_is_a_picture_too(quality: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    assert len(encode(noise, "jpeg", quality=quality)) > noise.size / 2


def test_a_higher_quality_is_closer_to_the_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    errors = [np.abs(decoded(encode(noise, quality=q)).astype(int) - noise).mean() for q in (20, 60, 95)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("level", [0, 90, 128, 200, 255])
def test_the_mark_can_be_read_on_light_and_dark(level: int) -> None:
    """Contrast of the letters with what surrounds them: at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    marked = decoded(encode(flat(level), "png", watermark="AI generated")).astype(float) / 255
    changed = np.abs(marked - level / 255).max(axis=-1) > 0.02
    corner = marked[-40:, -140:] if level == 0 else marked[changed]
    linear = np.where(corner <= 0.04045, corner / 12.92, ((corner + 0.055) / 1.055) ** 2.4)
    luminance = (linear @ np.array([0.2126, 0.7152, 0.0722])).ravel()
    ground = np.median(luminance)
    assert (luminance.max() + 0.05) / (ground + 0.05) >= 4.5


@pytest.mark.parametrize(("height", "width"), [(512, 512), (576, 1344), (1024, 1024), (2048, 2048)])
def test_the_mark_sits_in_the_lower_right_corner_and_grows_with_the_picture(height: int, width: int) -> None:
    plain = np.full((height, width, 3), 255, np.uint8)
    changed = (decoded(encode(plain, "png", watermark="AI generated")) != 255).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() > height * 0.9
    assert columns.min() > width * 0.75
    assert 0 < height - 1 - rows.max() < height * 0.05
    assert 0 < width - 1 - columns.max() < width * 0.05
    assert rows.max() - rows.min() > min(height, width) * 0.03


def test_a_long_mark_stays_inside_a_small_picture() -> None:
    changed = (decoded(encode(flat(255), "png", watermark="W" * 64)) != 255).any(axis=-1)
    columns = np.nonzero(changed)[1]
    assert columns.min() > 0.2 * 512
    assert columns.max() < 511


def test_without_a_mark_no_pixel_changes_and_the_array_is_left_alone() -> None:
    pixels = flat(77)
    assert (decoded(encode(pixels, "png")) == 77).all()
    encode(pixels, "png", watermark="AI generated")
    assert (pixels == 77).all()


def test_a_mark_that_the_font_cannot_draw_is_refused_by_name() -> None:
    check_watermark("AI generated 2")
    with pytest.raises(SettingsInvalid, match="成 生"):
        check_watermark("AI生成")


def test_a_font_of_the_operators_draws_the_mark_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    face = ImageFont.load_default(10)
    assert isinstance(face, ImageFont.FreeTypeFont)
    font = tmp_path / "face.ttf"
    font.write_bytes(face.font_bytes)
    check_watermark("AI", font)
    assert encode(flat(255), watermark="AI", font=font) == encode(flat(255), watermark="AI")
    font.write_bytes(b"no font")
    with pytest.raises(SettingsInvalid, match="watermark_font"):
        check_watermark("AI", font)


def test_the_kind_of_machine_names_an_architecture() -> None:
    kind = machine_kind()
    assert kind.split()[0] in kind
    assert kind == kind.lower()
    assert 1 <= len(kind.split()) <= 2
