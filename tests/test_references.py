"""References: every form that clients send, every file that is read, and those that must not be."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from hostile_server import HostileServer, redirects, reply, sends
from limner.config import Settings
from limner.decode import LONG_SIDE, MAX_CHUNKS, MAX_SCANS, decode, size
from limner.engine.core import UInt8
from limner.errors import Code, InvalidRequest, ReferenceRefused
from limner.references import read, refusals, sources, unpack

SETTINGS = Settings(reference_allow=("127.0.0.2/32",))


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Red and green above, blue and white below, so that a turn or a flip shows."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("red", (0, 0, width // 2, height // 2))
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    return image


def quadrants(pixels: UInt8) -> list[tuple[int, ...]]:
    """The colours at the middle of the four quarters, row by row, each channel as 0 or 255."""
    height, width, _ = pixels.shape
    spots = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [tuple(int(value > 127) * 255 for value in pixels[spot][:3]) for spot in spots]


RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PNG = saved(corners())
JPEG = saved(corners(), "JPEG", quality=95)
WEBP = saved(corners(), "WEBP", quality=95)


def load(source: str, settings: Settings = SETTINGS) -> UInt8:
    return asyncio.run(read(source, settings))


def refusal(data: bytes, settings: Settings = SETTINGS) -> ReferenceRefused:
    with pytest.raises(ReferenceRefused) as caught:
        decode(data, settings)
    assert caught.value.message.endswith(".")
    return caught.value


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns, or the refusal that it raises; anything else that it raises fails the test."""
    try:
        return call(*arguments)
    except InvalidRequest as error:
        return error


def data_url(data: bytes, label: str = "image/png;base64") -> str:
    return f"data:{label}," + base64.b64encode(data).decode()


