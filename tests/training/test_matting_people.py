"""Reading TFLite's FlatBuffers, and what the converted network finds."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limner.painter.matting import Matting
from limner.painter.training.build_bank import BuildFailed
from limner.painter.training.matting_people import EMPTY, Table, people
from limner.painter.training.sources import PHOTOGRAPHS


def buffer() -> bytes:
    """A root table with field 0 = 7 (int), field 1 absent, field 2 a vector of bytes, field 3 a table like itself."""
    vtable = struct.pack("<HHHHHH", 12, 16, 4, 0, 8, 12)
    table = struct.pack("<iiII", 12, 7, 8, 12)
    # The vector follows the table; the inner table, with a vtable of its own, follows the vector.
    vector = struct.pack("<I", 3) + b"abc\0"
    inner = struct.pack("<ii", 8, -5)
    data = struct.pack("<I", 16) + vtable + table + vector
    at = len(data) + 8
    data += struct.pack("<HHHH", 6, 8, 4, 0) + inner
    return data[:28] + struct.pack("<I", at - 28) + data[32:]


def test_a_table_gives_its_fields_and_defaults_for_those_that_it_lacks() -> None:
    root = Table.root(buffer())
    assert root.number(0) == 7
    assert root.number(1, default=42) == 42
    assert root.number(9, default=3) == 3
    assert root.array(2, "u1").tobytes() == b"abc"
    assert root.array(1, "u1").tobytes() == b""
    assert root.table(3).number(0) == -5
    assert root.table(1).number(0, default=1) == 1
    assert EMPTY.array(0, "<i4").tolist() == EMPTY.tables(5) == []


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    stem = f"{PHOTOGRAPHS.package.removeprefix('@').replace('/', '-')}-{PHOTOGRAPHS.version}"
    (tmp_path / f"{stem}.tgz").touch()
    folder = tmp_path / stem / "package"
    folder.mkdir(parents=True)
    (folder / "selfie_segmentation.tflite").write_bytes(b"something else")
    with pytest.raises(BuildFailed, match="not the file that was pinned"):
        people(tmp_path)


def test_what_was_converted_finds_head_and_shoulders_and_nothing_on_a_wall() -> None:
    wall = Image.new("RGB", (256, 256), (120, 150, 170))
    person = wall.copy()
    draw = ImageDraw.Draw(person)
    draw.rounded_rectangle((48, 170, 208, 300), 40, (40, 50, 90))
    draw.rectangle((112, 140, 144, 190), (205, 150, 120))
    draw.ellipse((88, 52, 168, 160), (215, 160, 130))
    draw.pieslice((84, 40, 172, 140), 170, 370, (60, 40, 30))
    for x in (108, 148):
        draw.ellipse((x - 6, 98, x + 6, 108), (30, 30, 30))
    matting = Matting()
    assert matting.people(wall).mean() < 0.05
    found = matting.people(person)
    inside, outside = found[60:240, 110:146], found[:, :40]
    assert inside.mean() > 0.7
    assert outside.mean() < 0.1
    assert found.shape == (256, 256)
    assert np.isfinite(found).all()
