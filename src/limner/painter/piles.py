"""Piles: groups of equal things, and the clusters that they make with what is on, under, in or in the hand of them.

All lengths are in picture heights; x runs from 0 at the left edge to the aspect ratio, y from the top down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from limner.painter.bank import Bank
from limner.painter.scene import Item, Person, Reference, Thing

Relation = Literal["on", "under", "above", "left", "right", "behind", "front", "beside", "inside", "holding"]
Size = Literal["tiny", "small", "large", "huge"]

# Heights as fractions of the picture when several kinds share it: nature's differences, made small.
HEIGHTS = {"tiny": 0.16, "small": 0.22, "medium": 0.31, "large": 0.43, "huge": 0.55}
PERSON = {"child": 0.46, "adult": 0.6, "elder": 0.57}
REFERENCE = 0.6
HEAD = 0.75  # width over height above which a person's cut-out is no whole figure
SKY_THING = 0.3  # sun, moon and clouds
SIZES: dict[str | None, float] = {None: 1.0, "tiny": 0.45, "small": 0.65, "large": 1.4, "huge": 1.75}
SMALL_MAIN = 0.8  # a small hero is not lost in the picture
PILED = ("on", "under", "above", "inside", "holding")  # relations that bind two groups into one cluster
EDGE = 0.03  # of the picture's height, kept free on every side
LOWEST = 0.96  # where the nearest feet stand
SKY = 0.62  # down to here things may hang in the air
STEP = 1.08  # from one of a group to its neighbour, in widths
# How high a thing on something else stands, in parts of that one's height, by the bank's groups; else on top.
SEATS = {
    "furniture": 0.42,
    "animal": 0.66,
    "animal-head": 0.85,
    "vehicle": 0.8,
    "fantasy": 0.7,
    "nature": 0.7,
    "plant": 0.75,
}
# The same by concept, and for people, who are behind their mount from the waist down.
DECKS = {
    "sailboat": 0.16, "canoe": 0.3, "speedboat": 0.3, "motor-boat": 0.3, "ship": 0.5, "bicycle": 0.12, "sled": 0.3,
    "motorcycle": 0.2, "motor-scooter": 0.2, "kick-scooter": 0.15, "skateboard": 0.55, "bed": 0.45, "chair": 0.5,
    "couch-and-lamp": 0.24, "table": 0.97, "desk": 0.97, "wooden-table": 0.97, "picnic-table": 0.95, "bookshelf": 0.97,
    "refrigerator": 0.97, "stove": 0.97, "wardrobe": 0.97, "chest-of-drawers": 0.97, "washing-machine": 0.97,
    "dishwasher": 0.97, "upright-piano": 0.97, "grand-piano": 0.6, "radiator": 0.97, "safe": 0.97, "ottoman": 0.85,
    "rug": 0.5, "welcome-mat": 0.5, "yoga-mat": 0.55, "magic-carpet": 0.55, "pond": 0.55, "puddle": 0.55,
    "raft": 0.3, "hammock": 0.4,
}  # fmt: skip
RIDDEN = 0.27  # where the feet of a rider are on a vehicle, unless `DECKS` says it
BELLY = 0.42  # the same on what lives: feet that came lower would stick out under it
SEATED = ("bench", "chair", "sofa", "couch", "throne", "stool")  # ends of the names of what people sit on
MOUNTS = ("animal", "animal-head", "vehicle", "fantasy")
BOATS = ("sailboat", "ship", "passenger-ship", "ferry")  # with a deck to stand on
SCENERY = ("building", "structure", "nature", "plant", "sky")  # what is inside them is seen before them
LIGHT = frozenset({"balloon", "kite", "bubbles", "carp-streamer"})  # hang in the air by themselves
UNTURNED = frozenset({"shape", "clock", "paper"})  # groups that would be wrong in a mirror: signs, dials, letters
CANOPIES = frozenset({"umbrella", "umbrella-with-rain-drops"})  # are held over one's head
GARMENTS = frozenset(
    {
        "coat",
        "lab-coat",
        "t-shirt",
        "running-shirt",
        "womans-clothes",
        "dress",
        "kimono",
        "sari",
        "safety-vest",
        "jeans",
        "shorts",
        "one-piece-swimsuit",
    }
)  # are worn on the body, all else on the head
SEABED = frozenset({"crab", "lobster", "oyster", "coral"})  # live in water, but stand
FACES = {"left": -1, "right": 1, "front": 0}
NEAR = 0.001  # a difference in depth that orders the members of a cluster


class Ground(Protocol):
    """What must be known of a place; a `places.Backdrop` and a `places.Kind` have these."""

    @property
    def horizon(self) -> float: ...
    @property
    def ground(self) -> float: ...
    @property
    def surface(self) -> Literal["ground", "water", "air", "none"]: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """`count` equal items, and how they stand to the group number `other`.

    Without `other`, `left`, `right`, `above`, `behind` and `front` are sides of the picture itself.
    """

    item: Item  # its x, y, height are not looked at
    count: int = 1
    size: Size | None = None
    relation: Relation | None = None
    other: int | None = None  # an index into the wishes
    looks: tuple[Item, ...] = ()  # the second, third, ... item, where they differ from the first
    role: Item | None = None  # what a reference stands in for: as large as that, and like it in all but looks
    bust: bool = False  # a reference that its picture's lower edge cut; it rises from this picture's


@dataclass(slots=True, eq=False)
class Group:
    """A wish being placed."""

    index: int
    wish: Wish
    ratio: float  # width over height of one item
    natural: float  # height of one item before the picture's scale
    home: Literal["ground", "air", "float"]
    flip: bool
    about: str = ""  # the group of its drawing in the bank: "animal", "vehicle", ...
    concept: str = ""
    faces: int = 0  # -1 left, 1 right, 0 to the front, as it stands
    bust: bool = False  # without legs: rises from the picture's lower edge where it would stand
    height: float = 0.0
    columns: int = 1
    row_step: float = 0.0  # from a row to the one behind it
    spacing: float = 0.0  # from an item to its neighbour, where that is not by its width
    x: float = 0.0  # of its middle
    y: float = 0.0  # of its nearest feet
    depth: float = 0.0  # added to y when sorting

    @property
    def human(self) -> bool:
        return not isinstance(self.wish.role or self.wish.item, Thing)

    @property
    def rows(self) -> int:
        return -(-self.wish.count // self.columns)

    @property
    def step(self) -> float:
        return self.spacing or self.height * self.ratio * STEP

    @property
    def width(self) -> float:
        return self.height * self.ratio + self.step * (self.columns - 1 + (0.5 if self.rows > 1 else 0.0))

    @property
    def tall(self) -> float:
        return self.height + self.row_step * (self.rows - 1)

    def shrink(self, width: float, height: float) -> None:
        """Make it small enough for a box."""
        factor = min(1.0, width / self.width, height / self.tall)
        self.height *= factor
        self.row_step *= factor


@dataclass(slots=True, eq=False)
class Cluster:
    """A group and what is piled on it, around the origin at the root's feet."""

    root: Group
    members: list[tuple[Group, float, float]] = field(default_factory=list)  # x and y of their feet
    x: float = 0.0

    @property
    def left(self) -> float:
        return min(x - g.width / 2 for g, x, _ in self.members)

    @property
    def right(self) -> float:
        return max(x + g.width / 2 for g, x, _ in self.members)

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def top(self) -> float:
        """The highest point over the root's feet, positive."""
        return max(g.tall - y for g, _, y in self.members)

    @property
    def sag(self) -> float:
        """How far the lowest point is under the root's feet."""
        return max(0.0, max(y for _, _, y in self.members))

    def settle(self, x: float, y: float) -> None:
        """Put it into the picture; it is sorted as one."""
        for group, dx, dy in self.members:
            group.x, group.y = x + dx, y + dy
            group.depth += y - group.y