# The wire's forms


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ([], ()),
        ("http://a.test/x.png", ("http://a.test/x.png",)),
        (["one", "two"], ("one", "two")),
        ({"image_file": "one"}, ("one",)),
        ({"type": "character", "image_file": "one"}, ("one",)),
        ({"type": None, "image_url": "one"}, ("one",)),
        ({"image_file": "one", "image_url": "two"}, ("one",)),
        ({"image_file": None, "image_url": "two", "weight": 0.5}, ("two",)),
        ([{"type": "character", "image_file": "one"}, "two", {"image_url": "three"}], ("one", "two", "three")),
    ],
)
def test_every_form_of_subject_reference_becomes_strings_in_order(value: Any, expected: tuple[str, ...]) -> None:
    assert sources(value) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"type": "object", "image_file": "one"}, "type"),
        ({"type": ["character"], "image_file": "one"}, "type"),
        ({}, "image_file"),
        ({"type": "character"}, "image_file"),
        ([{"image_file": None}], "image_file"),
        ({"image_file": 7}, "string"),
        ({"image_file": {"url": "one"}}, "string"),
        ("", "string"),
        ("  ", "string"),
        (["one", ""], "string"),
        ([None], "string"),
        ([["one"]], "string"),
        (7, "string"),
        (True, "string"),
    ],
)
def test_another_form_is_an_invalid_request(value: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        sources(value)
    assert caught.value.message.startswith("subject_reference: ")
    assert caught.value.code == Code.INVALID_PARAMETERS


# From text to bytes

STANDARD = base64.b64encode(JPEG).decode()
URLSAFE = base64.urlsafe_b64encode(JPEG).decode()


@pytest.mark.parametrize(
    "source",
    [
        STANDARD,
        STANDARD.rstrip("="),
        URLSAFE,
        URLSAFE.rstrip("="),
        base64.encodebytes(JPEG).decode(),
        f"\r\n  {STANDARD}\t",
        f"data:image/jpeg;base64,{STANDARD}",
        f"DATA:image/jpeg;BASE64,{STANDARD}",
        f"data:;base64,{STANDARD}",
        f"data:image/png;base64,{STANDARD}",
        f"data:text/html;charset=utf-8;base64,{URLSAFE}",
        f"data:image/jpeg;name=me.jpg; base64,{base64.encodebytes(JPEG).decode()}",
        f"data:image/jpeg;base64,{quote(STANDARD, safe='')}",
        f"data:image/jpeg,{quote(JPEG, safe='')}",
        f"data:,{quote(JPEG)}",
    ],
)
def test_data_urls_and_base64_in_all_their_forms_give_the_bytes(source: str) -> None:
    assert unpack(source, SETTINGS) == JPEG
    assert quadrants(load(source)) == [RED, LIME, BLUE, WHITE]


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "/tmp/me.png",
        "./me.png",
        "../me.jpeg",
        "me.png",
        "pictures/me.webp",
        "~/me.png",
        "C:\\Users\\me.png",
        "c:/me.png",
        "\\\\server\\share\\me.png",
        "/",
        "/9j/me",
    ],
)
def test_a_file_path_is_refused_and_never_opened(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("me.png", "pictures/me.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    with pytest.raises(ReferenceRefused, match=r"never a file of the server|damaged") as caught:
        load(source)
    assert caught.value.reason in ("path", "damaged")
    assert "passwd" not in caught.value.message


@pytest.mark.parametrize(
    "source",
    ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://a.test/x.png", "s3://bucket/x.png", "blob:x", "a.test:80/x"],
)
def test_another_scheme_is_refused_with_what_is_read(source: str) -> None:
    with pytest.raises(ReferenceRefused, match="only http and https URLs, data URLs and base64") as caught:
        load(source)
    assert caught.value.reason == "scheme"


@pytest.mark.parametrize(
    "source",
    [
        "not base64!",
        "äöü",
        "A",
        "iVBOR=w0KGgo",
        "data:image/png;base64",
        "data:image/png;base64,!!!!",
        "data:;base64,A",
        "\x00",
    ],
)
def test_what_is_no_base64_is_refused(source: str) -> None:
    with pytest.raises(ReferenceRefused) as caught:
        load(source)
    assert caught.value.reason == "form"


@given(st.binary(max_size=40))
def test_percent_escapes_are_undone_as_rfc_3986_says(data: bytes) -> None:
    assert unpack(f"data:,{quote(data, safe='')}", SETTINGS) == data


@given(st.text("%4aG", max_size=40))
def test_what_is_no_percent_escape_stays(text: str) -> None:
    assert unpack(f"data:,{text}", SETTINGS) == unquote_to_bytes(text)


@pytest.mark.parametrize("flood", ["%", "%4", "a%00", " ", "A ", "=", "\ud800"])
def test_a_flood_of_awkward_text_is_dealt_with_at_once(flood: str) -> None:
    for start in ("", "data:,", "data:;base64,"):
        got = outcome(unpack, start + flood * 3_000_000, SETTINGS)
        assert isinstance(got, bytes) or got.reason in ("form", "bytes")


@pytest.mark.parametrize("source", ["", "data:,", "data:;base64,", base64.b64encode(b"some words").decode()])
def test_base64_of_no_picture_is_refused(source: str) -> None:
    with pytest.raises(ReferenceRefused, match="send a JPEG, PNG or WebP") as caught:
        load(source)
    assert caught.value.reason == "type"


@pytest.mark.parametrize(
    "source", [STANDARD, data_url(JPEG), f"data:image/jpeg,{quote(JPEG, safe='')}", f"{STANDARD}{' ' * 10**5}A"]
)
def test_the_limit_holds_for_decoded_bytes(source: str) -> None:
    exact = Settings(reference_max_bytes=len(JPEG))
    if not source.endswith(" A"):
        assert unpack(source, exact) == JPEG
    with pytest.raises(ReferenceRefused, match="larger than") as caught:
        unpack(source, Settings(reference_max_bytes=len(JPEG) - 1))
    assert caught.value.reason == "bytes"


# From URL to pixels


def test_a_url_gives_the_picture_whatever_its_label() -> None:
    with HostileServer(sends(reply(body=PNG, content_type="text/html"))) as server:
        assert quadrants(load(server.url("/me.gif"))) == [RED, LIME, BLUE, WHITE]
        assert quadrants(load(" " + server.url().replace("http", "HTTP") + "\n")) == [RED, LIME, BLUE, WHITE]


def test_a_web_page_behind_a_url_is_named() -> None:
    page = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    with (
        HostileServer(sends(reply(body=page, content_type="image/png"))) as server,
        pytest.raises(ReferenceRefused, match="a web page: send a JPEG, PNG or WebP"),
    ):
        load(server.url())


def test_refusals_are_counted_by_reason() -> None:
    before = refusals.copy()
    with HostileServer(redirects("http://127.0.0.1/")) as server:
        for source in (server.url(), server.url(), "/etc/passwd", "ftp://a.test/"):
            with pytest.raises(ReferenceRefused):
                load(source)
    assert refusals - before == {"address": 2, "path": 1, "scheme": 1}


def test_a_fetcher_can_be_given() -> None:
    async def get(url: str, _settings: Settings) -> bytes:
        return {"https://a.test/x": WEBP}[url]

    assert quadrants(asyncio.run(read("https://a.test/x", SETTINGS, get))) == [RED, LIME, BLUE, WHITE]


# Files that are read


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP])
def test_each_format_gives_rgba_of_its_own_size(data: bytes) -> None:
    pixels = decode(data, SETTINGS)
    assert pixels.shape == (32, 48, 4)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert quadrants(pixels) == [RED, LIME, BLUE, WHITE]
    assert (pixels[..., 3] == 255).all()


