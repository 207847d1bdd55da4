"""What the matting network learns from: subjects put before grounds that are drawn by chance, and their true alpha.

Composite number k is a function of k and of the code alone. No photograph is used: noise with the statistics of nature,
cluttered and blurred things, shading, cast shadows, grain and JPEG stand in for what a camera does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.engine.core import Float32, UInt8
from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.training.scenes import random_scene

SIDE = 192  # of a composite, pixels
HELD_PLACES = ("forest", "kitchen", "farm", "stage")  # are seen only when judging
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Pool:
    """What composites are made of."""

    subjects: UInt8  # (N, S, S, 4), straight alpha
    scenes: UInt8  # (M, SIDE, SIDE, 3)

    @classmethod
    def load(cls, folder: Path, held: bool) -> Pool:
        """The pool of training, or of judging, as `matting_subjects` left it in the folder."""
        part = "held" if held else "train"
        return cls(*(np.load(folder / f"{part}{kind}.npy", mmap_mode="r") for kind in ("", "-scenes")))


def scenes(count: int, held: bool, bank: Bank) -> UInt8:
    """Scenes of the painter, with things in them, for grounds: (count, SIDE, SIDE, 3)."""
    rng = random.Random(f"matting scenes {held}")  # noqa: S311  no secrets
    made: list[UInt8] = []
    while len(made) < count:
        scene, _ = random_scene(rng, 1.0, bank)
        if (scene.place in HELD_PLACES) == held:
            items = scene.items if rng.random() < 0.12 else ()  # a scene's own things compete with the subject
            made.append(draft.compose(scene.model_copy(update={"items": items}), 1.0, bank).draw(SIDE, SIDE))
    return np.stack(made)


def composite(number: int, pool: Pool, side: int = SIDE) -> tuple[UInt8, UInt8]:
    """Picture `number`, (side, side, 3), and its subject's alpha, (side, side)."""
    rng = np.random.Generator(np.random.Philox(key=number))
    ground = _ground(rng, pool, side)
    subject, alpha = _subject(rng, pool, side)
    height = side * np.exp(rng.uniform(np.log(0.36), np.log(1.15)))
    low = rng.random() < 0.3  # cut by the lower edge, as busts are
    x, y = side * np.clip(rng.normal(0.5, 0.09), 0.25, 0.75), side * rng.normal(0.5, 0.05)
    if low:
        y = side - height * rng.uniform(0.15, 0.5)
    placed, mask = _placed(rng, subject, alpha, x, y, height, side)
    kinds = rng.choice(4, p=(0.6, 0.2, 0.12, 0.08))
    late = []
    for _ in range(kinds):  # others, smaller than the subject, most of them behind it
        other, shape = _subject(rng, pool, side)
        way = rng.choice((-1, 1)) * rng.uniform(0.3, 0.6)
        at = x + way * side, y + rng.uniform(-0.35, 0.45) * side
        drawn = _placed(rng, other, shape, *at, height * rng.uniform(0.2, 0.5), side)
        if rng.random() < 0.25:
            late.append(drawn)
        else:
            ground = _over(ground, *drawn)
    ground = _shadowed(rng, ground, mask, low)
    picture = _over(ground, placed, mask)
    for drawn in late:
        picture, mask = _over(picture, *drawn), mask * (1 - drawn[1])
    return _photographed(rng, picture), np.asarray(mask * 255 + 0.5, np.uint8)


def batch(numbers: range, pool: Pool, side: int = SIDE) -> tuple[Float32, Float32]:
    """Composites as the network takes them: (B, 3, side, side) and (B, 1, side, side), in [0, 1]."""
    made = [composite(number, pool, side) for number in numbers]
    pictures = np.stack([picture for picture, _ in made]).transpose(0, 3, 1, 2)
    masks = np.stack([mask for _, mask in made])[:, None]
    return np.divide(pictures, 255, dtype=np.float32), np.divide(masks, 255, dtype=np.float32)


def _over(below: Float32, colours: Float32, alpha: Float32) -> Float32:
    return np.asarray(below + (colours - below) * alpha[..., None], np.float32)


