"""Cutting the subject out of a reference."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limner.errors import ReferenceRefused
from limner.painter.bank import Bank
from limner.painter.cutout import SIDE, cut_out
from limner.painter.draft import compose, sprite
from limner.painter.scene import Person, Scene, Thing

GROUNDS = [(255, 255, 255), (18, 20, 24), (120, 190, 90), (40, 90, 200)]


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


def opaque(colours: np.ndarray) -> np.ndarray:
    return np.concatenate((colours, np.full((*colours.shape[:2], 1), 255)), axis=2).astype(np.uint8)


def composite(subject: np.ndarray, ground: tuple[int, int, int], side: int = 480) -> tuple[np.ndarray, np.ndarray]:
    """A premultiplied subject on a slightly noisy and uneven ground; and its true alpha."""
    noise = np.random.default_rng(0).normal(0, 2.5, (side, side, 3)) + np.linspace(-6, 6, side)[:, None, None]
    below = np.array(ground) + noise
    at = (side - len(subject)) // 2
    alpha = np.zeros((side, side, 1))
    colours = np.zeros((side, side, 3))
    alpha[at : at + len(subject), at : at + len(subject)] = subject[..., 3:] / 255
    colours[at : at + len(subject), at : at + len(subject)] = subject[..., :3]
    return opaque(np.clip(below * (1 - alpha) + colours, 0, 255)), alpha[..., 0]


def overlap(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union, both cropped to what is visible and brought to one size."""

    def cropped(a: np.ndarray) -> np.ndarray:
        image = Image.fromarray((a * 255).astype(np.uint8))
        return np.asarray(image.crop(image.getbbox()).resize((128, 128), Image.Resampling.BOX)) > 127

    a, b = cropped(alpha), cropped(truth)
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_subject_is_cut_off_a_plain_ground(bank: Bank, ground: tuple[int, int, int]) -> None:
    subjects = [Person(top_colour="red", bottom_colour="purple", hair="long", hair_colour="brown")]
    subjects += [Thing(concept=name, colour="orange") for name in bank.names if bank[name].recolourable][:40:8]
    scores = []
    for subject in subjects:
        picture, truth = composite(sprite(subject, 360, bank), ground)
        cut = cut_out(picture)
        assert cut.how == "ground"
        scores.append(overlap(cut.pixels[..., 3] / 255, truth))
    assert np.mean(scores) > 0.93, scores
    assert min(scores) > 0.8, scores


def test_the_ground_does_not_show_as_a_halo_on_the_rim() -> None:
    disc = np.zeros((480, 480, 3))
    y, x = np.mgrid[:480, :480]
    alpha = np.clip(150 - np.hypot(y - 240, x - 240), 0, 1)[..., None]
    disc = np.array([200.0, 30, 40]) * alpha + np.array([250.0, 250, 250]) * (1 - alpha)
    cut = cut_out(opaque(disc)).pixels
    rim = cut[(cut[..., 3] > 90) & (cut[..., 3] < 250)]
    assert len(rim) > 50
    assert np.abs(rim[:, :3].astype(int) - (200, 30, 40)).max(1).mean() < 40


def test_a_portrait_that_the_lower_edge_cuts_is_still_on_a_plain_ground() -> None:
    image = Image.new("RGBA", (300, 400), (230, 235, 240, 255))
    draw = ImageDraw.Draw(image)
    draw.ellipse((100, 80, 200, 200), (220, 170, 140))
    draw.rounded_rectangle((50, 210, 250, 420), 40, (40, 60, 140))
    cut = cut_out(np.asarray(image))
    assert cut.how == "ground"
    assert abs(cut.pixels.shape[0] / cut.pixels.shape[1] - 320 / 200) < 0.05


def test_what_is_enclosed_by_the_subject_stays_though_it_has_the_grounds_colour() -> None:
    image = Image.new("RGBA", (300, 300), "white")
    ImageDraw.Draw(image).ellipse((50, 50, 250, 250), (200, 30, 40))
    ImageDraw.Draw(image).ellipse((130, 130, 170, 170), "white")
    cut = cut_out(np.asarray(image)).pixels
    assert (cut[80:120, 80:120, 3] == 255).all()
    assert cut[100, 100, :3].min() > 240


def test_a_picture_with_alpha_is_cropped_to_what_is_visible() -> None:
    picture = np.zeros((200, 300, 4), np.uint8)
    picture[50:150, 100:180] = (10, 200, 30, 255)
    cut = cut_out(picture)
    assert cut.how == "alpha"
    assert cut.pixels.shape == (100, 80, 4)
    assert (cut.pixels == (10, 200, 30, 255)).all()


def test_a_ghost_keeps_its_own_alpha() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = (240, 240, 255, 100)
    cut = cut_out(picture)
    assert cut.how == "alpha"
    assert (cut.pixels[..., 3] == 100).all()


def test_a_photograph_becomes_a_card_with_round_corners_and_a_white_rim(bank: Bank) -> None:
    park = compose(Scene(place="park", variant=3, items=(Person(),)), 1.5, bank).draw(480, 320)
    cut = cut_out(opaque(park))
    assert cut.how == "card"
    height, width = cut.pixels.shape[:2]
    assert abs(width / height - 1.5) < 0.05
    assert (cut.pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3] == 0).all()
    assert (cut.pixels[height // 2, [0, -1]] == 255).all()
    middle = np.asarray(Image.fromarray(cut.pixels[..., :3]).resize((48, 32), Image.Resampling.BOX), float)[8:24, 8:40]
    wanted = np.asarray(Image.fromarray(park).resize((48, 32), Image.Resampling.BOX), float)[8:24, 8:40]
    assert np.abs(middle - wanted).mean() < 20


def test_a_cutout_is_never_larger_than_its_bound(bank: Bank) -> None:
    rng = np.random.default_rng(0)
    for size in ((2000, 1500), (900, 3000), (641, 640)):
        for picture in (opaque(rng.integers(0, 255, (*size, 3))), np.full((*size, 4), 200, np.uint8)):
            assert max(cut_out(picture).pixels.shape) <= SIDE


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (5, 3), (1, 4000), (3000, 2), (16, 16)])
@pytest.mark.parametrize("kind", ["one colour", "noise", "half transparent"])
def test_tiny_thin_and_one_coloured_pictures_are_kept_visible(size: tuple[int, int], kind: str) -> None:
    picture = np.full((*size, 4), (200, 30, 40, 255), np.uint8)
    if kind == "noise":
        picture[..., :3] = np.random.default_rng(1).integers(0, 255, (*size, 3))
    if kind == "half transparent":
        picture[size[0] // 2 :, size[1] // 2 :, 3] = 0
        picture[0, 0, 3] = 255
    if kind == "half transparent" and size == (1, 1):
        picture[..., 3] = 255
    cut = cut_out(picture)
    assert cut.pixels.ndim == 3
    assert cut.pixels.dtype == np.uint8
    assert cut.pixels.shape[2] == 4
    assert cut.pixels[..., 3].max() > 24


@pytest.mark.parametrize("alpha", [0, 20])
def test_a_picture_that_shows_nothing_is_refused(alpha: int) -> None:
    picture = np.full((50, 50, 4), (200, 30, 40, alpha), np.uint8)
    with pytest.raises(ReferenceRefused, match=r"wholly transparent. Send one that shows the subject"):
        cut_out(picture)


def test_the_picture_itself_is_not_changed() -> None:
    picture = np.full((40, 40, 4), (200, 30, 40, 255), np.uint8)
    before = picture.copy()
    cut_out(picture)
    np.testing.assert_array_equal(picture, before)
