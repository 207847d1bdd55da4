"""Whose face is in a picture: numbers that face adapters were trained with, by insightface, which a user may install.

It is not in any install of Limner: its code is free, but its networks are licensed for research alone.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from limner.engine.core import UInt8
from limner.errors import InvalidRequest, ModelUnusable

NETWORKS = Path("~/.insightface/models/buffalo_l")
"""Where insightface keeps the networks that this reads faces with."""


def identity(picture: UInt8) -> Any:
    """The identity, (512,) float32 of length 1, of the largest face in a picture of (H, W, 3).

    Raises:
        ModelUnusable: insightface or its networks are not installed.
        InvalidRequest: there is no face.
    """
    faces = reader().get(picture[..., ::-1])  # it takes blue, green, red
    if not faces:
        raise InvalidRequest("There is no face in a reference. Send a picture in which the face is large and whole.")
    return max(faces, key=lambda face: (face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1])).normed_embedding


@cache
def reader() -> Any:
    """insightface's reader, made once. Raises as `identity` does."""
    try:
        insightface: Any = importlib.import_module("insightface.app")
    except ImportError:
        raise ModelUnusable(
            "This adapter reads faces with insightface, which is not installed. Install the package insightface, and "
            "see whether the licence of its networks, for research alone, allows your use."
        ) from None
    if not NETWORKS.expanduser().is_dir():  # it would download them itself
        raise ModelUnusable(
            f"This adapter reads faces with insightface's networks buffalo_l. Put them into {NETWORKS}; it is missing."
        )
    made = insightface.FaceAnalysis(name="buffalo_l", providers=["CPUExecutionProvider"])
    made.prepare(ctx_id=-1, det_size=(640, 640))
    return made
