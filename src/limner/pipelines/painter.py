"""The built-in painter as a pipeline: plan and draft a scene, repaint it with the denoiser, bring it to full size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from limner.engine.core import SEEDS, Batch, Encoded, Float32, Key, Request, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.painter import draft, fullsize
from limner.painter.bank import Bank
from limner.painter.cutout import cut_out
from limner.painter.denoiser import (
    PATCH, REFERENCE_SIDE, STYLES, TEXT_TOKENS, grid, hide, reference_patches, rotary,
)  # fmt: skip
from limner.painter.planner import ParsingPlanner, Planner
from limner.painter.scene import Reference, Scene
from limner.painter.words import Words
from limner.runtime.openvino import Network

WEIGHTS = Path(__file__).parent.parent / "painter" / "weights" / "denoiser"
FORMAT = 1
STEPS = 4
STRENGTH = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """What decode needs of encode."""

    scene: Scene
    cutouts: tuple[UInt8, ...]
    native: UInt8  # the draft at the native size, (h, w, 3)


class PainterPipeline:
    """The painter, loaded. One evaluation at a time: on a CPU a batch is no faster, and alone is exactly alone."""

    name = "painter"
    max_batch = 1

    def __init__(self, planner: Planner, bank: Bank, words: Words, denoiser: Network, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._planner = planner
        self._bank = bank
        self._words = words
        self._denoiser = denoiser
        self._fullsize = Network(fullsize.graph())

    @classmethod
    def load(cls, weights: Path = WEIGHTS, threads: int = 0) -> PainterPipeline:
        """Load bank, text encoder and denoiser.

        Raises:
            ModelUnusable: a file is missing, corrupt or of another format.
        """
        meta, network = read_weights(weights)
        bank, words = Bank.load(), Words.load()
        denoiser = Network(network, precision="bf16", threads=threads)
        parts = json.dumps([meta, bank.meta, words.meta], sort_keys=True, default=str)
        fingerprint = hashlib.sha256(parts.encode()).hexdigest()[:16]
        return cls(ParsingPlanner(bank, words), bank, words, denoiser, fingerprint)

    def encode(self, request: Request) -> Encoded:
        if request.style is not None and request.style not in STYLES:
            raise InvalidRequest(f"There is no style {request.style!r}. Choose one of {', '.join(STYLES)}.")
        cutouts = tuple(cut_out(reference).pixels for reference in request.references)
        aspect = request.width / request.height
        scene, notes = self._scene(request, aspect, len(cutouts))
        rows, cols = grid(request.width, request.height)
        native = draft.draw(scene, cols * PATCH, rows * PATCH, self._bank, cutouts, aspect)

        strength = STRENGTH if request.strength is None else request.strength
        text = self._words.tokens(request.prompt)[None, :TEXT_TOKENS]
        cos, sin = rotary(rows, cols, len(cutouts))
        # The latent's noise has the seed itself as its key, so what is hidden has another.
        hiding = np.random.Generator(np.random.Philox(key=request.seed + SEEDS))
        known = {
            "draft": hide(native, strength, hiding)[None],
            "reference": self._references(cutouts),
            "strength": np.float32([strength]),
            "cos": cos,
            "sin": sin,
        }
        style = _one_hot(scene.style) * request.style_weight + _one_hot("storybook") * (1 - request.style_weight)
        return Encoded(
            key=Key(request.model, (3, rows * PATCH, cols * PATCH), len(cos)),
            steps=STEPS if request.steps is None else request.steps,
            guidance=1.0 if request.guidance is None else request.guidance,
            cost=float(len(cos)),
            conditioning=known | {"text": text, "style": style},
            unconditional=known | {"text": np.zeros_like(text), "style": np.zeros_like(style)},
            plan=scene.model_dump(mode="json"),
            detail=Drafted(scene, cutouts, native),
            notes=notes,
        )

    def evaluate(self, batch: Batch) -> Float32:
        rows = zip(batch.x, batch.t, batch.conditioning, strict=True)
        return np.concatenate([self._denoiser({"x": x[None], "t": t[None], **known}) for x, t, known in rows])

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        drafted: Drafted = encoded.detail
        guide = draft.draw(drafted.scene, request.width, request.height, self._bank, drafted.cutouts)
        pixels: UInt8 = self._fullsize(fullsize.inputs(x, drafted.native, guide))[0]
        return pixels

    def _scene(self, request: Request, aspect: float, references: int) -> tuple[Scene, tuple[str, ...]]:
        if request.scene is None:
            plan = self._planner.plan(request.prompt, request.seed, aspect, references, request.style)  # type: ignore[arg-type]  # checked against STYLES
            return plan.scene, plan.notes
        try:
            scene = Scene.model_validate(request.scene)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest(f"The scene is not valid at {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
        for item in scene.items:
            if isinstance(item, Reference) and item.index >= references:
                raise InvalidRequest(f"The scene shows reference {item.index}, but {references} came; they count from 0.")
            if item.kind == "thing" and item.concept not in self._bank:
                raise InvalidRequest(f"The bank has no drawing {item.concept!r}. `limner models` says where they are listed.")
        return scene, ()

    def _references(self, cutouts: Sequence[UInt8]) -> Float32:
        side = REFERENCE_SIDE * PATCH
        sprites = [draft.sprite(Reference(index=k), side, self._bank, cutouts) for k in range(len(cutouts))]
        patches = [reference_patches(sprite) for sprite in sprites]
        return np.concatenate(patches)[None] if patches else np.zeros((1, 0, 4 * PATCH * PATCH), np.float32)


def read_weights(folder: Path) -> tuple[dict[str, Any], Path]:
    """meta.json and the network file of a denoiser, checked against each other.

    Raises:
        ModelUnusable: with a sentence that says which file is at fault.
    """
    again = "Install Limner again, or export the model again."
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        (name, wanted), *_ = meta["sha256"].items()
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise ModelUnusable(f"The model file {error.filename} is missing. {again}") from error
    except OSError as error:
        raise ModelUnusable(f"The model file {error.filename} cannot be read: {error.strerror}. {again}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelUnusable(f"{folder / 'meta.json'} is not a model's meta.json. {again}") from error
    if meta.get("kind") != "limner-denoiser" or meta.get("format") != FORMAT:
        raise ModelUnusable(f"{folder} holds {meta.get('kind')!r} of format {meta.get('format')}, not a denoiser of format {FORMAT}. {again}")
    if meta.get("styles") != list(STYLES) or meta.get("patch") != PATCH:
        raise ModelUnusable(f"The denoiser in {folder} was trained for other styles or patches than this version's. {again}")
    if found != wanted:
        raise ModelUnusable(f"{folder / name} is corrupt: its checksum is not the one in meta.json. {again}")
    return meta, folder / name


def _one_hot(style: str) -> Float32:
    return np.eye(len(STYLES), dtype=np.float32)[[STYLES.index(style)]]
