"""Export a trained full-size network to what ships: an ONNX file with fp16 weights, and meta.json with its checksum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from limner.painter import fullsize
from limner.painter.denoiser import STYLES
from limner.painter.folder import described
from limner.painter.training.export import halve
from limner.painter.training.fullsize_network import Network


class _Bytes(nn.Module):
    """The network from bytes to bytes."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor, condition: Tensor) -> Tensor:
        """Rounded and clipped."""
        full: Tensor = self.network(seen.float(), condition)
        return (full.clamp(0, 255) + 0.5).to(torch.uint8)


def export(network: Network, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/fullsize.onnx, whose cells may be of any number, and `out`/meta.json.

    Args:
        about: what meta.json says of the training; JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / fullsize.FILE
    cells = torch.zeros(1, 16, 24, fullsize.SEEN, dtype=torch.uint8)
    torch.onnx.export(
        _Bytes(network.eval().float().cpu()), (cells, torch.zeros(1, fullsize.CONDITION)), str(path),
        input_names=["seen", "condition"], output_names=["full"], dynamic_axes={"seen": {1: "rows", 2: "cols"}},
        opset_version=18, dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    halve(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    meta = {
        "format": fullsize.FORMAT,
        "kind": fullsize.KIND,
        "parameters": sum(p.numel() for p in network.parameters()),
        "styles": list(STYLES),
        "files": {path.name: described(path.read_bytes())},
        "training": about,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
