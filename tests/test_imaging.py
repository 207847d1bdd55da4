from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFont

from limner import __version__
from limner.engine.core import UInt8
from limner.errors import SettingsInvalid
from limner.imaging import (
    MEDIA_TYPES,
    PROMPT_LONGEST,
    VALUE_LONGEST,
    Format,
    Parameters,
    check_watermark,
    encode,
    legible,
    machine_kind,
    transcode,
)

FORMATS: tuple[Format, ...] = tuple(MEDIA_TYPES)
IPTC, XMP = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}", "{http://ns.adobe.com/xap/1.0/}"


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
    data = encode(gradient(), kind, watermark=watermark)
    assert metadata(data) == {
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about": "",
        f"{IPTC}DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        f"{IPTC}AISystemUsed": "Limner",
        f"{IPTC}AISystemVersionUsed": __version__,
        f"{XMP}CreatorTool": f"Limner {__version__} ({machine_kind()})",
    }
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
        assert "parameters" not in image.info


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


def infotext(data: bytes) -> str:
    """The text that Stable Diffusion's tools look for: PNG's `parameters` chunk, the UserComment of JPEG and WebP."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            return str(image.info["parameters"])
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment[:8] == b"UNICODE\0"
        return str(comment[8:].decode("utf-16-be"))


def parsed(text: str) -> dict[str, str]:
    """As those tools read it: lines of the prompt, of what begins `Negative prompt:`, and a last one of pairs."""
    *lines, last = text.split("\n")
    pairs = {
        name: json.loads(value) if value.startswith('"') else value
        for name, value in re.findall(r'(\w[\w -]+): ("(?:\\.|[^"\\])*"|[^,]*)(?:, |$)', last)
    }
    cut = next((i for i, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[cut:]).removeprefix("Negative prompt: ")
    return {"prompt": "\n".join(lines[:cut]), "negative": negative, **pairs}


PARAMETERS: Parameters = {
    "model": "image-01",
    "seed": 2**64 - 1,
    "prompt": "a red fox, in snow",
    "negative_prompt": "blurry",
    "guidance": 3.5,
    "steps": 8,
    "style": "ink",
    "sampler": "dpm++2m",
    "fingerprint": "0123456789abcdef",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_parameters_are_written_where_readers_look_for_them(kind: Format) -> None:
    data = encode(gradient(), kind, parameters=PARAMETERS)
    text = infotext(data)
    assert text.splitlines()[-1].startswith("Steps: 8, Sampler: DPM++ 2M, CFG scale: 3.5, Seed: 18446744073709551615, ")
    assert parsed(text) == {
        "prompt": "a red fox, in snow",
        "negative": "blurry",
        "Steps": "8",
        "Sampler": "DPM++ 2M",
        "CFG scale": "3.5",
        "Seed": "18446744073709551615",
        "Model hash": "0123456789abcdef",
        "Model": "image-01",
        "Style": "ink",
        "Size": "160x96",
        "Version": f"Limner {__version__}",
    }
    found = metadata(data)
    assert found[f"{IPTC}AISystemUsed"] == "Limner (image-01)"
    assert found[f"{IPTC}AIPromptInformation"] == "a red fox, in snow\nNegative prompt: blurry"
    if kind != "png":
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().endian == ">"  # as the comment's own text
    assert decoded(data).shape == (96, 160, 3)


def test_a_transcoded_picture_keeps_its_parameters() -> None:
    original = encode(gradient(), "jpeg", parameters=PARAMETERS)
    for kind in FORMATS:
        other = transcode(original, kind)
        assert infotext(other) == infotext(original)
        assert metadata(other) == metadata(original)
        assert infotext(transcode(other, "jpeg")) == infotext(original)


HOSTILE = {
    "markup": '"/><rdf:li xmlns:x="y" x:z="1">&amp;&#0;<!--',
    "the end of a section": "]]> <![CDATA[ ]]>",
    "the end of a packet": '<?xpacket end="w"?></x:xmpmeta>',
    "control characters": "a\x00b\x08c\x1b[31m\x7f\x9b2J\ufffe\uffff",
    "a lone surrogate": "a \ud83d fox \udc00",
    "emoji": "😀" * 1500,
    "further lines": "a fox\nNegative prompt: hats\r\nSteps: 1, Sampler: x, Seed: 2\u2028Size: 1x1",
    "both quotes": '"\'"\'\\"',
    "another entity": "&lol; &#x1F600; %3C",
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_prompt_is_text_and_nothing_else(prompt: str, kind: Format) -> None:
    parameters: Parameters = {"prompt": prompt, "seed": 5, "model": prompt, "style": prompt}
    data = encode(gradient(), kind, parameters=parameters)
    found = metadata(data)
    assert len(found) == 6
    assert found[f"{IPTC}AIPromptInformation"] == legible(prompt, PROMPT_LONGEST)
    assert found[f"{IPTC}AISystemUsed"] == f"Limner ({legible(prompt)})"
    pairs = parsed(infotext(data))
    assert pairs["prompt"] == " ".join(legible(prompt, PROMPT_LONGEST).split())
    assert pairs["Model"] == pairs["Style"] == " ".join(legible(prompt).split())
    assert (pairs["negative"], pairs["Seed"], pairs["Size"]) == ("", "5", "160x96")
    assert len(pairs) == 7


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("letter", ['"', "😀", "\n", "\x00"])
def test_parameters_of_any_length_fit_a_file_and_are_seen_to_be_cut(kind: Format, letter: str) -> None:
    """A JPEG's segment holds 65,533 bytes."""
    long = {name: letter * 20_000 for name in PARAMETERS if name != "seed"}
    data = encode(gradient(), kind, parameters=long | {"seed": 2**64 - 1, "another": letter * 999})
    prompt, _, negative = metadata(data)[f"{IPTC}AIPromptInformation"].rpartition("Negative prompt: ")
    assert negative == legible(letter, 1) * (PROMPT_LONGEST - 1) + "…"
    assert prompt == negative + "\n"
    assert metadata(data)[f"{IPTC}AISystemUsed"] == f"Limner ({legible(letter) * (VALUE_LONGEST - 1)}…)"
    assert infotext(data).count("\n") == 2


@given(st.text(st.characters()), st.text(st.characters()))
def test_every_text_survives_as_legible_text(prompt: str, negative: str) -> None:
    data = encode(flat(0, 8), "png", parameters={"prompt": prompt, "negative_prompt": negative, "seed": 1})
    told = [before + legible(text, 5000) for before, text in (("", prompt), ("Negative prompt: ", negative)) if text]
    assert metadata(data).get(f"{IPTC}AIPromptInformation", "") == "\n".join(told)
    assert infotext(data).splitlines()[-1].startswith("Seed: 1, Size: 8x8, ")


def test_what_is_legible_stays_as_it_is() -> None:
    text = "A fox's «tail», 狐, 🦊\ttab\nline"
    assert legible(text) == text
    assert legible("x" * 200) == "x" * 200
    assert legible("x" * 201) == "x" * 199 + "…"
