"""What is done to a network of OpenVINO operations to make it faster: exact rewriting, and int8 arithmetic.

Only operations whose weights are constants are touched: convolutions, and products with a matrix of weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

Ranges = Mapping[str, tuple[float, float]]
"""Least and greatest value that an operation was seen to take in, by the operation's name."""

TAPS = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)
"""Which of a kernel's three taps fall on the first and second pixel under an even and under an odd output pixel."""


FEW = 16
"""Channels, below which an operation is not rounded to int8."""


def fold_upsampling(model: Any) -> int:
    """Make one transposed convolution of each doubling by nearest neighbour and the 3×3 convolution that follows it.

    Exactly the same sums: of the nine taps, those that meet copies of the same pixel are added beforehand, which leaves
    four of nine multiplications. Returns how many were found.
    """
    found = 0
    for node in model.get_ordered_ops():
        source = node.input_value(0).get_node() if node.get_type_name() == "Convolution" else None
        if source is None or not _doubles(source) or not _plain_3x3(node):
            continue
        weights = _constant(node.input_value(1))
        if weights is None:
            continue
        kernel = np.zeros((4, 3), np.float32)
        for odd in (0, 1):
            for pixel in (0, 1):
                kernel[3 - odd - 2 * pixel] = TAPS[odd, pixel]
        folded = np.einsum("oiyx,py,qx->iopq", weights.astype(np.float32), kernel, kernel, optimize=True)
        x = source.input_value(0)
        up = op.convolution_backprop_data(
            x, _stored(folded, x.get_element_type()), strides=[2, 2], pads_begin=[1, 1], pads_end=[1, 1]
        )
        up.set_friendly_name(node.get_friendly_name())
        _replace(node, up)
        found += 1
    model.validate_nodes_and_infer_types()
    return found


def quantizable(model: Any) -> Iterator[tuple[Any, npt.NDArray[Any]]]:
    """Operations that int8 arithmetic makes faster, with their weights.

    Not the first and the last one, which have the few channels of a latent or a picture: they cost next to nothing, and
    rounding there is rounding of the latent itself.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "ConvolutionBackpropData", "MatMul"):
            weights = _constant(node.input_value(1))
            if weights is None or weights.ndim != (2 if node.get_type_name() == "MatMul" else 4):
                continue
            if min(weights.shape[:2]) >= FEW:
                yield node, weights


def observe(model: Any) -> tuple[Any, list[str]]:
    """A copy of the model that also tells the least and the greatest value that each quantizable operation takes in.

    Returns it, and the operations' names: of name k, outputs 1 + 2k and 2 + 2k, behind the model's own one.
    """
    copy = model.clone()
    names, extra = [], []
    for node, _ in list(quantizable(copy)):
        x = node.input_value(0)
        axes = op.constant(np.arange(x.get_partial_shape().rank.get_length()))
        names.append(node.get_friendly_name())
        extra += [op.reduce_min(x, axes).output(0), op.reduce_max(x, axes).output(0)]
    copy.add_outputs(extra)
    return copy, names


def quantize(model: Any, ranges: Ranges) -> None:
    """Put quantizable operations on int8: weights symmetric by output channel, inputs by the ranges that were seen.

    An operation without a range keeps its arithmetic. Jacob et al. 2018 (arXiv 1712.05877), section 2; OpenVINO makes
    int8 operations of the pattern.
    """
    rounded: dict[tuple[str, int, float, float], Any] = {}
    for node, weights in list(quantizable(model)):
        name = node.get_friendly_name()
        if name not in ranges:
            continue
        channel = _output_channel(node)
        exact = weights.astype(np.float32)
        scale = np.abs(exact).max(axis=tuple(i for i in range(exact.ndim) if i != channel), keepdims=True) / 127
        scale = np.where(scale == 0, 1, scale).astype(np.float32)
        whole = np.rint(exact / scale).astype(np.int8)
        node.input(1).replace_source_output(
            op.multiply(op.convert(op.constant(whole), "f32"), op.constant(scale)).output(0)
        )
        x = node.input_value(0)
        low, high = _range(*ranges[name])
        key = (x.get_node().get_friendly_name(), x.get_index(), low, high)
        if key not in rounded:
            bounds = op.constant(np.float32(low)), op.constant(np.float32(high))
            rounded[key] = op.fake_quantize(x, *bounds, *bounds, 256)
        node.input(0).replace_source_output(rounded[key].output(0))
    model.validate_nodes_and_infer_types()


def _output_channel(node: Any) -> int:
    """The axis of an operation's weights that its output has."""
    kind = node.get_type_name()
    if kind == "MatMul":
        return 0 if node.get_attributes()["transpose_b"] else 1
    return 0 if kind == "Convolution" else 1


def _range(low: float, high: float) -> tuple[float, float]:
    """The range of 256 levels in which zero is a level: from zero on, or to both sides alike."""
    if low >= 0:
        return 0.0, max(high, 1e-6)
    reach = max(-low, high)
    return -reach, reach * 127 / 128


def _constant(output: Any) -> npt.NDArray[Any] | None:
    """The numbers behind an output that is a constant, also one that is stored in 16 bits."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or node.get_element_type() not in (ov.Type.f32, ov.Type.f16, ov.Type.bf16):
        return None
    data: npt.NDArray[Any] = node.get_data(dtype=np.float32) if node.get_element_type() == ov.Type.bf16 else node.data
    return data


def _stored(values: npt.NDArray[np.float32], element: Any) -> Any:
    """A constant for operations on `element`, kept in as many bits."""
    if element == ov.Type.f32:
        return op.constant(np.ascontiguousarray(values))
    return op.convert(op.constant(np.ascontiguousarray(values, np.float16)), element.to_string())


def _doubles(node: Any) -> bool:
    """Whether a node doubles height and width by nearest neighbour."""
    if node.get_type_name() != "Interpolate":
        return False
    given = node.get_attributes()
    scales = _constant(node.input_value(1))
    return (
        given["mode"] == "nearest"
        and given["shape_calculation_mode"] == "scales"
        and given["coordinate_transformation_mode"] == "asymmetric"
        and given["nearest_mode"] == "floor"
        and not any(given["pads_begin"])
        and not any(given["pads_end"])
        and scales is not None
        and scales.tolist() == [2, 2]
    )


def _plain_3x3(node: Any) -> bool:
    given = node.get_attributes()
    return (
        list(node.input_value(1).get_shape())[2:] == [3, 3]
        and all(list(given[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
        and given["auto_pad"] == "explicit"
    )


def _replace(node: Any, other: Any) -> None:
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))
