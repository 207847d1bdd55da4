"""The draft: vector graphics composed, lit and drawn at any size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.draft import Draft, compose, sprite
from limner.painter.scene import Person, Reference, Scene, Thing

RED = (220, 30, 40)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


@pytest.fixture(scope="module")
def busy(bank: Bank) -> Scene:
    things = [Thing(concept=name, x=0.2 + 0.3 * k, y=0.95, height=0.3) for k, name in enumerate(bank.names[:3])]
    person = Person(x=0.5, y=0.97, height=0.6, flip=True)
    return Scene(place="park", time="sunset", weather="rain", items=(*things, person), variant=5)


def square(alpha: int = 255, side: int = 40) -> np.ndarray:
    """A red square with a transparent rim, whose hidden colour is green."""
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[..., :3] = (0, 255, 0)
    inner = slice(side // 4, -side // 4)
    pixels[inner, inner] = (*RED, alpha)
    return pixels


def shown(reference: Reference, cutout: np.ndarray, place: str = "plain", side: int = 200, **scene: object) -> Draft:
    items = (reference,)
    return compose(Scene.model_validate({"place": place, "items": items, **scene}), 1.0, Bank.load(), [cutout])


def laid(layers: list[draft.Layer]) -> np.ndarray:
    picture = np.zeros((*layers[0].pixels.shape[:2], 3))
    for layer in layers:
        picture = picture * (1 - layer.pixels[..., 3:] / 255) + layer.pixels[..., :3]
    return picture


def test_layers_over_each_other_are_the_picture(bank: Bank, busy: Scene) -> None:
    composed = compose(busy, 1.5, bank)
    layers = composed.layers(288, 192)
    whole = composed.draw(288, 192)
    error = np.abs(laid(layers) - whole)
    assert whole.shape == (192, 288, 3)
    assert error.max() <= 5
    assert error.mean() < 0.5
    assert [layer.role for layer in layers].count("item") == len(busy.items)
    assert layers[0].role == "backdrop"
    assert (layers[0].pixels[..., 3] == 255).all()
    assert layers[-1].role == "front"
    assert [layer.index for layer in layers if layer.role == "item"] == [0, 1, 2, 3]
    assert all((layer.pixels[..., :3] <= layer.pixels[..., 3:]).all() for layer in layers), "premultiplied"


def test_the_same_scene_has_the_same_bytes(bank: Bank, busy: Scene) -> None:
    first = compose(busy, 1.0, bank).draw(300, 300)
    compose(busy, 2.0, bank).draw(128, 64)
    again = compose(Scene.model_validate(busy.model_dump()), 1.0, Bank.load()).draw(300, 300)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("size", [(512, 512), (2048, 512), (512, 2048), (1024, 1024)])
def test_a_large_draft_made_small_is_the_small_draft(bank: Bank, busy: Scene, size: tuple[int, int]) -> None:
    width, height = size
    composed = compose(busy, width / height, bank)
    small = (width // 4, height // 4)
    shrunk = Image.fromarray(composed.draw(width, height)).resize(small, Image.Resampling.BOX)
    error = np.abs(np.asarray(shrunk, float) - composed.draw(*small))
    assert error.mean() < 1.5


def test_a_draft_on_pixels_that_are_not_square_is_the_stretched_draft(bank: Bank, busy: Scene) -> None:
    composed = compose(busy, 16 / 9, bank)
    stretched = composed.draw(336, 192)  # an aspect of 1.75
    exact = Image.fromarray(composed.draw(1280, 720)).resize((336, 192), Image.Resampling.BOX)
    error = np.abs(np.asarray(exact, float) - stretched)
    assert error.mean() < 1.5


def test_a_reference_lands_where_it_is_asked_for() -> None:
    picture = shown(Reference(x=0.25, y=0.75, height=0.5), square(), place="space").draw(200, 200)
    red = np.abs(picture.astype(int) - RED).max(2) < 3
    rows, cols = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    # The box is 100 pixels on a side with its feet at 150 and its centre at 50; the square is its inner half.
    assert abs(rows[0] - 75) <= 2
    assert abs(rows[-1] - 124) <= 2
    assert abs(cols[0] - 25) <= 2
    assert abs(cols[-1] - 74) <= 2
    assert red[77:123, 27:73].all()


def test_hidden_colours_of_a_cutout_do_not_bleed_into_its_rim() -> None:
    alone = sprite(Reference(), 96, Bank.load(), [square(side=12)])  # widened eightfold
    assert alone[48, 48].tolist() == [*RED, 255]
    assert alone[0, 0].tolist() == [0, 0, 0, 0]
    rim = (alone[..., 3] > 0) & (alone[..., 3] < 255)
    assert rim.any()
    straight = alone[rim][:, :3] / (alone[rim][:, 3:] / 255)
    assert np.abs(straight - RED).max() <= 255 * 1.5 / alone[rim][:, 3].min()
    assert alone[..., 1].max() <= RED[1], "green shows"


def test_a_half_transparent_cutout_lets_half_of_the_ground_through() -> None:
    scene = {"backdrop": "white", "place": "plain", "items": ()}
    bare = compose(Scene.model_validate(scene), 1.0, Bank.load()).draw(200, 200).astype(int)
    picture = shown(Reference(x=0.5, y=0.4, height=0.3), square(alpha=128), backdrop="white").draw(200, 200)
    wanted = bare[50, 100] + (np.array(RED) - bare[50, 100]) * 128 / 255
    np.testing.assert_allclose(picture[50, 100], wanted, atol=2)


def test_a_mirrored_cutout_is_the_mirror_image_and_turns_its_own_way() -> None:
    pixels = square()
    pixels[10:30, 10:20, :3] = (20, 40, 230)
    place = {"x": 0.5, "y": 0.75, "height": 0.5}
    plain, flipped = (sprite(Reference(flip=flip, **place), 80, Bank.load(), [pixels]) for flip in (False, True))
    assert np.abs(flipped[:, ::-1].astype(int) - plain).max() <= 2
    assert np.abs(flipped.astype(int) - plain).max() > 100


@pytest.mark.parametrize("flip", [False, True])
def test_a_positive_angle_turns_clockwise_also_when_mirrored(bank: Bank, flip: bool) -> None:
    """Turned by 90 degrees, the part that was on top is on the right."""
    name = next(n for n in bank.names if 0.9 < bank[n].box[2] / bank[n].box[3] < 1.1)
    place = {"concept": name, "x": 0.5, "y": 0.75, "height": 0.5, "flip": flip}

    def drawn(angle: float) -> np.ndarray:
        composed = compose(Scene(place="plain", items=(Thing(angle=angle, **place),)), 1.0, bank)
        (item,) = (layer.pixels for layer in composed.layers(160, 160) if layer.role == "item")
        return item.astype(int)

    upright, turned = drawn(0), drawn(90)
    clockwise, counter = (np.abs(np.rot90(upright, -quarter) - turned).mean() for quarter in (1, -1))
    assert clockwise < 2
    assert counter > clockwise * 2


def test_the_light_of_the_hour_falls_on_everything_that_stands(bank: Bank) -> None:
    item = Person(x=0.5, y=0.9, height=0.6)
    by_hour = {}
    for time in ("day", "night"):
        layers = compose(
            Scene(place="park", time=time, items=(item, Reference(x=0.2)), variant=1), 1.0, bank, [square()]
        )
        by_hour[time] = [layer.pixels for layer in layers.layers(128, 128) if layer.role == "item"]
    for day, night in zip(by_hour["day"], by_hour["night"], strict=True):
        np.testing.assert_array_equal(day[..., 3], night[..., 3])
        assert night[..., :3].sum() < 0.97 * day[..., :3].sum()


def test_what_stands_on_the_ground_has_a_shadow_and_what_flies_has_none(bank: Bank) -> None:
    name = bank.names[0]

    def roles(y: float) -> list[str]:
        scene = Scene(place="park", items=(Thing(concept=name, y=y, height=0.2),))
        return [layer.role for layer in compose(scene, 1.0, bank).layers(64, 64)]

    assert "shadow" in roles(0.9)
    assert "shadow" not in roles(0.3)


def test_an_item_alone_fills_its_square_and_touches_two_sides(bank: Bank) -> None:
    for item in (Person(), *(Thing(concept=name) for name in bank.names[:4])):
        alpha = sprite(item, 96, bank)[..., 3]
        rows, cols = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        assert max(rows[-1] - rows[0], cols[-1] - cols[0]) >= 90
        assert abs(rows[0] + rows[-1] - 95) <= 6
        assert abs(cols[0] + cols[-1] - 95) <= 6


def test_what_is_not_there_is_told_in_a_sentence(bank: Bank) -> None:
    with pytest.raises(KeyError, match="no drawing named 'unicorn-made-of-glass'"):
        compose(Scene(items=(Thing(concept="unicorn-made-of-glass"),)), 1.0, bank)
    with pytest.raises(KeyError, match="shows reference 1, but 1 came"):
        compose(Scene(items=(Reference(index=1),)), 1.0, bank, [square()])
    with pytest.raises(ValueError, match=r"aspect from 0.25 to 4"):
        compose(Scene(), 5.0, bank)