def test_a_png_comes_out_to_the_bit() -> None:
    given = np.random.default_rng(1).integers(0, 256, (31, 17, 4), np.uint8)
    assert (decode(saved(Image.fromarray(given, "RGBA")), SETTINGS) == given).all()


TURNED = {
    1: [RED, LIME, BLUE, WHITE],
    2: [LIME, RED, WHITE, BLUE],
    3: [WHITE, BLUE, LIME, RED],
    4: [BLUE, WHITE, RED, LIME],
    5: [RED, BLUE, LIME, WHITE],
    6: [BLUE, RED, WHITE, LIME],
    7: [WHITE, LIME, BLUE, RED],
    8: [LIME, WHITE, RED, BLUE],
    9: [RED, LIME, BLUE, WHITE],
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_the_picture_is_turned_upright_by_its_exif(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(saved(corners(), form, exif=exif), SETTINGS)
    assert pixels.shape == ((48, 32, 4) if 5 <= orientation <= 8 else (32, 48, 4))
    assert quadrants(pixels) == TURNED[orientation]
    assert size(saved(corners(), form, exif=exif), SETTINGS) == pixels.shape[1::-1]


def test_a_png_is_turned_by_an_exif_behind_its_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(corners(), exif=exif)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    data = data.replace(chunk, b"")
    end = data.index(b"IEND") - 4
    data = data[:end] + chunk + data[end:]
    assert quadrants(decode(data, SETTINGS)) == TURNED[6]
    assert size(data, SETTINGS) == (32, 48)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_size_is_read_without_the_pixels(form: str) -> None:
    whole = saved(corners(3000, 1000), form)
    assert size(whole, SETTINGS) == (3000, 1000)
    assert size(saved(Image.new("RGBA", (30, 20)), "PNG"), SETTINGS) == (30, 20)
    with pytest.raises(ReferenceRefused, match="damaged or cut short"):
        size(whole[: len(whole) // 2], SETTINGS)
    with pytest.raises(ReferenceRefused, match="over 1 megapixels"):
        size(whole, Settings(reference_max_pixels=10**6))
    if form == "PNG":  # its pixels are no deflate stream, which nobody notices
        at = whole.index(b"IDAT") + 4
        size(whole[:at] + b"\xff" * 8 + whole[at + 8 :], SETTINGS)


def test_a_large_picture_is_turned_and_reduced() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(saved(corners(6001, 3000), "JPEG", exif=exif), SETTINGS)
    assert pixels.shape == (LONG_SIDE, 512, 4)
    assert quadrants(pixels) == TURNED[6]


def test_alpha_is_kept_straight() -> None:
    image = Image.new("RGBA", (40, 20), (10, 200, 30, 128))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    for data in (saved(image), saved(image, "WEBP", lossless=True)):
        pixels = decode(data, SETTINGS)
        assert pixels[10, 30].tolist() == [10, 200, 30, 128]
        assert pixels[10, 10, 3] == 0


def test_colour_does_not_bleed_from_under_transparency_when_reduced() -> None:
    image = Image.new("RGBA", (4400, 300), (0, 255, 0, 0))
    image.paste((200, 0, 0, 255), (2203, 0, 4400, 300))
    pixels = decode(saved(image), SETTINGS)
    assert pixels.shape == (70, LONG_SIDE, 4)
    visible = pixels[pixels[..., 3] > 8]
    assert visible[:, 1].max() <= 8
    assert visible[:, 0].min() >= 180


@pytest.mark.parametrize("size", [(2049, 1024), (5000, 10), (10, 5000), (1, 9000), (1025, 1025), (4097, 4099)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_larger_pictures_are_reduced_to_the_long_side(size: tuple[int, int], form: str) -> None:
    height, width, _ = decode(saved(Image.new("RGB", size, (90, 120, 30)), form), SETTINGS).shape
    assert max(width, height) == LONG_SIDE
    assert abs(width - max(1, size[0] * LONG_SIDE / max(size))) <= 0.5
    assert abs(height - max(1, size[1] * LONG_SIDE / max(size))) <= 0.5


def test_a_reduced_picture_keeps_its_places() -> None:
    assert quadrants(decode(saved(corners(5000, 4900)), SETTINGS)) == [RED, LIME, BLUE, WHITE]


def test_a_palette_with_transparency() -> None:
    image = corners().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    clear = image.getpixel((40, 4))
    pixels = decode(saved(image, transparency=clear), SETTINGS)
    assert quadrants(pixels)[0] == RED
    assert pixels[4, 4, 3] == 255
    assert pixels[4, 40, 3] == 0


def test_large_pictures_of_every_mode_keep_colour_and_transparency() -> None:
    palette = corners(2600, 2600).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    pixels = decode(saved(palette, transparency=palette.getpixel((2000, 100))), SETTINGS)
    assert quadrants(pixels) == [RED, (0, 0, 0), BLUE, WHITE]
    assert [pixels[256, 256, 3], pixels[256, 768, 3]] == [255, 0]
    for mode, colour in (("1", 1), ("L", 255), ("I;16", 65535), ("LA", (255, 255)), ("RGBA", (255,) * 4)):
        pixels = decode(saved(Image.new(mode, (4200, 4100), colour)), SETTINGS)
        assert pixels.shape == (1000, LONG_SIDE, 4)
        assert (pixels == 255).all()
    pixels = decode(saved(Image.new("CMYK", (2100, 2100), (0, 255, 255, 0)), "JPEG"), SETTINGS)
    assert quadrants(pixels) == [RED] * 4


def test_a_palette_with_partial_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 250, 130, 10])
    pixels = decode(saved(image, transparency=bytes([255, 77])), SETTINGS)
    assert pixels[0, 0].tolist() == [250, 130, 10, 77]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255, 255, 255, 255]),
        ("L", 90, [90, 90, 90, 255]),
        ("LA", (90, 7), [90, 90, 90, 7]),
        ("I;16", 0x8080, [128, 128, 128, 255]),
        ("I;16", 0xFFFF, [255, 255, 255, 255]),
        ("I;16", 300, [1, 1, 1, 255]),
    ],
)
def test_grey_pngs(mode: str, colour: Any, expected: list[int]) -> None:
    assert decode(saved(Image.new(mode, (5, 5), colour)), SETTINGS)[2, 2].tolist() == expected


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour", "sample", "expected"),
    [
        (0, [0x1234], [0x12, 0x12, 0x12, 255]),
        (2, [0x1234, 0x5678, 0x9ABC], [0x12, 0x56, 0x9A, 255]),
        (4, [0x1234, 0x8000], [0x12, 0x12, 0x12, 0x80]),
        (6, [0x1234, 0x5678, 0x9ABC, 0x4000], [0x12, 0x56, 0x9A, 0x40]),
    ],
)
def test_16_bit_pngs_of_every_colour_type(colour: int, sample: list[int], expected: list[int]) -> None:
    row = b"\0" + struct.pack(f">{len(sample)}H", *sample) * 3
    pixels = decode(png(3, 2, 16, colour, row * 2), SETTINGS)
    assert pixels.shape == (2, 3, 4)
    assert np.abs(pixels[1, 1].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("colour", "width"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_a_16_bit_png(colour: int, width: int) -> None:
    clear, solid = struct.pack(">H", 0x1234) * width, struct.pack(">H", 0xABCD) * width
    data = png(2, 1, 16, colour, b"\0" + clear + solid, chunk(b"tRNS", clear))
    assert decode(data, SETTINGS)[0, :, 3].tolist() == [0, 255]


def test_a_cmyk_jpeg_comes_out_in_its_colours() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    pixel = decode(saved(image, "JPEG", quality=100), SETTINGS)[16, 16].tolist()
    assert pixel[0] > 200
    assert max(pixel[1:3]) < 60
    assert pixel[3] == 255


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}])
def test_jpegs_of_other_structure(options: dict[str, Any]) -> None:
    assert quadrants(decode(saved(corners(200, 100), "JPEG", **options), SETTINGS)) == [RED, LIME, BLUE, WHITE]