@dataclass(frozen=True)
class Stage:
    """All groups of a picture, and the picture."""

    groups: tuple[Group, ...]
    anchors: tuple[int | None, ...]  # which group each stands to
    lean: tuple[tuple[int, float], ...]  # a side, -1 or 1, and a drift in [-1, 1], for each
    ground: Ground
    aspect: float

    @property
    def room(self) -> float:
        """The width that may be used."""
        return self.aspect - 2 * self.margin

    @property
    def margin(self) -> float:
        return EDGE * min(1.0, self.aspect)

    @property
    def main(self) -> Group:
        """The group that the picture is about: the first that is no scenery."""
        return next((g for g in self.groups if g.about not in SCENERY), self.groups[0])

    def is_aside(self, group: Group) -> bool:
        """Whether a side of the picture was asked for."""
        return group.wish.relation in ("left", "right") and self.anchors[group.index] is None

    def anchor(self, group: Group) -> Group | None:
        index = self.anchors[group.index]
        return None if index is None else self.groups[index]

    def is_piled(self, group: Group) -> bool:
        return group.wish.relation in PILED and self.anchors[group.index] is not None

    def root(self, group: Group) -> Group:
        """The group that carries this one."""
        while self.is_piled(group) and (anchor := self.anchor(group)) is not None:
            group = anchor
        return group

    def piled_on(self, anchor: Group) -> list[Group]:
        """What belongs directly to it, in an order that the dice chose."""
        piled = [g for g in self.groups if self.anchors[g.index] == anchor.index and g.wish.relation in PILED]
        return sorted(piled, key=lambda g: self.lean[g.index][1])

    def links(self, group: Group) -> int:
        """How many groups it depends on."""
        anchor = self.anchor(group)
        return 0 if anchor is None else 1 + self.links(anchor)

    def build(self, roots: Sequence[Group], scale: float) -> list[Cluster]:
        """The clusters of these roots at a scale."""
        return [self._cluster(root, scale) for root in roots]

    def _cluster(self, root: Group, scale: float) -> Cluster:
        family = [root]
        for group in family:
            family += self.piled_on(group)
            size = SIZES[group.wish.size]
            if group is self.main and group.wish.size == "small":
                size = SMALL_MAIN
            group.height, group.spacing = group.natural * scale * size, 0.0
            fold(group, self)
        cluster = Cluster(root, [(root, 0.0, 0.0)])
        _pile(root, cluster, self)
        return cluster


