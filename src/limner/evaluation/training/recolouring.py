"""Another colour for a rendering: the hue that covers most of it is moved, pixel by pixel, in CIELAB.

It shares nothing with the painter's recolouring, which swaps the colours of vector drawings in OKLab.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from limner.engine.core import Float32, UInt8
from limner.evaluation.classes import COLOURS
from limner.painter.scene import Colour

ANCHORS: dict[Colour, tuple[tuple[int, int, int], ...]] = {
    "red": ((225, 45, 45), (196, 22, 40), (240, 60, 62), (170, 20, 24), (214, 40, 70)),
    "orange": ((245, 140, 30), (255, 160, 60), (232, 112, 26), (240, 126, 50)),
    "yellow": ((250, 214, 60), (255, 226, 90), (240, 200, 30), (255, 238, 120)),
    "green": ((70, 170, 80), (40, 130, 60), (120, 200, 90), (30, 160, 100), (96, 150, 50)),
    "blue": ((60, 125, 220), (40, 90, 190), (90, 170, 240), (30, 70, 150), (70, 150, 230)),
    "purple": ((130, 80, 190), (150, 100, 210), (105, 55, 160), (165, 90, 200)),
    "pink": ((245, 140, 185), (250, 165, 200), (235, 110, 170), (255, 185, 205)),
    "brown": ((138, 88, 50), (115, 70, 40), (160, 108, 68), (95, 58, 36), (150, 95, 62)),
    "black": ((40, 40, 48), (25, 25, 28), (58, 56, 62)),
    "white": ((250, 250, 250), (240, 240, 244), (255, 252, 246), (232, 236, 242)),
    "grey": ((140, 146, 155), (120, 120, 124), (165, 168, 172), (105, 110, 118)),
}  # fmt: skip
"""Colours that go by a name, sRGB; a thing is given a mixture of two of them."""

NEUTRAL = 14.0  # CIELAB chroma below which a pixel has no hue
REACH = 38.0  # degrees either side of the main hue that move with it
COVER = 0.42  # the least share of a rendering that a colour word may speak of


def main_part(sprite: UInt8) -> Float32 | None:
    """How far each pixel is of the main hue, (H, W) in [0, 1]; None where no hue, and no light grey, covers enough.

    Args:
        sprite: (H, W, 4), straight alpha.
    """
    light, chroma, hue = _polar(sprite)
    shown = sprite[..., 3] > 100
    vivid = shown & (chroma > NEUTRAL) & (light > 12)
    degrees = np.bincount(hue[vivid].astype(np.int64) % 360, minlength=360)
    around = np.convolve(np.tile(degrees, 3), np.ones(2 * int(REACH) + 1, np.int64), "same")[360:720]
    best = int(around.argmax())
    total = int(np.count_nonzero(shown))
    pale = shown & (chroma <= NEUTRAL) & (light > 38)
    most = int(np.count_nonzero(pale))
    if around[best] >= max(COVER * total, most, 1):
        near = np.clip((REACH + 8 - _apart(hue, best)) / 8, 0, 1) * np.clip((chroma - 6) / 8, 0, 1)
        return (near * shown).astype(np.float32)
    if most >= max(COVER * total, 1):
        return (np.clip((NEUTRAL + 4 - chroma) / 8, 0, 1) * np.clip((light - 30) / 12, 0, 1) * shown).astype(np.float32)
    return None


def recolour(sprite: UInt8, part: Float32, colour: int, rng: np.random.Generator) -> UInt8:
    """The rendering with its main part in a colour, its light and dark kept.

    Args:
        part: what `main_part` said of it.
        colour: index in `COLOURS`.
    """
    anchors = ANCHORS[COLOURS[colour]]
    one, other = (np.array(anchors[k], np.float32) for k in rng.integers(len(anchors), size=2))
    wanted = np.clip(one + (other - one) * rng.random() + rng.normal(0, 5, 3), 0, 255)
    target = _lab((wanted / 255).astype(np.float32).reshape(1, 1, 3))[0, 0]
    lab = _lab(sprite[..., :3].astype(np.float32) / 255)
    weight = part.sum() + 1e-6
    middle = (lab[..., 0] * part).sum() / weight
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    usual = max((chroma * part).sum() / weight, 1e-3)
    steps = np.clip((lab[..., 0] - middle) * rng.uniform(0.4, 0.9), -24, 18)
    vivid = np.clip(chroma / usual, 0.6, 1.25) if usual > NEUTRAL else np.ones_like(chroma)
    moved = np.stack((np.clip(target[0] + steps, 3, 99.5), target[1] * vivid, target[2] * vivid), -1)
    blend = lab + (moved - lab) * part[..., None]
    rgb = np.clip(cv2.cvtColor(blend.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)
    return np.concatenate(((rgb * 255 + 0.5).astype(np.uint8), sprite[..., 3:]), axis=2)


def _polar(sprite: UInt8) -> tuple[Float32, Float32, Float32]:
    lab = _lab(sprite[..., :3].astype(np.float32) / 255)
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    return lab[..., 0], np.hypot(lab[..., 1], lab[..., 2]), hue


def _lab(rgb: npt.NDArray[np.floating]) -> Float32:
    """sRGB in [0, 1], (H, W, 3), to CIELAB."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb, np.float32), cv2.COLOR_RGB2LAB), np.float32)


def _apart(hue: Float32, head: float) -> Float32:
    return np.asarray(np.abs((hue - head + 180) % 360 - 180), np.float32)
