"""What the detector learns from: renderings that the painter never draws with, and other emoji as clutter.

Six emoji sets are fetched by name and version, as the bank's are, and rendered once into one file of arrays.

    python -m limner.evaluation.training.sprites --packages FOLDER --out runs/sprites.npz
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from limner.engine.core import UInt8
from limner.evaluation.classes import CLASSES, NAMES, Class
from limner.painter.training.packages import fetch
from limner.painter.training.sources import Source

SIDE = 160
"""Side of a sprite, pixels: the largest that a thing is in most pictures of 256."""

USE = "training the evaluation's detector; nothing of it ships"
SETS = {
    "twemoji": Source("Twemoji", "@iconify-json/twemoji", "1.2.5", "npm", "CC-BY-4.0",
                      "Copyright Twitter, Inc and other contributors", "https://github.com/twitter/twemoji", USE),
    "noto-v1": Source("Noto Emoji (2017)", "@iconify-json/noto-v1", "1.2.5", "npm", "Apache-2.0",
                      "Copyright Google Inc.", "https://github.com/googlefonts/noto-emoji", USE),
    "fluent-gradient": Source("Fluent Emoji (gradients)", "@iconify-json/fluent-emoji", "1.2.7", "npm", "MIT",
                              "Copyright (c) Microsoft Corporation.", "https://github.com/microsoft/fluentui-emoji",
                              USE),
    "emojione": Source("EmojiOne 2", "@iconify-json/emojione", "1.2.3", "npm", "CC-BY-4.0", "Copyright Emoji One",
                       "https://github.com/EmojiTwo/emojitwo", USE),
    "fxemoji": Source("FxEmoji", "@iconify-json/fxemoji", "1.2.2", "npm", "Apache-2.0", "Copyright Mozilla Foundation",
                      "https://github.com/mozilla/fxemoji", USE),
    "fluent-3d": Source("Fluent Emoji 3D", "@lobehub/fluent-emoji-3d", "1.1.0", "npm", "MIT",
                        "Copyright (c) Microsoft Corporation.", "https://github.com/lobehub/fluent-emoji", USE),
}  # fmt: skip

RENAMED = {
    "fxemoji": {
        "rabbit": "bunnyside", "cat": "catside", "dog": "dogside", "pig": "pigside", "tiger": "tigerside",
        "panda": "pandaface", "automobile": "automobile", "crown": "crown", "t-shirt": "tshirt",
        "locomotive": "steamlocomotive", "red-apple": "redapple", "alarm-clock": "alarmclock", "top-hat": "tophat",
        "running-shoe": "athleticshoe", "soccer-ball": "soccerball", "mobile-phone": "mobilephone",
        "laptop": "personalcomputer", "ewe": "sheep", "wine-glass": "wineglass", "rooster": "rooster",
    },
}  # fmt: skip
"""A set's own names where they are not the concept's."""

OTHER_THINGS = {
    "noto-v1": {"laptop", "basketball"}, "emojione": {"basketball", "motorcycle"},
    "fxemoji": {"keyboard", "laptop", "umbrella"},
}  # fmt: skip
"""Drawings that show something else than their name says: a desktop computer, a piano, a ball in its hoop."""

KIN = (
    "face", "flag", "hand", "person", "man", "woman", "family", "button", "clock", "heart", "kiss", "skin",
    "people", "girl", "boy", "arrow", "symbol", "sign", "regional", "keycap", "letter", "japanese", "zodiac",
    "moon", "guide-dog", "service-dog", "poodle", "bus", "car", "taxi", "truck", "lorry", "umbrella", "bag", "hat",
    "shoe", "boot", "apple", "chick", "cat", "bike", "cycl", "horse", "cow", "ox", "pig", "bear", "computer",
    "phone", "tv", "monkey", "tiger", "leopard", "locomotive", "camera", "donkey", "train", "tram", "railway",
    "plane", "bed", "couch", "seat", "duck", "fish", "ram", "camel", "mouse",
)  # fmt: skip
"""Words in the names of emoji that are no clutter: they are of a class, or too like one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprites:
    """Renderings, straight alpha: (N, SIDE, SIDE, 4) uint8, of class `label` each, or of none where it is -1."""

    pixels: UInt8
    label: np.ndarray[tuple[int], np.dtype[np.int64]]
    source: tuple[str, ...]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, pixels=self.pixels, label=self.label, source=np.array(self.source))

    @classmethod
    def load(cls, path: Path) -> Sprites:
        with np.load(path) as data:
            return cls(data["pixels"], data["label"], tuple(data["source"].tolist()))


