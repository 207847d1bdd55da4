"""Every place, at every hour, in every weather, at several shapes of picture."""

from __future__ import annotations

import io
import itertools
import re
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
import resvg_py
import skia
from PIL import Image

from limner.painter.places import Backdrop, draw
from limner.painter.scene import Colour, Place, Time, Weather

PLACES, TIMES, WEATHERS = get_args(Place), get_args(Time), get_args(Weather)
ASPECTS = (0.25, 0.5625, 1.0, 16 / 9, 4.0)
OPEN_AIR = [p for p in PLACES if p not in ("room", "library", "kitchen", "stage")]


def document(svg: str, aspect: float, height: int) -> str:
    width = round(height * aspect)
    box = f'width="{width}" height="{height}" viewBox="0 0 {1000 * aspect:.4f} 1000" preserveAspectRatio="none"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{svg}</svg>'


def pixels(svg: str, aspect: float = 1.0, height: int = 96) -> np.ndarray:
    """What Skia makes of it, (height, width, 4), premultiplied."""
    data = document(svg, aspect, height).encode()
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream(data))
    width = round(height * aspect)
    dom.setContainerSize(skia.Size(width, height))
    out = np.zeros((height, width, 4), np.uint8)
    dom.render(skia.Surface(out).getCanvas())
    return out


def brightness(place: Place, time: Time, variant: int = 1) -> float:
    b = draw(place, time, "clear", 1.0, variant, None)
    return float(pixels(b.svg + b.front)[..., :3].mean())


@pytest.mark.parametrize("place", PLACES)
def test_every_place_parses_and_covers_every_pixel_at_every_hour_weather_and_shape(place: Place) -> None:
    for time, weather, aspect in itertools.product(TIMES, WEATHERS, ASPECTS):
        made = draw(place, time, weather, aspect, 7, None)
        ElementTree.fromstring(document(made.svg + made.front, aspect, 64))
        ground = pixels(made.svg, aspect, 64)
        assert (ground[..., 3] == 255).all(), (time, weather, aspect)
        assert ground[..., :3].std() > 2, "an empty picture"
        assert len(made.svg) + len(made.front) < (150_000 if aspect > 2 else 85_000)


@pytest.mark.parametrize("place", PLACES)
def test_fragments_keep_to_what_both_renderers_draw_alike(place: Place) -> None:
    for time, weather in itertools.product(TIMES, WEATHERS):
        made = draw(place, time, weather, 1.5, 3, None)
        svg = made.svg + made.front
        elements = set(re.findall(r"<([a-zA-Z]+)", svg))
        assert elements <= {"g", "path", "rect", "circle", "linearGradient", "radialGradient", "stop", "ellipse"}
        assert all(len(colour) == 7 for colour in re.findall(r'"(#[0-9a-fA-F]*)"', svg))
        names = re.findall(r'id="([^"]+)"', svg)
        assert len(names) == len(set(names))
        assert all(name.startswith("bg-") for name in names)
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(names)
        assert "nan" not in svg
        assert "{" not in svg


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("time", "weather", "aspect"), [("day", "clear", 1.0), ("night", "rain", 1.75), ("dusk", "snow", 0.5)]
)
def test_skia_and_resvg_agree(place: Place, time: Time, weather: Weather, aspect: float) -> None:
    made = draw(place, time, weather, aspect, 3, None)
    svg = made.svg + made.front
    png = bytes(resvg_py.svg_to_bytes(svg_string=document(svg, aspect, 256)))
    other = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32)
    ours = pixels(svg, aspect, 256)[..., :3].astype(np.float32)
    assert ours.shape == other.shape
    assert np.abs(ours - other).mean() < 1.6
    assert (np.abs(ours - other).max(-1) > 24).mean() < 0.01


@pytest.mark.parametrize("place", PLACES)
def test_the_same_arguments_give_the_same_drawing_and_other_variants_another(place: Place) -> None:
    first = draw(place, "dusk", "rain", 1.5, 5, None)
    assert draw(place, "dusk", "rain", 1.5, 5, None) == first
    assert len({draw(place, "dusk", "rain", 1.5, variant, None).svg for variant in range(8)}) == 8


