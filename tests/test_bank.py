from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import skia

from limner.errors import ModelUnusable
from limner.painter.bank import DEFAULT, Bank, Drawing, recolour, singular, singular_phrase
from limner.painter.colours import SHADES
from limner.painter.recolour import from_polar, hue_distance, polar
from limner.painter.scene import Colour


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


def rendered(svg: str, box: tuple[float, float, float, float], side: int = 64, room: float = 0.0) -> np.ndarray:
    """(side, side, 4) uint8, straight alpha: `box`, with `room` of its larger side around it, made square."""
    x, y, w, h = box
    edge = max(w, h) * (1 + 2 * room)
    view = f"{x + w / 2 - edge / 2} {y + h / 2 - edge / 2} {edge} {edge}"
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}">{svg}</svg>'
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(text.encode()))
    assert dom is not None
    dom.setContainerSize(skia.Size(side, side))
    surface = skia.Surface(side, side)
    dom.render(surface.getCanvas())
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(DEFAULT, folder / "bank"))


def test_the_bank_names_at_least_1850_things_and_says_where_each_is_from(bank: Bank) -> None:
    assert len(bank) >= 1850
    assert bank.meta["concepts"] == len(bank)
    assert sum(bank.meta["by_source"].values()) == bank.meta["drawings"]
    for name in bank.names:
        assert bank[name].source in bank.meta["sources"]
    assert {source["licence"] for source in bank.meta["sources"].values()} <= {
        "MIT",
        "Apache-2.0",
        "CC-BY-4.0",
        "CC-BY-3.0",
        "CC-PDDC",
    }


def test_every_drawing_draws_something_and_fills_its_box_and_nothing_outside(bank: Bank) -> None:
    for concept in bank.names:
        for name in bank.variants(concept):
            drawing = bank[name]
            alpha = rendered(drawing.svg, drawing.box, side=80, room=0.125)[..., 3] > 60
            assert alpha.mean() > 0.02, name
            rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
            assert rows[0] >= 8, name
            assert rows[-1] <= 71, name
            assert columns[0] >= 8, name
            assert columns[-1] <= 71, name
            assert max(rows[-1] - rows[0], columns[-1] - columns[0]) >= 52, name


def test_every_drawing_is_in_plain_form_with_ids_of_its_own(bank: Bank) -> None:
    for concept in bank.names:
        for name in bank.variants(concept):
            svg = bank[name].svg
            for value in re.findall(r'(?:fill|stroke|stop-color)="([^"]*)"', svg):
                assert re.fullmatch(r"#[0-9a-f]{6}|none|url\(#[^)]+\)", value), (name, value)
            ids = re.findall(r' id="([^"]+)"', svg)
            assert all(re.fullmatch(re.escape(name) + r"-(\d+|edge)", one) for one in ids), name
            assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids), name
            assert "href" not in svg, name


def test_a_drawing_has_its_facts(bank: Bank) -> None:
    car = bank["automobile"]
    assert (car.label, car.group, car.surface, car.size, car.faces) == ("car", "vehicle", "ground", "large", "left")
    assert car.colours[0] == "red"
    assert car.recolourable
    assert bank.variants("automobile") == ("automobile", "automobile--noto")
    assert bank["automobile--noto"].concept == "automobile"


@pytest.mark.parametrize(
    ("words", "concept"),
    [
        ("a puppy", "dog"), ("kittens", "cat"), ("The Red Apples", "red-apple"), ("an automobile", "automobile"),
        ("sailing boats", "sailboat"), ("mice", "mouse"), ("wolves", "wolf"), ("bunches of flowers", "bouquet"),
        ("cups of tea", "teacup-without-handle"), ("T-shirts", "t-shirt"), ("geese", "goose"), ("a bus", "bus"),
        ("buses", "bus"), ("tables", "table"), ("bookshelves", "bookshelf"), ("glasses", "glasses"),
        ("santa claus", "santa-claus"), ("cherries", "cherries"), ("cherry", "cherries"),
        ("a hot air balloon", "hot-air-balloon"),
    ],
)  # fmt: skip
def test_a_noun_finds_its_concept(bank: Bank, words: str, concept: str) -> None:
    assert bank.find(words) == concept


@pytest.mark.parametrize("words", ["", "happiness", "red", "the", "quickly", "two dogs"])
def test_what_is_no_concept_finds_none(bank: Bank, words: str) -> None:
    assert bank.find(words) is None


def test_every_label_and_every_word_finds_a_concept_that_is_there(bank: Bank) -> None:
    for name in bank.names:
        assert bank.find(bank[name].label) == name
    assert set(bank.words.values()) == set(bank.names)
    for word, concept in bank.words.items():
        assert bank.find(word) == concept


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("cats", "cat"), ("boxes", "box"), ("berries", "berry"), ("horses", "horse"), ("churches", "church"),
        ("octopuses", "octopus"), ("leaves", "leaf"), ("children", "child"), ("sheep", "sheep"), ("gloves", "glove"),
        ("compass", "compass"), ("cactus", "cactus"), ("people", "person"), ("prizes", "prize"), ("bus", "bus"),
    ],
)  # fmt: skip
def test_plurals_become_singular(plural: str, one: str) -> None:
    assert singular(plural) == one


