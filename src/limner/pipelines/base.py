"""What a family of models must do: encode a request, evaluate the denoiser, decode the latent."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np

from limner.engine import samplers
from limner.engine.core import Batch, Encoded, Float32, Request, UInt8


class Pipeline(Protocol):
    """A model, loaded. Called from the engine's thread alone, one method at a time.

    Each result depends on the request alone: never on neighbours in the batch, on earlier calls, or on the clock. What
    a method raises ends that request alone; OutOfMemory says that memory was short, and that it was given back. A
    pipeline may have a method `close`, called once, from another thread, when it is evicted: memory that outlives the
    object, a cache on a GPU say, is freed there.
    """

    name: str
    fingerprint: str  # checksum of the weights; equal fingerprints paint equal pictures
    max_batch: int  # the most requests that one evaluation may carry

    def encode(self, request: Request) -> Encoded:
        """Read the prompt and the references.

        Raises:
            InvalidRequest: the request asks for something that this family cannot do.
        """
        ...

    def evaluate(self, batch: Batch) -> Float32:
        """Predict the clean latent of each request: (B, *key.shape), from `batch.x` at `batch.t`."""
        ...

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        """Turn a clean latent of shape `key.shape` into pixels of shape (request.height, request.width, 3)."""
        ...


@runtime_checkable
class Previewing(Protocol):
    """A pipeline that can show at little cost how a picture comes along.

    Asked after each step but the last, as long as it keeps to its share of the time (`engine.PREVIEW_SHARE`).
    """

    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8 | None:
        """A small picture of a clean latent of shape `key.shape`: (h, w, 3), each side at most PREVIEW_SIDE pixels."""
        ...


def pooled(x: Float32, most: int) -> Float32:
    """(C, H, W) averaged over squares, so that no side is longer than `most`; what fills no square is cut off."""
    channels, height, width = x.shape
    side = math.ceil(max(height, width) / most)
    rows, columns = height // side, width // side
    squares = x[:, : rows * side, : columns * side].reshape(channels, rows, side, columns, side)
    means: Float32 = squares.mean((2, 4))
    return means


def denoised(pipeline: Pipeline, request: Request, encoded: Encoded) -> Float32:
    """The clean latent, of shape `key.shape`, as the engine comes to it for a request that is alone."""
    sampler = samplers.SAMPLERS[encoded.sampler]
    noise = encoded.spread * samplers.noise(request.seed, encoded.key.shape)
    state = samplers.begin(noise, encoded.levels, request.seed, encoded.held)

    def predict(conditioning: Any) -> Float32:
        batch = samplers.batch(encoded.key, [request], [state], [conditioning])
        return np.array(pipeline.evaluate(batch)[0])  # a pipeline may write its buffer again

    while not state.finished:
        prediction = predict(encoded.conditioning)
        if encoded.guidance != 1:
            other = predict(encoded.unconditional)
            prediction = samplers.combined(encoded.guiding, prediction, other, encoded.guidance, state)
        state = sampler.advance(state, samplers.holding(prediction, encoded.held))
    clean: Float32 = state.result
    return clean


REHEARSAL = (
    "a red fox on a snowy hill",
    "a man in a white t-shirt on a sunny beach",
    "a city at night in the rain, neon",
)
"""Prompts of pictures that are unlike each other."""


def rehearse(pipeline: Pipeline, side: int) -> None:
    """Denoise a few squares of so many pixels in few steps, for whoever watches what goes on inside the network."""
    for seed, prompt in enumerate(REHEARSAL):
        request = Request(f"rehearsal-{seed}", prompt, seed, side, side, steps=4)
        denoised(pipeline, request, pipeline.encode(request))
