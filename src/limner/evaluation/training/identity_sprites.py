"""What the identity network learns from: families of characters that nearly look the same, things, and places.

    npm install --ignore-scripts @dicebear/core@9.4.3 @dicebear/personas@9.4.3 @dicebear/open-peeps@9.4.3 \
        @dicebear/big-smile@9.4.3 @dicebear/adventurer@9.4.3 @dicebear/pixel-art@9.4.3 @dicebear/notionists@9.4.3 \
        facesjs@5.0.3
    python -m limner.evaluation.training.identity_sprites --packages node_modules --out runs/identity.npz

None of the sets is one of the reference task's. Licences: CC0-1.0 (Open Peeps, Notionists, Pixel Art), CC-BY-4.0
(Personas, Custom Avatar, Adventurer), Apache-2.0 (facesjs); Limner's own people and bank.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from limner.engine.core import UInt8
from limner.evaluation.characters import draw
from limner.evaluation.identity import framed
from limner.evaluation.training.identity_characters import by_node
from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.scene import Person, Reference, Thing
from limner.painter.training.scenes import random_person, random_scene

SIDE = 96  # of a sprite, pixels
MEMBERS = 4
SCENERY = 128  # of a background, pixels


@dataclass(frozen=True, slots=True, eq=False)
class Sprites:
    """Everything that training draws from."""

    sprite: UInt8  # (N, SIDE, SIDE, 4), premultiplied, framed as `identity.framed` does
    family: np.ndarray[tuple[int], np.dtype[np.int64]]  # (N,): sprites of one family follow one another
    scenery: UInt8  # (S, SCENERY, SCENERY, 3)

    def save(self, path: Path) -> None:
        np.savez(path, sprite=self.sprite, family=self.family, scenery=self.scenery)

    @classmethod
    def load(cls, path: Path) -> Sprites:
        with np.load(path) as file:
            return cls(file["sprite"], file["family"], file["scenery"])


def make(drawn: list[list[str]], bank: Bank, *, people: int, things: int, scenery: int) -> Sprites:
    """Render all of it.

    Args:
        drawn: SVG documents by family.
        people: families of Limner's own people.
        things: how many of the bank's drawings, each a family of its own.
        scenery: how many backgrounds.
    """
    families: list[list[UInt8]] = [[draw(svg, 2 * SIDE) for svg in family] for family in drawn]
    rng = random.Random("identity")  # noqa: S311  no secrets
    families += [[draft.sprite(one, 2 * SIDE, bank) for one in _kin(rng)] for _ in range(people)]
    names = sorted(name for concept in bank.names for name in bank.variants(concept))
    families += [
        [draft.sprite(Thing(concept=name), 2 * SIDE, bank)] for name in rng.sample(names, min(things, len(names)))
    ]
    sprites, numbers = [], []
    for number, family in enumerate(families):
        for image in family:
            if (image[..., 3] > 128).mean() > 0.03:
                sprites.append(framed(image, SIDE))
                numbers.append(number)
    backs = [_background(rng, bank) for _ in range(scenery)]
    return Sprites(np.stack(sprites), np.array(numbers), np.stack(backs))


def _kin(rng: random.Random) -> list[Person]:
    """A person, and the same one with one to three traits of another."""
    own = random_person(rng)
    kin = [own]
    while len(kin) < MEMBERS:
        other = random_person(rng)
        chosen = rng.sample(
            ["hair", "hair_colour", "top", "top_colour", "skin", "hat", "glasses", "beard"], rng.randint(1, 3)
        )
        kin.append(own.model_copy(update={name: getattr(other, name) for name in chosen}))
    return kin


def _background(rng: random.Random, bank: Bank) -> UInt8:
    """A piece of a random scene, or a whole one, without references."""
    scene, _ = random_scene(rng, 1.0, bank)
    items = tuple(item for item in scene.items if not isinstance(item, Reference) and rng.random() < 0.5)
    whole = draft.compose(scene.model_copy(update={"items": items}), 1.0, bank).draw(2 * SCENERY, 2 * SCENERY)
    side = rng.randint(SCENERY, 2 * SCENERY)
    left, top = rng.randint(0, 2 * SCENERY - side), rng.randint(0, 2 * SCENERY - side)
    return np.asarray(Image.fromarray(whole[top : top + side, left : left + side]).resize((SCENERY, SCENERY)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Render what the identity network learns from.")
    parser.add_argument("--packages", type=Path, required=True, help="node_modules")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--families", type=int, default=130, help="of each set of characters")
    args = parser.parse_args()
    drawn = by_node(Path(__file__).with_suffix(".mjs"), args.packages, str(args.families), str(MEMBERS))
    sprites = make(drawn, Bank.load(), people=260, things=900, scenery=500)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sprites.save(args.out)
    print(f"{len(sprites.sprite)} sprites of {sprites.family[-1] + 1} families")  # noqa: T201  # what this command tells


if __name__ == "__main__":
    main()
