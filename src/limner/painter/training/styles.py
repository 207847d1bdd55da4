"""What the denoiser learns to paint: the draft's parts, lit and shaded, in one of the styles.

The draft is flat. Here every part is known by itself, so its roundness, the shadow that it casts and its outline can be
computed exactly; the denoiser sees the flat draft alone and has to find them. Textures are drawn anew each time, so
that it has to invent them.

All arrays are float32; colours in [0, 1], (H, W, 3); maps (H, W). Lengths are in pixels of the native picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from limner.engine.core import UInt8
from limner.painter.draft import Layer
from limner.painter.fullsize import BLOCKS

Rng = np.random.Generator
Map = npt.NDArray[Any]  # float32: in numpy's types arithmetic would widen it, in numpy it does not


def array(values: Any) -> Map:
    return np.asarray(values, np.float32)


PAPER = array([0.985, 0.97, 0.94])
PARCHMENT = array([0.93, 0.85, 0.68])
INK = array([0.10, 0.08, 0.12])
SEPIA = array([0.30, 0.17, 0.08])


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of a picture before it is painted."""

    colour: Map  # the flat draft
    solid: Map  # 1 where a thing stands, 0 on the backdrop
    form: Map  # in [-1, 1]: turned to the light or away from it
    cast: Map  # in [0, 1]: in the shadow of a nearer part
    ink: Map  # in [0, 1]: on an outline


