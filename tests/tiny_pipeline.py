"""A real pipeline, small enough for tests of the engine: a denoiser in closed form instead of a network.

A picture's latent is (3, height/32, width/32). The denoiser predicts softsign(c + x/2) with c a colour drawn from the
prompt; softsign needs only operations that IEEE 754 rounds exactly, so every row is the same in any batch. Each
32-pixel square of the picture shows one value of the latent.

Words of the prompt do things: "explode in encode", "explode in evaluate" and "explode in decode" raise there, "refuse"
raises InvalidRequest in encode, "panic" raises a BaseException in evaluate, "nan" gives no number, "ragged" gives
pixels of a wrong size, and "heun", "euler" or "multistep" choose the sampler.
"""

from __future__ import annotations

import threading
import zlib

import numpy as np

from limner.engine import levels
from limner.engine.core import Batch, Encoded, Float32, Key, Request, SamplerName, UInt8
from limner.errors import InvalidRequest

SQUARE = 32
SAMPLERS: tuple[SamplerName, ...] = ("heun", "euler", "multistep")


class Explosion(Exception):
    pass


class Panic(BaseException):
    """As Rust extensions raise."""


class TinyPipeline:
    """`gate`, if given, is acquired before each evaluation; `entered` is released as one begins.

    Attributes:
        batches: The ids of each batch that was evaluated, in order.
        encoded, decoded: The ids that came so far.
    """

    name = "tiny"
    fingerprint = "tiny-1"

    def __init__(self, max_batch: int = 4, gate: threading.Semaphore | None = None) -> None:
        self.max_batch = max_batch
        self.gate = gate
        self.entered = threading.Semaphore(0)
        self.batches: list[list[str]] = []
        self.encoded: list[str] = []
        self.decoded: list[str] = []
        self._buffer: Float32 | None = None

    def encode(self, request: Request) -> Encoded:
        self.encoded.append(request.id)
        if "explode in encode" in request.prompt:
            raise Explosion
        if "refuse" in request.prompt:
            raise InvalidRequest("This prompt cannot be painted. Use another.")
        shape = (3, request.height // SQUARE, request.width // SQUARE)
        return Encoded(
            key=Key(self.name, shape, tokens=8),
            levels=levels.schedule(4 if request.steps is None else request.steps),
            guidance=1.0 if request.guidance is None else request.guidance,
            cost=float(shape[1] * shape[2]),
            conditioning=(request.prompt, _colour(request.prompt)),
            unconditional=(request.prompt, _colour("")),
            sampler=next((name for name in SAMPLERS if name in request.prompt), "multistep"),
            plan={"prompt": request.prompt},
            notes=("A note.",),
        )

    def evaluate(self, batch: Batch) -> Float32:
        self.entered.release()
        if self.gate is not None:
            self.gate.acquire()
        count = len(batch.requests)
        assert 1 <= count <= self.max_batch
        assert batch.x.shape == (count, *batch.key.shape)
        assert batch.t.shape == (count,)
        assert batch.x.dtype == batch.t.dtype == np.float32
        assert len(batch.conditioning) == count
        self.batches.append([request.id for request in batch.requests])
        out = np.empty_like(batch.x)
        for row, (x, t, (prompt, colour)) in enumerate(zip(batch.x, batch.t, batch.conditioning, strict=True)):
            if "explode in evaluate" in prompt:
                raise Explosion
            if "panic" in prompt:
                raise Panic
            mixed = colour[:, None, None] + x * np.float32(0.5) * (1 - t)
            out[row] = np.nan if "nan" in prompt else mixed / (1 + abs(mixed))
        # A compiled network hands out one buffer again and again.
        if self._buffer is None or self._buffer.shape != out.shape:
            self._buffer = np.empty_like(out)
        self._buffer[...] = out
        return self._buffer

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        self.decoded.append(request.id)
        if "explode in decode" in request.prompt:
            raise Explosion
        assert x.shape == encoded.key.shape
        assert x.dtype == np.float32
        rounded: UInt8 = np.clip(x * 127.5 + 127.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        pixels: UInt8 = rounded.repeat(SQUARE, 0).repeat(SQUARE, 1)
        return pixels[1:] if "ragged" in request.prompt else pixels


def _colour(prompt: str) -> Float32:
    digest = zlib.crc32(prompt.encode())
    return np.array([(digest >> shift & 255) / 64 - 2 for shift in (0, 8, 16)], np.float32)
