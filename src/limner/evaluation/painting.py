"""Painting one picture after another with a pipeline, as the engine does for a request that is alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from limner.engine import samplers
from limner.engine.core import Encoded, Float32, Request, UInt8
from limner.pipelines.base import Pipeline


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
    sampler = samplers.SAMPLERS[encoded.sampler]
    noise = encoded.spread * samplers.noise(request.seed, encoded.key.shape)
    state = samplers.begin(noise, encoded.levels, request.seed)

    def predict(conditioning: Any) -> Float32:
        batch = samplers.batch(encoded.key, [request], [state], [conditioning])
        return np.array(pipeline.evaluate(batch)[0])  # a pipeline may write its buffer again

    while not state.finished:
        prediction = predict(encoded.conditioning)
        if encoded.guidance != 1:
            other = predict(encoded.unconditional)
            prediction = samplers.combined(encoded.guiding, prediction, other, encoded.guidance, state)
        state = sampler.advance(state, prediction)
    return pipeline.decode(request, encoded, state.result)
