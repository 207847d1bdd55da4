"""The subjects that the matting network learns to cut out, and the ones it is judged by: drawings with their own alpha.

    python -m limner.painter.training.matting_subjects --packages runs/packages --out runs/matting/subjects

The sets that judge are never trained on: other artists, other concepts, other people. The packages are had from the npm
registry by name and version unless the folder holds them; characters that are drawn by a program need `node`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from limner.engine.core import UInt8
from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.scene import Thing
from limner.painter.training.matting_data import scenes
from limner.painter.training.packages import fetch
from limner.painter.training.scenes import random_person
from limner.painter.training.sources import DRAWINGS, Source

SIDE = 192  # of the square that a subject is kept in, pixels
LEAST = 0.1  # share of the square that a subject covers at least
DULL = ("flag", "keycap", "button", "square", "skin-tone", "light", "dark", "medium", "arrow", "input", "sign")


@dataclass(frozen=True, slots=True)
class Set:
    """Subjects of one kind."""

    name: str
    count: int
    held: bool  # whether it judges


def _npm(package: str, version: str, licence: str, title: str) -> Source:
    return Source(title, package, version, "npm", licence, title, f"npm {package}", "training of the matting network")


PACKAGES = {
    "fluent": DRAWINGS["fluent"],
    "noto": DRAWINGS["noto"],
    "twemoji": _npm("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twemoji"),
    "fxemoji": _npm("@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "FxEmoji, Mozilla"),
    "solid": _npm("@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "Fluent Emoji (3D)"),
    "core": _npm("@dicebear/core", "9.4.3", "MIT", "DiceBear"),
    "open-peeps": _npm("@dicebear/open-peeps", "9.4.3", "CC0-1.0", "Open Peeps by Pablo Stanley"),
    "lorelei": _npm("@dicebear/lorelei", "9.4.3", "CC0-1.0", "Lorelei by Lisa Wischofsky"),
    "notionists": _npm("@dicebear/notionists", "9.4.3", "CC0-1.0", "Notionists by Zoish"),
    "adventurer": _npm("@dicebear/adventurer", "9.4.3", "CC-BY-4.0", "Adventurer by Lisa Wischofsky"),
    "personas": _npm("@dicebear/personas", "9.4.3", "CC-BY-4.0", "Personas by Draftbit"),
    "micah": _npm("@dicebear/micah", "9.4.3", "CC-BY-4.0", "Avatar Illustration System by Micah Lanier"),
    "toon-head": _npm("@dicebear/toon-head", "9.4.3", "CC-BY-4.0", "ToonHead by Johan Melin"),
    "big-smile": _npm("@dicebear/big-smile", "9.4.3", "CC-BY-4.0", "Custom Avatar by Ashley Seo"),
}
SETS = (
    Set("fluent", 800, held=False),
    Set("noto", 800, held=False),
    Set("twemoji", 600, held=False),
    Set("solid", 900, held=False),
    Set("open-peeps", 220, held=False),
    Set("lorelei", 120, held=False),
    Set("notionists", 200, held=False),
    Set("adventurer", 200, held=False),
    Set("personas", 160, held=False),
    Set("people", 500, held=False),
    Set("bodies", 200, held=False),
    Set("fxemoji", 250, held=True),
    Set("solid", 150, held=True),
    Set("micah", 80, held=True),
    Set("toon-head", 80, held=True),
    Set("big-smile", 60, held=True),
    Set("people", 120, held=True),
)
ROOT = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
CHARACTERS = """
import fs from "node:fs";
const [folder, style, count] = process.argv.slice(1);
const { createAvatar } = await import(`${folder}/core/lib/index.js`);
const drawn = await import(`${folder}/${style}/lib/index.js`);
const svgs = [...Array(Number(count)).keys()].map((k) => createAvatar(drawn, { seed: `limner ${k}` }).toString());
fs.writeSync(1, JSON.stringify(svgs));
"""


def subjects(kind: Set, packages: Path, bank: Bank) -> Iterator[UInt8]:
    """Up to `kind.count` subjects, each (SIDE, SIDE, 4) uint8 with straight alpha, always the same.

    Raises:
        BuildFailed: a package cannot be had.
    """
    made: Iterator[UInt8]
    if kind.name == "people":
        rng = random.Random(f"matting people {kind.held}")  # noqa: S311  no secrets
        made = (_straight(draft.sprite(random_person(rng), SIDE, bank)) for _ in range(kind.count))
    elif kind.name == "bodies":
        animals = [n for n in bank.names if bank[n].group.startswith("animal")]
        made = (_straight(draft.sprite(Thing(concept=name), SIDE, bank)) for name in animals)
    elif kind.name == "solid":
        made = _solids(fetch(PACKAGES["solid"], packages), kind.held)
    elif kind.name in ("fluent", "noto", "twemoji", "fxemoji"):
        made = _icons(fetch(PACKAGES[kind.name], packages))
    else:
        made = _characters(kind, packages)
    count = 0
    for picture in made:
        if count < kind.count and (picture[..., 3] > 127).mean() > LEAST:
            count += 1
            yield picture


def _shuffled(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _solids(folder: Path, held: bool) -> Iterator[UInt8]:
    """Every sixth concept judges. A name is a code point; those of flags, signs and skin tones are left out."""
    names = [path.name for path in (folder / "assets").iterdir() if path.name.startswith("1f") and "-" not in path.name]
    for name in (n for k, n in enumerate(_shuffled(names)) if (k % 6 == 0) == held):
        image = Image.open(folder / "assets" / name).convert("RGBA")
        yield np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _icons(folder: Path) -> Iterator[UInt8]:
    data = json.loads((folder / "icons.json").read_text())
    for name in _shuffled([n for n in data["icons"] if not any(dull in n for dull in DULL)]):
        icon = data["icons"][name]
        wide, high = (icon.get(side, data.get(side, 16)) for side in ("width", "height"))
        yield _rendered(f'<svg {ROOT} viewBox="0 0 {wide} {high}">{icon["body"]}</svg>')


def _characters(kind: Set, packages: Path) -> Iterator[UInt8]:
    home = packages.resolve() / "node_modules" / "@dicebear"  # where the packages look for each other
    home.mkdir(parents=True, exist_ok=True)
    for name in ("core", kind.name):
        link = home / name
        if not link.exists():
            link.symlink_to(fetch(PACKAGES[name], packages).resolve())
    command = ["node", "--input-type=module", "-e", CHARACTERS, str(home), kind.name, str(kind.count)]
    drawn = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  fixed arguments
    yield from map(_rendered, json.loads(drawn))


def _rendered(svg: str) -> UInt8:
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(square)


def _straight(premultiplied: UInt8) -> UInt8:
    alpha = premultiplied[..., 3:].astype(np.float32)
    colours = np.minimum(premultiplied[..., :3] * (255 / np.maximum(alpha, 1)) + 0.5, 255)
    return np.concatenate((colours, alpha), axis=2).astype(np.uint8)


def write(packages: Path, out: Path, bank: Bank) -> dict[str, int]:
    """Write what `matting_data.Pool` reads, for training and for judging; returns how many there are of each set."""
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for part, held in (("train", False), ("held", True)):
        found = []
        for kind in (k for k in SETS if k.held == held):
            pictures = list(subjects(kind, packages, bank))
            counts[f"{part} {kind.name}"] = len(pictures)
            found += pictures
        np.save(out / f"{part}.npy", np.stack(found))
        np.save(out / f"{part}-scenes.npy", scenes(120 if held else 600, held, bank))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the subjects for the matting network.")
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="npm packages, fetched if absent")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(write(args.packages, args.out, Bank.load()))  # noqa: T201  this command's output


if __name__ == "__main__":
    main()