def test_a_grey_jpeg() -> None:
    pixel = decode(saved(Image.new("L", (16, 16), 77), "JPEG"), SETTINGS)[8, 8]
    assert np.abs(pixel.astype(int) - [77, 77, 77, 255]).max() <= 1


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(form: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "lime", "blue")]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert quadrants(decode(data, SETTINGS)) == [RED] * 4


def test_trailing_bytes_after_the_picture_do_not_matter() -> None:
    for data in (PNG, JPEG):
        assert quadrants(decode(data + b"\xff\xd8 some video " * 1000, SETTINGS)) == [RED, LIME, BLUE, WHITE]


# Colour profiles


def lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def linear_profile() -> bytes:
    """The sRGB primaries with a straight line for a curve: as the built-in profile, its curves replaced."""
    source = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", source, 128)[0]
    for index in range(count):
        tag, offset, size = struct.unpack_from(">4sII", source, 132 + 12 * index)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            source[offset : offset + size] = (b"curv" + bytes(8)).ljust(size, b"\0")
        if tag == b"desc":
            body = bytes(source[offset : offset + size])
            source[offset : offset + size] = body.replace("sRGB".encode("utf-16-be"), "Line".encode("utf-16-be"))
    return bytes(source)


def test_a_colour_profile_is_brought_to_srgb_with_alpha_kept() -> None:
    image = Image.new("RGBA", (4, 4), (55, 55, 55, 40))
    pixel = decode(saved(image, icc_profile=linear_profile()), SETTINGS)[1, 1].tolist()
    expected = round(255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055))  # IEC 61966-2-1
    assert max(abs(value - expected) for value in pixel[:3]) <= 2
    assert pixel[3] == 40


