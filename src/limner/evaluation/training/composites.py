"""Pictures to learn detection from: renderings strewn over grounds of our own, roughened as a painter would.

The grounds are flat, graded, banded, noisy or full of junk, and in part the painter's empty places, so that a place's
own trees and houses are learned as nothing. No drawing of the painter's bank and no painted picture is among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from limner.engine.core import Float32, UInt8
from limner.evaluation.classes import COLOURS, NAMES
from limner.evaluation.detector import SIDE
from limner.evaluation.training.recolouring import main_part, recolour
from limner.evaluation.training.sprites import Sprites

SIZE = SIDE
"""Side of a picture, pixels."""

OTHER = len(NAMES)
"""The class of things that are none of ours."""

SHRINKS = (1, 2, 4)
"""Renderings are kept at these fractions of their size: small things are made from small ones, which is quick."""

Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """A picture and what is on it: `boxes` are centre x, centre y, width, height as fractions of the picture."""

    pixels: UInt8  # (SIZE, SIZE, 3)
    boxes: Float32  # (K, 4)
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]  # (K,), OTHER for clutter
    colours: np.ndarray[tuple[int], np.dtype[np.int64]]  # (K,), index in COLOURS, -1 where none is known
    seen: Float32  # (K,), the share that nothing covers


class Composer:
    """Makes composites; the same random generator gives the same picture."""

    def __init__(self, sprites: Sprites, places: UInt8 | None = None) -> None:
        """Keep the renderings, and empty places, (P, SIZE, SIZE, 3) uint8, for some of the grounds."""
        self._by_class = [np.flatnonzero(sprites.label == k) for k in range(len(NAMES))]
        self._clutter = np.flatnonzero(sprites.label < 0)
        self._levels = [np.stack([_smaller(one, shrink) for one in sprites.pixels]) for shrink in SHRINKS]
        self._parts = [
            {int(k): main_part(level[k]) for k in np.flatnonzero(sprites.label >= 0)} for level in self._levels
        ]
        self._places = places

    def __call__(self, rng: Rng) -> Composite:
        canvas = self._ground(rng)
        ids = np.zeros((SIZE, SIZE), np.int16)
        put: list[tuple[float, float, float, float, int, int, float]] = []
        light = _light(rng)
        for label, colour, sprite, x, y, side in self._cast(rng):
            box = _paste(canvas, ids, sprite, x, y, side, len(put) + 1, rng, light)
            if box is not None:
                put.append((*box[:4], label, colour, box[4]))
        areas = np.bincount(ids.ravel(), minlength=len(put) + 1)[1:]
        seen = np.array([areas[k] / max(p[6], 1.0) for k, p in enumerate(put)], np.float32)
        return Composite(
            _roughen(canvas, rng),
            np.array([p[:4] for p in put], np.float32).reshape(-1, 4) / np.float32(SIZE),
            np.array([p[4] for p in put], np.int64),
            np.array([p[5] for p in put], np.int64),
            seen,
        )

    def _cast(self, rng: Rng) -> list[tuple[int, int, UInt8, float, float, float]]:
        """Who is on the picture, the farthest first: class, colour, rendering, centre and side in pixels."""
        cast = self._crowd(rng) if rng.random() < 0.55 else self._groups(rng)
        order = sorted(range(len(cast)), key=lambda k: cast[k][4] + 0.3 * cast[k][5] + rng.normal(0, 0.05 * SIZE))
        return [cast[k] for k in order]

    def _crowd(self, rng: Rng) -> list[tuple[int, int, UInt8, float, float, float]]:
        """Many different things, a cell of a loose grid each: much to learn from at the price of one picture."""
        across = int(rng.choice((2, 3, 3, 4)))
        cell, cast = SIZE / across, []
        for row in range(across):
            for col in range(across):
                if rng.random() < 0.88:
                    side = cell * rng.uniform(0.65, 1.15)
                    x, y = (np.array([col, row]) + 0.5 + rng.normal(0, 0.09, 2)) * cell
                    cast.append((*self._draw(rng, side, 0.12), x, y, side))
        return cast

    def _groups(self, rng: Rng) -> list[tuple[int, int, UInt8, float, float, float]]:
        """What prompts ask for: one to four groups, each one thing or a row of a few that are alike."""
        cast: list[tuple[int, int, UInt8, float, float, float]] = []
        groups = int(rng.choice((1, 1, 2, 2, 2, 3, 4)))
        same_side = rng.uniform(0.13, 0.4) * SIZE
        crowd = 0
        for _ in range(groups):
            count = int(rng.choice((1, 1, 1, 2, 3, 4))) if crowd < 4 else 1
            crowd += count
            side = rng.uniform(0.22, 0.66) * SIZE if groups == 1 and count == 1 else same_side * rng.uniform(0.6, 1.4)
            if count > 1:
                side = min(side, 0.9 * SIZE / count * rng.uniform(0.8, 1.1))
            one = self._draw(rng, side, 0.2)
            if count > 1:
                y, gap = rng.uniform(0.3, 0.8) * SIZE, side * rng.uniform(0.9, 1.2)
                x = SIZE / 2 - gap * (count - 1) / 2 + rng.uniform(-1, 1) * max(0.0, (SIZE - gap * count) / 2)
                for k in range(count):
                    wobble = rng.normal(0, 0.06 * side, 2)
                    cast.append((*one, x + k * gap + wobble[0], y + wobble[1], side))
            else:
                margin = 0.42 * side
                cast.append((*one, *rng.uniform(margin, SIZE - margin, 2), side))
        return cast

    def _draw(self, rng: Rng, side: float, clutter: float) -> tuple[int, int, UInt8]:
        """A thing to be shown so large: class, colour, rendering; with this chance one of no class of ours."""
        level = max(k for k, shrink in enumerate(SHRINKS) if k == 0 or self._levels[0].shape[1] / shrink >= side)
        if rng.random() < clutter:
            return OTHER, -1, self._levels[level][rng.choice(self._clutter)]
        label = int(rng.integers(len(NAMES)))
        index = int(rng.choice(self._by_class[label]))
        sprite, part = self._levels[level][index], self._parts[level][index]
        if part is None or rng.random() < 0.4:
            return label, -1, sprite
        colour = int(rng.integers(len(COLOURS)))
        return label, colour, recolour(sprite, part, colour, rng)

    def _ground(self, rng: Rng) -> UInt8:
        if self._places is not None and rng.random() < 0.4:
            place = self._places[rng.integers(len(self._places))]
            return np.array(place[:, ::-1] if rng.random() < 0.5 else place, np.uint8)
        canvas = _GROUNDS[rng.integers(len(_GROUNDS))](rng)
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(1, 9))):
                _shape(canvas, rng)
        if rng.random() < 0.3:
            _junk(canvas, self._levels[-1][rng.choice(self._clutter, 4)], rng)
        return canvas


def _smaller(sprite: UInt8, shrink: int) -> UInt8:
    size = sprite.shape[1] // shrink, sprite.shape[0] // shrink
    return sprite if shrink == 1 else np.asarray(cv2.resize(sprite, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colour(rng: Rng) -> tuple[int, int, int]:
    pale = rng.random() < 0.5
    r, g, b = (rng.uniform(170, 255, 3) if pale else rng.uniform(20, 255, 3)).astype(int).tolist()
    return r, g, b


def _flat(rng: Rng) -> UInt8:
    return np.full((SIZE, SIZE, 3), _colour(rng), np.uint8)


def _graded(rng: Rng) -> UInt8:
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    one, other = np.array(_colour(rng)), np.array(_colour(rng))
    canvas = np.broadcast_to(one + (other - one) * ramp, (SIZE, SIZE, 3))
    return np.ascontiguousarray(canvas.swapaxes(0, 1) if rng.random() < 0.3 else canvas).astype(np.uint8)


def _banded(rng: Rng) -> UInt8:
    """A sky and a ground, with hills between them more often than not."""
    canvas = _graded(rng)
    horizon = int(rng.uniform(0.35, 0.8) * SIZE)
    canvas[horizon:] = _colour(rng)
    if rng.random() < 0.6:
        colour = _colour(rng)
        for _ in range(int(rng.integers(1, 4))):
            centre = int(rng.uniform(0, SIZE)), horizon + int(rng.uniform(0, 30))
            cv2.ellipse(
                canvas,
                centre,
                (int(rng.uniform(0.15, 0.6) * SIZE), int(rng.uniform(0.06, 0.25) * SIZE)),
                0,
                180,
                360,
                colour,
                -1,
            )
    return canvas


def _noisy(rng: Rng) -> UInt8:
    cells = int(rng.integers(2, 24))
    noise = cv2.resize(
        rng.uniform(0, 1, (cells, cells, 3)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
    )
    one, other = np.array(_colour(rng), np.float32), np.array(_colour(rng), np.float32)
    return np.clip(one + (other - one) * noise, 0, 255).astype(np.uint8)


_GROUNDS: tuple[Callable[[Rng], UInt8], ...] = (_flat, _graded, _banded, _banded, _noisy)


def _shape(canvas: UInt8, rng: Rng) -> None:
    """One thing that a place may have: a roof, a trunk, a crown, a line, a window."""
    x, y = (int(v) for v in rng.uniform(0, SIZE, 2))
    w, h = (int(v) for v in rng.uniform(0.02, 0.27, 2) * SIZE)
    colour, kind = _colour(rng), rng.integers(5)
    if kind == 0:
        cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.ellipse(canvas, (x, y), (w, h), float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == 2:
        corners = np.array([(x, y - h), (x - w, y + h), (x + w, y + h)], np.int32)
        cv2.fillPoly(canvas, [corners], colour, cv2.LINE_AA)
    elif kind == 3:
        cv2.line(canvas, (x, y), (x + int(rng.normal(0, 80)), y + int(rng.normal(0, 80))), colour,
                 int(rng.integers(1, 9)), cv2.LINE_AA)  # fmt: skip
    else:
        for k in range(3):
            cv2.circle(canvas, (x + k * w // 2, y + (k % 2) * h // 5), max(3, w // 2), colour, -1, cv2.LINE_AA)


def _junk(canvas: UInt8, sprites: UInt8, rng: Rng) -> None:
    """Emoji large and blurred beyond reading."""
    ids = np.zeros((SIZE, SIZE), np.int16)
    for sprite in sprites:
        x, y = rng.uniform(0, SIZE, 2)
        _paste(canvas, ids, sprite, x, y, rng.uniform(0.2, 0.8) * SIZE, 1, rng, None)
    small = cv2.GaussianBlur(cv2.resize(canvas, (32, 32), interpolation=cv2.INTER_AREA), (0, 0), rng.uniform(0.8, 2))
    canvas[:] = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def _light(rng: Rng) -> Float32 | None:
    """The tint of an hour on things, (3,); None at noon."""
    if rng.random() < 0.6:
        return None
    return rng.uniform(0.7, 1.0) * np.array([1, rng.uniform(0.88, 1.05), rng.uniform(0.8, 1.15)], np.float32)


def _paste(
    canvas: UInt8,
    ids: np.ndarray,
    sprite: UInt8,
    x: float,
    y: float,
    side: float,
    number: int,
    rng: Rng,
    light: Float32 | None,
) -> tuple[float, float, float, float, float] | None:
    """Draw one rendering; returns its box in pixels and the area that it covers, None where it is off the picture."""
    scale = side / sprite.shape[0]
    angle = rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-45, 45)
    turn = cv2.getRotationMatrix2D((sprite.shape[1] / 2, sprite.shape[0] / 2), angle, scale)
    squeeze = np.array([[rng.uniform(0.86, 1.14), rng.normal(0, 0.05)], [rng.normal(0, 0.05), rng.uniform(0.86, 1.14)]])
    if rng.random() < 0.5:
        squeeze[:, 0] *= -1
        squeeze = squeeze * [[1, 1], [-1, 1]]
    matrix = squeeze @ turn[:, :2]
    middle = np.array([sprite.shape[1] / 2, sprite.shape[0] / 2])
    reach = int(np.ceil(np.abs(matrix).sum(1).max() * max(sprite.shape) / 2)) + 2
    left, top = round(x) - reach, round(y) - reach
    shift = np.array([reach, reach]) - matrix @ middle
    patch = cv2.warpAffine(sprite, np.hstack((matrix, shift[:, None])), (2 * reach, 2 * reach), flags=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + 2 * reach, SIZE), min(top + 2 * reach, SIZE)
    if x0 >= x1 or y0 >= y1:
        return None
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    whole = patch[..., 3] > 128
    area = float(np.count_nonzero(whole))
    rows, cols = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    if not len(rows):
        return None
    if number and rng.random() < 0.4:
        _shadow(canvas, left + cols[0], left + cols[-1], top + rows[-1], rng)
    alpha = patch[inside][..., 3:].astype(np.float32) / 255
    rgb = patch[inside][..., :3].astype(np.float32)
    if light is not None:
        rgb = rgb * light
    if rng.random() < 0.4:  # lit from one side
        ramp = np.linspace(rng.uniform(0.75, 1.2), rng.uniform(0.75, 1.2), 2 * reach, dtype=np.float32)
        rgb = rgb * (ramp[inside[0], None, None] if rng.random() < 0.6 else ramp[None, inside[1], None])
    spot = canvas[y0:y1, x0:x1]
    spot[:] = np.clip(spot + (rgb - spot) * alpha, 0, 255).astype(np.uint8)
    ids[y0:y1, x0:x1][whole[inside]] = number
    return (
        left + (cols[0] + cols[-1] + 1) / 2, top + (rows[0] + rows[-1] + 1) / 2,
        float(cols[-1] - cols[0] + 1), float(rows[-1] - rows[0] + 1), area,
    )  # fmt: skip


def _shadow(canvas: UInt8, left: float, right: float, foot: float, rng: Rng) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    half = (right - left) / 2
    axes = max(2, int(half)), max(1, int(half * rng.uniform(0.1, 0.25)))
    cv2.ellipse(mask, (int(left + half), int(foot)), axes, 0, 0, 360, int(rng.uniform(40, 120)), -1, cv2.LINE_AA)
    top, bottom = max(0, int(foot - half)), min(SIZE, int(foot + half) + 1)
    if top < bottom:
        band = canvas[top:bottom]
        band[:] = (band * (1 - mask[top:bottom, :, None].astype(np.float32) / 255)).astype(np.uint8)


def _bytes(picture: object) -> UInt8:
    return np.asarray(picture, np.uint8)


def _roughen(canvas: UInt8, rng: Rng) -> UInt8:
    """What a painter's hand, a small network and paper do to a drawing; each step on some pictures."""
    if rng.random() < 0.25:  # wavering lines
        cells = int(rng.integers(4, 20))
        bend = cv2.resize(rng.normal(0, rng.uniform(0.4, 1.8), (cells, cells, 2)).astype(np.float32), (SIZE, SIZE),
                          interpolation=cv2.INTER_CUBIC)  # fmt: skip
        grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).astype(np.float32) + bend
        canvas = _bytes(
            cv2.remap(canvas, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
    if rng.random() < 0.2:
        canvas = _bytes(cv2.medianBlur(canvas, int(rng.choice((3, 3, 5)))))
    if rng.random() < 0.15:  # ink
        grey = cv2.GaussianBlur(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), (3, 3), 0)
        edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
        keep = 1 - np.clip((edges - 12) / 60, 0, 1) * rng.uniform(0.4, 1)
        canvas = (canvas * keep[..., None]).astype(np.uint8)
    if rng.random() < 0.12:  # blocks
        small = int(SIZE / rng.uniform(1.6, 3.2))
        coarse = cv2.resize(canvas, (small, small), interpolation=cv2.INTER_AREA)
        canvas = _bytes(cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST))
    if rng.random() < 0.1:
        step = int(rng.integers(16, 48))
        canvas = (canvas // step * step + step // 2).astype(np.uint8)
    if rng.random() < 0.3:
        canvas = _bytes(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.4)))
    picture = canvas.astype(np.float32)
    if rng.random() < 0.6:  # exposure and the strength of colours
        grey = picture.mean(2, keepdims=True)
        picture = grey + (picture - grey) * rng.uniform(0.65, 1.3)
        picture = (picture - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-22, 22)
    if rng.random() < 0.3:  # the hour
        picture *= np.array([rng.uniform(0.8, 1.08), rng.uniform(0.85, 1.03), rng.uniform(0.8, 1.1)], np.float32)
    if rng.random() < 0.3:  # paper
        cells = int(rng.integers(16, 128))
        grain = rng.normal(1, rng.uniform(0.02, 0.12), (cells, cells)).astype(np.float32)
        picture *= cv2.resize(grain, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)[..., None]
    if rng.random() < 0.2:
        picture += rng.normal(0, rng.uniform(2, 10), (SIZE, SIZE, 1)).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)
