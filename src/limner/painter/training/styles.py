"""What a finished picture looks like: the draft's parts, lit and shaded, in one of the styles, at any size.

The draft is flat. Here every part is known by itself, so its roundness, the shadow that it casts and its outline can be
computed exactly; the denoiser sees the flat draft alone and has to find them, and the full-size network has to find
them again between the denoiser's small picture and the large draft.

All arrays are float32; colours in [0, 1], (H, W, 3); maps (H, W). Lengths are in `unit`s, pixels of a native picture,
so that a large picture is the small one seen closer; only paper's own grain is as fine as pixels are.
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
from limner.painter.fullsize import BLOCKS, unit
from limner.painter.fullsize import texture as drawn_texture

Rng = np.random.Generator
Map = npt.NDArray[Any]  # float32: in numpy's types arithmetic would widen it, in numpy it does not


def array(values: Any) -> Map:
    return np.asarray(values, np.float32)


PAPER = array([0.985, 0.97, 0.94])
PARCHMENT = array([0.93, 0.85, 0.68])
INK = array([0.10, 0.08, 0.12])
SEPIA = array([0.26, 0.14, 0.07])


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of a picture before it is painted."""

    colour: Map  # the flat draft
    solid: Map  # 1 where a thing stands, 0 on the backdrop
    form: Map  # in [-1, 1]: turned to the light or away from it, round as if inflated
    cast: Map  # in [0, 1]: in the shadow of a nearer part
    ink: Map  # in [0, 1]: on an edge; at its middle the contrast of the edge, falling to both sides like a bell
    towards: Map  # (2,), the unit vector in the picture's plane that points to the light


