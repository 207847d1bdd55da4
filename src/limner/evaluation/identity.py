"""Who is it? A small network that tells subjects apart whatever they were painted like, and ranks references by it.

Trained by `limner.evaluation.training.identity_train` on characters and things that the reference task does not show;
no training of the painter sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.folder import read_folder
from limner.runtime.openvino import Network

KIND, FORMAT = "limner-identity", 1
FILE = "identity.onnx"
MAKER = "limner.evaluation.training.identity_train"
WEIGHTS = Path(__file__).parent / "weights" / "identity"
SIDE = 64  # of what the network looks at, pixels
FEATURES = 128
ROOM = 1.1  # side of the square that is looked at, in the subject's longest side
GROUNDS = ((200, 200, 200), (90, 130, 200), (90, 140, 90), (200, 160, 110), (60, 50, 60))
"""Colours that a reference is looked at on; the mean of all depends on the ground less (LAB_LOG: 0.94 to 0.99)."""


class Identity:
    """The network, loaded."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @classmethod
    def load(cls, folder: Path = WEIGHTS, threads: int = 0) -> Identity:
        """Read the network.

        Raises:
            ModelUnusable: a file is missing, corrupt or of another format.
        """
        expected = {"kind": KIND, "format": FORMAT, "side": SIDE, "features": FEATURES}
        read_folder(folder, "The identity network", expected, (FILE,), MAKER)
        return cls(Network(folder / FILE, threads=threads))

    def features(self, looks: Sequence[UInt8]) -> Float32:
        """What tells these subjects apart: (B, FEATURES), each of length 1. `looks` are (SIDE, SIDE, 3) uint8."""
        x = np.stack(looks).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1
        return np.asarray(self._network({"x": x}), np.float32)

    def gallery(self, references: Sequence[UInt8]) -> Float32:
        """The same of references, each (H, W, 4) uint8, premultiplied: the mean over several grounds."""
        looks = [framed(reference, SIDE) for reference in references]
        mean = np.mean([self.features([_on(look, ground) for look in looks]) for ground in GROUNDS], axis=0)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def of_picture(picture: UInt8, left: float, top: float, width: float, height: float, flip: bool) -> UInt8:
    """How the network sees a subject in a picture (H, W, 3): the square around its box, (SIDE, SIDE, 3).

    Lengths are fractions of the picture's height. What lies outside of the picture is as its edge is.
    """
    unit = picture.shape[0]
    half = ROOM * max(width, height) / 2
    x, y = left + width / 2, top + height / 2
    x0, y0, side = round((x - half) * unit), round((y - half) * unit), max(1, round(2 * half * unit))
    rows = np.clip(np.arange(y0, y0 + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, picture.shape[1] - 1)
    look = Image.fromarray(picture[np.ix_(rows, columns)]).resize((SIDE, SIDE), Image.Resampling.BOX)
    seen = np.asarray(look)
    return seen[:, ::-1] if flip else seen


def framed(drawing: UInt8, side: int) -> UInt8:
    """A drawing's visible part in the middle of a square with a little room: (side, side, 4) uint8, premultiplied."""
    channels = [Image.fromarray(drawing[..., k]) for k in range(4)]  # apart, as Pillow takes RGBA for straight alpha
    box = channels[3].point(lambda a: 255 if a > 24 else 0).getbbox() or (0, 0, 1, 1)
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = ROOM * max(box[2] - box[0], box[3] - box[1]) / 2
    around = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    small = [channel.crop(around).resize((side, side), Image.Resampling.BOX) for channel in channels]
    return np.stack([np.asarray(channel) for channel in small], axis=-1)


def _on(look: UInt8, ground: tuple[int, int, int]) -> UInt8:
    """A premultiplied look on a ground of one colour."""
    rest = 255 - look[..., 3:].astype(np.uint16)
    return np.asarray(look[..., :3] + np.array(ground, np.uint16) * rest // 255, np.uint8)


def rank(query: Float32, gallery: Float32, own: int) -> int:
    """How many of the gallery, (N, FEATURES), are nearer to the query, (FEATURES,), than number `own`: 0 is first."""
    likeness = gallery @ query
    return int((likeness > likeness[own]).sum())
