"""Write what ships of the matting: both networks as ONNX with float16 weights, and meta.json with their checksums.

    python -m limner.painter.training.matting_export --checkpoint runs/matting/a/checkpoint.pt \\
        --packages runs/packages --out src/limner/painter/weights/matting
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from limner.painter import matting
from limner.painter.folder import described
from limner.painter.training.matting import Matting
from limner.painter.training.matting_people import people
from limner.painter.training.sources import PHOTOGRAPHS

LEAST = 64  # values from which a weight is stored as float16


def halve(model: onnx.ModelProto) -> bytes:
    """The model's file, with every large float32 weight stored as float16 and widened by a Cast."""
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    casts = []
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < LEAST:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half")
        graph.initializer.remove(weight)
        graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [weight.name], f"{weight.name}.widen", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(halved)
    content: bytes = halved.SerializeToString(deterministic=True)
    return content


def widen(path: Path) -> onnx.ModelProto:
    """What `halve` was given, but for what float16 lost, from the file that it made."""
    model = onnx.load(str(path))
    names = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    for weight in (w for w in model.graph.initializer if w.name in names):
        value = numpy_helper.to_array(weight).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(value, names[weight.name]))
    rest = [node for node in model.graph.node if node.op_type != "Cast"]
    del model.graph.node[:]
    model.graph.node.extend(rest)
    return model


def export(network: Matting, finder: onnx.ModelProto, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/things.onnx, `out`/people.onnx and `out`/meta.json.

    Args:
        network: for things.
        finder: for people.
        about: what meta.json says of the training; JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    contents = {matting.THINGS: halve(network.model()), matting.PEOPLE: halve(finder)}
    for name, content in contents.items():
        (out / name).write_bytes(content)
    meta = {
        "format": matting.FORMAT,
        "kind": matting.KIND,
        "parameters": sum(p.numel() for p in network.parameters()),
        "files": {name: described(content) for name, content in contents.items()},
        "people": PHOTOGRAPHS.record(),
        "training": about,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the matting networks.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="npm packages, fetched if absent")
    parser.add_argument("--out", type=Path, default=matting.WEIGHTS)
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    finder = people(args.packages)
    network = Matting(finder)
    network.load_state_dict(saved["average"])
    export(network, finder, args.out, {"step": saved["step"], **saved["run"]})


if __name__ == "__main__":
    main()
