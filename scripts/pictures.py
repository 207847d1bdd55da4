"""Paint README's pictures into docs/pictures/ with the committed model: each prompt at seeds 0 to 3, side by side.

Needs an installed Limner.
"""

# ruff: noqa: S603 - our own command

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 4
SIDE = 512  # of a picture, pixels
SHOWN = 400  # of the same in a strip
PICTURES = {
    "fox": ("a red fox on a snowy hill", ()),
    "beach": ("A man in a white t-shirt stands on a sunny beach", ()),
    "library": ("A girl beside the tall window of a library", ("--reference", str(ROOT / "examples" / "girl.png"))),
    "kite": ("a boy flying a kite over a farm, comic", ()),
    "sofa": ("a cat sleeping on a sofa, watercolor", ()),
    "knight": ("a knight and a dragon in front of a castle, medieval", ()),
    "robot": ("a robot and two astronauts in the city at night, pixel art", ()),
    "portrait": ("portrait of a woman with curly red hair and round glasses, 3d render", ()),
}

for name, (prompt, more) in PICTURES.items():
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("limner")), "generate", prompt, "-o", f"{folder}/{name}.png"]
        size = ("--width", str(SIDE), "--height", str(SIDE))
        subprocess.run([*command, *size, "--seed", "0", "-n", str(SEEDS), *more], check=True)
        strip = Image.new("RGB", (SEEDS * SHOWN, SHOWN))
        for number, path in enumerate(sorted(Path(folder).glob("*.png"))):
            strip.paste(Image.open(path).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS), (number * SHOWN, 0))
        strip.save(ROOT / "docs" / "pictures" / f"{name}.jpeg", quality=88)
