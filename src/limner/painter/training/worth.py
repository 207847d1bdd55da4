"""What the denoiser is worth, for the eye: strengths side by side, variety over seeds, and a blind look at pairs.

    python -m limner.painter.training.worth strengths --out strengths.png
    python -m limner.painter.training.worth seeds --out seeds.png --prompt "a cat on a sofa"
    python -m limner.painter.training.worth pairs --out runs/pairs --count 30
    python -m limner.painter.training.worth score --pairs runs/pairs --answers answers.txt

Everything goes through the painter's own pipeline. In a pair, the flat draft and the picture painted from it stand left
and right by chance; which is which is kept in the folder's `key`, packed, so that a look at the folder does not tell.
An answer is a line of the pair's number and `left`, `right` or `same`: which of the two is the better illustration of
its prompt.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from limner.engine.core import Request, UInt8
from limner.evaluation.painting import paint
from limner.evaluation.score import Share
from limner.pipelines.painter import WEIGHTS, Drafted, PainterPipeline

PROMPTS = (
    "a red fox on a snowy hill",
    "a man in a white t-shirt on a sunny beach",
    "two red balloons above a house, watercolor",
    "a girl beside the tall window of a library",
    "a sailing boat at sunset, comic book style",
    "three mushrooms in the forest, 3d render",
    "a knight in armor in front of a castle, medieval manuscript",
    "a robot in the city at night, pixel art",
    "an old woman with a cat in the kitchen",
    "a whale under water, paper cut-out",
    "a rocket above the moon, vivid",
    "a tractor on a farm in the rain",
)
STRENGTHS = (0.0, 0.3, 0.6, 1.0)
PAIRS_A_SHEET = 5
LABEL = 22  # pixels of a line of words


def draft_of(painter: PainterPipeline, request: Request) -> UInt8:
    """The flat draft that the request's picture is painted from, at the picture's size, (height, width, 3)."""
    drafted: Drafted = painter.encode(request).detail
    return drafted.draft.draw(request.width, request.height)


def strengths(painter: PainterPipeline, prompts: Sequence[str], side: int, seed: int = 0) -> UInt8:
    """A sheet with a row for each prompt: the draft, then the picture at each of STRENGTHS."""
    rows = []
    for prompt in prompts:
        asked = [Request("worth", prompt, seed, side, side, strength=strength) for strength in STRENGTHS]
        pictures = [draft_of(painter, asked[0]), *(paint(painter, request).pixels for request in asked)]
        rows.append(_labelled(np.concatenate(pictures, axis=1), prompt))
    head = "draft" + "".join(f" | strength {strength:g}" for strength in STRENGTHS)
    return _labelled(np.concatenate(rows), head)


def seeds(painter: PainterPipeline, prompt: str, side: int, across: int = 3) -> UInt8:
    """A sheet of the prompt's pictures of seeds 0 to across² - 1, rows first."""
    pictures = [paint(painter, Request("worth", prompt, k, side, side)).pixels for k in range(across**2)]
    rows = [np.concatenate(pictures[k : k + across], axis=1) for k in range(0, across**2, across)]
    return _labelled(np.concatenate(rows), prompt)


def pairs(painter: PainterPipeline, prompts: Sequence[str], count: int, side: int, out: Path, seed: int) -> None:
    """Write `out`/pairs-NN.png, a few pairs on each, and `out`/key. Prompts come again with other seeds.

    Args:
        seed: of the choice of sides and of the pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)  # noqa: S311 - no secrets
    key, rows = [], []
    for number in range(count):
        request = Request("worth", prompts[number % len(prompts)], seed + number, side, side)
        both = [draft_of(painter, request), paint(painter, request).pixels]
        painted_left = rng.random() < 0.5
        gap = np.full((side, 12, 3), 255, np.uint8)
        row = np.concatenate((both[painted_left], gap, both[not painted_left]), axis=1)
        rows.append(_labelled(row, f"{number}: {request.prompt}"))
        key.append("left" if painted_left else "right")
        if len(rows) == PAIRS_A_SHEET or number == count - 1:
            Image.fromarray(np.concatenate(rows)).save(out / f"pairs-{number // PAIRS_A_SHEET:02d}.png")
            rows = []
    (out / "key").write_bytes(base64.b64encode(zlib.compress(json.dumps(key).encode())))


def score(folder: Path, answers: str) -> dict[str, Any]:
    """How often the picture was preferred to the draft, of the pairs that were not said to be the same.

    Args:
        answers: lines of a pair's number and `left`, `right` or `same`; empty lines and what follows a # are left out.

    Returns:
        "picture", "draft" and "same", counts of pairs; "share" of the picture, and "interval" with 95% confidence.

    Raises:
        ValueError: a pair has no answer, two, or one that is none.
    """
    key = json.loads(zlib.decompress(base64.b64decode((folder / "key").read_bytes())))
    given: dict[int, str] = {}
    for line in answers.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("left", "right", "same") or not words[0].isdigit():
            raise ValueError(f"{line!r} is no answer; say a number and left, right or same.")
        if int(words[0]) in given:
            raise ValueError(f"Pair {words[0]} has two answers.")
        given[int(words[0])] = words[1]
    if sorted(given) != list(range(len(key))):
        raise ValueError(f"Each of the pairs 0 to {len(key) - 1} needs an answer.")
    same = sum(answer == "same" for answer in given.values())
    picture = sum(given[k] == side for k, side in enumerate(key))
    share = Share(picture, len(key) - same)
    return {
        "picture": picture, "draft": len(key) - same - picture, "same": same, "share": share.value,
        "interval": share.interval,
    }  # fmt: skip


def _labelled(picture: UInt8, words: str) -> UInt8:
    """The picture under a line of words."""
    line = Image.new("RGB", (picture.shape[1], LABEL), "white")
    ImageDraw.Draw(line).text((6, 4), words, fill="black")
    return np.concatenate((np.asarray(line), picture))


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what the denoiser is worth.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("strengths", "seeds", "pairs"):
        painting = commands.add_parser(name)
        painting.add_argument("--out", type=Path, required=True)
        painting.add_argument("--weights", type=Path, default=WEIGHTS)
        painting.add_argument("--side", type=int, default=512, help="of each picture, in pixels")
        painting.add_argument("--prompt", default=PROMPTS[0], help="of seeds")
        painting.add_argument("--count", type=int, default=30, help="of pairs")
        painting.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score")
    scoring.add_argument("--pairs", type=Path, required=True)
    scoring.add_argument("--answers", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "score":
        print(json.dumps(score(args.pairs, args.answers.read_text())))  # noqa: T201  # this command's output
        return
    painter = PainterPipeline.load(args.weights)
    if args.command == "pairs":
        pairs(painter, PROMPTS, args.count, args.side, args.out, args.seed)
    elif args.command == "seeds":
        Image.fromarray(seeds(painter, args.prompt, args.side)).save(args.out)
    else:
        Image.fromarray(strengths(painter, PROMPTS, args.side, args.seed)).save(args.out)


if __name__ == "__main__":
    main()
