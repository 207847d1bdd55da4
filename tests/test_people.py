"""People: every attribute shows, nothing leaves its box, and both renderers agree.

examples/girl.png, the reference picture of the documentation, is the person GIRL below on a clear ground:
`python tests/test_people.py` paints it again.
"""

from __future__ import annotations

import io
import re
import typing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import resvg_py
import skia
from PIL import Image

from limner.painter import scene
from limner.painter.colours import HAIRS, SHADES, SKINS, mix, shade, tint
from limner.painter.people import Figure, draw
from limner.painter.scene import Person

GIRL = Person(
    age="child", hair="braids", hair_colour="red", glasses="round", top="dress", top_colour="green", bottom="skirt",
    expression="grin",
)  # fmt: skip
GIRL_FILE = Path(__file__).parents[1] / "examples" / "girl.png"
VALUES = {
    "age": ("child", "adult", "elder"),
    "build": ("feminine", "masculine"),
    "skin": typing.get_args(scene.Skin),
    "hair": typing.get_args(scene.HairStyle),
    "hair_colour": typing.get_args(scene.HairColour),
    "top": typing.get_args(scene.Top),
    "top_colour": typing.get_args(scene.Colour),
    "bottom": typing.get_args(scene.Bottom),
    "bottom_colour": typing.get_args(scene.Colour),
    "hat": (None, *typing.get_args(scene.Hat)),
    "glasses": (None, *typing.get_args(scene.Glasses)),
    "beard": (None, *typing.get_args(scene.Beard)),
    "pose": typing.get_args(scene.Pose),
    "expression": typing.get_args(scene.Expression),
}
ONE_CHANGED = [(name, value) for name, values in VALUES.items() for value in values]
HEIGHT = 300


def document(figure: Figure, width: float, *, margin: float = 0.0) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{HEIGHT}"'
        f' viewBox="{-margin} {-margin} {figure.width + 2 * margin:.3f} {1000 + 2 * margin}">{figure.svg}</svg>'
    )


def paint(person: Person, *, width: int = 300, margin: float = 0.0, ground: str = "#00000000") -> np.ndarray:
    """The person on a canvas of its own: (HEIGHT, width, 4), premultiplied, uint8."""
    pixels = np.zeros((HEIGHT, width, 4), np.uint8)
    if len(ground) == 7:
        pixels[:] = (*bytes.fromhex(ground[1:]), 255)
    canvas = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType).getCanvas()
    picture = skia.SVGDOM.MakeFromStream(skia.MemoryStream(document(draw(person), width, margin=margin).encode(), True))
    picture.setContainerSize(skia.Size(width, HEIGHT))
    picture.render(canvas)
    return pixels


