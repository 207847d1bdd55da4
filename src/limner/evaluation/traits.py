"""Which of a character's traits a picture keeps: is it nearer to her with glasses, or to her without?

The plan says where in the picture the character stands, so that each thing that might be true of her can be drawn into
the same scene, flat and exact. A trait is kept if, where the drawings differ, the picture is nearest to the true one.
Nothing here is learned, so that nothing here can be fooled as a painter is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from limner.engine.core import UInt8
from limner.evaluation.characters import SIDE, Character, draw
from limner.painter import draft, places
from limner.painter.bank import Bank
from limner.painter.scene import Reference, Scene

TALL = 144  # pixels that a character's drawing is tall when it is judged
BLUR = 1.2  # pixels: grain and strokes are not what is judged
SHIFTS = (-3, 0, 3)  # pixels by which a painted part may have moved
CLEAR = 0.12  # colours as far apart as this (of 0 to 1, the largest channel) are different to see
SEEN = 16  # pixels that a trait must show on, else something hides it

Map = npt.NDArray[Any]  # float32: in numpy's types arithmetic would widen it, in numpy it does not


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a whole square drawing lies in a picture, lengths in the picture's height."""

    left: float
    top: float
    side: float
    flip: bool


def spot(item: Reference, cutout: UInt8, corner: tuple[int, int], aspect: float) -> Spot:
    """Where the drawing lies whose cut-out is the item of a plan.

    Args:
        item: of the plan.
        cutout: (h, w, 4), what was cut out of the drawing's picture, at the same scale.
        corner: row and column of the cut-out's first pixel in that picture; either may be negative.
        aspect: of the painted picture, width over height.
    """
    height, width = cutout.shape[:2]
    unit = item.height / height
    off_centre = (SIDE / 2 - (corner[1] + width / 2)) * unit
    centre = item.x * aspect + (-off_centre if item.flip else off_centre)
    side = SIDE * unit
    return Spot(centre - side / 2, item.y - item.height - corner[0] * unit, side, item.flip)


