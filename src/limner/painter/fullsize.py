"""From the native picture to the exact pixels, under the draft's guidance.

Around every pixel the native picture is nearly a linear function of the draft at the same size: lit, shaded, tinted.
That function is fitted in small windows, widened to the full size and applied to the draft drawn at that size, so that
edges are as crisp as the vector graphics that they come from (He and Sun, "Fast Guided Filter", 2015). What the fit
leaves over, such as paper grain and outlines that the draft lacks, is added by plain interpolation, so that the result,
made small again, is the native picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from limner.engine.core import Float32, UInt8

RADIUS = 2  # of the windows, native pixels
EPSILON = 2e-3  # how flat the draft must be for its contrast not to be trusted, (intensity in [0, 1])²


def graph() -> Any:
    """The computation as an OpenVINO model, for pictures of any size.

    Inputs:
        native: (1, 3, h, w) float32 in [0, 1], the picture.
        draft: (1, 3, h, w) float32 in [0, 1], the draft at the picture's size.
        guide: (1, 3, H, W) float32 in [0, 255], the draft at full size.
        size: (2,) int64, H and W.

    Output:
        (1, 3, H, W) uint8.
    """
    import openvino as ov
    from openvino import opset13 as op

    def constant(value: float) -> Any:
        return op.constant(np.float32(value))

    native = op.parameter(ov.PartialShape([1, 3, -1, -1]), np.float32, name="native")
    draft = op.parameter(ov.PartialShape([1, 3, -1, -1]), np.float32, name="draft")
    guide = op.parameter(ov.PartialShape([1, -1, -1, 3]), np.uint8, name="guide")
    size = op.parameter(ov.PartialShape([2]), np.int64, name="size")
    window = 2 * RADIUS + 1

    def mean(x: Any) -> Any:
        return op.avg_pool(x, [1, 1], [RADIUS, RADIUS], [RADIUS, RADIUS], [window, window], exclude_pad=True)

    def widen(x: Any, mode: str) -> Any:
        axes = op.constant(np.array([2, 3], np.int64))
        return op.interpolate(x, size, mode, "sizes", coordinate_transformation_mode="half_pixel", axes=axes)

    mean_draft, mean_native = mean(draft), mean(native)
    covariance = op.subtract(mean(op.multiply(draft, native)), op.multiply(mean_draft, mean_native))
    variance = op.subtract(mean(op.multiply(draft, draft)), op.multiply(mean_draft, mean_draft))
    gain = op.divide(covariance, op.add(variance, constant(EPSILON)))
    bias = op.subtract(mean_native, op.multiply(gain, mean_draft))
    gain, bias = mean(gain), mean(bias)
    rest = op.subtract(native, op.add(op.multiply(gain, draft), bias))
    full = op.divide(op.convert(op.transpose(guide, op.constant(np.array([0, 3, 1, 2]))), np.float32), constant(255))
    y = op.add(op.add(op.multiply(widen(gain, "linear_onnx"), full), widen(bias, "linear_onnx")), widen(rest, "cubic"))
    y = op.clamp(op.add(op.multiply(y, constant(255)), constant(0.5)), 0.0, 255.49)
    y = op.convert(op.transpose(y, op.constant(np.array([0, 2, 3, 1]))), np.uint8)
    return ov.Model([y], [native, draft, guide, size], "fullsize")


def inputs(native: Float32, draft: UInt8, guide: UInt8) -> dict[str, Any]:
    """What `graph` takes: native (3, h, w) in [-1, 1], draft (h, w, 3) and guide (H, W, 3) uint8."""
    return {
        "native": (native[None] + 1) / 2,
        "draft": np.ascontiguousarray(draft.transpose(2, 0, 1)[None], np.float32) / 255,
        "guide": guide[None],
        "size": np.array(guide.shape[:2], np.int64),
    }