def stage_of(
    wishes: Sequence[Wish],
    ground: Ground,
    aspect: float,
    rng: random.Random,
    bank: Bank,
    ratio_of: Callable[[Item], float],
) -> Stage:
    """The groups of all wishes, at no size and no place yet."""
    groups = tuple(_group(i, wish, ground, rng, bank, ratio_of) for i, wish in enumerate(wishes))
    lean = tuple((rng.choice((-1, 1)), rng.uniform(-1, 1)) for _ in groups)
    stage = Stage(groups, _anchors(wishes), lean, ground, aspect)
    for group in groups:
        if stage.is_piled(group) and group.wish.relation != "above":
            group.home = stage.root(group).home
    for group in groups:
        anchor = stage.anchor(group)
        if anchor is not None and group.wish.relation in ("left", "right") and group.home != anchor.home:
            for one in (group, anchor):  # side by side is not one in the air and one on the ground
                if one.home == "air" and one.wish.relation != "above":
                    one.home = "ground"
    return stage


def _anchors(wishes: Sequence[Wish]) -> tuple[int | None, ...]:
    """Which wish each stands to; relations that lead in a circle or nowhere are dropped."""
    known = range(len(wishes))
    anchors = [w.other if w.relation and w.other in known else None for w in wishes]
    for start in known:
        seen, at = {start}, anchors[start]
        while at is not None and at not in seen:
            seen.add(at)
            at = anchors[at]
        if at is not None:
            anchors[start] = None
    return tuple(anchors)


def _group(
    index: int, wish: Wish, ground: Ground, rng: random.Random, bank: Bank, ratio_of: Callable[[Item], float]
) -> Group:  # fmt: skip
    item = wish.role or wish.item
    ratio = max(ratio_of(i) for i in (wish.item, *wish.looks))
    flip = rng.random() < 0.5
    home: Literal["ground", "air", "float"] = "ground"
    about, concept, faces, height = "", "", 0, REFERENCE
    if isinstance(item, Thing):
        drawing = bank[item.concept]
        about, concept, faces = drawing.group, drawing.concept, FACES[drawing.faces] * (-1 if flip else 1)
        flip = flip and about not in UNTURNED
        if wish.role is not None:
            faces = 0  # a reference looks wherever it looks
        height = (SKY_THING if about == "sky" else HEIGHTS[drawing.size]) * rng.uniform(0.94, 1.06)
        if drawing.surface == "air" or concept in LIGHT:
            home = "air"
        elif drawing.surface == "water" and ground.surface == "water" and concept not in SEABED:
            home = "float"
    elif isinstance(item, Person):
        height = PERSON[item.age] * rng.uniform(0.96, 1.04)
    if wish.relation == "above":
        home = "air"
    if ground.surface == "none" or (ground.surface in ("air", "water") and home == "air"):
        home = "float"
    bust = wish.bust or (isinstance(wish.item, Reference) and isinstance(item, Person) and ratio > HEAD)
    # Wide drawings are measured by their width, or a snake would fill the picture; many of one are smaller.
    height *= min(1.0, (3 / (wish.count + 1.5)) ** 0.45) / max(1.0, ratio) ** 0.7
    return Group(index, wish, ratio, height, home, flip, about, concept, faces, bust)