def corner_of(cutout: UInt8, reference: UInt8) -> tuple[int, int]:
    """Row and column at which a cut-out was cut from a picture, by where its opaque colours fit best.

    Both (H, W, 4) uint8; a cut-out with a rim may begin outside, at a negative row and column.
    """
    solid = (cutout[..., 3] > 250).astype(np.float32)
    if not solid.any():
        return 0, 0
    # Room for every offset, in sizes that the transform is fast at.
    shape = [-(-(a + b) // 64) * 64 for a, b in zip(cutout.shape[:2], reference.shape[:2], strict=True)]

    def transformed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(np.fft.rfft2(values, shape))

    # The sum over the solid pixels of 2 * there * here - there², greatest where the two are the same; where the cut-out
    # lies outside of the picture it fits no better than a wrong colour does.
    there = np.where(reference[..., 3:] > 0, reference[..., :3] / 255 - 0.5, 0.0)
    here = (cutout[..., :3] / 255 - 0.5) * solid[..., None]
    bonus = 0.25 * (reference[..., 3] > 0) - np.square(there).sum(axis=2)
    whole = transformed(bonus) * transformed(solid).conj()
    for channel in range(3):
        whole += 2 * transformed(there[..., channel]) * transformed(here[..., channel]).conj()
    fit = np.fft.irfft2(whole, shape)
    row, column = (int(k) for k in np.unravel_index(int(fit.argmax()), fit.shape))
    last_row, last_column = reference.shape[:2]
    return (row - shape[0] if row >= last_row else row, column - shape[1] if column >= last_column else column)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A scene in layers around one of its references, in which other drawings may be put in that one's place."""

    behind: Map  # (H, W, 3) in [0, 1]
    front: Map  # (H, W, 4), premultiplied
    light: tuple[float, float, float]
    place: Spot

    def shows(self, svg: str) -> Map:
        """The scene with this drawing: (H, W, 3) in [0, 1], flat."""
        height, width = self.behind.shape[:2]
        side = max(1, round(self.place.side * height))
        drawing = draw(svg, side).astype(np.float32) / 255
        if self.place.flip:
            drawing = drawing[:, ::-1]
        top, left = round(self.place.top * height), round(self.place.left * height)
        y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + side), min(width, left + side)
        scene = self.behind.copy()
        if y1 > y0 and x1 > x0:
            seen = drawing[y0 - top : y1 - top, x0 - left : x1 - left]
            lit = np.minimum(seen[..., :3] * np.asarray(self.light, np.float32), seen[..., 3:])
            scene[y0:y1, x0:x1] = scene[y0:y1, x0:x1] * (1 - seen[..., 3:]) + lit
        return np.asarray(scene * (1 - self.front[..., 3:]) + self.front[..., :3], np.float32)


def stage(scene: Scene, index: int, place: Spot, aspect: float, bank: Bank, cutouts: list[UInt8]) -> Stage:
    """Take a scene apart around its item number `index`, at the size at which traits are judged.

    Args:
        cutouts: of all references of the scene.
    """
    height = math.ceil(TALL / max(place.side, 0.05))
    layers = draft.compose(scene, aspect, bank, cutouts).layers(max(1, round(height * aspect)), height)
    at = next(k for k, layer in enumerate(layers) if layer.role == "item" and layer.index == index)
    backdrop = places.draw(scene.place, scene.time, scene.weather, aspect, scene.variant, scene.backdrop)
    return Stage(_over(layers[:at])[..., :3], _over(layers[at + 1 :], layers[0].pixels.shape), backdrop.light, place)


def _over(layers: list[draft.Layer], shape: tuple[int, ...] = ()) -> Map:
    whole: Map = np.zeros(shape or layers[0].pixels.shape, np.float32)
    for layer in layers:
        rgba = layer.pixels.astype(np.float32) / 255
        whole = whole * (1 - rgba[..., 3:]) + rgba
    return whole


def kept(pictures: Sequence[UInt8], character: Character, where: Stage) -> list[dict[str, bool]]:
    """Whether each picture, (H, W, 3) of any size, keeps each trait; those that the scene hides are left out."""
    height, width = where.behind.shape[:2]
    seen = [_blurred(Image.fromarray(p).resize((width, height), Image.Resampling.BOX)) for p in pictures]
    verdicts: list[dict[str, bool]] = [{} for _ in pictures]
    for trait, svgs in character.alternatives().items():
        shown = np.stack([_blurred(Image.fromarray(pixels(where.shows(svg)))) for svg in svgs])
        apart = np.abs(shown[1:] - shown[0]).max(axis=(0, 3))
        if (apart > CLEAR).sum() >= SEEN:
            for verdict, picture in zip(verdicts, seen, strict=True):
                verdict[trait] = _nearest(picture, shown, apart) == 0
    return verdicts


def pixels(scene: Map) -> UInt8:
    """From [0, 1] to uint8."""
    return (scene * 255).clip(0, 255).round().astype(np.uint8)


def _nearest(seen: Map, shown: Map, apart: Map) -> int:
    """Which of the drawings (K, H, W, 3) the picture (H, W, 3) is nearest to where they are apart (H, W)."""
    differing = apart > CLEAR
    shown = _as_painted(shown, seen, ~differing)
    rows, columns = (np.flatnonzero(differing.any(axis)) for axis in (1, 0))
    edge = max(SHIFTS)
    box = np.s_[
        max(0, rows[0] - edge) : rows[-1] + 1 + edge,
        max(0, columns[0] - edge) : columns[-1] + 1 + edge,
    ]
    near, weight = seen[box], apart[box]
    shown = shown[:, box[0], box[1]]
    errors = [
        (np.square(shown - np.roll(near, (dy, dx), (0, 1))) * weight[..., None]).sum(axis=(1, 2, 3))
        for dy in SHIFTS
        for dx in SHIFTS
    ]
    return int(np.min(errors, axis=0).argmin())


def _as_painted(shown: Map, seen: Map, sure: npt.NDArray[np.bool_]) -> Map:
    """The drawings with the colours that the picture's style gives to the rest of the scene.

    An affine map of colours from drawing to picture, fitted where all the drawings are the same, so that what is asked
    does not answer itself; drawn towards no change where the scene has few colours.
    """
    one = np.concatenate((shown[0][sure], np.ones((int(sure.sum()), 1), np.float32)), axis=1)
    much = 0.01 * len(one)
    change = np.linalg.solve(one.T @ one + much * np.eye(4), one.T @ (seen[sure] - shown[0][sure]))
    return np.asarray(shown + shown @ change[:3].astype(np.float32) + change[3].astype(np.float32), np.float32)


def _blurred(image: Image.Image) -> Map:
    return np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR)), np.float32) / 255