def blur(x: Map, sigma: float) -> Map:
    """Gaussian blur; wide ones are made small first, which nobody can see."""
    shrink = int(sigma / 3)
    if shrink < 2:
        return array(cv2.GaussianBlur(x, (0, 0), max(sigma, 0.05), borderType=cv2.BORDER_REFLECT))
    h, w = x.shape[:2]
    small = cv2.resize(x, (max(1, w // shrink), max(1, h // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink, borderType=cv2.BORDER_REFLECT)
    return array(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC))


def parts(layers: Sequence[Layer], sun: tuple[float, float] | None) -> Parts:
    """Light the layers from the sun (fractions of the picture), or from the upper left where there is none."""
    height, width = layers[0].pixels.shape[:2]
    u = unit(width, height)
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
            box = _box(alpha, int(3 * u) + 1)
            if box is None:
                continue
            a = alpha[box]
            size = min(a.shape)
            form[box] = form[box] * (1 - a) + _roundness(a, towards) * a
            shift = array([[1, 0, -towards[0] * size * 0.09 - 0.5 * u], [0, 1, -towards[1] * size * 0.06 + u]])
            shadow = blur(cv2.warpAffine(alpha, shift, (width, height)), max(1.2 * u, size * 0.025))
            cast = np.maximum(cast * (1 - alpha), shadow * (1 - alpha))
            solid = array(np.maximum(solid, alpha))
            outline *= 1 - alpha
            outline[box] = np.maximum(outline[box], _edges(a, u))
    # A finer pen inside than around, or faces would be blots.
    ink = np.maximum(_edges(inked, 0.55 * u), outline) * (1 - veil)
    return Parts(np.clip(colour, 0, 1), solid, form, np.clip(cast, 0, 1), np.clip(ink, 0, 1), towards)


def paint(name: str, p: Parts, rng: Rng, seed: int | None = None) -> UInt8:
    """The picture in the named style, (H, W, 3) uint8.

    Args:
        rng: draws what differs from one painting to the next.
        seed: of the style's `texture`, in [0, 2^64); from `rng` where there is none.

    Raises:
        KeyError: there is no such style.
    """
    painter = PAINTERS[name]
    if seed is None:
        seed = int(rng.integers(2**63))
    h, w = p.solid.shape
    texture = array(drawn_texture(name, w, h, seed)) / 127.5 - 1
    if name not in SCREENED:
        texture *= min(1.0, unit(w, h) / 4)  # grain as fine as pixels is fainter in a picture made small
    return np.asarray(np.clip(painter(p, rng, texture), 0, 1) * 255 + 0.5, np.uint8)


def storybook(p: Parts, _: Rng, texture: Map) -> Map:
    rim = line(p, 0.10, 0.5) * (0.25 + 0.75 * blur(p.solid, 1.0 * _unit(p)))
    c = p.colour * (1 - 0.42 * (rim * (1 - luma(p.colour) * 0.4)))[..., None] ** array([0.85, 1.0, 1.1])
    c = warm_light(c, p.form, 0.34)
    c = c * (1 - 0.38 * p.cast[..., None] * array([1.0, 0.92, 0.72]))
    c = glow(c, 0.12)
    return c * (1 + 0.022 * texture[..., None]) * vignette(c, 0.10)


def flat(p: Parts, _: Rng, __: Map) -> Map:
    return p.colour * (1 - 0.16 * p.cast[..., None])


def watercolor(p: Parts, rng: Rng, texture: Map) -> Map:
    u = _unit(p)
    border = np.clip(-texture * 4 - 3, 0, 1)  # the texture's lowest values are bare paper
    tooth = np.clip(texture, -0.75, 1) * min(1.0, u / 4)
    c = warm_light(p.colour, p.form, 0.16)
    c = PAPER * (0.10 + 0.90 * saturate(c, 1.2))
    # Pigment gathers at the rim of a wash, and thins behind it.
    rim = step(p.ink, 0.28, 3) - 0.55 * blur(p.ink, 3.0 * u)
    wash = 0.92 + (0.02 + 0.05 * luma(c)) * grain(c, rng, 26.0) + 0.03 * grain(c, rng, 6.0)
    density = wash * (1 + 0.75 * np.clip(rim, -0.25, 1)) + 0.16 * p.cast - 0.05 * tooth
    c = PAPER * (c / PAPER).clip(0.02, 1) ** np.clip(density, 0.45, 1.7)[..., None]
    return array(c + (PAPER - c) * border[..., None]) * (1 - 0.012 * tooth[..., None])


def comic(p: Parts, _: Rng, texture: Map) -> Map:
    u = _unit(p)
    lit, dark = step(p.form, 0.62, 9), step(-p.form, 0.34, 9)
    c = saturate(p.colour, 1.25) * (1 + 0.10 * lit - 0.20 * dark)[..., None]
    # The texture is a screen: a shade as dark as s covers all of it that lies below s.
    shade = np.clip(0.85 * p.cast + 0.6 * np.clip(-p.form - 0.25, 0, 1), 0, 0.8)
    dots = step(shade * 1.1, texture * 0.5 + 0.5, 6 / u + 2) * (shade > 0.08)
    c = c * (1 - 0.42 * dots[..., None] * array([1.0, 0.95, 0.75]))
    ink = line(p, 0.13, 1.0 - 0.45 * (1 - blur(p.solid, u)))[..., None]
    return array(c * (1 - ink) + INK * ink)


def vivid(p: Parts, _: Rng, __: Map) -> Map:
    c = saturate(warm_light(p.colour, p.form, 0.30), 1.35)
    c = (c - 0.5) * 1.08 + 0.54
    c = c * (1 - 0.42 * p.cast[..., None] * array([0.75, 1.0, 0.35]))
    rim = np.clip(p.form * 1.6, 0, 1) * line(p, 0.12, 0.8) * p.solid
    shadow = np.clip(-p.form * 1.4, 0, 1) * blur(p.ink, 1.5 * _unit(p)) * p.solid
    c = c * (1 - 0.5 * shadow[..., None] * array([0.5, 0.9, 0.2])) + 0.6 * rim[..., None] * array([1.0, 0.95, 0.75])
    return glow(c, 0.30)


def medieval(p: Parts, rng: Rng, texture: Map) -> Map:
    c = PARCHMENT * (0.20 + 0.92 * saturate(p.colour, 1.12))
    shade = np.clip(0.8 * p.cast + 0.8 * np.clip(-p.form, 0, 1), 0, 1)
    # The texture is a hatch of waves: the darker the shade, the broader its strokes.
    hatch = step(shade * 0.75, texture * 0.5 + 0.5, 5 / _unit(p) + 1.5) * np.clip(shade * 5 - 0.6, 0, 1)
    ink = np.clip(line(p, 0.14, 0.85 - 0.35 * (1 - blur(p.solid, _unit(p)))) + 0.55 * hatch, 0, 1)[..., None]
    c = c * (1 + 0.02 * grain(c, rng, 24.0)[..., None] * array([0.6, 0.9, 1.3]))
    c = c * (1 - 0.9 * ink) + SEPIA * 0.9 * ink
    return array(c * vignette(c, 0.20))


def clay(p: Parts, _: Rng, texture: Map) -> Map:
    u = _unit(p)
    pressed = blur(p.ink, 1.8 * u)  # parts meet in rounded seams
    gy, gx = np.gradient(pressed)
    bevel = -(gx * p.towards[0] + gy * p.towards[1]) * 2.6 * u
    form = np.clip(p.form + bevel, -1, 1)
    c = warm_light(saturate(blur(p.colour, 0.12 * u), 1.06), form, 0.42)
    shine = np.clip(blur(p.form, 1.5 * u) - 0.62, 0, 1) ** 2 * 2.6 * p.solid
    c = c + shine[..., None] * (1.05 - c)
    c = c * (1 - 0.42 * np.clip(pressed * 1.3, 0, 1))[..., None]
    c = c * (1 - 0.50 * blur(p.cast, 1.5 * u)[..., None] * array([1.0, 0.96, 0.85]))
    return c * (1 + 0.012 * texture[..., None]) * vignette(c, 0.14)


def pixel(p: Parts, _: Rng, __: Map) -> Map:
    h, w = p.solid.shape
    side = BLOCKS["pixel"] * max(1.0, _unit(p))
    small = (max(1, round(w / side)), max(1, round(h / side)))
    tone = (1 + 0.12 * step(p.form, 0.45, 6) - 0.20 * step(-p.form, 0.35, 6)) * (1 - 0.30 * step(p.cast, 0.4, 8))
    c = cv2.resize(saturate(p.colour, 1.18) * tone[..., None], small, interpolation=cv2.INTER_AREA)
    edge = cv2.resize(p.ink * p.solid, small, interpolation=cv2.INTER_AREA)
    c = c * (1 - 0.45 * np.clip(edge * 2.4 - 0.5, 0, 1))[..., None]
    return array(cv2.resize(c, (w, h), interpolation=cv2.INTER_NEAREST))


def papercut(p: Parts, _: Rng, texture: Map) -> Map:
    u = _unit(p)
    # Sheets of the backdrop, too, throw a thin shadow away from the light.
    away = moved(blur(p.ink, 0.9 * u), -p.towards * 1.6 * u)
    thin = np.clip(away * 1.5 - p.ink * 1.2, 0, 1) * (1 - p.solid)
    drop = np.clip(p.cast * 1.9 - 0.35, 0, 1)
    c = p.colour * (1 - 0.45 * np.clip(drop + 0.75 * thin, 0, 1)[..., None] * array([1.0, 0.97, 0.88]))
    cut = line(p, 0.15, 0.45) * (0.35 + 0.65 * p.solid)
    c = c + cut[..., None] * np.where(p.form > 0, 0.20 * (1.1 - luma(c)), -0.16 * luma(c))[..., None]
    return array(c * (1 + 0.035 * texture[..., None]))


SCREENED = ("comic", "medieval", "watercolor")  # their textures scale with the picture

PAINTERS: dict[str, Callable[[Parts, Rng, Map], Map]] = {
    f.__name__: f for f in (storybook, flat, watercolor, comic, vivid, medieval, clay, pixel, papercut)
}


def line(p: Parts, least: float, weight: Map | float) -> Map:
    """A drawn line on the edges of at least that contrast, in [0, 1], sharp in a picture of any size.

    It is broader where the contrast or the weight is more and away from the light, and thin where edges crowd.
    """
    u = _unit(p)
    crowd = blur(p.ink, 3.5 * u)
    bell = p.ink * weight * (1 - 0.3 * np.clip(p.form, -1, 1)) - 0.35 * crowd
    return step(bell, least, 5 * u**0.5)


def step(x: Map, level: Map | float, slope: float) -> Map:
    """1 where x is above the level, 0 below, in [0, 1] between."""
    return np.clip((x - level) * np.float32(slope) + 0.5, 0, 1)


def luma(c: Map) -> Map:
    return array(c @ array([0.30, 0.59, 0.11]))


def saturate(c: Map, amount: float) -> Map:
    grey = luma(c)[..., None]
    return np.clip(grey + (c - grey) * np.float32(amount), 0, 1)


def warm_light(c: Map, form: Map, amount: float) -> Map:
    """Lit sides lighter and warmer, far sides darker and cooler, with the colour's own hue kept."""
    up, down = np.clip(form, 0, 1)[..., None] * amount, np.clip(-form, 0, 1)[..., None] * amount
    lit = c + (1 - c) * up * array([0.75, 0.68, 0.5])
    return lit * (1 - down * array([1.15, 1.1, 0.85]))


def glow(c: Map, amount: float) -> Map:
    bright = np.clip(c - 0.72, 0, 1)
    return c + amount * 2 * blur(bright, 7.0 * unit(c.shape[1], c.shape[0]))


def grain(like: Map, rng: Rng, length: float) -> Map:
    """Smooth noise of unit deviation, features about so many units wide."""
    h, w = like.shape[:2]
    length *= unit(w, h)
    rows, cols = int(h / length * 1.5) + 2, int(w / length * 1.5) + 2
    n = cv2.resize(rng.standard_normal((rows, cols), np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    return array(np.clip(n / (n.std() + 1e-6), -2.5, 2.5))


def moved(x: Map, by: Map) -> Map:
    """Moved by so many pixels right and down."""
    shift = array([[1, 0, by[0]], [0, 1, by[1]]])
    return array(cv2.warpAffine(x, shift, x.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))


def vignette(c: Map, amount: float) -> Map:
    h, w = c.shape[:2]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)[None]
    return array(1 - amount * np.clip((x * x + y * y) / 2, 0, 1) ** 1.5)[..., None]


def _unit(p: Parts) -> float:
    return unit(p.solid.shape[1], p.solid.shape[0])


def _edges(x: Map, u: float) -> Map:
    """How much x, a map or colours, changes within half a unit: the contrast of an edge, a bell across it."""
    sigma = 0.5 * u
    soft = blur(x, sigma)
    gx, gy = (cv2.Sobel(soft, cv2.CV_32F, *d, ksize=3) for d in ((1, 0), (0, 1)))
    change = np.sqrt(gx**2 + gy**2)
    if change.ndim == 3:
        change = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])
    # What a step of height 1 has as its steepest slope after both blurs; Sobel's own is about 0.6 pixels wide.
    return array(change * (np.sqrt(2 * np.pi) * np.hypot(sigma, 0.6) / 8))


def _roundness(alpha: Map, towards: Map) -> Map:
    """How far a thing of this outline, inflated, is turned to the light: in [-1, 1], (H, W).

    The square of its height solves Poisson's equation inside of the outline, which makes a disc half a ball.
    """
    h, w = alpha.shape
    scale = min(1.0, 56 / max(h, w))
    size = max(3, round(w * scale)), max(3, round(h * scale))
    inside = array(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) > 0.5)
    inside = np.pad(inside, 1)
    square = np.zeros_like(inside)
    kernel = array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
    # Relaxed coarse to fine would be faster; at this size it is a millisecond as it is.
    for _ in range(2 * max(size)):
        square = (cv2.filter2D(square, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT) + 1) * inside
    relief = blur(np.sqrt(square), 1.2)
    gx, gy = (cv2.Sobel(relief, cv2.CV_32F, *d, ksize=3) / 8 for d in ((1, 0), (0, 1)))
    facing = -(gx * towards[0] + gy * towards[1]) / np.sqrt(0.7 + gx**2 + gy**2)
    return array(np.clip(cv2.resize(facing[1:-1, 1:-1], (w, h), interpolation=cv2.INTER_CUBIC), -1, 1))


def _box(alpha: Map, margin: int) -> tuple[slice, slice] | None:
    """Where there is something, and so many pixels around it."""
    rows, cols = np.flatnonzero(alpha.max(1) > 0.02), np.flatnonzero(alpha.max(0) > 0.02)
    if not rows.size or rows[-1] - rows[0] < 3 or cols[-1] - cols[0] < 3:
        return None
    y, x = (slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in (rows, cols))
    return y, x
