"""The judge's eyes: a small network that finds the evaluation's classes in a picture, and names their colours.

It is trained by `limner.evaluation.training.detector_train` on renderings that the painter does not draw with, and no
training of the painter sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.evaluation.classes import COLOURS, NAMES
from limner.painter.folder import read_folder
from limner.painter.scene import Colour
from limner.runtime.openvino import Network

WEIGHTS = Path(__file__).parent / "weights" / "detector"
FILE = "detector.onnx"
FORMAT = 1
KIND = "limner-detector"
MAKER = "limner.evaluation.training.detector_export"

SIDE = 256
"""Side that a picture is brought to, pixels."""
CELL = 8
"""Side of a cell, pixels."""
WINDOW = 64
"""Side of the window that is looked at, pixels."""
THING = 48
"""The longer side of a thing that fills a window as it should, pixels."""
LEVELS = (72, 88, 112, 144, 176, 224, 280, 344)
"""Sides of the squares that the picture is made, pixels: things of two thirds to a seventh of it fill a window."""
BORDER = 24
"""Pixels that are added around a level, so that a window may hang over the edge."""
CHANNELS = 1 + 2 + len(NAMES) + 1 + len(COLOURS)
"""That a thing fills the window, a logit; the logarithms of its width and height in units of THING; the classes' logits
and that of no class; the colours' logits."""
SAME = 0.5
"""Two boxes that share more than this part of the smaller are of one thing."""
LEAST = 0.1
"""Windows that are less sure than this are not told."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One thing that was found. Lengths are fractions of the picture; `x` and `y` are of its box's centre."""

    x: float
    y: float
    width: float
    height: float
    centre: float  # how sure it is that something is there, in (0, 1)
    classes: Float32  # (len(NAMES),): the probability of each class, given that something is there
    colours: Float32  # (len(COLOURS),): likewise of each colour

    def score(self, concept: str) -> float:
        """How sure it is that this thing is there, in (0, 1)."""
        return self.centre * float(self.classes[NAMES.index(concept)])

    @property
    def concept(self) -> str:
        """The likeliest class."""
        return NAMES[int(self.classes.argmax())]

    @property
    def colour(self) -> Colour:
        """The likeliest colour."""
        return COLOURS[int(self.colours.argmax())]


class Detector:
    """The network, compiled."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Detector:
        """Read the weights' folder.

        Raises:
            ModelUnusable: a file is missing, changed, or of other classes than this program asks for.
        """
        expected = {"format": FORMAT, "kind": KIND, "classes": list(NAMES), "colours": list(COLOURS)}
        read_folder(folder, "The detector", expected, (FILE,), MAKER)
        return cls(Network(folder / FILE))

    def __call__(self, pixels: UInt8) -> list[Detection]:
        """What may be in a picture (H, W, 3) of any size, which is squeezed to a square.

        A thing is told of by several windows and levels: `apart` chooses among them.
        """
        # It learned from pictures of this size, so that details which they lack would only lead it astray.
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
        found: list[Detection] = []
        for side in LEVELS:
            way = Image.Resampling.BOX if side < SIDE else Image.Resampling.BILINEAR
            small = np.asarray(picture.resize((side, side), way))
            planes = np.pad(small, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge").transpose(2, 0, 1)
            found += read(self._network({"pixels": np.ascontiguousarray(planes[None], np.float32)})[0], side)
        return found


def read(maps: Float32, side: int) -> list[Detection]:
    """The detections that the network's maps tell of at one level.

    Args:
        maps: (CHANNELS, rows, cols), in the order that CHANNELS says.
        side: of the level, pixels.
    """
    rows, cols = maps.shape[1:]
    sure = 1 / (1 + np.exp(-maps[0]))
    around = np.pad(sure, 1)
    windows = [around[dy : dy + rows, dx : dx + cols] for dy in range(3) for dx in range(3)]
    found = []
    for row, col in np.argwhere((sure >= np.max(windows, axis=0)) & (sure >= LEAST)):
        cell = maps[:, row, col]
        width, height = np.exp(np.clip(cell[1:3], -3, 1)) * THING / side
        x, y = ((k * CELL + WINDOW / 2 - BORDER) / side for k in (float(col), float(row)))
        classes = _softmax(cell[3 : 4 + len(NAMES)])[:-1]
        colours = _softmax(cell[4 + len(NAMES) :])
        found.append(Detection(x, y, float(width), float(height), float(sure[row, col]), classes, colours))
    return found


def apart(found: Iterable[Detection], concept: str, least: float) -> list[Detection]:
    """The things of a class, each once, the surest first: those of this score that share no box with a surer one.

    What a thing's colour is, all windows on it say together, by their scores.
    """
    kept: list[list[Detection]] = []
    for one in sorted(found, key=lambda one: -one.score(concept)):
        if one.score(concept) < least:
            break
        same = next((group for group in kept if _overlap(one, group[0]) >= SAME), None)
        if same is None:
            kept.append([one])
        else:
            same.append(one)
    return [replace(group[0], colours=_together(group, concept)) for group in kept]


def _together(group: Sequence[Detection], concept: str) -> Float32:
    weights = np.array([one.score(concept) for one in group], np.float32)
    return np.asarray(weights @ np.stack([one.colours for one in group]) / weights.sum(), np.float32)


def _overlap(one: Detection, other: Detection) -> float:
    """What two boxes share, as a part of the smaller."""
    wide = min(one.x + one.width / 2, other.x + other.width / 2) - max(one.x - one.width / 2, other.x - other.width / 2)
    top = max(one.y - one.height / 2, other.y - other.height / 2)
    tall = min(one.y + one.height / 2, other.y + other.height / 2) - top
    return max(wide, 0.0) * max(tall, 0.0) / min(one.width * one.height, other.width * other.height)


def _softmax(logits: Float32) -> Float32:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum(), np.float32)
