"""Painting one picture after another with a pipeline, as the engine does for a request that is alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limner.engine.core import Encoded, Request, UInt8
from limner.pipelines import repaint
from limner.pipelines.base import Pipeline, denoised


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A finished picture."""

    pixels: UInt8  # (height, width, 3)
    plan: dict[str, Any] | None  # the scene that was painted, as JSON
    notes: tuple[str, ...]  # sentences about words that had no effect


def paint(pipeline: Pipeline, request: Request) -> Painted:
    """Encode, evaluate to the last step, decode: the bytes that the engine paints for this request.

    Raises:
        LimnerError: the pipeline cannot paint this request.
    """
    encoded = pipeline.encode(request)
    return Painted(finish(pipeline, request, encoded), encoded.plan, encoded.notes)


def finish(pipeline: Pipeline, request: Request, encoded: Encoded) -> UInt8:
    """The picture, (height, width, 3), of what the pipeline encoded for this request."""
    return repaint.laid(pipeline.decode(request, encoded, denoised(pipeline, request, encoded)), request)