def rgb(colour: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(float)


@pytest.mark.parametrize(("name", "value"), ONE_CHANGED)
def test_every_value_of_every_attribute_is_drawn_inside_its_box(name: str, value: str | None) -> None:
    person = Person(**{name: value})
    figure = draw(person)
    ElementTree.fromstring(document(figure, 300))
    alpha = paint(person, margin=60)[..., 3]
    unit = min(300 / (figure.width + 120), HEIGHT / 1120)
    left = (300 - figure.width * unit) / 2
    ys, xs = np.nonzero(alpha > 40)
    assert xs.size > 3000
    assert abs(ys.min() - 60 * unit) < 4
    assert abs(ys.max() + 1 - 1060 * unit) < 4
    assert abs(xs.min() - left) < 4
    assert abs(xs.max() + 1 - (300 - left)) < 4


@pytest.mark.parametrize(("name", "value"), ONE_CHANGED)
def test_changing_one_attribute_changes_what_one_sees(name: str, value: str | None) -> None:
    base = Person(skin="tan", hair_colour="black", hat=None)
    if getattr(base, name) == value:
        other = next(v for v in VALUES[name] if v != value)
        base = base.model_copy(update={name: other})
    before, after = paint(base).astype(int), paint(base.model_copy(update={name: value})).astype(int)
    assert (np.abs(before - after).max(axis=2) > 24).sum() > 45


def test_any_two_values_of_an_attribute_look_different() -> None:
    for name, values in VALUES.items():
        pictures = [paint(Person(**{name: value})).astype(int) for value in values]
        for i, one in enumerate(pictures):
            for j in range(i):
                differing = (np.abs(one - pictures[j]).max(axis=2) > 16).sum()
                assert differing > 30, (name, values[i], values[j], differing)


def test_the_same_person_is_the_same_string() -> None:
    assert draw(GIRL) == draw(GIRL.model_copy())


def test_where_a_person_stands_does_not_change_the_drawing() -> None:
    assert draw(Person(x=0.1, y=0.3, height=0.9, flip=True)) == draw(Person())


def test_fragments_carry_no_ids_and_only_six_digit_colours() -> None:
    for name, value in ONE_CHANGED:
        svg = draw(Person(**{name: value})).svg
        assert "id=" not in svg
        assert "url(" not in svg
        paints = re.findall(r'(?:fill|stroke)="([^"]*)"', svg)
        assert all(paint == "none" or re.fullmatch("#[0-9a-f]{6}", paint) for paint in paints), value


@pytest.mark.parametrize("top", VALUES["top"])
@pytest.mark.parametrize("colour", VALUES["top_colour"])
def test_the_colour_word_of_a_garment_is_its_commonest_colour(top: str, colour: str) -> None:
    if top == "armor":
        named = (SHADES[colour], tint(SHADES[colour], 0.3), shade(SHADES[colour], 0.08))
    else:
        named = (SHADES[colour],)
    pixels = paint(Person(top=top, top_colour=colour, pose="standing", hair="bald"))
    rows = pixels[int(0.28 * HEIGHT) : int(0.52 * HEIGHT)]
    solid = rows[rows[..., 3] == 255][:, :3].astype(float)
    skin = np.abs(solid - rgb(SKINS["light"])).max(axis=1) < 30
    solid = solid[~skin] if colour != "beige" else solid
    values, counts = np.unique(solid.astype(np.uint8), axis=0, return_counts=True)
    commonest = values[counts.argmax()].astype(float)
    assert min(np.abs(commonest - rgb(c)).max() for c in named) < 40, commonest


def test_a_white_t_shirt_keeps_an_edge_on_sand() -> None:
    pixels = paint(Person(top="t-shirt", top_colour="white"), ground="#fdf6e0")[..., :3].astype(float)
    torso = pixels[int(0.30 * HEIGHT) : int(0.5 * HEIGHT)]
    white = np.abs(torso - 250).max(axis=2) < 4
    edge = np.abs(torso - rgb(shade("#fafafa", 0.3))).max(axis=2) < 30
    assert white.sum() > 400
    assert edge.sum() > 100


def test_a_childs_head_is_a_larger_part_of_it() -> None:
    radius = {age: draw(Person(age=age)).face[2] for age in VALUES["age"]}
    assert radius["child"] > 1.3 * radius["adult"]
    assert 5 < 1000 / (2 * radius["adult"]) < 6


def test_the_face_is_where_it_says() -> None:
    for person in (Person(hair="bald"), Person(hair="bald", pose="running"), GIRL):
        figure = draw(person)
        x, y, r = figure.face
        unit = min(300 / figure.width, HEIGHT / 1000)
        left = (300 - figure.width * unit) / 2
        pixels = paint(person)[int((y + 0.45 * r) * unit), int(left + (x - 0.55 * r) * unit)].astype(float)
        # the near cheek is skin with a blush on it
        assert np.abs(pixels[:3] - rgb(mix(SKINS["light"], "#f0605a", 0.2))).max() < 45


@pytest.mark.parametrize(("name", "value"), [*ONE_CHANGED[::5], ("hat", "wizard"), ("pose", "sitting")])
def test_skia_and_resvg_draw_the_same(name: str, value: str | None) -> None:
    person = Person(**{name: value})
    figure = draw(person)
    png = resvg_py.svg_to_bytes(svg_string=document(figure, 300))
    reference = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA")).astype(float)
    ours = paint(person).astype(float)
    alpha = reference[..., 3:] / 255
    reference = np.concatenate([reference[..., :3] * alpha, reference[..., 3:]], axis=2)
    assert np.abs(reference - ours).mean() < 1.0


def test_shades_darken_and_tints_lighten_every_colour() -> None:
    for colour in (*SHADES.values(), *HAIRS.values(), *SKINS.values()):
        assert rgb(shade(colour, 0.3)).sum() < rgb(colour).sum() < rgb(tint(colour, 0.3)).sum()
        assert shade(colour, 0.3) != shade(colour, 0.1)


def test_the_example_girl_is_the_one_documented_here() -> None:
    stored = np.asarray(Image.open(GIRL_FILE)).astype(float)
    assert stored.shape == (768, 512, 4)
    assert np.abs(stored - girl().astype(float)).mean() < 1.0


def girl() -> np.ndarray:
    """GIRL on a clear ground, (768, 512, 4) uint8, straight alpha."""
    figure, surface = draw(GIRL), skia.Surface(512, 768)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="720"'
        f' viewBox="0 0 {figure.width:.3f} 1000">{figure.svg}</svg>'
    )
    picture = skia.SVGDOM.MakeFromStream(skia.MemoryStream(svg.encode(), True))
    picture.setContainerSize(skia.Size(480, 720))
    canvas = surface.getCanvas()
    canvas.translate(16, 24)
    picture.render(canvas)
    return surface.toarray(colorType=skia.kRGBA_8888_ColorType)


if __name__ == "__main__":
    GIRL_FILE.parent.mkdir(exist_ok=True)
    Image.fromarray(girl()).save(GIRL_FILE, optimize=True)
