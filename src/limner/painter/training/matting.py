"""The matting network: the layers and the first weights of MediaPipe's selfie segmentation, learning on.

That network knows people in photographs, and much of what makes anything stand out from its ground. A network of half a
million parameters begun from nothing was tried first (LAB_LOG): in the compute there was it learned blobs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.helper import get_attribute_value
from torch import Tensor, nn
from torch.nn import functional


class Matting(nn.Module):
    """(B, 3, H, W) in [0, 1] to logits (B, 1, H, W) of each pixel's alpha; H and W are multiples of 16.

    The layers are read from an ONNX graph, node by node; its weights are the parameters.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        """Take the layers of `matting_people.people()`, or of what `model` returned."""
        super().__init__()
        self._graph = graph
        learnt = {name for node in graph.graph.node if node.op_type.startswith("Conv") for name in node.input[1:]}
        self.weights = nn.ParameterDict(
            {
                weight.name: torch.from_numpy(numpy_helper.to_array(weight).astype(np.float32))
                for weight in graph.graph.initializer
                if weight.name in learnt
            }
        )
        self._steps = [
            (node.op_type, list(node.input), node.output[0], {a.name: get_attribute_value(a) for a in node.attribute})
            for node in graph.graph.node
        ]

    def forward(self, picture: Tensor) -> Tensor:
        known: dict[str, Tensor] = {"picture": picture, **self.weights}
        for kind, inputs, output, options in self._steps[:-1]:  # the last is the sigmoid
            known[output] = _apply(kind, [known[name] for name in inputs if name in known], options)
        return known[self._steps[-1][1][0]]

    def model(self) -> onnx.ModelProto:
        """The graph with the weights as they are now, for pictures of any height and width."""
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        for weight in (w for w in model.graph.initializer if w.name in self.weights):
            value = self.weights[weight.name].detach().numpy()
            weight.CopyFrom(numpy_helper.from_array(value, weight.name))
        for value in (*model.graph.input, *model.graph.output):
            for axis, name in ((2, "height"), (3, "width")):
                value.type.tensor_type.shape.dim[axis].dim_param = name
        del model.graph.value_info[:]
        return model


def _apply(kind: str, inputs: list[Tensor], options: dict[str, Any]) -> Tensor:
    """One operation of the graph, as ONNX defines it."""
    match kind:
        case "Conv":
            image, weight, bias = inputs
            top, left, bottom, right = options["pads"]
            image = functional.pad(image, (left, right, top, bottom))
            return functional.conv2d(image, weight, bias, options["strides"], groups=options["group"])
        case "ConvTranspose":
            image, weight, bias = inputs
            return functional.conv_transpose2d(image, weight, bias, options["strides"])
        case "Resize":
            return functional.interpolate(inputs[0], scale_factor=2.0, mode="bilinear", align_corners=False)
        case "GlobalAveragePool":
            return inputs[0].mean((2, 3), keepdim=True)
        case "Add":
            return inputs[0] + inputs[1]
        case "Mul":
            return inputs[0] * inputs[1]
        case "Relu":
            return torch.relu(inputs[0])
        case "HardSwish":
            return functional.hardswish(inputs[0])
        case "Sigmoid":
            return torch.sigmoid(inputs[0])
    raise ValueError(f"operation {kind} is not known")


def loss_of(logits: Tensor, alpha: Tensor) -> Tensor:
    """The mean over a batch of cross entropy, error, missing overlap, and error of the edges.

    Args:
        logits: (B, 1, H, W).
        alpha: (B, 1, H, W) in [0, 1].
    """
    logits = logits.float()
    found = torch.sigmoid(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, alpha)
    both = (found * alpha).sum((1, 2, 3))
    overlap = (both + 1) / ((found + alpha).sum((1, 2, 3)) - both + 1)
    edges = sum(((found.diff(dim=d) - alpha.diff(dim=d)).abs().mean() for d in (2, 3)), torch.zeros(()))
    return entropy + (found - alpha).abs().mean() + 0.5 * (1 - overlap).mean() + 2 * edges