@pytest.mark.parametrize("profile", [b"no profile", lab_profile(), linear_profile()[:200]])
def test_a_profile_that_does_not_fit_leaves_the_colours(profile: bytes) -> None:
    data = saved(Image.new("RGB", (4, 4), (55, 110, 165)), icc_profile=profile)
    assert decode(data, SETTINGS)[1, 1].tolist() == [55, 110, 165, 255]


# Files that are not


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (saved(corners(), "GIF"), "a GIF"),
        (saved(corners(), "BMP"), "a BMP"),
        (saved(corners(), "TIFF"), "a TIFF"),
        (saved(corners(), "ICO"), "an icon"),
        (saved(corners(), "PDF"), "a PDF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "a HEIC picture"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "a HEIC picture"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1", "an AVIF picture"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2", "a video"),
        (b"\xff\x0a\xff\x07", "a JPEG XL picture"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "an SVG"),
        (b"\n <!doctype HTML><html>", "a web page"),
        (b"<html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b'{"error": "no such picture"}', "JSON"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"8BPS\x00\x01", "a Photoshop file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "of an unknown type"),
        (b"\x89PNG", "of an unknown type"),
        (b"\xff\xd8", "of an unknown type"),
        (b"", "of an unknown type"),
    ],
)
def test_another_type_is_named_by_its_bytes(data: bytes, name: str) -> None:
    error = refusal(data)
    assert error.reason == "type"
    assert error.message == f"The reference is {name}: send a JPEG, PNG or WebP picture."


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP, saved(corners(), "JPEG", progressive=True)])
def test_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for end in [*range(12, len(data) - 1, max(1, len(data) // 60)), len(data) - 1]:
        assert refusal(data[:end]).reason == "damaged"


def test_the_sentence_for_a_cut_file_names_the_format() -> None:
    assert "JPEG file is damaged or cut short" in refusal(JPEG[:-40]).message


def test_a_cut_file_is_refused_also_where_pillow_was_told_to_be_lax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in (PNG[:-30], JPEG[:-30], WEBP[:-30]):
        assert refusal(data).reason == "damaged"


def header_only(form: str, width: int, height: int) -> bytes:
    """A file that declares a size and brings no pixels for it."""
    if form == "PNG":
        return png(width, height, 8, 6, bytes(10))
    if form == "WEBP":
        body = (
            b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        )
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("size", [(60000, 60000), (65535, 65535), (60000, 1000)])
def test_a_declared_size_over_the_limit_is_refused_before_a_decoder_opens_it(
    form: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("a decoder was opened")

    monkeypatch.setattr(ImageFile.ImageFile, "__init__", opened)
    error = refusal(header_only(form, *size))
    assert error.reason == "pixels"
    assert f"{size[0]}×{size[1]}" in error.message
    assert "50 megapixels" in error.message


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_small_file_with_too_many_real_pixels_is_refused(form: str) -> None:
    data = saved(Image.new("L", (8000, 6300)), form)
    assert len(data) < 10**6
    assert refusal(data).reason == "pixels"


def test_the_pixel_limit_is_inclusive() -> None:
    assert decode(PNG, Settings(reference_max_pixels=48 * 32)).shape == (32, 48, 4)
    assert refusal(PNG, Settings(reference_max_pixels=48 * 32 - 1)).reason == "pixels"


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_pixels_that_were_declared_but_not_sent_are_refused(form: str) -> None:
    assert refusal(header_only(form, 4000, 3000)).reason == "damaged"


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    assert refusal(png(*size, 8, 2, b"")).reason == "damaged"
    assert refusal(header_only("JPEG", *size)).reason == "damaged"


BOMB = zlib.compress(bytes(50 * 10**6), 9)


def test_a_png_with_a_bomb_for_a_profile_is_refused() -> None:
    data = png(2, 2, 8, 0, b"\0aa\0aa", chunk(b"iCCP", b"name\0\0" + BOMB))
    assert len(data) < 100_000
    assert refusal(data).reason == "damaged"


@pytest.mark.parametrize("text", [b"zTXtkey\0\0", b"iTXtkey\0\1\0\0\0"])
def test_a_bomb_in_a_pngs_texts_is_never_unpacked(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(*_: object) -> None:
        raise AssertionError("the text was unpacked")

    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", unpacked)
    data = png(2, 2, 8, 0, b"\0aa\0aa", chunk(text[:4], text[4:] + BOMB))
    assert decode(data, SETTINGS)[0, 0].tolist() == [97, 97, 97, 255]


@pytest.mark.parametrize(
    "data",
    [
        PNG[:33] + chunk(b"tEXt", b"") * 800_000 + PNG[33:],
        PNG[:33] + chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(10**6))) * 5000 + PNG[33:],
        JPEG[:2] + b"\xff\xfe\0\2" * 2_500_000 + JPEG[2:],
        JPEG[:2] + b"\xff" * 10_000_000 + JPEG[2:],
        JPEG[:3] + b"\xff" * 9_999_999,
        JPEG[:-2] + b"\xff\0" * 5_000_000,
        b" " * 10_000_000,
    ],
    ids=["chunks", "profiles", "segments", "fill", "only fill", "stuffing", "spaces"],
)
def test_a_flood_of_awkward_bytes_is_dealt_with_at_once(data: bytes) -> None:
    pixels = outcome(decode, data, SETTINGS)
    assert quadrants(pixels) == [RED, LIME, BLUE, WHITE] if isinstance(pixels, np.ndarray) else pixels.reason


def test_a_jpeg_of_too_many_scans_is_refused() -> None:
    data = saved(corners(), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    scans = data.count(b"\xff\xda")
    fits = data[:-2] + last * (MAX_SCANS - scans) + data[-2:]
    assert quadrants(decode(fits, SETTINGS)) == [RED, LIME, BLUE, WHITE]
    assert refusal(data[:-2] + last * (MAX_SCANS - scans + 1) + data[-2:]).reason == "damaged"


def test_a_png_of_ever_so_many_chunks_is_refused() -> None:
    """Three stand in the file anyway: IHDR, IDAT, IEND."""
    empty = chunk(b"tEXt", b"")
    assert decode(png(1, 1, 8, 0, b"\0\0", empty * (MAX_CHUNKS - 3)), SETTINGS).shape == (1, 1, 4)
    assert refusal(png(1, 1, 8, 0, b"\0\0", empty * (MAX_CHUNKS - 2))).reason == "damaged"


# Whatever comes

SEEDS = [
    PNG,
    JPEG,
    WEBP,
    saved(
        corners(),
        "JPEG",
        progressive=True,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    saved(corners().convert("P"), transparency=0),
    saved(Image.new("I;16", (9, 9), 700), icc_profile=linear_profile()),
    saved(Image.new("RGBA", (9, 9)), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    saved(Image.new("CMYK", (9, 9)), "JPEG"),
]
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=6)


def checked(data: bytes) -> None:
    pixels = outcome(decode, data, Settings(reference_max_pixels=10**6))
    if isinstance(pixels, ReferenceRefused):
        assert pixels.reason in ("type", "damaged", "pixels")
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 4
        assert 1 <= max(pixels.shape[:2]) <= LONG_SIDE


@examples(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), EDITS)
def test_a_mutated_file_is_read_or_refused(data: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    for place, cut, put in edits:
        at = int(place * len(data))
        data = data[:at] + put + data[at + cut :]
    checked(data)


@examples(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", PNG[:33], WEBP[:30], JPEG[:200]]), st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    checked(start + rest)


@examples(max_examples=300, deadline=None)
@given(
    st.sampled_from(["", "data:", "data:,", "data:image/png;base64,", "/9j/", "iVBOR", "file:", "C:", "//"]),
    st.text(max_size=60) | st.text(st.characters(), max_size=9) | st.text("A/+-_= \n%,;:.", max_size=60),
)
def test_any_text_that_is_no_url_is_unpacked_or_refused(start: str, rest: str) -> None:
    data = outcome(unpack, start + rest, SETTINGS)
    assert isinstance(data, bytes) or data.reason in ("form", "path", "scheme")


@examples(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "image_file", "image_url", "weight"]), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_any_json_becomes_strings_or_an_invalid_request(value: Any) -> None:
    found = outcome(sources, value)
    if isinstance(found, InvalidRequest):
        assert found.message.startswith("subject_reference: ")
    else:
        assert all(isinstance(source, str) and source.strip() for source in found)
