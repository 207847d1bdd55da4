"""Cutting the subject out of a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limner.errors import ReferenceRefused
from limner.painter.bank import Bank
from limner.painter.cutout import SIDE, Cutout, cut_out, find, is_person, near_largest
from limner.painter.draft import compose, sprite
from limner.painter.matting import Matting, box, refine, unmix
from limner.painter.planner import ParsingPlanner
from limner.painter.scene import Item, Person, Reference, Scene, Thing

GROUNDS = [(255, 255, 255), (18, 20, 24), (120, 190, 90), (40, 90, 200)]


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


@pytest.fixture(scope="module")
def matting() -> Matting:
    return Matting()


class Told(Matting):
    """Networks that answer what they are told, to whatever picture."""

    def __init__(self, things: np.ndarray, people: np.ndarray | None = None) -> None:
        super().__init__()
        self.answers = things, np.zeros((256, 256)) if people is None else people

    def things(self, picture: Image.Image) -> np.ndarray:
        return self.answers[0].astype(np.float32)

    def people(self, picture: Image.Image) -> np.ndarray:
        return self.answers[1].astype(np.float32)


NOTHING = Told(np.zeros((192, 192)))


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
        image = Image.fromarray((a > 0.5).astype(np.uint8) * 255)
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
        cut = cut_out(picture, NOTHING)
        assert cut.how == "ground"
        scores.append(overlap(cut.pixels[..., 3] / 255, truth))
    assert np.mean(scores) > 0.93, scores
    assert min(scores) > 0.8, scores


def test_the_ground_does_not_show_as_a_halo_on_the_rim() -> None:
    disc = np.zeros((480, 480, 3))
    y, x = np.mgrid[:480, :480]
    alpha = np.clip(150 - np.hypot(y - 240, x - 240), 0, 1)[..., None]
    disc = np.array([200.0, 30, 40]) * alpha + np.array([250.0, 250, 250]) * (1 - alpha)
    cut = cut_out(opaque(disc), NOTHING).pixels
    rim = cut[(cut[..., 3] > 90) & (cut[..., 3] < 250)]
    assert len(rim) > 50
    assert np.abs(rim[:, :3].astype(int) - (200, 30, 40)).max(1).mean() < 40


def test_a_portrait_that_the_lower_edge_cuts_is_still_on_a_plain_ground() -> None:
    image = Image.new("RGBA", (300, 400), (230, 235, 240, 255))
    draw = ImageDraw.Draw(image)
    draw.ellipse((100, 80, 200, 200), (220, 170, 140))
    draw.rounded_rectangle((50, 210, 250, 420), 40, (40, 60, 140))
    cut = cut_out(np.asarray(image), NOTHING)
    assert cut.how == "ground"
    assert abs(cut.pixels.shape[0] / cut.pixels.shape[1] - 320 / 200) < 0.05


def test_what_is_enclosed_by_the_subject_stays_though_it_has_the_grounds_colour() -> None:
    image = Image.new("RGBA", (300, 300), "white")
    ImageDraw.Draw(image).ellipse((50, 50, 250, 250), (200, 30, 40))
    ImageDraw.Draw(image).ellipse((130, 130, 170, 170), "white")
    cut = cut_out(np.asarray(image), NOTHING).pixels
    assert (cut[80:120, 80:120, 3] == 255).all()
    assert cut[100, 100, :3].min() > 240


def test_a_picture_with_alpha_is_cropped_to_what_is_visible() -> None:
    picture = np.zeros((200, 300, 4), np.uint8)
    picture[50:150, 100:180] = (10, 200, 30, 255)
    cut = cut_out(picture, NOTHING)
    assert cut.how == "alpha"
    assert cut.pixels.shape == (100, 80, 4)
    assert (cut.pixels == (10, 200, 30, 255)).all()


def test_a_ghost_keeps_its_own_alpha() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = (240, 240, 255, 100)
    cut = cut_out(picture, NOTHING)
    assert cut.how == "alpha"
    assert (cut.pixels[..., 3] == 100).all()


def busy(side: int = 480, seed: int = 0) -> np.ndarray:
    """A ground that is not plain."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