@pytest.mark.parametrize("place", PLACES)
def test_night_is_darker_than_dusk_and_dusk_than_day(place: Place) -> None:
    light: dict[Time, float] = {time: brightness(place, time) for time in TIMES}
    assert light["night"] < light["dusk"] < light["day"]
    assert light["dusk"] < light["sunset"]
    assert light["dusk"] < light["dawn"]
    assert light["day"] > 1.2 * light["night"]


def test_sunset_is_warmer_and_night_bluer_than_day() -> None:
    for place in ("beach", "mountains", "city", "farm", "plain"):
        warmth: dict[Time, float] = {}
        for time in TIMES:
            rgb = pixels(draw(place, time, "clear", 1.0, 2, None).svg).astype(float).mean((0, 1))
            warmth[time] = rgb[0] / rgb[2]
        assert warmth["night"] < warmth["day"] < warmth["sunset"], place


@pytest.mark.parametrize("place", OPEN_AIR)
@pytest.mark.parametrize("weather", ["rain", "snow"])
def test_rain_and_snow_fall_in_front_of_things_in_the_open_air(place: Place, weather: Weather) -> None:
    dry, wet = (draw(place, "day", w, 1.0, 4, None) for w in ("clear", weather))
    if place in ("underwater", "space"):  # no rain falls there: the water or the sky changes
        assert not np.array_equal(pixels(dry.svg + dry.front), pixels(wet.svg + wet.front))
        return
    shown, before = ((pixels(b.front)[..., 3] > 40).mean() for b in (wet, dry))
    assert shown > before + 0.01


@pytest.mark.parametrize("place", ["room", "library", "kitchen", "stage"])
def test_weather_and_hour_show_through_the_window_but_it_rains_on_nobody_inside(place: Place) -> None:
    views = {(t, w): draw(place, t, w, 1.0, 4, None) for t in ("day", "night") for w in WEATHERS}
    seen = [pixels(b.svg).tobytes() for b in views.values()]
    assert len(set(seen)) == len(seen)
    for weather in ("rain", "snow"):
        inside, outside = (views["day", w].front for w in (weather, "cloudy"))
        assert inside.count("<path") == outside.count("<path")


@pytest.mark.parametrize("place", PLACES)
def test_a_place_says_where_things_stand_and_how_they_are_lit(place: Place) -> None:
    for time, weather in itertools.product(TIMES, WEATHERS):
        made: Backdrop = draw(place, time, weather, 1.2, 9, None)
        assert 0 < made.horizon <= 1
        assert 0.5 < made.ground < 1
        assert made.surface in ("ground", "water", "air", "none")
        assert made.surface != "ground" or made.horizon < made.ground
        assert all(0 < v <= 1.2 for v in made.light)
        assert made.sun is None or all(-0.1 <= v <= 1.1 for v in made.sun)
    assert sum(draw(place, "night", "clear", 1, 9, None).light) < sum(draw(place, "day", "clear", 1, 9, None).light)


def test_the_sky_is_not_the_ground_and_water_is_water() -> None:
    surfaces = {place: draw(place, "day", "clear", 1, 0, None).surface for place in PLACES}
    assert (surfaces["underwater"], surfaces["sky"], surfaces["space"]) == ("water", "air", "none")
    assert surfaces["beach"] == surfaces["library"] == surfaces["plain"] == "ground"


def test_a_plain_place_takes_the_colour_that_is_asked_for() -> None:
    means = {}
    for colour in get_args(Colour):
        made = draw("plain", "day", "clear", 1.0, 0, colour)
        means[colour] = pixels(made.svg)[..., :3].astype(float).mean((0, 1))
    assert means["red"].argmax() == 0
    assert means["green"].argmax() == 1
    assert means["blue"].argmax() == 2
    assert means["black"].mean() < 80 < 200 < means["white"].mean()
    assert len({tuple(m.round()) for m in means.values()}) == len(means)
    assert draw("plain", "day", "clear", 1.0, 0, None) != draw("plain", "day", "clear", 1.0, 1, None)


@pytest.mark.parametrize("aspect", [0.2, 4.5, float("nan"), -1.0])
def test_a_shape_that_is_too_long_is_refused_with_the_bounds(aspect: float) -> None:
    with pytest.raises(ValueError, match=r"from 0\.25 to 4, not"):
        draw("beach", "day", "clear", aspect, 0, None)
