"""Matrices in a few bits a value: an evenly spaced code for each, a scale for each group of 32 along a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUP = 32
SHRUNK = (1.0, 0.88, 0.76)  # scales that packing tries for each group, as shares of what its largest value asks for
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Packed:
    """R rows of C values, C a multiple of `GROUP`, at b bits a value, 1 to 8.

    A value is (code + 1/2 - 2^(b-1)) · scale, where scale = height of the row · scale of the group / 255: there is no
    zero, and as many values above as below. Rows are unpacked singly, so that a large table costs nothing to load.
    """

    codes: npt.NDArray[np.uint8]  # (R, C · b / 8), the values' codes one after the other, highest bit first
    scales: npt.NDArray[np.uint8]  # (R, C / GROUP)
    heights: npt.NDArray[np.float16]  # (R,)

    @property
    def bits(self) -> int:
        """Bits of one value."""
        return int(8 * self.codes.shape[1] // (self.scales.shape[1] * GROUP))

    def __len__(self) -> int:
        return len(self.codes)

    def rows(self, at: npt.NDArray[np.integer] | slice) -> Float32:
        """The rows at some indices, (N, C) float32."""
        bits = self.bits
        scale = self.heights[at].astype(np.float32)[:, None] / 255 * self.scales[at]
        single = np.unpackbits(self.codes[at], axis=1).reshape(*scale.shape, GROUP, bits)
        codes = np.packbits(single, axis=3)[..., 0] >> (8 - bits)
        values = (codes + np.float32(0.5 - 2 ** (bits - 1))) * scale[..., None]
        return np.asarray(values.reshape(len(scale), self.scales.shape[1] * GROUP))

    @classmethod
    def pack(cls, matrix: Float32, bits: int) -> Packed:
        """A matrix, (R, C), packed; of each group's scales in `SHRUNK` the one that leaves the least square error.

        Raises:
            ValueError: C is no multiple of `GROUP`.
        """
        if matrix.shape[1] % GROUP:
            raise ValueError(f"{matrix.shape[1]} columns are not groups of {GROUP}.")
        groups = matrix.reshape(len(matrix), -1, GROUP).astype(np.float32)
        half = 2 ** (bits - 1)
        wanted = np.maximum(np.abs(groups).max(2) / (half - 0.5), 1e-6)
        heights = wanted.max(1).astype(np.float16)
        unit = heights.astype(np.float32)[:, None] / 255
        scales = np.zeros(wanted.shape, np.uint8)
        codes = np.zeros(groups.shape, np.uint8)
        least = np.full(wanted.shape, np.inf, np.float32)
        for share in SHRUNK:
            tried = np.clip(np.rint(share * wanted / unit), 1, 255)
            step = (tried * unit)[..., None]
            code = np.clip(np.floor(groups / step) + half, 0, 2 * half - 1)
            error = (((code + 0.5 - half) * step - groups) ** 2).sum(2)
            better = error < least
            least = np.where(better, error, least)
            scales = np.where(better, tried, scales).astype(np.uint8)
            codes = np.where(better[..., None], code, codes).astype(np.uint8)
        single = np.unpackbits(codes[..., None], axis=3)[..., 8 - bits :]
        return cls(np.packbits(single.reshape(len(matrix), -1), axis=1), scales, heights)

    def arrays(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, each name after `name` and a dot."""
        return {f"{name}.codes": self.codes, f"{name}.scales": self.scales, f"{name}.heights": self.heights}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> Packed:
        """The matrix whose arrays were saved under `name`.

        Raises:
            KeyError: there is none.
        """
        codes, scales, heights = (arrays[f"{name}.{part}"] for part in ("codes", "scales", "heights"))
        return cls(codes.astype(np.uint8), scales.astype(np.uint8), heights.astype(np.float16))
