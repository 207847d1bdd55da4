"""Paint README's pictures into docs/pictures/ with the committed model. Needs an installed Limner."""

# ruff: noqa: S603 - our own command

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEED = "1"
PICTURES = {
    "beach": ("A man in a white t-shirt stands on a sunny beach", ()),
    "fox": ("a red fox on a snowy hill", ()),
    "library": ("A girl beside the tall window of a library", ("--reference", str(ROOT / "examples" / "girl.png"))),
    "watercolor": ("two red balloons above a house, watercolor", ()),
}

for name, (prompt, more) in PICTURES.items():
    path = ROOT / "docs" / "pictures" / f"{name}.jpeg"
    path.parent.mkdir(exist_ok=True)
    command = [str(Path(sys.executable).with_name("limner")), "generate", prompt, "-o", str(path)]
    subprocess.run([*command, "--ratio", "16:9", "--seed", SEED, *more], check=True)