def test_the_head_of_a_phrase_becomes_singular() -> None:
    assert singular_phrase("glasses of milk") == "glasses of milk"
    assert singular_phrase("balls of yarn") == "ball of yarn"
    assert singular_phrase("palm trees") == "palm tree"


@pytest.mark.parametrize(
    ("language", "word", "concept"),
    [("zh", "狗", "dog"), ("es", "manzana", "red-apple"), ("fr", "voiture", "automobile"),
     ("de", "baum", "deciduous-tree"), ("ja", "うさぎ", "rabbit"),
     ("ja", "ウサギ", "rabbit"), ("zh", "气球", "balloon")],
)  # fmt: skip
def test_other_languages_name_concepts(
    bank: Bank, language: Literal["zh", "es", "fr", "de", "ja"], word: str, concept: str
) -> None:
    assert bank.foreign(language)[word] == concept


def changed(drawing: Drawing, svg: str) -> tuple[tuple[float, float, float], float]:
    """Mean lightness, chroma and hue of the pixels that recolouring changed, and their share of the drawing."""
    before, after = (rendered(one, drawing.box, 96).reshape(-1, 4).astype(int) for one in (drawing.svg, svg))
    solid = after[:, 3] > 250
    other = solid & (np.abs(before - after).max(1) > 12)
    mean = after[other][:, :3].mean(0)
    return polar("#" + "".join(f"{round(part):02x}" for part in mean)), other.sum() / solid.sum()


@pytest.mark.parametrize(
    ("name", "colour"),
    [("red-apple", "green"), ("automobile", "blue"), ("balloon", "yellow"), ("house", "red"), ("dress", "pink"),
     ("elephant", "purple"), ("bicycle", "green"), ("bus", "blue"), ("umbrella", "orange"), ("butterfly", "teal")],
)  # fmt: skip
def test_a_recoloured_drawing_shows_mostly_the_asked_hue(bank: Bank, name: str, colour: Colour) -> None:
    drawing = bank[name]
    (_, chroma, hue), share = changed(drawing, recolour(drawing, colour))
    assert share > 0.12
    assert chroma > 0.05
    assert hue_distance(hue, polar(SHADES[colour])[2]) < 20


def test_black_and_white_go_by_lightness(bank: Bank) -> None:
    cat = bank["cat"]
    (black, _), (white, _) = changed(cat, recolour(cat, "black")), changed(cat, recolour(cat, "white"))
    assert black[0] < 0.45
    assert white[0] > 0.85
    assert max(black[1], white[1]) < 0.05


def test_recolouring_leaves_other_parts_and_shading(bank: Bank) -> None:
    car = bank["automobile"]
    blue = recolour(car, "blue")
    before, after = set(re.findall("#[0-9a-f]{6}", car.svg)), set(re.findall("#[0-9a-f]{6}", blue))
    assert before - set(car.body) <= after
    assert len(after) == len(before)
    assert re.sub("#[0-9a-f]{6}", "", blue) == re.sub("#[0-9a-f]{6}", "", car.svg)


def test_a_red_apple_asked_for_in_red_is_left_alone(bank: Bank) -> None:
    assert recolour(bank["red-apple"], "red") == bank["red-apple"].svg


def test_polar_colours_come_back() -> None:
    for colour in ("#000000", "#ffffff", "#dc3b3b", "#3d7fdb", "#f8d046", "#8a5832"):
        assert from_polar(*polar(colour)) == colour


def test_an_unknown_name_is_a_key_error_that_names_it(bank: Bank) -> None:
    with pytest.raises(KeyError, match="no drawing named 'gryphon'"):
        bank["gryphon"]
    with pytest.raises(KeyError, match="no concept named 'gryphon'"):
        bank.variants("gryphon")


def swapped(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return act


@pytest.mark.parametrize("name", ["index.json", "drawings.xz", "lexicon.json", "languages.json.xz"])
def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=f"lacks its file {name}.*Install Limner again"):
        Bank.load(folder)


@pytest.mark.parametrize("name", ["index.json", "drawings.xz", "lexicon.json", "languages.json.xz"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    swapped(name)(folder)
    with pytest.raises(ModelUnusable, match=f"file {name} that is not the one of its meta.json"):
        Bank.load(folder)


def test_a_bank_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(ModelUnusable, match=r"has format 99 in its meta\.json; this program reads 1"):
        Bank.load(folder)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_bank_without_a_readable_meta_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = copied(tmp_path)
    (folder / "meta.json").unlink()
    if content is not None:
        (folder / "meta.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"no readable meta\.json|no JSON object"):
        Bank.load(folder)