class IconSet:
    """The icons of one package in SVG, by name."""

    def __init__(self, folder: Path) -> None:
        data = json.loads((folder / "icons.json").read_text("utf-8"))
        self._icons, self._aliases = data["icons"], data.get("aliases", {})
        self._size = data.get("width", 16), data.get("height", 16)
        self.names: tuple[str, ...] = tuple(self._icons)

    def render(self, name: str) -> UInt8 | None:
        """The icon filling a square, (SIDE, SIDE, 4); None where the set has none of that name."""
        while name in self._aliases:
            name = self._aliases[name]["parent"]
        icon = self._icons.get(name)
        if icon is None:
            return None
        width, height = icon.get("width", self._size[0]), icon.get("height", self._size[1])
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
            f"{icon['body']}</svg>"
        )
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIDE, height=2 * SIDE))
        return fill(Image.open(io.BytesIO(png)).convert("RGBA"))


def fill(picture: Image.Image) -> UInt8 | None:
    """The picture cut to what it shows and scaled to fit a square, centred; None where it shows nothing."""
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        return None
    shown = picture.crop(box)
    scale = SIDE / max(shown.size)
    size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(shown.resize(size, Image.Resampling.LANCZOS), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(square)


def build(packages: Path, clutter: int = 360) -> Sprites:
    """Render every class in every set that has it, and so many other emoji, chosen with a fixed seed.

    Raises:
        BuildFailed: a package cannot be fetched.
        ValueError: a class has fewer than three renderings.
    """
    folders = {name: fetch(source, packages) for name, source in SETS.items()}
    sets = {name: IconSet(folder) for name, folder in folders.items() if name != "fluent-3d"}
    pixels, labels, sources = [], [], []

    def keep(drawing: UInt8 | None, label: int, source: str) -> None:
        if drawing is not None:
            pixels.append(drawing)
            labels.append(label)
            sources.append(source)

    for label, one in enumerate(CLASSES):
        for name, icons in sets.items():
            if one.concept not in OTHER_THINGS.get(name, ()):
                keep(icons.render(RENAMED.get(name, {}).get(one.concept, one.concept)), label, name)
        keep(_webp(folders["fluent-3d"] / "assets", one), label, "fluent-3d")
        if labels.count(label) < 3:
            raise ValueError(f"{one.concept} has {labels.count(label)} renderings, and needs three.")
    rng = random.Random(20)  # noqa: S311  a fixed choice, no secret
    words = {word for name in NAMES for word in (name, *name.split("-")) if len(word) > 2}
    for name in sets:
        others = [n for n in sets[name].names if not any(w in n for w in KIN) and not words & set(re.split("[-]", n))]
        for other in rng.sample(others, min(len(others), clutter // len(sets))):
            keep(sets[name].render(other), -1, name)
    return Sprites(np.stack(pixels), np.array(labels), tuple(sources))


def _webp(folder: Path, one: Class) -> UInt8 | None:
    for path in (folder / f"{one.code}.webp", folder / f"{one.code}-fe0f.webp"):
        if path.exists():
            with Image.open(path) as picture:
                return fill(picture.convert("RGBA"))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Render what the detector learns from.")
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    build(args.packages).save(args.out)


if __name__ == "__main__":
    main()