def blur(x: Map, sigma: float) -> Map:
    return array(cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def parts(layers: Sequence[Layer], sun: tuple[float, float] | None) -> Parts:
    """Light the layers from the sun (fractions of the picture), or from the upper left where there is none."""
    height, width = layers[0].pixels.shape[:2]
    towards = array([(sun or (0.2, 0.0))[0] - 0.5, -0.75])
    towards /= np.linalg.norm(towards)
    colour: Map = np.zeros((height, width, 3), np.float32)
    solid, form, cast, outline = (array(np.zeros((height, width))) for _ in range(4))
    veil = array(np.zeros((height, width)))  # rain and snow fall in front, and are not inked
    inked = colour
    for layer in layers:
        rgba = layer.pixels.astype(np.float32) / 255
        alpha = rgba[..., 3]
        colour = colour * (1 - alpha[..., None]) + rgba[..., :3]
        if layer.role == "front":
            veil = array(np.maximum(veil, alpha))
        else:
            inked = colour
        if layer.role == "item":
            box = _box(alpha)
            if box is None:
                continue
            ys, xs = box
            a = alpha[ys, xs]
            size = min(a.shape)
            lit = sum(
                w * _slope(blur(a, max(0.8, size * r)), towards) for r, w in ((0.02, 0.5), (0.06, 1.0), (0.14, 1.0))
            )
            form[ys, xs] = form[ys, xs] * (1 - a) + np.clip(lit * 1.4, -1, 1) * a
            shift = array([[1, 0, -towards[0] * size * 0.10 - 0.5], [0, 1, -towards[1] * size * 0.07 + 1.0]])
            shadow = blur(cv2.warpAffine(alpha, shift, (width, height)), max(1.2, size * 0.03))
            cast = np.maximum(cast, shadow) * (1 - alpha)
            solid = array(np.maximum(solid, alpha))
            edge = cv2.morphologyEx(a, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
            outline *= 1 - alpha
            outline[ys, xs] = np.maximum(outline[ys, xs], edge)
    soft = blur(inked, 0.7)
    gx, gy = (cv2.Sobel(soft, cv2.CV_32F, *d, ksize=3) for d in ((1, 0), (0, 1)))
    inner = np.clip((np.sqrt(gx**2 + gy**2).max(-1) - 0.25) * 1.2, 0, 1)
    ink = np.clip(np.maximum(inner, blur(outline, 0.6)), 0, 1) * (1 - veil)
    return Parts(np.clip(colour, 0, 1), solid, form, np.clip(cast, 0, 1), ink)


def paint(name: str, p: Parts, rng: Rng) -> UInt8:
    """The picture in the named style, (H, W, 3) uint8.

    Raises:
        KeyError: there is no such style.
    """
    return np.asarray(np.clip(PAINTERS[name](p, rng), 0, 1) * 255 + 0.5, np.uint8)


def storybook(p: Parts, rng: Rng) -> Map:
    c = p.colour * (1 - 0.38 * (p.ink * (1 - luma(p.colour) * 0.5)))[..., None]
    c = warm_light(c, p.form, 0.30)
    c = c * (1 - 0.34 * p.cast[..., None] * array([1.0, 0.92, 0.72]))
    c = glow(c, 0.12)
    return c * (1 + 0.014 * grain(c, rng, 0.8)[..., None]) * vignette(c, 0.10)


def flat(p: Parts, _: Rng) -> Map:
    return p.colour * (1 - 0.16 * p.cast[..., None])


def watercolor(p: Parts, rng: Rng) -> Map:
    c = wobble(warm_light(p.colour, p.form, 0.18), rng, 2.2)
    c = array(cv2.bilateralFilter(c, 7, 0.12, 3))
    # Dark washes hide the paper, so pigment varies less there.
    pigment = 0.88 + (0.02 + 0.06 * luma(c)) * grain(c, rng, 16.0) + 0.025 * grain(c, rng, 1.2)
    rim = np.clip(blur(p.ink, 1.1) - 0.6 * blur(p.ink, 3.0), 0, 1)
    density = np.clip(pigment + 0.5 * wobble(rim, rng, 1.5), 0.5, 1.25)[..., None]
    c = PAPER * (1 - (1 - c) * density)
    h, w = c.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    border = np.minimum(np.minimum(x, w - 1 - x), np.minimum(y, h - 1 - y)) + 2.5 * grain(c, rng, 7.0)
    c = c + (PAPER - c) * (1 - np.clip((border - 3) / 4, 0, 1))[..., None]
    return array(c * (1 + 0.02 * grain(c, rng, 0.7)[..., None]))


def comic(p: Parts, _: Rng) -> Map:
    tone = np.where(p.form > 0.28, 1.12, np.where(p.form < -0.22, 0.78, 1.0)).astype(np.float32)
    c = saturate(p.colour, 1.25) * blur(tone, 0.6)[..., None]
    shade = np.clip(0.75 * p.cast + 0.6 * np.clip(-p.form, 0, 1), 0, 1)
    h, w = shade.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    dots = 0.5 + 0.25 * (np.cos((x + y) * (np.pi / 3)) + np.cos((x - y) * (np.pi / 3)))
    c = c * (1 - 0.5 * (np.clip((shade - dots) * 4 + 0.4, 0, 1) * (shade > 0.12)))[..., None]
    line = np.clip((cv2.dilate(p.ink, np.ones((2, 2), np.uint8)) - 0.5 * blur(p.ink, 4.0)) * 1.8 - 0.2, 0, 1)[..., None]
    return array(c * (1 - line) + INK * line)


def vivid(p: Parts, rng: Rng) -> Map:
    c = saturate(warm_light(p.colour, p.form, 0.24), 1.4)
    c = (c - 0.5) * 1.08 + 0.54
    rim = np.clip(p.form, 0, 1) * np.clip(p.ink * 1.5, 0, 1)
    c = c + 0.55 * rim[..., None] - 0.22 * p.cast[..., None] * array([1.0, 1.0, 0.5])
    c = glow(c, 0.34)
    h, w = c.shape[:2]
    for _ in range(int(rng.integers(4, 10))):
        cx, cy, r = rng.uniform(0, w), rng.uniform(0, h * 0.8), rng.uniform(2.5, 7.0)
        y, x = np.ogrid[0:h, 0:w]
        dx, dy = np.abs(x - cx) / r, np.abs(y - cy) / r
        c = c + 0.9 * np.exp(-3.0 * np.sqrt(dx) * np.sqrt(dy) * 2 - 1.2 * (dx + dy)).astype(np.float32)[..., None]
    return c


def medieval(p: Parts, rng: Rng) -> Map:
    c = PARCHMENT * (0.16 + 0.94 * saturate(p.colour, 1.05))
    h, w = c.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    hatch = 0.5 + 0.5 * np.sin((x * 0.8 + y) * 1.25 + 2 * grain(c, rng, 5.0))
    shade = np.clip(0.8 * p.cast + 0.9 * np.clip(-p.form, 0, 1), 0, 1)
    line = np.clip((p.ink - 0.45 * blur(p.ink, 4.0)) * 1.3 - 0.1, 0, 1)
    line = np.clip(line + 0.45 * shade * (hatch > 0.6), 0, 1)[..., None]
    c = c * (1 - 0.85 * line) + SEPIA * 0.85 * line
    c = c * (1 + 0.04 * grain(c, rng, 18.0)[..., None] * array([0.6, 0.9, 1.3]) + 0.02 * grain(c, rng, 0.8)[..., None])
    return array(c * vignette(c, 0.20))


def clay(p: Parts, rng: Rng) -> Map:
    c = array(cv2.bilateralFilter(p.colour, 9, 0.10, 4))
    bumps = grain(c, rng, 2.5)
    form = np.clip(p.form * 1.15 + 0.06 * bumps * p.solid, -1, 1)
    c = warm_light(c, form, 0.46)
    shine = np.clip(form - 0.42, 0, 1) ** 1.5 * 0.9 * p.solid
    c = c + shine[..., None]
    crease = blur(p.ink, 1.6) * 0.30
    c = c * (1 - crease[..., None]) * (1 - 0.48 * blur(p.cast, 2.0)[..., None])
    return blur(c, 0.55) * vignette(c, 0.14)


def pixel(p: Parts, _: Rng) -> Map:
    block = BLOCKS["pixel"]
    h, w = p.solid.shape
    small = (w // block, h // block)
    tone = np.where(p.form > 0.3, 1.12, np.where(p.form < -0.25, 0.80, 1.0)).astype(np.float32) * (
        1 - 0.35 * (p.cast > 0.4)
    )
    c = cv2.resize(saturate(p.colour, 1.15) * tone[..., None], small, interpolation=cv2.INTER_AREA)
    edge = cv2.resize(p.ink * p.solid, small, interpolation=cv2.INTER_AREA)
    c = c * (1 - 0.45 * np.clip(edge * 2.2 - 0.35, 0, 1))[..., None]
    bayer = array([[0, 2], [3, 1]]) / 4 - 0.375
    tiled = np.tile(bayer, (-(-small[1] // 2), -(-small[0] // 2)))[: small[1], : small[0], None]
    levels = 8
    c = np.round(np.clip(c, 0, 1) * levels + 0.25 * tiled) / levels
    return np.repeat(np.repeat(c, block, 0), block, 1).astype(np.float32)


def papercut(p: Parts, rng: Rng) -> Map:
    c = array(cv2.bilateralFilter(p.colour, 7, 0.10, 3))
    levels = 9
    c = 0.5 * c + 0.5 * np.round(c * levels) / levels
    edge = np.clip(p.ink * np.clip(p.form * 2, -1, 1), -1, 1)
    c = c * (1 + 0.28 * edge[..., None])
    drop = blur(p.cast, 0.8)
    c = c * (1 - 0.55 * drop[..., None])
    below = np.clip(np.roll(p.ink, (2, 1), (0, 1)) - p.ink, 0, 1) * (1 - p.solid)
    c = c * (1 - 0.35 * blur(below, 1.0)[..., None])
    return array(c * (1 + 0.028 * grain(c, rng, 0.7)[..., None] + 0.012 * grain(c, rng, 3.0)[..., None]))


PAINTERS: dict[str, Callable[[Parts, Rng], Map]] = {
    f.__name__: f for f in (storybook, flat, watercolor, comic, vivid, medieval, clay, pixel, papercut)
}


def luma(c: Map) -> Map:
    return array(c @ array([0.30, 0.59, 0.11]))


def saturate(c: Map, amount: float) -> Map:
    grey = luma(c)[..., None]
    return grey + (c - grey) * np.float32(amount)


def warm_light(c: Map, form: Map, amount: float) -> Map:
    """Lit sides lighter and warmer, far sides darker and cooler, with the colour's own hue kept."""
    up, down = np.clip(form, 0, 1)[..., None] * amount, np.clip(-form, 0, 1)[..., None] * amount
    lit = c + (1 - c) * up * array([0.75, 0.68, 0.5])
    return lit * (1 - down * array([1.15, 1.1, 0.85]))


def glow(c: Map, amount: float) -> Map:
    bright = np.clip(c - 0.72, 0, 1)
    return c + amount * 2 * blur(bright, 7.0)


def grain(like: Map, rng: Rng, sigma: float) -> Map:
    """Smooth noise of unit deviation, features about `sigma` pixels wide."""
    h, w = like.shape[:2]
    if sigma <= 1:
        n = blur(rng.standard_normal((h, w), np.float32), sigma)
    else:
        rows, cols = int(h / sigma * 1.5) + 2, int(w / sigma * 1.5) + 2
        n = cv2.resize(rng.standard_normal((rows, cols), np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    return array(np.clip(n / (n.std() + 1e-6), -2.5, 2.5))


def wobble(c: Map, rng: Rng, amount: float) -> Map:
    h, w = c.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    dx, dy = (amount * 0.6 * grain(c, rng, 12.0) for _ in range(2))
    return array(cv2.remap(c, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def vignette(c: Map, amount: float) -> Map:
    h, w = c.shape[:2]
    y, x = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    return array(1 - amount * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.5)[..., None]


def _slope(height: Map, towards: Map) -> Map:
    """How far a relief faces the light, in [-1, 1]."""
    gx, gy = (cv2.Sobel(height, cv2.CV_32F, *d, ksize=3) for d in ((1, 0), (0, 1)))
    norm = np.sqrt(gx**2 + gy**2).max() + 1e-6
    # The relief falls away from the light, so a slope rising against it faces it.
    return array(-(gx * towards[0] + gy * towards[1]) / norm)


def _box(alpha: Map) -> tuple[slice, slice] | None:
    rows, cols = np.flatnonzero(alpha.max(1) > 0.02), np.flatnonzero(alpha.max(0) > 0.02)
    if not rows.size or rows[-1] - rows[0] < 3 or cols[-1] - cols[0] < 3:
        return None
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
