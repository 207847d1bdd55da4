"""Export a trained denoiser to what ships: an ONNX file with fp16 weights, and meta.json with its checksum.

python -m limner.painter.training.export --checkpoint runs/depth8/checkpoint.pt --out weights
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

from limner.painter import denoiser
from limner.painter.folder import described
from limner.painter.training.network import Config, Network


def export(network: Network, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/denoiser.onnx and `out`/meta.json.

    The graph's sizes are free: pixels, text tokens and references may change from call to call.
    Large matrices are stored as float16 and widened when the file is read, which halves the file.

    Args:
        network: is moved to the CPU and to float32.
        about: what meta.json says of the training; JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = network.eval().float().cpu()
    rows, cols, references = 12, 16, 1
    tokens = rows * cols + denoiser.TEXT_TOKENS + references * denoiser.REFERENCE_TOKENS
    patch = 4 * denoiser.PATCH**2
    inputs = {
        "x": (torch.randn(1, 3, rows * 16, cols * 16), {2: "height", 3: "width"}),
        "t": (torch.rand(1), {}),
        "draft": (torch.randn(1, 4, rows * 16, cols * 16), {2: "height", 3: "width"}),
        "text": (torch.randn(1, denoiser.TEXT_TOKENS, denoiser.TEXT_DIM), {}),
        "reference": (torch.randn(1, references * denoiser.REFERENCE_TOKENS, patch), {1: "references"}),
        "strength": (torch.rand(1), {}),
        "style": (torch.zeros(1, network.config.styles), {}),
        "cos": (torch.randn(tokens, denoiser.HEAD_DIM // 2), {0: "tokens"}),
        "sin": (torch.randn(tokens, denoiser.HEAD_DIM // 2), {0: "tokens"}),
    }
    path = out / denoiser.FILE
    torch.onnx.export(
        network, tuple(v for v, _ in inputs.values()), str(path), input_names=list(inputs), output_names=["clean"],
        dynamic_axes={k: axes for k, (_, axes) in inputs.items() if axes}, opset_version=18, dynamo=False,
        do_constant_folding=False,  # it would transpose and rename the weights, which `weights` reads back
    )  # fmt: skip
    model = onnx.load(str(path))
    _halve(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    meta = {
        "format": denoiser.FORMAT,
        "kind": denoiser.KIND,
        "depth": network.config.depth,
        "width": network.config.width,
        "parameters": sum(p.numel() for p in network.parameters()),
        "patch": denoiser.PATCH,
        "styles": list(denoiser.STYLES),
        "files": {path.name: described(path.read_bytes())},
        "training": about,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of an exported network by the names of its parameters, in float32."""
    stored = onnx.load(str(path)).graph.initializer
    return {w.name.removesuffix(".half"): torch.from_numpy(numpy_helper.to_array(w).astype(np.float32)) for w in stored}


def _halve(model: onnx.ModelProto) -> None:
    """Store float32 weights of more than 4096 values as float16, each followed by a Cast."""
    graph = model.graph
    casts = []
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) <= 4096:
            continue
        name = weight.name
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}.half")
        graph.initializer.remove(weight)
        graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [name], f"{name}.widen", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the denoiser.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Network(Config(depth=saved["run"]["depth"], styles=len(denoiser.STYLES)))
    network.load_state_dict(saved["average"])
    export(network, args.out, {"step": saved["step"], **saved["run"]})


if __name__ == "__main__":
    main()
