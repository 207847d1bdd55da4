"""A contact sheet of the training set: random scenes as drafts, the pictures to paint from them, and their captions.

limner train preview -o preview.png [--scenes 24] [--seed 0] [--style comic]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from limner.engine.core import UInt8
from limner.painter import draft, places
from limner.painter.bank import Bank
from limner.painter.denoiser import STYLES
from limner.painter.scene import Style
from limner.painter.training import styles
from limner.painter.training.captions import with_style
from limner.painter.training.scenes import random_scene, random_style

SIDE = 256  # pixels on a side of one picture
COLUMNS = 3  # pairs of draft and target side by side
LINES = 4  # of a caption
TYPE, LEADING, GAP = 14, 18, 12  # in pixels
INK, GREY, PAPER = "#222222", "#888888", "#f6f4ef"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Pair = tuple[UInt8, UInt8, str, Style]  # draft, target, (SIDE, SIDE, 3) each, the caption, the style


def pairs(count: int, seed: int, style: Style | None, bank: Bank) -> list[Pair]:
    """Random scenes drawn and painted, as the training set has them, but square; equal arguments give equal pairs.

    Args:
        style: of every target; None has each drawn by chance, as for training.
    """
    rng = random.Random(seed)  # noqa: S311  no secrets
    noise = np.random.Generator(np.random.Philox(seed))
    made: list[Pair] = []
    for _ in range(count):
        scene, text = random_scene(rng, 1.0, bank)
        chosen = random_style(rng) if style is None else style
        backdrop = places.draw(scene.place, scene.time, scene.weather, 1.0, scene.variant, scene.backdrop)
        lit = styles.parts(draft.compose(scene, 1.0, bank).layers(SIDE, SIDE), backdrop.sun)
        flat = np.asarray(lit.colour * 255 + 0.5, np.uint8)
        made.append((flat, styles.paint(chosen, lit, noise), with_style(text, chosen, rng), chosen))
    return made


def wrapped(text: str, width: float, font: Font, lines: int = LINES) -> list[str]:
    """A text broken between words into lines of at most `width` pixels; one that needs more of them ends in dots."""
    broken, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            broken.append(line)
            longer = word
        line = longer
    broken.append(line)
    if len(broken) > lines:
        broken = broken[:lines]
        while " " in broken[-1] and font.getlength(broken[-1] + " ...") > width:
            broken[-1] = broken[-1].rpartition(" ")[0]
        broken[-1] += " ..."
    return broken


def sheet(shown: Sequence[Pair]) -> Image.Image:
    """The pairs in rows, each caption below its pictures, the style in brackets before it."""
    width, height = 2 * SIDE + GAP, SIDE + LINES * LEADING + GAP
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    whole = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(TYPE)
    for at, (drafted, target, caption, style) in enumerate(shown):
        x, y = GAP + at % columns * width, GAP + at // columns * height
        whole.paste(Image.fromarray(drafted), (x, y))
        whole.paste(Image.fromarray(target), (x + SIDE, y))
        label = f"[{style}] "
        for k, line in enumerate(wrapped(label + caption, 2 * SIDE, font)):
            pen.text((x, y + SIDE + 2 + k * LEADING), line, INK, font)
        pen.text((x, y + SIDE + 2), label, GREY, font)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Show drafts, targets and captions of the training set.")
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES, help="of every target; else by chance, as for training")
    arguments = parser.parse_args()
    if arguments.scenes < 1:
        parser.error("--scenes must be at least 1")
    if not arguments.out.parent.is_dir():
        parser.error(f"there is no folder {arguments.out.parent}")
    sheet(pairs(arguments.scenes, arguments.seed, arguments.style, Bank.load())).save(arguments.out, "PNG")


if __name__ == "__main__":
    main()
