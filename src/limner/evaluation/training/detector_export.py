"""Export the trained detector to what ships: an ONNX file with float16 weights, and meta.json with its checksum.

python -m limner.evaluation.training.detector_export --checkpoint runs/detector/checkpoint.pt
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from limner.evaluation.classes import COLOURS, NAMES
from limner.evaluation.detector import FILE, FORMAT, KIND, LEVELS, WEIGHTS, WINDOW
from limner.evaluation.training.detector_network import Network
from limner.painter.folder import described


def export(network: Network, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/detector.onnx and `out`/meta.json; sizes are free.

    Args:
        network: is moved to the CPU and to float32.
        about: what meta.json says of the training; JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    torch.onnx.export(
        network.eval().float().cpu(), (torch.zeros(1, 3, 2 * WINDOW, 2 * WINDOW),), str(path), input_names=["pixels"],
        output_names=["maps"], dynamic_axes={"pixels": {2: "height", 3: "width"}, "maps": {2: "rows", 3: "cols"}},
        opset_version=18, dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    _halve(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    meta = {
        "format": FORMAT,
        "kind": KIND,
        "levels": list(LEVELS),
        "parameters": sum(p.numel() for p in network.parameters()),
        "classes": list(NAMES),
        "colours": list(COLOURS),
        "files": {FILE: described(path.read_bytes())},
        "training": about,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def _halve(model: onnx.ModelProto) -> None:
    """Store the kernels as float16, each widened by a Cast when the file is read."""
    graph = model.graph
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.ndim < 4:
            continue
        half = numpy_helper.from_array(values.astype("float16"), f"{weight.name}.half")
        graph.initializer.remove(weight)
        graph.initializer.append(half)
        graph.node.insert(0, helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
    onnx.checker.check_model(model)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the evaluation's detector.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Network()
    network.load_state_dict(saved["average"])
    export(network, args.out, {"step": saved["step"], **saved["run"]})


if __name__ == "__main__":
    main()
