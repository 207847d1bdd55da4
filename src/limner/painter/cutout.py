"""The subject of a reference picture, cut out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from limner.engine.core import Float32, UInt8
from limner.errors import ReferenceRefused
from limner.painter.matting import Matting, refine, unmix

SIDE = 640  # longest side of a cut-out, pixels: as large as a subject of a 1024 pixel picture
WORKED = 768  # longest side at which a picture is worked on
SEARCH = 192  # longest side at which the ground is looked for
FAINT = 24  # alpha of 0 to 255 up to which a pixel counts as invisible
NEAR = 30.0  # distance of colours (Euclidean, of 0 to 255 in each channel) that still are the ground
SURE = 0.98  # mean certainty, where it finds a person at all, from which the network for people may be believed
AGREED = 0.5  # intersection over union with the other network's subject from which it is
SHARE = (0.02, 0.95)  # of a picture that a subject covers; less is a speck, more is the picture

How = Literal["alpha", "ground", "person", "thing", "card"]
"""By its own alpha; off a plain ground; as a person of a photograph; as anything else; not at all, on a card."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """A subject in its tight box: (H, W, 4) uint8, straight alpha."""

    pixels: UInt8
    how: How
    bust: bool = False  # the picture's lower edge cuts it broadly: it has no feet to stand on


def cut_out(picture: UInt8, matting: Matting) -> Cutout:
    """Find the subject of a picture, (H, W, 4) uint8 with straight alpha.

    By its alpha where it has one, its pixels untouched but for size; else by the plain ground that reaches in from its
    edges; else by the network for people, where that is sure and the other network agrees; else by that other one, for
    things of all kinds. Where it finds next to nothing, or everything, the whole picture is kept, with round corners
    and a white rim like a card. The cut-out's longest side is at most SIDE pixels.

    Raises:
        ReferenceRefused: nothing of the picture is visible.
    """
    image = Image.fromarray(picture)
    image.thumbnail((WORKED, WORKED), Image.Resampling.LANCZOS)
    alpha = np.asarray(image.getchannel("A"))
    if not (alpha > FAINT).any():
        raise ReferenceRefused("A reference picture is wholly transparent. Send one that shows the subject.", "blank")
    if (alpha < 128).mean() > 0.02:
        return Cutout(_fitted(image), "alpha", _is_bust(alpha, framed=False))
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    subject = off_ground(image)
    if subject is not None:
        return Cutout(_fitted(subject), "ground", _is_bust(np.asarray(subject.getchannel("A")), framed=False))
    opaque = image.convert("RGB")
    coarse, how = find(opaque, matting)
    if how == "card":
        return Cutout(_card(image), "card")
    image.putalpha(Image.fromarray((refine(coarse, opaque) * 255 + 0.5).astype(np.uint8)))
    cut = _fitted(image)
    colours = unmix(cut[..., :3], np.divide(cut[..., 3], 255, dtype=np.float32))
    bust = _is_bust(np.asarray(image.getchannel("A")), framed=True)
    return Cutout(np.concatenate((colours, cut[..., 3:]), axis=2), how, bust)


def find(picture: Image.Image, matting: Matting) -> tuple[Float32, How]:
    """The subject of an opaque picture with no plain ground: its coarse alpha, (h, w) in [0, 1], and how it was found.

    "card" means that it was not.
    """
    person, thing = matting.people(picture), matting.things(picture)
    believed = is_person(person, thing)
    found = person if believed else thing
    found = np.clip((found - 0.5) * 2 + 0.5, 0, 1) * near_largest(found > 0.5)
    if not SHARE[0] < (found > 0.5).mean() < SHARE[1]:
        return found, "card"
    return found, "person" if believed else "thing"


def is_person(person: Float32, thing: Float32) -> bool:
    """Whether the network for people is to be believed, rather than the one for everything.

    It is where it is sure and the other agrees. On people in photographs what it finds is nearly all 0 and 1, and as
    fine as its larger training; on what it was not made for, animals, cups and drawings, it is half sure, or sure of a
    part. With these limits it costs nothing on held-out composites of drawings (LAB_LOG).

    Args:
        person: (h, w) in [0, 1], of the network for people.
        thing: of the other network, of any size.
    """
    there = person > 0.5
    if not SHARE[0] < there.mean() < SHARE[1] or person[there].mean() < SURE:
        return False
    other = np.asarray(Image.fromarray(thing).resize(person.shape[::-1], Image.Resampling.BILINEAR)) > 0.5
    return bool((there & other).sum() > AGREED * (there | other).sum())


def near_largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where a mask's largest island is, with what is at least a sixth as large, and a few pixels around them."""
    scale = -(-max(mask.shape) // 64)
    small = mask[::scale, ::scale]
    labels = np.pad(np.where(small, np.arange(1, small.size + 1).reshape(small.shape), 0), 1)
    before = -1
    while before != (before := int(labels.sum())):  # the greatest label of an island spreads over it
        for _ in range(8):
            sides = (labels[:-2, 1:-1], labels[2:, 1:-1], labels[1:-1, :-2], labels[1:-1, 2:])
            labels[1:-1, 1:-1] = np.where(small, reduce(np.maximum, sides, labels[1:-1, 1:-1]), 0)
    islands, sizes = np.unique(labels[labels > 0], return_counts=True)
    kept = np.isin(labels[1:-1, 1:-1], islands[sizes * 6 >= sizes.max(initial=0)])
    grown = _extreme(np.maximum, kept.astype(np.uint8), 5) > 0
    return np.repeat(np.repeat(grown, scale, 0), scale, 1)[: mask.shape[0], : mask.shape[1]]


def _is_bust(alpha: UInt8, framed: bool) -> bool:
    """Whether the lower edge of a picture with this alpha, (H, W), cuts its subject broadly: it shows no feet.

    Args:
        framed: the picture had a ground all around, so that what reaches its edge is cut. Else it may be cropped to a
            subject that stands on that edge, and must be narrower above, as a head is over shoulders.
    """
    rows, columns = (np.flatnonzero((alpha > 127).any(axis)) for axis in (1, 0))
    if not len(rows):
        return False
    wide = columns[-1] - columns[0] + 1
    last = (alpha[-max(1, len(alpha) // 100) :] > 127).any(axis=0).sum()
    head = np.flatnonzero((alpha[rows[0] : rows[0] + max(1, len(rows) // 3)] > 127).any(axis=0))
    return bool(last > 0.55 * wide and (framed or head[-1] - head[0] + 1 < 0.8 * last))


def off_ground(image: Image.Image) -> Image.Image | None:
    """The subject of an opaque picture without its plain ground, or None where the ground is not plain."""
    small = image.convert("RGB")
    small.thumbnail((SEARCH, SEARCH), Image.Resampling.BOX)
    colours = np.asarray(small, np.float32)
    sides = (colours[0], colours[-1], colours[:, 0], colours[:, -1])
    ground = np.median(np.concatenate(sides), axis=0)
    plain = sorted(float((np.linalg.norm(side - ground, axis=1) < NEAR).mean()) for side in sides)
    # Three sides suffice: portraits are cut by the lower edge.
    if plain[1] < 0.7 or sum(plain) / 4 < 0.75:
        return None
    like = np.linalg.norm(colours - ground, axis=2) < NEAR
    reached = _spread(like)
    if not 0.03 < reached.mean() < 0.97:
        return None
    # At full size the colour decides within a narrow band around the coarse border.
    coarse = Image.fromarray((~reached * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    wide, core = (_extreme(pick, np.asarray(coarse), 9) > 127 for pick in (np.maximum, np.minimum))
    pixels = np.asarray(image.convert("RGB"), np.float32)
    distance = np.linalg.norm(pixels - ground, axis=2)
    inside = core | wide & (distance > 0.6 * NEAR)
    deep = _extreme(np.minimum, inside.astype(np.uint8), 5) > 0
    # A pixel on the rim is as much subject as it is on the way from the ground to the farthest colour beside it.
    farthest = _extreme(np.maximum, (distance / 2).astype(np.uint8), 5).astype(np.float32)
    share = distance / np.maximum(2 * farthest + 1, 2 * NEAR)
    alpha = np.where(deep, 1, inside * np.minimum(share, 1))[..., None]
    # The ground is taken out of the rim's colours, else it would be a halo on another ground.
    colours = np.clip(ground + (pixels - ground) / np.maximum(alpha, 0.1), 0, 255)
    return Image.fromarray(np.concatenate((colours, alpha * 255), axis=2).round().astype(np.uint8))


def _extreme(pick: Callable[[UInt8, UInt8], UInt8], values: UInt8, side: int) -> UInt8:
    """The greatest or least value in the square of `side` pixels around each: `pick` is np.maximum or np.minimum.

    Rows first and columns then, which is the same as squares and a tenth of Pillow's rank filters' time.
    """
    for _ in range(2):
        padded = np.pad(values, ((side // 2, side // 2), (0, 0)), mode="edge")
        values = reduce(pick, (padded[k : k + len(values)] for k in range(side))).T
    return values


def _spread(like: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What of `like` is connected to the picture's edges."""
    padded = np.pad(like, 1, constant_values=True)
    reached = np.zeros_like(padded)
    reached[[0, -1]] = reached[:, [0, -1]] = True
    count = 0
    while count != (count := int(reached.sum())):
        for _ in range(8):
            grown = reached.copy()
            grown[1:] |= reached[:-1]
            grown[:-1] |= reached[1:]
            grown[:, 1:] |= reached[:, :-1]
            grown[:, :-1] |= reached[:, 1:]
            reached = grown & padded
    return reached[1:-1, 1:-1]


def _fitted(image: Image.Image) -> UInt8:
    """Cropped to what is visible, and no larger than SIDE."""
    image = image.crop(image.getchannel("A").point(lambda a: 255 if a > FAINT else 0).getbbox())
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _card(image: Image.Image) -> UInt8:
    """The whole picture, round at its corners, on a white card a little larger."""
    image.thumbnail((SIDE * 12 // 13,) * 2, Image.Resampling.LANCZOS)  # the rest is for the rim
    rim = max(1, min(image.size) // 24)
    radius = min(image.size) // 10
    w, h = image.width + 2 * rim, image.height + 2 * rim
    card = Image.new("RGBA", (w, h), (255, 255, 255, 0))
    ImageDraw.Draw(card).rounded_rectangle((0, 0, w - 1, h - 1), radius + rim, (255, 255, 255, 255))
    inside = Image.new("L", image.size, 0)
    ImageDraw.Draw(inside).rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius, 255)
    card.paste(image, (rim, rim), inside)
    return np.asarray(card)
