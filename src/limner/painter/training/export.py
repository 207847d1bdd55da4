"""Export a trained denoiser to what ships: an ONNX file with fp16 or int8 weights, and meta.json with its checksum.

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


def export(network: Network, out: Path, about: dict[str, Any], *, int8: bool = False) -> None:
    """Write `out`/denoiser.onnx and `out`/meta.json.

    The graph's sizes are free: pixels, text tokens and references may change from call to call.
    Large matrices are stored as float16, or as int8 if asked, and widened when the file is read.

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
    (quantise if int8 else halve)(model)
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
    stored = {w.name: numpy_helper.to_array(w) for w in onnx.load(str(path)).graph.initializer}
    for name in [name for name in stored if name.endswith(".steps")]:
        values, step = stored.pop(name.removesuffix(".steps") + ".int8"), stored.pop(name)
        stored[name.removesuffix(".steps")] = values * step.reshape(-1, *(1,) * (values.ndim - 1))
    return {name.removesuffix(".half"): torch.from_numpy(w.astype(np.float32)) for name, w in stored.items()}


def halve(model: onnx.ModelProto) -> None:
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


def quantise(model: onnx.ModelProto) -> None:
    """Store float32 weights of more than 4096 values as int8, a step for each row, each followed by its widening.

    A row is what makes one output. |error| is at most half a step, 1/254 of the row's largest value.
    """
    graph = model.graph
    widened = []
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) <= 4096:
            continue
        name, values = weight.name, numpy_helper.to_array(weight)
        step = np.maximum(np.abs(values).reshape(len(values), -1).max(1), 1e-8) / 127
        rounded = np.rint(values / step.reshape(-1, *(1,) * (values.ndim - 1))).astype(np.int8)
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(rounded, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(step.astype(np.float32), f"{name}.steps"))
        inputs = [f"{name}.int8", f"{name}.steps"]
        widened.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}.widen", axis=0))
    for node in reversed(widened):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the denoiser.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--int8", action="store_true", help="a quarter of float32, where float16 is half")
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Network(Config(depth=saved["run"]["depth"], styles=len(denoiser.STYLES)))
    network.load_state_dict(saved["average"])
    export(network, args.out, {"step": saved["step"], **saved["run"]}, int8=args.int8)


if __name__ == "__main__":
    main()