def disc(side: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (np.hypot(y - centre[0], x - centre[1]) < radius).astype(float)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99, 1.0])
def test_where_no_subject_stands_out_the_picture_is_a_card_with_round_corners_and_a_white_rim(share: float) -> None:
    found = np.zeros((192, 192))
    found[: round(192 * share)] = 1
    picture = busy()[:320]
    cut = cut_out(opaque(picture), Told(found))
    assert cut.how == "card"
    assert not cut.bust
    height, width = cut.pixels.shape[:2]
    assert abs(width / height - 1.5) < 0.05
    assert (cut.pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3] == 0).all()
    assert (cut.pixels[height // 2, [0, -1]] == 255).all()
    middle = np.asarray(Image.fromarray(cut.pixels[..., :3]).resize((48, 32), Image.Resampling.BOX), float)[8:24, 8:40]
    wanted = np.asarray(Image.fromarray(picture).resize((48, 32), Image.Resampling.BOX), float)[8:24, 8:40]
    assert np.abs(middle - wanted).mean() < 20


def test_subjects_are_cut_off_grounds_that_are_not_plain(bank: Bank, matting: Matting) -> None:
    """Held-out composites by the hundred are judged by `matting_evaluate`; these few hold the whole to its word."""
    scores = []
    for seed, concept in enumerate(["red-apple", "guitar", "teddy-bear", "soccer-ball", "rocket", "hedgehog"]):
        subject = sprite(Thing(concept=concept), 360, bank)
        whole, truth = composite(subject, (0, 0, 0))
        share = truth[..., None]
        ground = np.asarray(Image.fromarray(busy(seed=seed)).convert("L").convert("RGB")) * 0.5 + 90
        picture = Image.fromarray(np.clip(whole[..., :3] * share + ground * (1 - share), 0, 255).astype(np.uint8))
        coarse, how = find(picture, matting)
        assert how in ("thing", "person")
        found, true = refine(coarse, picture) > 0.5, truth > 0.5
        scores.append(float((found & true).sum() / (found | true).sum()))
    assert np.mean(scores) > 0.85, scores
    assert min(scores) > 0.65, scores


def test_the_same_picture_gives_the_same_bytes(bank: Bank) -> None:
    park = opaque(compose(Scene(place="park", variant=3, items=(Person(height=0.8),)), 1.0, bank).draw(400, 400))
    one, again = (cut_out(park, Matting(threads=threads)) for threads in (1, 2))
    assert one.how == again.how
    np.testing.assert_array_equal(one.pixels, again.pixels)


def test_the_network_for_people_is_believed_where_it_is_sure_and_the_other_agrees() -> None:
    there, smaller, other = disc(256, (128, 128), 80), disc(192, (96, 96), 52), disc(192, (96, 40), 30)
    cases = ((smaller, 0.99, "person", 80 / 256), (smaller, 0.8, "thing", 52 / 192), (other, 0.99, "thing", 30 / 192))
    for thing, certainty, how, radius in cases:
        cut = cut_out(opaque(busy()), Told(thing, there * certainty))
        assert cut.how == how
        assert abs(cut.pixels.shape[0] - 2 * radius * 480) < 0.08 * 480
    nobody, everybody = np.zeros((256, 256), np.float32), np.ones((256, 256), np.float32)
    assert not is_person(nobody, nobody)
    assert not is_person(everybody, everybody)  # a picture that is all person has none to cut out


def test_small_islands_are_left_out_and_large_ones_stay() -> None:
    main, speck, twin = disc(192, (70, 60), 40), disc(192, (160, 150), 8), disc(192, (150, 150), 30)
    near = near_largest((main + speck) > 0)
    assert near[main > 0].all()
    assert not near[speck > 0].any()
    near = near_largest((main + twin) > 0)
    assert near[main > 0].all()
    assert near[twin > 0].all()
    assert not near_largest(np.zeros((192, 192), bool)).any()


def test_refining_moves_a_coarse_rim_to_the_edge_in_the_picture() -> None:
    true = disc(480, (240, 240), 150)
    colours = np.array([220, 40, 30]) * true[..., None] + 90 * (1 - true[..., None])
    picture = Image.fromarray(colours.astype(np.uint8))
    coarse = disc(96, (47.0, 48.5), 30).astype(np.float32)  # a cell is five pixels wide, and the centre half of one off
    fine = refine(coarse, picture)
    assert fine.shape == (480, 480)
    naive = np.asarray(Image.fromarray(coarse).resize((480, 480), Image.Resampling.BILINEAR))
    assert np.abs(fine - true).mean() < 0.4 * np.abs(naive - true).mean()
    assert ((fine > 0.1) & (fine < 0.9)).mean() < 0.02


def test_a_rim_loses_the_grounds_share_of_its_colours() -> None:
    alpha = np.clip(150.5 - np.hypot(*(np.mgrid[:480, :480] - 240)), 0, 1)
    alpha = box(alpha.astype(np.float32), 2)
    mixed = np.array([200.0, 30, 40]) * alpha[..., None] + np.array([20.0, 220, 60]) * (1 - alpha[..., None])
    clean = unmix(mixed.astype(np.uint8), alpha)
    rim = (alpha > 0.3) & (alpha < 0.9)
    before, after = (np.abs(p[rim].astype(float) - (200, 30, 40)).mean() for p in (mixed, clean))
    assert after < 0.3 * before


def test_a_mean_over_a_square_takes_only_what_is_inside_the_picture() -> None:
    values = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert box(values, 1)[0, 0] == np.mean([0, 1, 5, 6])
    assert box(values, 1)[2, 2] == values[1:4, 1:4].mean()
    np.testing.assert_allclose(box(np.full((3, 6, 7), 2.5, np.float32), 3), 2.5)


def drawn(shape: str, kind: str) -> Cutout:
    """A shape that reaches the lower edge of its picture, found by its alpha or by a network."""
    image = Image.new("L", (300, 300))
    draw = ImageDraw.Draw(image)
    if shape == "head and shoulders":
        draw.ellipse((100, 60, 200, 180), 255)
        draw.rounded_rectangle((40, 190, 260, 340), 40, 255)
        draw.rectangle((130, 150, 170, 220), 255)
    elif shape == "box":
        draw.rectangle((60, 80, 240, 300), 255)
    else:
        draw.ellipse((110, 20, 190, 100), 255)
        draw.rectangle((100, 90, 200, 200), 255)
        draw.rectangle((110, 190, 135, 300), 255)
        draw.rectangle((165, 190, 190, 300), 255)
    mask = np.asarray(image)
    if kind == "alpha":
        return cut_out(np.dstack((busy(300), mask)), NOTHING)
    return cut_out(opaque(busy(300)), Told(mask / 255))


@pytest.mark.parametrize("kind", ["alpha", "thing"])
def test_who_is_cut_by_the_lower_edge_is_a_bust_and_who_stands_on_it_is_not(kind: str) -> None:
    assert drawn("head and shoulders", kind).bust
    assert not drawn("figure", kind).bust
    assert drawn("head and shoulders", kind).how == kind


def test_a_box_that_is_cropped_to_its_foot_stands_while_one_that_a_photograph_cuts_does_not() -> None:
    assert not drawn("box", "alpha").bust
    assert drawn("box", "thing").bust


def test_a_cutout_is_never_larger_than_its_bound(bank: Bank) -> None:
    rng = np.random.default_rng(0)
    for size in ((2000, 1500), (900, 3000), (641, 640)):
        for picture in (opaque(rng.integers(0, 255, (*size, 3))), np.full((*size, 4), 200, np.uint8)):
            assert max(cut_out(picture, NOTHING).pixels.shape) <= SIDE


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
    cut = cut_out(picture, NOTHING)
    assert cut.pixels.ndim == 3
    assert cut.pixels.dtype == np.uint8
    assert cut.pixels.shape[2] == 4
    assert cut.pixels[..., 3].max() > 24


@pytest.mark.parametrize("alpha", [0, 20])
def test_a_picture_that_shows_nothing_is_refused(alpha: int) -> None:
    picture = np.full((50, 50, 4), (200, 30, 40, alpha), np.uint8)
    with pytest.raises(ReferenceRefused, match=r"wholly transparent. Send one that shows the subject"):
        cut_out(picture, NOTHING)


def test_the_picture_itself_is_not_changed() -> None:
    picture = np.full((40, 40, 4), (200, 30, 40, 255), np.uint8)
    before = picture.copy()
    cut_out(picture, NOTHING)
    np.testing.assert_array_equal(picture, before)


@pytest.fixture(scope="module")
def planner(bank: Bank) -> ParsingPlanner:
    return ParsingPlanner(bank)


def shown(items: Sequence[Item]) -> list[Reference]:
    return [item for item in items if isinstance(item, Reference)]


@pytest.mark.parametrize(
    "prompt", ["she stands on a beach", "a woman and a dog in a park", "a girl in a city at night"]
)
def test_a_bust_rises_from_the_lower_edge_and_a_figure_stands_on_the_ground(
    planner: ParsingPlanner, prompt: str
) -> None:
    for seed in range(6):
        (figure,) = shown(planner.plan(prompt, seed, 1.0, (0.4,)).scene.items)
        (bust,) = shown(planner.plan(prompt, seed, 1.0, (0.7,), busts=(0,)).scene.items)
        (head,) = shown(planner.plan(prompt, seed, 1.0, (1.0,)).scene.items)
        assert figure.y < 0.97
        assert bust.y == head.y == 1.0


def test_references_side_by_side_do_not_cover_each_other(planner: ParsingPlanner) -> None:
    for seed in range(6):
        for busts, aspect in (((), 1.0), ((0, 1), 1.0), ((0, 1), 16 / 9), ((0, 1), 9 / 16)):
            items = shown(
                planner.plan("a woman and a man on a beach", seed, aspect, (0.9, 0.8), busts=busts).scene.items
            )
            (left, a), (right, b) = sorted(
                (item.x, item.height * (0.9, 0.8)[item.index] / aspect / 2) for item in items
            )
            assert left + a <= right - b + 0.02
            assert {item.y for item in items} == {1.0}


def test_a_thing_is_as_large_as_its_noun_says(planner: ParsingPlanner) -> None:
    def height(prompt: str) -> float:
        plans = (planner.plan(prompt, seed, 1.0, (1.0,)).scene.items for seed in range(6))
        return float(np.mean([shown(items)[0].height for items in plans]))

    assert height("this mug next to a house") < 0.75 * height("this elephant next to a house")
    assert height("this mug next to a house") < 0.75 * height("he stands next to a house")


def test_a_reference_is_never_mirrored(planner: ParsingPlanner) -> None:
    for seed in range(12):
        assert not any(item.flip for item in shown(planner.plan("a boy and a cat", seed, 1.5, (0.5,)).scene.items))


def test_a_bust_on_a_horse_ends_behind_the_horses_body(planner: ParsingPlanner) -> None:
    for seed in range(6):
        items = planner.plan("she rides a horse", seed, 1.0, (1.0,), busts=(0,)).scene.items
        (rider,), horse = shown(items), next(item for item in items if isinstance(item, Thing))
        assert items.index(rider) < items.index(horse)
        assert horse.y - 0.65 * horse.height < rider.y < horse.y - 0.35 * horse.height
