"""What a family of models must do: encode a request, evaluate the denoiser, decode the latent."""

from __future__ import annotations

from typing import Protocol

from limner.engine.core import Batch, Encoded, Float32, Request, UInt8


class Pipeline(Protocol):
    """A model, loaded. Called from the engine's thread alone, one method at a time.

    Each result depends on the request alone: never on neighbours in the batch, on earlier calls, or on the clock.
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
