"""The characters of the reference task: held-out drawings whose looks are known, and the grounds they stand before.

A hundred characters of four sets that nothing of Limner learns from, each an SVG with its colours left open and the
same character with one trait changed, so that "what if he wore no glasses" can be drawn; and twenty things. Data of
`training/identity_characters.py`; `sources` in meta.json gives the licences.
"""

from __future__ import annotations

import colorsys
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import skia

from limner.engine.core import Float32, UInt8
from limner.painter.folder import read_folder

FORMAT = 1
FOLDER = Path(__file__).parent
FILE = "characters.json.xz"
MAKER = "limner.evaluation.training.identity_characters"
SIDE = 384  # of a reference picture, pixels
Ground = Literal["alpha", "plain", "busy"]

COLOURS: dict[str, dict[str, str]] = {
    "hair": {
        "black": "#2b2423", "brown": "#6d4127", "blonde": "#e8c35f", "red": "#c1502b", "grey": "#a9a9b0",
        "blue": "#4a7fd0", "pink": "#ee86b7", "green": "#4f9f5c",
    },
    "skin": {"pale": "#fbdcc6", "light": "#eeb98f", "tan": "#c98d5e", "brown": "#96603c", "dark": "#5f3b28"},
    "top": {
        "red": "#d23b3b", "orange": "#ef8a2f", "yellow": "#f3cd49", "green": "#46a455", "blue": "#3f78d6",
        "purple": "#7f50bb", "pink": "#ef8bb6", "white": "#f7f7f5", "black": "#2d2d36",
    },
    "hat": {
        "red": "#cf4040", "yellow": "#f0c944", "green": "#4a9f58", "blue": "#4a80d4", "purple": "#8455bd",
        "black": "#33333c",
    },
}  # fmt: skip
"""The colours that each part of a character may have, by name: far enough apart to be told from each other."""


@dataclass(frozen=True, slots=True)
class Character:
    """One character, or a thing if it has no colours."""

    name: str  # "micah-7": the set and its number, or a thing's name
    word: str  # what prompts call it: "person", "mug"
    colours: Mapping[str, str]  # part to name of its colour
    svg: str  # a whole SVG document, the parts' colours as {hair}, {hair2} (its shade), ...
    others: Mapping[str, tuple[str, ...]]  # trait to the same character with that trait changed

    traits: tuple[str, ...]  # what can be asked of it: keys of `others`, and "hair colour" and the like

    def alternatives(self) -> dict[str, tuple[str, ...]]:
        """What each trait might be: SVG documents, the true one first."""
        return {trait: (self.drawn(), *self._instead(trait)) for trait in self.traits}

    def _instead(self, trait: str) -> list[str]:
        if trait in self.others:
            return [self.drawn(svg=svg) for svg in self.others[trait]]
        part = trait.removesuffix(" colour")
        return [self.drawn({part: name}) for name in COLOURS[part] if name != self.colours[part]]

    def drawn(self, instead: Mapping[str, str] | None = None, svg: str | None = None) -> str:
        """The SVG document with its colours, those of `instead` rather than its own."""
        svg = self.svg if svg is None else svg
        for part, name in {**self.colours, **(instead or {})}.items():
            colour = COLOURS[part][name]
            svg = svg.replace(f"{{{part}}}", colour).replace(f"{{{part}2}}", _darker(colour))
        return svg


@lru_cache(1)
def load() -> tuple[Character, ...]:
    """All characters, then the things.

    Raises:
        ModelUnusable: the data are missing, changed, or of another format than this program reads.
    """
    _, (packed,) = read_folder(FOLDER, "The reference task's data", {"format": FORMAT}, (FILE,), MAKER)
    rows = json.loads(lzma.decompress(packed))
    return tuple(
        Character(
            row["name"],
            row["word"],
            row["colours"],
            row["svg"],
            {trait: tuple(svgs) for trait, svgs in row["others"].items()},
            tuple(row["traits"]),
        )
        for row in rows
    )


def draw(svg: str, side: int = SIDE) -> UInt8:
    """An SVG document on a square, as large as fits: (side, side, 4) uint8, premultiplied."""
    pixels = np.zeros((side, side, 4), np.uint8)
    info = skia.ImageInfo.Make(side, side, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Canvas.MakeRasterDirect(info, pixels, side * 4)
    dom = skia.SVGDOM.MakeFromStream(skia.MemoryStream.MakeCopy(svg.encode()))
    dom.setContainerSize(skia.Size(side, side))
    dom.render(canvas)
    return pixels


def picture_of(drawing: UInt8, ground: Ground, seed: int) -> UInt8:
    """A reference picture as a person might send it: (H, W, 4) uint8 with straight alpha.

    Args:
        drawing: (H, W, 4) uint8, premultiplied.
        ground: what is behind it: nothing, one colour, or a pattern.
        seed: of the ground.
    """
    alpha = drawing[..., 3:].astype(np.float32) / 255
    if ground == "alpha":
        straight = drawing[..., :3] / np.maximum(alpha, 1 / 255)
        return np.concatenate((straight.clip(0, 255).round(), drawing[..., 3:]), axis=2).astype(np.uint8)
    behind = _pattern(drawing.shape[0], np.random.default_rng(seed), plain=ground == "plain")
    colours = drawing[..., :3] + behind * (1 - alpha)
    opaque = np.full_like(drawing[..., 3:], 255)
    return np.concatenate((colours.clip(0, 255).round().astype(np.uint8), opaque), axis=2)


def _pattern(side: int, rng: np.random.Generator, plain: bool) -> Float32:
    """A ground of one colour or two to four, in stripes, tiles, clouds or discs: (side, side, 3) in [0, 255]."""
    hues = rng.random(4)
    tones = [colorsys.hsv_to_rgb(h, rng.uniform(0.05, 0.6), rng.uniform(0.55, 1.0)) for h in hues]
    colours = (255 * np.array(tones)).astype(np.float32)
    colours = 0.6 * colours + 0.4 * colours.mean(axis=0)
    if plain:
        return np.asarray(np.broadcast_to(colours[0], (side, side, 3)), np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    kind = int(rng.integers(4))
    turn = rng.uniform(0, np.pi)
    across = x * np.cos(turn) + y * np.sin(turn)
    if kind == 0:
        which = (across * rng.uniform(5, 14)).astype(int) % 3
    elif kind == 1:
        n = rng.uniform(5, 12)
        which = ((x * n).astype(int) + (y * n).astype(int) * 3) % 4
    elif kind == 2:
        waves = np.zeros((side, side))
        for often, way, start in zip(rng.uniform(1, 5, 6), rng.uniform(0, 6.3, 6), rng.uniform(0, 6.3, 6), strict=True):
            waves += np.sin(2 * np.pi * often * (x * np.cos(way) + y * np.sin(way)) + start)
        which = np.clip((waves + 3) * 0.67, 0, 3.99).astype(int)
    else:
        which = np.zeros((side, side), int)
        for k in range(40):
            cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.14)
            which[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = k % 4
    shading = 0.85 + 0.3 * (y if rng.random() < 0.5 else across.clip(0, 1))
    return np.asarray((colours[which] * shading[..., None]).clip(0, 255), np.float32)


def _darker(colour: str) -> str:
    """The colour in shade: an eighth less of each channel."""
    return "#" + "".join(f"{int(colour[k : k + 2], 16) * 7 // 8:02x}" for k in (1, 3, 5))
