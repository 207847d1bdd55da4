"""Export the planner's trained reader to what ships: an ONNX file with fp16 weights, and meta.json with its checksum.

python -m limner.painter.training.planner_export --checkpoint runs/planner/checkpoint.pt
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import onnx
import torch

from limner.painter.folder import described
from limner.painter.planner.reader import DEFAULT, EXPECTED, FILE, HEAD_DIM, LEXICAL
from limner.painter.training.export import halve
from limner.painter.training.planner_network import TEXT_DIM, Config, Network

WORDS = 12  # of the example that the graph is traced with; the graph takes any number


def export(network: Network, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/reader.onnx and `out`/meta.json.

    Args:
        network: is moved to the CPU and to float32.
        about: what meta.json says of the training; JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = network.eval().float().cpu()
    inputs = {
        "features": (torch.randn(1, WORDS, TEXT_DIM), {1: "words"}),
        "lexical": (torch.zeros(1, WORDS, LEXICAL), {1: "words"}),
        "cos": (torch.randn(WORDS, HEAD_DIM // 2), {0: "words"}),
        "sin": (torch.randn(WORDS, HEAD_DIM // 2), {0: "words"}),
    }
    path = out / FILE
    torch.onnx.export(
        network, tuple(v for v, _ in inputs.values()), str(path), input_names=list(inputs), output_names=["parse"],
        dynamic_axes={k: axes for k, (_, axes) in inputs.items()}, opset_version=18, dynamo=False,
        do_constant_folding=False,  # it would transpose and rename the weights
    )  # fmt: skip
    model = onnx.load(str(path))
    halve(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    parameters = sum(p.numel() for p in network.parameters())
    meta = {
        **EXPECTED,
        "parameters": parameters,
        "config": network.config.as_dict(),
        "files": {path.name: described(path.read_bytes())},
        "training": about,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the planner's reader.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Network(Config(**saved["config"]))
    network.load_state_dict(saved["network"])
    export(network, args.out, {"step": saved["step"], "held_out_captions": saved["held_out"], **saved["run"]})


if __name__ == "__main__":
    main()