def fold(group: Group, stage: Stage) -> None:
    """Break a crowd into rows where that makes its items much larger."""
    count, wished = group.wish.count, group.height
    # Rows of people may overlap, or a crowd would be dwarfs; rows of apples would become one.
    least, usual, price = (0.28, 0.55, 1.25) if group.human else (0.6, 0.8, 1.4)
    best = 0.0
    for rows in range(1, count + 1):
        columns = -(-count // rows)
        high = min(wished, 0.94 * stage.room / (group.ratio * (1 + STEP * (columns - 1 + (0.5 if rows > 1 else 0.0)))))
        step = 0.0 if rows == 1 else 1.04 * high
        if rows > 1 and group.home == "ground":
            depth = (LOWEST - stage.ground.horizon - 0.02) / (rows - 1)
            high = min(high, depth / least)
            step = min(usual * high, depth)
        shrink = min(1.0, (SKY if group.home == "air" else 0.9) / (high + step * (rows - 1)))
        if (worth := high * shrink / price ** (rows - 1)) > best:
            best, group.height, group.columns, group.row_step = worth, high * shrink, columns, step * shrink


def _pile(anchor: Group, cluster: Cluster, stage: Stage) -> None:
    """Put on the cluster what belongs on, under, above, in or in the hand of `anchor`, and then on that."""
    piled = stage.piled_on(anchor)
    on = [g for g in piled if g.wish.relation == "on"]
    held = [g for g in piled if g.wish.relation == "holding"]
    for group in on:
        _mount(group, anchor, len(on))
    shelf = -sum(g.width for g in on) / 2
    for group in piled:
        ax, ay = next((x, y) for g, x, y in cluster.members if g is anchor)
        drift = stage.lean[group.index][1]
        x, y, above = ax + 0.06 * drift * anchor.width, ay, True  # `above`: drawn after the anchor
        match group.wish.relation:
            case "on":
                if len(on) > 1:
                    x = ax + shelf + group.width / 2
                    shelf += group.width
                elif group.concept in GARMENTS:
                    x = ax
                elif group.about == "clothes" and anchor.about != "clothes":
                    x = ax + 0.22 * anchor.faces * anchor.width
                if group.wish.count == anchor.wish.count > 1 and anchor.rows == 1:
                    group.columns, group.row_step, group.spacing = anchor.columns, 0.0, anchor.step
                y = ay - _seat(group, anchor) * anchor.tall
                above = not (group.human and anchor.about in MOUNTS and anchor.concept not in BOATS)
            case "above":
                y = ay - max(g.tall - gy for g, _, gy in cluster.members) - 0.03 - 0.03 * abs(drift)
            case "under" if anchor.home == "air" or anchor.concept in CANOPIES:
                over = group.tall * (0.8 if anchor.concept in CANOPIES else 1.08)
                cluster.members = [(g, gx, gy - over) for g, gx, gy in cluster.members]
                x = ax
            case "under":
                group.shrink(0.75 * anchor.width, 0.5 * anchor.tall)
                x, y = ax + 0.15 * drift * anchor.width, ay + 0.012
            case "inside":
                x = ax
                y, above = ay - _depth_inside(group, anchor), anchor.about in SCENERY or anchor.concept in BOATS
            case _:
                way = stage.lean[held[0].index][0] * (-1 if held.index(group) % 2 else 1)
                dx, dy = _hold(group, anchor)
                x, y, above = ax + way * dx, ay - dy, group.concept not in CANOPIES
        group.depth = anchor.depth + (NEAR if above else -NEAR)
        cluster.members.append((group, x, y))
        _pile(group, cluster, stage)


def _mount(group: Group, anchor: Group, count: int) -> None:
    """Make a group small enough for what it is on, which it shares with `count - 1` others."""
    if group.bust and group.human and anchor.about in MOUNTS:
        group.shrink(0.62 * anchor.width / count, 0.75 * anchor.tall)
        return
    if group.human and anchor.about in MOUNTS:
        group.shrink(1.2 * anchor.width / count, (1.35 if anchor.about == "vehicle" else 0.95) * anchor.tall)
    elif group.about == "clothes" and anchor.about != "clothes":
        group.shrink(0.5 * anchor.width, 0.34 * anchor.tall)
    elif not (isinstance(group.wish.item, Person) and _is_seat(anchor)):
        group.shrink(max(1.05 * anchor.width, 0.4 * anchor.tall) / count, 0.9 * anchor.tall)


def _is_seat(anchor: Group) -> bool:
    return anchor.about == "furniture" or anchor.concept.endswith(SEATED)


def _seat(group: Group, anchor: Group) -> float:
    """How high over the anchor's feet a group on it stands, as a part of the anchor's height."""
    if group.bust and group.human and anchor.about in MOUNTS:
        return 0.45  # its lower edge is behind the mount's body
    if group.human and anchor.about in MOUNTS:
        return DECKS.get(anchor.concept, RIDDEN if anchor.about == "vehicle" else BELLY)
    if isinstance(group.wish.item, Person) and _is_seat(anchor):
        return -0.03  # people bring a stool of their own
    if group.about == "clothes":
        return 0.1 if group.concept in GARMENTS else 0.86
    return DECKS.get(anchor.concept, SEATS.get(anchor.about, 0.97 if anchor.human else 0.9))


def _depth_inside(group: Group, anchor: Group) -> float:
    """How high over its anchor's feet a group inside stands: it looks out of a vessel, or is seen in anything else."""
    if anchor.about in SCENERY:
        group.shrink(0.5 * anchor.width, 0.4 * anchor.tall)
        return 0.42 * anchor.tall
    if anchor.about == "vehicle":
        group.shrink(0.75 * anchor.width, (0.55 if anchor.concept in BOATS else 0.9) * anchor.tall)
        return DECKS.get(anchor.concept, 0.3) * anchor.tall
    group.shrink(0.75 * anchor.width, 0.9 * anchor.tall)
    return 0.95 * anchor.tall - 0.5 * group.tall


def _hold(group: Group, anchor: Group) -> tuple[float, float]:
    """How far beside its holder's middle, and over their feet, a thing in their hand stands."""
    if group.concept in CANOPIES:
        group.height = 0.45 * anchor.height
        return 0.12 * anchor.width, 0.68 * anchor.height
    group.shrink(0.6 * anchor.height, (0.42 if anchor.human else 0.5) * anchor.height)
    if not anchor.human:
        return 0.38 * anchor.width, 0.02
    return 0.42 * anchor.width + 0.18 * group.width, (0.62 if group.concept in LIGHT else 0.33) * anchor.height


def items(group: Group, stage: Stage, rng: random.Random) -> list[tuple[float, Item]]:
    """The group's items in their places, with the depth that they are sorted by."""
    wish, flip, aspect = group.wish, group.flip, stage.aspect
    hatted = any(g.wish.relation == "on" and g.about == "clothes" for g in stage.piled_on(group))
    aside = group.x / aspect - 0.5
    if group.faces and not hatted and abs(aside) > 0.12 and rng.random() < 0.8:
        flip = flip != (group.faces * aside > 0)  # look towards the middle
    result: list[tuple[float, Item]] = []
    crowd = 0.0 if wish.count == 1 else 1.0
    missing = group.rows * group.columns - wish.count  # in the farthest row
    for k in range(wish.count):
        row, column = divmod(k + missing, group.columns)
        x, y = column - (group.columns - 1) / 2 + crowd * rng.uniform(-0.02, 0.02), crowd * rng.uniform(-0.015, 0.015)
        if row == 0 and missing:
            x -= missing / 2
        elif group.rows > 1:
            x += 0.25 if row % 2 else -0.25
        half = group.height * group.ratio / 2
        place = {
            "x": round(min(max(half, group.x + x * group.step), max(half, aspect - half)) / aspect, 4),
            "y": round(group.y - (group.rows - 1 - row) * group.row_step + y * group.height, 4),
            "height": round(group.height, 4),
        }
        place["y"] = min(max(place["height"], place["y"]), 1.0)  # whatever was piled up, it is in the picture
        item = wish.looks[k - 1] if 0 < k <= len(wish.looks) else wish.item
        facing = rng.random() < 0.5 if isinstance(item, Person) else flip and not isinstance(item, Reference)
        result.append((place["y"] + group.depth, item.model_copy(update=place | {"flip": facing})))
    return result


def seen(back: Group, bx: float, by: float, front: Group, fx: float, fy: float) -> float:
    """The share of the box of `back` with feet at (bx, by) that the box of `front` at (fx, fy) leaves free."""
    wide = min(bx + back.width / 2, fx + front.width / 2) - max(bx - back.width / 2, fx - front.width / 2)
    high = min(by, fy) - max(by - back.tall, fy - front.tall)
    return 1 - max(0.0, wide) * max(0.0, high) / (back.width * back.tall)
