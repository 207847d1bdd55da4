"""Pack the characters and things of the reference task.

    npm install --ignore-scripts @dicebear/core@9.4.3 @dicebear/toon-head@9.4.3 @dicebear/miniavs@9.4.3 \
        @dicebear/micah@9.4.3 @bigheads/core@0.3.3 react@17 react-dom@17 @iconify-json/noto-v1@1.2.5
    python -m limner.evaluation.training.identity_characters --packages node_modules

Needs node, which draws the characters (identity_characters.mjs); what comes out is the same everywhere.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import re
import shutil
import subprocess
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from limner.engine.core import UInt8
from limner.evaluation import characters
from limner.painter.folder import described

THINGS = {
    "automobile": "car", "backpack": "backpack", "alarm-clock": "clock", "sailboat": "boat", "cactus": "cactus",
    "hamburger": "hamburger", "owl": "owl", "turtle": "turtle", "birthday-cake": "cake", "tractor": "tractor",
    "robot": "robot", "lion": "lion", "soccer-ball": "ball", "octopus": "octopus", "snail": "snail",
    "red-apple": "apple", "gem-stone": "gem", "bear": "bear", "high-heeled-shoe": "shoe", "drum": "drum",
}  # fmt: skip
"""Icons of noto-v1 that Skia draws as resvg does, and what prompts call them."""

LEAST = 0.01  # share of a drawing that a trait must change to be asked for

SOURCES = (
    {"package": "@dicebear/toon-head 9.4.3", "work": "ToonHead", "by": "Johan Melin", "licence": "CC-BY-4.0"},
    {"package": "@dicebear/miniavs 9.4.3", "work": "Miniavs", "by": "Webpixels", "licence": "CC-BY-4.0"},
    {"package": "@dicebear/micah 9.4.3", "work": "Avatar Illustration System", "by": "Micah Lanier",
     "licence": "CC-BY-4.0"},
    {"package": "@bigheads/core 0.3.3", "work": "Big Heads", "by": "Robert Broersma", "licence": "MIT"},
    {"package": "@iconify-json/noto-v1 1.2.5", "work": "Noto Emoji", "by": "Google LLC", "licence": "Apache-2.0"},
)  # fmt: skip


def by_node(script: Path, packages: Path, *arguments: str) -> Any:
    """The JSON that a script prints that uses the packages of a node_modules folder.

    Raises:
        RuntimeError: there is no node, or it fails, with its words.
    """
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("The characters are drawn by node, which is not on this machine.")
    with tempfile.TemporaryDirectory() as folder:  # node looks for packages beside the script
        (Path(folder) / "node_modules").symlink_to(packages.resolve())
        shutil.copy(script, folder)
        done = subprocess.run([node, script.name, *arguments], cwd=folder, capture_output=True, check=False)  # noqa: S603  # our own script
    if done.returncode:
        raise RuntimeError(f"node failed on {script.name}: {done.stderr.decode()[-2000:]}")
    return json.loads(done.stdout)


def things(packages: Path) -> list[dict[str, Any]]:
    """The things, from noto-v1's icons.

    Raises:
        KeyError: an icon is missing.
    """
    icons = json.loads((packages / "@iconify-json" / "noto-v1" / "icons.json").read_text())
    rows = []
    for name, word in THINGS.items():
        icon = icons["icons"][name]
        width, height = (icon.get(key, icons.get(key, 128)) for key in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        )
        rows.append({"name": name, "word": word, "colours": {}, "svg": svg, "others": {}, "traits": []})
    return rows


def pack(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the file and meta.json.

    Traits that cannot be seen to change are not asked for.

    Raises:
        ValueError: Skia draws something unlike resvg, or a drawing leaves a colour open that has no name.
    """
    for row in rows:
        left = set(re.findall(r"\{(\w+?)2?\}", "".join((row["svg"], *chain(*row["others"].values()))))) - set(
            row["colours"]
        )
        if left:
            raise ValueError(f"{row['name']} leaves colours open that have no name: {sorted(left)}.")
        every = (*row["others"], *(f"{part} colour" for part in row["colours"]))
        able = characters.Character(row["name"], row["word"], row["colours"], row["svg"], row["others"], every)
        own = characters.draw(able.drawn(), 192)
        if np.abs(own.astype(int) - _by_resvg(able.drawn(), 192)).mean() > 2:
            raise ValueError(f"Skia draws {row['name']} unlike resvg.")
        # A brown beard on brown skin cannot be seen, so neither can it be told whether it was kept.
        row["traits"] = [
            trait
            for trait, svgs in able.alternatives().items()
            if min(_changed(own, characters.draw(svg, 192)) for svg in svgs[1:]) >= LEAST
        ]
        row["others"] = {trait: svgs for trait, svgs in row["others"].items() if trait in row["traits"]}
    packed = lzma.compress(json.dumps(rows, separators=(",", ":")).encode(), preset=9 | lzma.PRESET_EXTREME)
    (out / characters.FILE).write_bytes(packed)
    meta = {"format": characters.FORMAT, "sources": SOURCES, "files": {characters.FILE: described(packed)}}
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def _by_resvg(svg: str, side: int) -> UInt8:
    """What resvg draws, as `characters.draw` gives it."""
    sized = re.sub(
        "<svg ", f'<svg width="{side}" height="{side}" ', re.sub(r'\s(width|height)="100%"', "", svg), count=1
    )
    drawn = np.asarray(Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=sized)))).convert("RGBA"))
    return np.concatenate((drawn[..., :3] * (drawn[..., 3:] / 255), drawn[..., 3:]), axis=2).round().astype(np.uint8)


def _changed(one: UInt8, other: UInt8) -> float:
    """The share of a drawing's pixels that another one changes clearly."""
    return float((np.abs(one.astype(int) - other).max(2) > 40).mean() / max(1e-6, (one[..., 3] > 0).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the characters of the reference task.")
    parser.add_argument("--packages", type=Path, required=True, help="node_modules")
    parser.add_argument("--out", type=Path, default=characters.FOLDER)
    args = parser.parse_args()
    drawn = by_node(Path(__file__).with_suffix(".mjs"), args.packages)
    pack([{**row, "word": "person"} for row in drawn] + things(args.packages), args.out)


if __name__ == "__main__":
    main()
