"""Shrink a checkpoint to what travels: the averaged weights in float16, and where the run stands.

    python -m limner.painter.training.portable --checkpoint runs/gpu/checkpoint.pt --out runs/gpu/weights.pt

The file is read by `export` and by `train --start`, as a checkpoint is; `scripts/gpu_run.py` carries it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch


def shrink(checkpoint: Path, out: Path) -> None:
    """Write `out`, and beside it a .json of the run's settings and step."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    average = {name: weight.half() for name, weight in saved["average"].items()}
    torch.save({"run": saved["run"], "step": saved["step"], "average": average}, out)
    out.with_suffix(".json").write_text(json.dumps({"step": saved["step"], "run": saved["run"]}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Shrink a checkpoint to what travels.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shrink(args.checkpoint, args.out)


if __name__ == "__main__":
    main()
