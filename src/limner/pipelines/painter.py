"""The built-in painter as a pipeline: plan and draft a scene, repaint it with the denoiser, bring it to full size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from pydantic import ValidationError

from limner.engine import levels
from limner.engine.core import PREVIEW_SIDE, SEEDS, Batch, Encoded, Float32, Held, Key, Request, UInt8
from limner.errors import InvalidRequest
from limner.painter import fullsize
from limner.painter.bank import Bank
from limner.painter.cutout import Cutout, cut_out
from limner.painter.denoiser import (
    PATCH,
    REFERENCE_SIDE,
    STYLES,
    TEXT_TOKENS,
    grid,
    hide,
    one_hot,
    read_weights,
    reference_patches,
    rotary,
)
from limner.painter.draft import Draft, compose, sprite
from limner.painter.fullsize import FullSize
from limner.painter.matting import Matting
from limner.painter.planner import MOST_REFERENCES, ParsingPlanner, Planner
from limner.painter.planner.reader import Reader
from limner.painter.repaint import Frame, grounded
from limner.painter.scene import Reference, Scene, Style, Thing
from limner.painter.words import Words
from limner.pipelines.base import pooled
from limner.pipelines.repaint import coarse
from limner.runtime.openvino import Network

WEIGHTS = Path(__file__).parent.parent / "painter" / "weights" / "denoiser"
STEPS = 2
STRENGTH = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """What decode needs of encode."""

    scene: Scene
    draft: Draft  # drawn again at full size: as vectors it is small, and many requests may wait
    strength: float


FLOWS = "The prompt names no place, so the colours around the mask flow in behind what it names."

PIXELS_A_TOKEN = 500
"""How many pixels of the full size take as long as the denoiser takes for a token of one evaluation: 460 to 580 were
measured on two cores, from 512×512 to 2048×2048."""


class PainterPipeline:
    """The painter, loaded. One evaluation at a time: on a CPU a batch is no faster, and alone is exactly alone."""

    name = "painter"
    max_batch = 1

    def __init__(
        self,
        planner: Planner,
        bank: Bank,
        words: Words,
        denoiser: Network,
        matting: Matting,
        full_size: FullSize,
        fingerprint: str,
    ) -> None:
        self.fingerprint = fingerprint
        self._planner = planner
        self._bank = bank
        self._words = words
        self._denoiser = denoiser
        self._matting = matting
        self._full_size = full_size
        self._cut: tuple[tuple[UInt8, ...], int, tuple[Cutout, ...]] = ((), 0, ())

    @classmethod
    def load(cls, weights: Path = WEIGHTS, threads: int = 0) -> PainterPipeline:
        """Load bank, text encoder, planner and denoiser, the networks for so many CPU threads, 0 for all cores.

        Raises:
            ModelUnusable: a file is missing, corrupt or of another format.
        """
        meta, network = read_weights(weights)
        with ThreadPoolExecutor() as pool:  # the networks take longest, and OpenVINO lets go of the interpreter
            compiled = pool.submit(Network, network, precision="bf16", threads=threads)
            encoder = pool.submit(Words.load, threads=threads)
            enlarger = pool.submit(FullSize.load, threads=threads)
            reading = pool.submit(Reader.load, threads=threads)
            bank, matting = Bank.load(), Matting(threads=threads)
        denoiser, words, reader = compiled.result(), encoder.result(), reading.result()
        full_size = enlarger.result()
        learned = (bank.meta, words.meta, reader.meta, matting.meta, full_size.meta)
        parts = json.dumps([meta, *map(dict, learned)], sort_keys=True)
        fingerprint = hashlib.sha256(parts.encode()).hexdigest()[:16]
        return cls(ParsingPlanner(bank, words, reader), bank, words, denoiser, matting, full_size, fingerprint)

    def encode(self, request: Request) -> Encoded:
        """Plan and draft the scene.

        Raises:
            InvalidRequest: the style or the scene is not one that can be painted.
            ReferenceRefused: a reference shows nothing.
        """
        if request.style is not None and request.style not in STYLES:
            raise InvalidRequest(f"There is no style {request.style!r}. Choose one of {', '.join(STYLES)}.")
        if request.negative_prompt:
            raise InvalidRequest("The painter takes no negative prompt: say in the prompt what is to be seen.")
        if request.loras:
            raise InvalidRequest("The painter takes no LoRA; only models of weights of your own do. Leave loras out.")
        repainted = 0 if request.mask is None else 1
        shown = len(request.references) - repainted
        if shown > MOST_REFERENCES:
            raise InvalidRequest(f"A picture shows up to {MOST_REFERENCES} references, not {shown}.")
        found = self._found(request.references, repainted)
        cutouts = tuple(cutout.pixels for cutout in found)
        aspect = request.width / request.height
        scene, notes = self._scene(request, aspect, found)
        notes += tuple(
            f"No subject stands out in reference {index}: the whole picture is shown, as a card."
            for index, cutout in enumerate(found)
            if cutout.how == "card"
        )
        draft = compose(scene, aspect, self._bank, cutouts)
        rows, cols = grid(request.width, request.height)
        held = None
        if request.mask is not None:
            picture = request.references[0][..., :3]
            draft = grounded(draft, scene, picture, request.mask)
            held = _held(picture, request.mask, rows * PATCH, cols * PATCH)
        native = draft.draw(cols * PATCH, rows * PATCH)

        strength = STRENGTH if request.strength is None else request.strength
        text = self._words.tokens(request.prompt)[None, :TEXT_TOKENS]
        cos, sin = rotary(rows, cols, len(cutouts))
        # The latent's noise has the seed itself as its key, so what is hidden has another.
        hiding = np.random.Generator(np.random.Philox(key=request.seed + SEEDS))
        known = {
            "draft": hide(native, strength, hiding)[None],
            "reference": self._references(cutouts),
            "strength": np.array([strength], np.float32),
            "cos": cos,
            "sin": sin,
        }
        style = one_hot(scene.style, request.style_weight)
        return Encoded(
            key=Key(request.model, (3, rows * PATCH, cols * PATCH), len(cos)),
            levels=levels.schedule(STEPS if request.steps is None else request.steps),
            sampler=request.sampler or "multistep",
            guidance=1.0 if request.guidance is None else request.guidance,
            cost=float(len(cos)),
            finish=request.width * request.height / PIXELS_A_TOKEN,
            conditioning=known | {"text": text, "style": style},
            unconditional=known | {"text": np.zeros_like(text), "style": np.zeros_like(style)},
            plan=scene.model_dump(mode="json"),
            detail=Drafted(scene, draft, strength),
            notes=notes,
            held=held,
        )

    def evaluate(self, batch: Batch) -> Float32:
        """The clean pictures that the denoiser predicts, (B, 3, h, w); each alone in the network."""
        rows = zip(batch.x, batch.t, batch.conditioning, strict=True)
        return np.concatenate([self._denoiser({"x": x[None], "t": t[None], **known}) for x, t, known in rows])

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        """The native picture at full size, (height, width, 3)."""
        drafted: Drafted = encoded.detail
        style, (width, height) = drafted.scene.style, (request.width, request.height)
        if style in fullsize.BLOCKS and request.style_weight > 0.5:
            return fullsize.blocks(x, width, height, fullsize.BLOCKS[style])
        guide = drafted.draft.draw(width, height)
        if style in fullsize.FILTERED:
            return fullsize.widen(x, guide, trust=1 - drafted.strength)
        # Neither the latent's noise nor what is hidden has this key.
        paper = fullsize.texture(style, width, height, request.seed + 2 * SEEDS)
        return self._full_size(x, guide, encoded.conditioning["style"], drafted.strength, paper)

    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        """The native picture, no larger than PREVIEW_SIDE."""
        rounded: UInt8 = (pooled(x, PREVIEW_SIDE).clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8)
        return rounded.transpose(1, 2, 0)

    def cutouts(self, references: tuple[UInt8, ...]) -> tuple[UInt8, ...]:
        """The references' subjects as they are drawn, each (H, W, 4) uint8 with straight alpha.

        Raises:
            ReferenceRefused: a reference shows nothing.
        """
        return tuple(cutout.pixels for cutout in self._found(references))

    def _found(self, references: tuple[UInt8, ...], first: int = 0) -> tuple[Cutout, ...]:
        """The subjects from the `first` reference on, cut out once for all pictures of a call, which share them."""
        known, since, found = self._cut
        if references is not known or first != since:
            found = tuple(cut_out(reference, self._matting) for reference in references[first:])
            self._cut = (references, first, found)
        return found

    def _scene(self, request: Request, aspect: float, cutouts: Sequence[Cutout]) -> tuple[Scene, tuple[str, ...]]:
        """The scene to paint, and sentences about what of the request it does not show."""
        style = cast("Style | None", request.style)
        if request.scene is None:
            frame = None if request.mask is None else Frame.around(request.mask)
            if frame is not None:
                aspect = min(max(aspect * frame.width / frame.height, 0.25), 4)
            ratios = [cutout.pixels.shape[1] / cutout.pixels.shape[0] for cutout in cutouts]
            busts = [index for index, cutout in enumerate(cutouts) if cutout.bust]
            plan = self._planner.plan(request.prompt, request.seed, aspect, ratios, style, busts)
            unused = ", ".join(f'"{word}"' for word in plan.unused)
            notes = plan.notes + ((f"Words that had no effect: {unused}.",) if unused else ())
            if frame is None:
                return plan.scene, notes
            return frame.moved(plan.scene, placed=plan.placed), notes + (() if plan.placed else (FLOWS,))
        try:
            scene = Scene.model_validate(request.scene)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or "its top"
            raise InvalidRequest(f"The scene is not valid at {at}: {first['msg']}.") from error
        shown = {item.index for item in scene.items if isinstance(item, Reference)}
        for index in sorted(shown):
            if index >= len(cutouts):
                raise InvalidRequest(f"The scene shows reference {index}, but {len(cutouts)} came; they count from 0.")
        for item in scene.items:
            if isinstance(item, Thing) and item.concept not in self._bank:
                raise InvalidRequest(
                    f"The bank has no drawing {item.concept!r}. The names are those of bank/index.json in the package."
                )
        missing = [str(index) for index in range(len(cutouts)) if index not in shown]
        notes = (f"The scene has no place for reference {', '.join(missing)}, which is not shown.",) if missing else ()
        return (scene if style is None else scene.model_copy(update={"style": style})), notes

    def _references(self, cutouts: Sequence[UInt8]) -> Float32:
        """The references' tokens, (1, R, 4 * PATCH * PATCH)."""
        sprites = (sprite(Reference(index=k), REFERENCE_SIDE * PATCH, self._bank, cutouts) for k in range(len(cutouts)))
        none = np.zeros((0, 4 * PATCH * PATCH), np.float32)
        return np.concatenate([none, *map(reference_patches, sprites)])[None]


def _held(picture: UInt8, mask: UInt8, height: int, width: int) -> Held:
    """What is held at the native size of the picture, (H, W, 3), that is repainted inside the mask, (H, W)."""
    native = Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BOX)
    clean = np.asarray(native, np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1
    return Held(clean, 1 - coarse(mask, height, width))