def _subject(rng: Rng, pool: Pool, side: int, dressed: bool = True) -> tuple[Float32, Float32]:
    """Colours and alpha of one subject in its tight box; `dressed`: perhaps outlined, shaded, or of another stuff."""
    pixels = pool.subjects[rng.integers(len(pool.subjects))]
    seen = pixels[..., 3] > 60
    (top, bottom), (left, right) = (np.flatnonzero(seen.any(axis))[[0, -1]] for axis in (1, 0))
    pixels = pixels[top : bottom + 1, left : right + 1]
    if side < SIDE:
        size = [max(4, length * side // SIDE) for length in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    pixels = np.pad(pixels, ((6, 6), (6, 6), (0, 0)))
    whole = np.divide(pixels, 255, dtype=np.float32)
    colours, alpha = whole[..., :3], whole[..., 3]
    if not dressed:
        return colours, alpha
    h, w = alpha.shape
    if rng.random() < 0.2:
        wide = cv2.dilate(alpha, np.ones((3, 3), np.uint8), iterations=int(rng.integers(1, 4)))
        line = rng.uniform(0, 0.3, 3).astype(np.float32)
        colours, alpha = line + (colours - line) * alpha[..., None], np.asarray(wide, np.float32)
    if rng.random() < 0.3:
        stuff = _stuff(rng, max(h, w))[:h, :w]
        colours = colours + (stuff - colours) * np.float32(rng.choice((0.3, 0.6, 1.0)))
    if rng.random() < 0.6:  # light from one side, and round at the rim
        way = rng.uniform(0, 2 * np.pi)
        yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        shade = 1 + rng.uniform(0, 0.45) * (np.cos(way) * xx + np.sin(way) * yy)
        depth = cv2.GaussianBlur(alpha, (0, 0), 0.1 * min(h, w))
        shade = shade * (1 - rng.uniform(0, 0.6) * (1 - depth))
        colours = colours * shade[..., None].astype(np.float32)
    gain = rng.normal(1, 0.12, 3)
    return np.clip(colours * gain, 0, 1).astype(np.float32), alpha


def _placed(
    rng: Rng, colours: Float32, alpha: Float32, x: float, y: float, height: float, side: int
) -> tuple[Float32, Float32]:
    """A subject on an empty composite, its middle at (x, y), perhaps mirrored, turned and stretched a little."""
    h, w = alpha.shape
    scale = min(height / h, 1.2 * side / w)
    turn = np.deg2rad(rng.normal(0, 5) if rng.random() < 0.9 else rng.uniform(-40, 40))
    sx, sy = scale * rng.uniform(0.87, 1.15) * rng.choice((-1, 1)), scale
    matrix = np.array([[sx * np.cos(turn), -sy * np.sin(turn), 0], [sx * np.sin(turn), sy * np.cos(turn), 0]])
    matrix[:, 2] = np.array([x, y]) - matrix[:, :2] @ np.array([w / 2, h / 2])
    both = np.dstack((colours * alpha[..., None], alpha))
    if scale < 0.5:
        both = cv2.blur(both, (2, 2))
    both = cv2.warpAffine(both, matrix, (side, side), flags=cv2.INTER_LINEAR)
    mask = np.asarray(both[..., 3], np.float32)
    return np.asarray(both[..., :3] / np.maximum(mask, 1e-3)[..., None], np.float32), mask


def _shadowed(rng: Rng, ground: Float32, mask: Float32, low: bool) -> Float32:
    """The ground with the subject's shadow: on the floor under it, or on a wall behind it, or none."""
    kind, side = rng.random(), len(mask)
    dark = np.zeros_like(mask)
    ys, xs = np.nonzero(mask > 0.5)
    if kind < 0.35 and not low and len(ys):
        half = 0.5 * (xs.max() - xs.min())
        centre = (int(xs.mean() + rng.normal(0, 4)), int(ys.max()))
        cv2.ellipse(dark, centre, (int(half * rng.uniform(0.6, 1.2)) + 1, int(half * 0.2) + 1), 0, 0, 360, 1.0, -1)
        dark = np.asarray(cv2.GaussianBlur(dark, (0, 0), rng.uniform(1, 7)), np.float32)
    elif kind < 0.55:
        move = np.array([[1, 0, rng.uniform(-12, 12)], [0, 1, rng.uniform(0, 12)]])
        cast = cv2.GaussianBlur(cv2.warpAffine(mask, move, (side, side)), (0, 0), rng.uniform(1, 6))
        dark = np.asarray(cast, np.float32)
    return np.asarray(ground * (1 - np.float32(rng.uniform(0.2, 0.6)) * dark[..., None]), np.float32)


def _colour(rng: Rng) -> Float32:
    return rng.random(3).astype(np.float32) ** np.float32(rng.choice((0.4, 1.0, 1.6)))


def _noise(rng: Rng, side: int, roughness: float) -> Float32:
    """Noise whose amplitude falls with frequency, as in pictures of nature: (side, side), zero mean, deviation one."""
    total = np.zeros((side, side), np.float32)
    for octave in range(1, 7):
        cells = rng.standard_normal((2**octave + 1, 2**octave + 1)).astype(np.float32)
        total += np.float32(roughness**octave) * cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def _stuff(rng: Rng, side: int) -> Float32:
    """A material: stone, cloth, fur, wood, tiles, leaves, in two or three colours: (side, side, 3) in [0, 1]."""
    one, other = _colour(rng), _colour(rng)
    kind = rng.integers(4)
    wave = _noise(rng, side, rng.uniform(0.45, 1.0))
    if kind == 1:  # stripes and grain
        yy, xx = np.mgrid[:side, :side].astype(np.float32)
        way = rng.uniform(0, np.pi)
        along = xx * np.float32(np.cos(way)) + yy * np.float32(np.sin(way))
        wave = np.sin(along / np.float32(rng.uniform(1.5, 14)) + wave * np.float32(rng.uniform(0, 2.5)))
    elif kind == 2:  # cells
        cells = rng.standard_normal((int(rng.integers(3, 24)),) * 2).astype(np.float32)
        wave = np.asarray(cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST), np.float32) + 0.3 * wave
    mix = np.clip(0.5 + wave * np.float32(rng.uniform(0.15, 0.7)), 0, 1)[..., None]
    third = (_noise(rng, side, 0.6) * np.float32(rng.uniform(0, 0.12)))[..., None]
    return np.asarray(np.clip(one + (other - one) * mix + third, 0, 1), np.float32)


def _ground(rng: Rng, pool: Pool, side: int) -> Float32:
    """What is behind the subject: (side, side, 3) in [0, 1]."""
    kind = rng.choice(6, p=(0.2, 0.14, 0.14, 0.22, 0.22, 0.08))
    if kind == 0:  # a wall or a sheet of paper, unevenly lit
        one, other = _colour(rng), _colour(rng)
        if rng.random() < 0.3:
            one = np.ones(3, np.float32)
        other = one + (other - one) * np.float32(rng.choice((0.0, 0.25, 1.0)))
        way = rng.uniform(0, 2 * np.pi)
        yy, xx = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j].astype(np.float32)
        share = np.clip(0.5 + (xx - 0.5) * np.cos(way) + (yy - 0.5) * np.sin(way), 0, 1)[..., None]
        return np.asarray(one + (other - one) * share, np.float32)
    if kind == 1:
        return _stuff(rng, side)
    if kind == 2:  # flat shapes
        ground = np.empty((side, side, 3), np.float32)
        ground[:] = _colour(rng)
        for _ in range(int(rng.integers(2, 16))):
            points = (rng.random((int(rng.integers(3, 7)), 2)) * 1.4 - 0.2) * side
            colour = [float(v) for v in _colour(rng)]
            if rng.random() < 0.4:
                centre, radius = (int(points[0, 0]), int(points[0, 1])), int(rng.integers(4, 70))
                cv2.circle(ground, centre, radius, colour, int(rng.choice((-1, 2, 5))), cv2.LINE_AA)
            else:
                cv2.fillPoly(ground, [cv2.convexHull(points.astype(np.int32))], colour, cv2.LINE_AA)
        blur = rng.choice((0, 0, 2, 6))
        return ground if blur == 0 else np.asarray(cv2.GaussianBlur(ground, (0, 0), float(blur)), np.float32)
    if kind == 3:  # many things, out of focus
        ground = _stuff(rng, side)
        for _ in range(int(rng.integers(4, 14))):
            at = rng.random(2) * side
            thing, shape = _subject(rng, pool, side, dressed=False)
            ground = _over(ground, *_placed(rng, thing, shape, at[0], at[1], side * rng.uniform(0.15, 0.8), side))
        return np.asarray(cv2.GaussianBlur(ground, (0, 0), rng.uniform(1.5, 8)), np.float32)
    if kind == 4:
        scene = pool.scenes[rng.integers(len(pool.scenes))][:, :: rng.choice((-1, 1))].astype(np.float32) / 255
        part = int(SIDE * rng.uniform(0.4, 1))
        top, left = rng.integers(0, SIDE - part + 1, 2)
        scene = np.ascontiguousarray(scene[top : top + part, left : left + part])
        grown = cv2.resize(scene, (side, side), interpolation=cv2.INTER_AREA if part > side else cv2.INTER_CUBIC)
        blur = rng.choice((0.0, 0.0, 1.5, 4.0))
        return np.asarray(cv2.GaussianBlur(grown, (0, 0), blur) if blur else grown, np.float32)
    # A floor and a wall.
    ground, level = _stuff(rng, side), int(side * rng.uniform(0.4, 0.9))
    ground[:level] = (_stuff(rng, side) if rng.random() < 0.5 else np.broadcast_to(_colour(rng), ground.shape))[:level]
    return np.asarray(cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.3, 4)), np.float32)


def _photographed(rng: Rng, picture: Float32) -> UInt8:
    """What light, lens, sensor and file do to a picture: (H, W, 3) in [0, 1] to uint8."""
    side = len(picture)
    if rng.random() < 0.5:
        way = rng.uniform(0, 2 * np.pi)
        yy, xx = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
        light = 1 + np.float32(rng.uniform(0, 0.35)) * (xx * np.cos(way) + yy * np.sin(way))
        picture = picture * light[..., None].astype(np.float32)
    if rng.random() < 0.5:
        picture = picture * rng.normal(1, 0.1, 3).astype(np.float32)
    if rng.random() < 0.3:
        grey = picture.mean(2, keepdims=True)
        picture = grey + (picture - grey) * np.float32(rng.choice((0.0, 0.4, 0.7, 1.3)))
    if rng.random() < 0.3:
        picture = np.clip(picture, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.3)))
    if rng.random() < 0.35:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3)), np.float32)
    if rng.random() < 0.4:
        picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.005, 0.05))
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        pixels = np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return pixels


def overlap(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two masks."""
    return float((found & true).sum() / max(1, (found | true).sum()))
