"""Composition: from what should be in the picture to where it stands.

A `Wish` is one group of equal things with its relation to another group. `arrange` first piles up what is on, under, above, in or in
the hand of something else into clusters, then stands the clusters side by side in one or more ranks, hangs what flies in
the air, and makes all of it as large as fits. It is a pure function of its arguments and of the random generator's
state; planner and training both use it, so they cannot drift.
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
SIZES: dict[str | None, float] = {None: 1.0, "tiny": 0.45, "small": 0.65, "large": 1.4, "huge": 1.75}
LAYERED = ("behind", "front")
PILED = ("on", "under", "above", "inside", "holding")  # relations that bind two groups into one cluster
EDGE = 0.03  # of the picture's height, kept free on every side
LOWEST = 0.96  # where the nearest feet stand
SKY = 0.62  # down to here things may hang in the air
STEP = 1.08  # from one of a group to its neighbour, in widths
# How high over its anchor's feet a thing on it stands, as a part of the anchor's height, by the bank's groups; else on top.
SEATS = {
    "furniture": 0.42,
    "animal": 0.66,
    "animal-head": 0.85,
    "vehicle": 0.8,
    "fantasy": 0.7,
    "nature": 0.7,
    "plant": 0.75,
}
# The same for concepts, and for people: they are behind their mount or boat from the waist down.
DECKS = {
    "sailboat": 0.16, "canoe": 0.3, "speedboat": 0.3, "motor-boat": 0.3, "ship": 0.5, "bicycle": 0.12, "motorcycle": 0.2,
    "motor-scooter": 0.2, "kick-scooter": 0.15, "sled": 0.3, "skateboard": 0.55, "bed": 0.45, "couch-and-lamp": 0.4, "chair": 0.5,
}  # fmt: skip
SCENERY = ("building", "structure", "nature", "plant")  # stands at the back when there are ranks
BOATS = ("sailboat", "ship", "passenger-ship", "ferry")  # with a deck to stand on
MOUNTS = ("animal", "animal-head", "vehicle", "fantasy")
RIDDEN = 0.27  # where the feet of a rider are, unless `DECKS` says it
LIGHT = frozenset({"balloon", "kite", "bubbles", "carp-streamer"})  # hang in the air by themselves
CANOPIES = frozenset({"umbrella", "umbrella-with-rain-drops"})  # are held over one's head
SEABED = frozenset({"crab", "lobster", "oyster", "coral", "anchor", "starfish"})  # live in water, but stand
SKY_THINGS = 0.3  # natural height of sun, moon and clouds


class Ground(Protocol):
    """What `arrange` must know of a place; a `places.Backdrop` and a `places.Kind` have these."""

    @property
    def horizon(self) -> float: ...
    @property
    def ground(self) -> float: ...
    @property
    def surface(self) -> Literal["ground", "water", "air", "none"]: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """`count` equal items, and how they stand to the group number `other`.

    Without `other`, `left`, `right`, `above`, `behind` and `front` are sides of the picture itself. `looks` are the second, third, ...
    item where they differ from the first.
    """

    item: Item  # its x, y, height are not looked at
    count: int = 1
    size: Size | None = None
    relation: Relation | None = None
    other: int | None = None  # an index into the wishes
    looks: tuple[Item, ...] = ()


@dataclass(slots=True)
class _Group:
    """A wish being placed. All lengths are in picture heights; x runs from 0 to the aspect ratio."""

    index: int
    wish: Wish
    ratio: float  # width over height of one item
    natural: float  # height of one item before the picture's scale
    home: Literal["ground", "air", "float"]
    flip: bool
    about: str = ""  # the group of its drawing: "animal", "vehicle", ...
    concept: str = ""
    faces: int = 0  # -1 left, 1 right, 0 to the front, as it stands
    height: float = 0.0
    columns: int = 1
    row_step: float = 0.0  # from a row to the one behind it
    spacing: float = 0.0  # from an item to its neighbour, where that is not by its width
    x: float = 0.0
    y: float = 0.0
    depth: float = 0.0  # added to y when sorting

    @property
    def rows(self) -> int:
        return -(-self.wish.count // self.columns)

    @property
    def width(self) -> float:
        return self.height * self.ratio + self.step * (self.columns - 1 + (0.5 if self.rows > 1 else 0.0))

    @property
    def step(self) -> float:
        return self.spacing or self.height * self.ratio * STEP

    @property
    def tall(self) -> float:
        return self.height + self.row_step * (self.rows - 1)


@dataclass(slots=True)
class _Cluster:
    """A group and what is piled on it, around the origin at the root's feet."""

    root: _Group
    members: list[tuple[_Group, float, float]] = field(default_factory=list)  # x and y of their feet
    x: float = 0.0

    def _span(self, low: bool) -> float:
        ends = [x + (-g.width if low else g.width) / 2 for g, x, _ in self.members]
        return min(ends) if low else max(ends)

    @property
    def left(self) -> float:
        return self._span(low=True)

    @property
    def right(self) -> float:
        return self._span(low=False)

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def top(self) -> float:
        """The highest point over the feet, positive."""
        return max(g.tall - y for g, _, y in self.members)

    @property
    def sag(self) -> float:
        """How far its lowest point is under the root's feet."""
        return max(0.0, max(y for _, _, y in self.members))


def arrange(
    wishes: Sequence[Wish],
    ground: Ground,
    aspect: float,
    rng: random.Random,
    bank: Bank,
    ratio_of: Callable[[Item], float],
    zoom: float = 1.0,
    water: float | None = None,
) -> tuple[Item, ...]:
    """Place every item of every wish.

    Args:
        wishes: what to show; the first is the main subject. Relations must not go round in a circle; one that does is not kept.
        ground: the place's horizon, ground line and what it is made of.
        aspect: width over height of the picture, from 0.25 to 4.
        rng: decides positions, facing and small differences.
        bank: the drawings, for their sizes and surfaces.
        ratio_of: width over height of an item's drawing.
        zoom: how much larger (or, below 1, smaller) than usual things are, as far as they fit.
        water: where boats and swimmers lie in a place that has water and land; None stands them on the ground.

    Returns:
        The items, farthest first, with x, y, height and flip set.
    """
    if not wishes:
        return ()
    anchors = _anchors(wishes)
    groups = [_group(i, w, ground, bank, ratio_of, rng) for i, w in enumerate(wishes)]
    for group in groups:
        anchor = anchors[group.index]
        if anchor is not None and group.wish.relation in PILED and group.wish.relation != "above":
            group.home = groups[_root(group.index, wishes, anchors)].home
    lean = {g.index: (rng.choice((-1, 1)), rng.uniform(-1, 1)) for g in groups}
    hung = [g for g in groups if g.home == "air" and not _piled(g, anchors)]
    stood = [g for g in groups if g.home != "air" and not _piled(g, anchors)]
    under_sky = 0.6 if stood and hung else 1.0
    ranks = _stand(stood, groups, anchors, lean, ground, aspect, rng, zoom, under_sky)
    if water is not None:
        _launch(ranks, water, bank, rng)
    _hang(hung, groups, anchors, lean, ranks, ground, aspect, rng, zoom)
    placed = [entry for g in groups for entry in _items(g, groups, aspect, rng)]
    placed.sort(key=lambda entry: entry[0])
    return tuple(item for _, item in placed)


def _anchors(wishes: Sequence[Wish]) -> list[int | None]:
    """Which wish each stands to; relations that lead in a circle or nowhere are dropped."""
    anchors: list[int | None] = [
        w.other if w.relation and w.other is not None and 0 <= w.other < len(wishes) else None for w in wishes
    ]
    for start in range(len(wishes)):
        seen, at = {start}, anchors[start]
        while at is not None:
            if at in seen:
                anchors[start] = None
                break
            seen.add(at)
            at = anchors[at]
    return anchors


def _root(index: int, wishes: Sequence[Wish], anchors: Sequence[int | None]) -> int:
    while wishes[index].relation in PILED and (anchor := anchors[index]) is not None:
        index = anchor
    return index


def _piled(group: _Group, anchors: Sequence[int | None]) -> bool:
    return group.wish.relation in PILED and anchors[group.index] is not None


def _group(
    index: int, wish: Wish, ground: Ground, bank: Bank, ratio_of: Callable[[Item], float], rng: random.Random
) -> _Group:
    item = wish.item
    ratio = max(ratio_of(i) for i in (item, *wish.looks))
    home: Literal["ground", "air", "float"] = "ground"
    flip = rng.random() < 0.5
    about = concept = ""
    faces = 0
    if isinstance(item, Thing):
        drawing = bank[item.concept]
        about, concept = drawing.group, drawing.concept
        height = (SKY_THINGS if about == "sky" else HEIGHTS[drawing.size]) * rng.uniform(0.94, 1.06)
        faces = {"left": -1, "right": 1, "front": 0}[drawing.faces] * (-1 if flip else 1)
        if drawing.surface == "air" or concept in LIGHT:
            home = "air"
        elif drawing.surface == "water" and ground.surface == "water" and concept not in SEABED:
            home = "float"
    elif isinstance(item, Person):
        height = PERSON[item.age] * rng.uniform(0.96, 1.04)
    else:
        height = REFERENCE
    if wish.relation == "above":
        home = "air"
    if ground.surface == "none" or (ground.surface in ("air", "water") and home == "air"):
        home = "float"
    # Wide drawings are measured by their width, or a snake would fill the picture; many of one are smaller.
    height *= min(1.0, (3 / (wish.count + 1.5)) ** 0.45) / max(1.0, ratio) ** 0.7
    return _Group(index, wish, ratio, height, home, flip, about, concept, faces)


def _stand(
    stood: list[_Group], groups: list[_Group], anchors: list[int | None], lean: dict[int, tuple[int, float]], ground: Ground,
    aspect: float, rng: random.Random, zoom: float, share: float,
) -> list[_Cluster]:  # fmt: skip
    """Stand all clusters on the ground (or let them float), in as many ranks as make them largest."""
    if not stood:
        return []
    layered = [g for g in stood if g.wish.relation in ("behind", "front") and anchors[g.index] is not None]
    side = [g for g in stood if g not in layered]
    order = _ordered(side, anchors, rng)
    tallest = max(g.natural for g in side)
    least, most = (0.44, 0.74) if len(side) == 1 and not layered else (0.36, 0.68)
    wanted = zoom * min(most, least + 0.62 * max(0.0, tallest - HEIGHTS["tiny"])) / tallest
    floats = ground.surface in ("air", "none") or all(g.home == "float" for g in side)
    back = 0.05 if floats else max(ground.horizon + 0.04, 0.3)
    best: tuple[float, list[list[_Group]]] = (0.0, [order])
    for count in range(1, min(4, len(order)) + 1):
        rows = _split(order, anchors, count)
        if len(rows) == count:
            scale = min(
                _fit(row, groups, anchors, lean, wanted, aspect, _room(count, back, floats), ground) for row in rows
            )
            if scale > best[0] * 1.12:
                best = (scale, rows)
    scale, rows = best
    clusters: list[_Cluster] = []
    for number, row in enumerate(rows):
        built = _build(row, groups, anchors, lean, scale, aspect, ground)
        _spread(built, aspect, rng)
        for cluster in built:
            y = _feet(cluster, number, len(rows), ground, back, floats, share, rng)
            _settle(cluster, cluster.x, y)
        clusters += built
    for group in layered:
        _layer(group, groups, anchors, lean, scale, clusters, ground, aspect, rng)
    return clusters


def _room(count: int, back: float, floats: bool) -> float:
    """The height that the tallest cluster of a rank may have, where there are `count` ranks."""
    if count == 1:
        return LOWEST - EDGE
    return (LOWEST - EDGE) / count if floats else 1.35 * (LOWEST - back) / (count - 1)


def _split(order: list[_Group], anchors: list[int | None], count: int) -> list[list[_Group]]:
    """The order in `count` ranks, the nearest first; what is left or right of something stays in its rank."""
    families: list[list[_Group]] = []
    for group in order:
        kin = next(
            (f for f in families if any(anchors[g.index] == group.index or anchors[group.index] == g.index for g in f)),
            None,
        )
        if kin is None:
            families.append([group])
        else:
            kin.append(group)
    if len(families) < count:
        return []
    families.sort(key=lambda f: (all(g.about in SCENERY for g in f), min(g.index for g in f)))
    ranks: list[list[_Group]] = [[] for _ in range(count)]
    for number, family in enumerate(families):
        ranks[number * count // len(families)] += family
    return [[g for g in order if g in rank] for rank in ranks]


def _fit(
    row: list[_Group], groups: list[_Group], anchors: list[int | None], lean: dict[int, tuple[int, float]], wanted: float,
    aspect: float, room: float, ground: Ground,
) -> float:  # fmt: skip
    """The scale at which a rank fits the picture's width and its own height."""
    scale = wanted
    for _ in range(6):
        clusters = _build(row, groups, anchors, lean, scale, aspect, ground)
        wide = sum(c.width for c in clusters) + _gap(aspect, len(clusters)) * (len(clusters) - 1)
        wide += sum(
            0.35 * g.natural * scale * g.ratio
            for g in groups
            if g.wish.relation in LAYERED and g.wish.other is not None
        )
        factor = min(1.0, (aspect - 2 * EDGE * min(1.0, aspect)) / wide, room / max(c.top + c.sag for c in clusters))
        if factor > 0.999:
            break
        scale *= factor
    return scale


def _gap(aspect: float, count: int) -> float:
    return min(0.06, 0.12 * aspect / max(1, count))


def _build(
    row: list[_Group], groups: list[_Group], anchors: list[int | None], lean: dict[int, tuple[int, float]], scale: float,
    aspect: float, ground: Ground,
) -> list[_Cluster]:  # fmt: skip
    """The clusters of a rank, at a scale."""
    for group in _family(row, groups, anchors):
        group.height, group.spacing = group.natural * scale * SIZES[group.wish.size], 0.0
        _fold(group, aspect, ground)
    clusters = []
    for root in row:
        cluster = _Cluster(root, [(root, 0.0, 0.0)])
        _pile(root, cluster, groups, anchors, lean)
        clusters.append(cluster)
    return clusters


def _fold(group: _Group, aspect: float, ground: Ground) -> None:
    """Break a crowd into rows where that makes its items much larger."""
    count, wished = group.wish.count, group.height
    width = 0.94 * (aspect - 2 * EDGE * min(1.0, aspect))
    best = 0.0
    for rows in range(1, count + 1):
        columns = -(-count // rows)
        high = min(wished, width / (group.ratio * (1 + STEP * (columns - 1 + (0.5 if rows > 1 else 0.0)))))
        step = 0.0
        if rows > 1 and group.home == "ground":
            # Rows of people may overlap, or a crowd would be dwarfs; rows of apples would become one.
            least, depth = (0.28 if not group.about else 0.6), (LOWEST - ground.horizon - 0.02) / (rows - 1)
            high = min(high, depth / least)
            step = min((0.55 if not group.about else 0.8) * high, depth)
        elif rows > 1:
            step = 1.04 * high
        tall = high + step * (rows - 1)
        shrink = min(1.0, (SKY if group.home == "air" else 0.9) / tall)
        if high * shrink / 1.4 ** (rows - 1) > best:
            best = high * shrink / 1.4 ** (rows - 1)
            group.height, group.columns, group.row_step = high * shrink, columns, step * shrink


def _pile(
    anchor: _Group,
    cluster: _Cluster,
    groups: list[_Group],
    anchors: list[int | None],
    lean: dict[int, tuple[int, float]],
) -> None:
    """Put on the cluster what belongs on, under, above, in or in the hand of `anchor`, and then on that."""
    piled = [g for g in groups if anchors[g.index] == anchor.index and g.wish.relation in PILED]
    on = [g for g in piled if g.wish.relation == "on"]
    for group in on:
        _mount(group, anchor, len(on))
    start = -sum(g.width for g in on) / 2
    hands = 0
    for group in piled:
        ax, ay = next((x, y) for g, x, y in cluster.members if g is anchor)
        way, drift = lean[group.index]
        x, y, group.depth = ax + 0.06 * drift * anchor.width, ay, anchor.depth + 0.001
        match group.wish.relation:
            case "on":
                if len(on) > 1:
                    x = ax + start + group.width / 2
                    start += group.width
                elif group.about == "clothes" and anchor.about != "clothes":
                    x = ax + 0.22 * anchor.faces * anchor.width
                rides = isinstance(group.wish.item, Person | Reference) and anchor.about in MOUNTS
                rides = rides and anchor.concept not in BOATS
                if group.wish.count == anchor.wish.count > 1 and anchor.rows == 1:
                    group.columns, group.row_step, group.spacing = anchor.columns, 0.0, anchor.step
                group.depth = anchor.depth + (-0.001 if rides else 0.001)
                y = ay - _seat(group, anchor) * anchor.tall
            case "above":
                y = ay - max(g.tall - gy for g, _, gy in cluster.members) - 0.03 - 0.03 * abs(drift)
                group.depth = anchor.depth - 0.001
            case "under" if anchor.home == "air" or anchor.concept in CANOPIES:
                over = group.tall * (0.8 if anchor.concept in CANOPIES else 1.08)
                cluster.members = [(g, gx, gy - over) for g, gx, gy in cluster.members]
                x, y = ax, ay
            case "under":
                _shrink(group, 0.75 * anchor.width, 0.5 * anchor.tall)
                x, y = ax + 0.15 * drift * anchor.width, ay + 0.012
            case "inside":
                x = ax
                y, group.depth = _within(group, anchor, ay)
            case _:
                hands += 1
                way = lean[next(g for g in piled if g.wish.relation == "holding").index][0] * (1 if hands % 2 else -1)
                x, y, group.depth = _hold(group, anchor, way, ax, ay)
        cluster.members.append((group, x, y))
        _pile(group, cluster, groups, anchors, lean)


def _mount(group: _Group, anchor: _Group, count: int) -> None:
    """Make a group small enough for what it is on, which it shares with `count - 1` others."""
    if isinstance(group.wish.item, Person | Reference) and anchor.about in MOUNTS:
        _shrink(group, 1.2 * anchor.width / count, (1.35 if anchor.about == "vehicle" else 1.05) * anchor.tall)
    elif group.about == "clothes" and anchor.about != "clothes":
        _shrink(group, 0.5 * anchor.width, 0.34 * anchor.tall)
    elif not (isinstance(group.wish.item, Person) and anchor.about == "furniture"):
        _shrink(group, max(1.05 * anchor.width, 0.4 * anchor.tall) / count, 0.9 * anchor.tall)


def _seat(group: _Group, anchor: _Group) -> float:
    """How high over the anchor's feet a group on it stands, as a part of the anchor's height."""
    if isinstance(group.wish.item, Person | Reference):
        if anchor.about in MOUNTS:
            return DECKS.get(anchor.concept, RIDDEN)
        if anchor.about == "furniture":
            return -0.03
    if group.about == "clothes":
        return 0.86
    return DECKS.get(anchor.concept, SEATS.get(anchor.about, 0.9 if anchor.about else 0.97))


def _within(group: _Group, anchor: _Group, ay: float) -> tuple[float, float]:
    """The feet and the depth of a group inside another: it looks out of a vessel, and is seen before anything else."""
    if anchor.about in ("plant", "sky", "nature", "structure", "building"):
        _shrink(group, 0.5 * anchor.width, 0.4 * anchor.tall)
        return ay - 0.42 * anchor.tall, anchor.depth + 0.001
    if anchor.about == "vehicle":
        boat = anchor.concept in BOATS
        _shrink(group, 0.75 * anchor.width, (0.55 if boat else 0.9) * anchor.tall)
        return ay - DECKS.get(anchor.concept, 0.3) * anchor.tall, anchor.depth + (0.001 if boat else -0.001)
    _shrink(group, 0.75 * anchor.width, 0.9 * anchor.tall)
    return ay - (0.95 * anchor.tall - 0.5 * group.tall), anchor.depth - 0.001


def _hold(group: _Group, anchor: _Group, way: int, ax: float, ay: float) -> tuple[float, float, float]:
    """The centre, the feet and the depth of a group in someone's hand, or, of what is light, over it."""
    if group.concept in CANOPIES:
        _shrink(group, 2.2 * anchor.width, 0.55 * anchor.height)
        return ax + 0.12 * way * anchor.width, ay - 0.68 * anchor.height, anchor.depth - 0.001
    if anchor.about:
        _shrink(group, 0.6 * anchor.height, 0.5 * anchor.height)
        return ax + 0.38 * way * anchor.width, ay - 0.02, anchor.depth + 0.001
    _shrink(group, 0.6 * anchor.height, 0.42 * anchor.height)
    x = ax + way * (0.42 * anchor.width + 0.18 * group.width)
    return x, ay - (0.62 if group.concept in LIGHT else 0.33) * anchor.height, anchor.depth + 0.001


def _shrink(group: _Group, width: float, height: float) -> None:
    factor = min(1.0, width / group.width, height / group.tall)
    group.height *= factor
    group.row_step *= factor


def _ordered(row: list[_Group], anchors: list[int | None], rng: random.Random) -> list[_Group]:
    """The groups from left to right: random, the first one towards the middle, relations obeyed."""
    order: list[_Group] = []
    pending = sorted(row, key=lambda g: (_links(g.index, anchors), g.index))
    for group in pending:
        anchor = next((k for k, g in enumerate(order) if g.index == anchors[group.index]), None)
        relation = group.wish.relation
        if anchor is not None and relation in ("left", "right", "beside"):
            right = relation == "right" or (relation == "beside" and rng.random() < 0.5)
            order.insert(anchor + (1 if right else 0), group)
        else:
            order.insert(rng.choice((0, len(order))), group)
    lefts = [g for g in order if g.wish.relation == "left" and anchors[g.index] is None]
    rights = [g for g in order if g.wish.relation == "right" and anchors[g.index] is None]
    return [*lefts, *(g for g in order if g not in lefts and g not in rights), *rights]


def _links(index: int, anchors: list[int | None]) -> int:
    count, at = 0, anchors[index]
    while at is not None:
        count, at = count + 1, anchors[at]
    return count


def _spread(clusters: list[_Cluster], aspect: float, rng: random.Random) -> None:
    """Side by side over the width, not quite evenly; one alone stands near the middle or a third."""
    gap = _gap(aspect, len(clusters))
    total = sum(c.width for c in clusters) + gap * (len(clusters) - 1)
    slack = max(0.0, aspect - 2 * EDGE * min(1.0, aspect) - total)
    shares = [rng.uniform(0.6, 1.4) for _ in range(len(clusters) + 1)]
    # Wide pictures would tear a few things apart: what is beyond an arm's length goes to the sides.
    inner = min(slack * 0.6, 0.35 * (len(clusters) - 1))
    between = sum(shares[1:-1]) or 1.0
    outer = slack - inner
    ends = shares[0] + shares[-1]
    x = (aspect - total - slack) / 2 + outer * (0.5 + 0.55 * (shares[0] / ends - 0.5))
    for number, cluster in enumerate(clusters):
        if number:
            x += gap + inner * shares[number] / between
        cluster.x = x - cluster.left
        x += cluster.width


def _feet(
    cluster: _Cluster,
    rank: int,
    ranks: int,
    ground: Ground,
    back: float,
    floats: bool,
    share: float,
    rng: random.Random,
) -> float:
    """The height in the picture at which a cluster stands."""
    group = cluster.root
    if floats or group.home == "float":
        band = (LOWEST - EDGE) / ranks
        bottom = LOWEST - rank * band
        slack = max(0.0, band - cluster.top - cluster.sag)
        return bottom - cluster.sag - slack * rng.uniform(0.25, 0.75)
    if ranks > 1:
        y = LOWEST - 0.01 - rank * (LOWEST - 0.03 - max(back, ground.horizon + 0.1)) / (ranks - 1)
    elif share < 1:
        y = ground.ground + rng.uniform(0.03, 0.09)
    else:
        y = ground.ground + rng.uniform(0.0, 0.06)
    huge = group.natural * group.ratio**0.7 > 0.5 and not isinstance(group.wish.item, Person | Reference)
    if group.wish.relation == "behind" or (huge and len(cluster.members) < 2 and ranks == 1):
        y = ground.horizon + 0.45 * (ground.ground - ground.horizon)
    elif group.wish.relation == "front":
        y = LOWEST
    y = max(y, cluster.top + EDGE)
    return min(y, LOWEST - cluster.sag)


def _launch(clusters: list[_Cluster], water: float, bank: Bank, rng: random.Random) -> None:
    """Move what swims from the ground to the water."""
    for cluster in clusters:
        root = cluster.root
        if (
            root.home == "ground"
            and isinstance(root.wish.item, Thing)
            and bank[root.wish.item.concept].surface == "water"
        ):
            if root.concept in SEABED or root.about == "marine":
                continue
            lift = root.y - max(water + rng.uniform(-0.03, 0.03), min(root.y, cluster.top + EDGE))
            for group, _, _ in cluster.members:
                group.y -= lift


def _settle(cluster: _Cluster, x: float, y: float) -> None:
    for group, dx, dy in cluster.members:
        group.x, group.y = x + dx, y + dy
        group.depth += y - group.y  # the cluster is sorted as one


def _layer(
    group: _Group, groups: list[_Group], anchors: list[int | None], lean: dict[int, tuple[int, float]], scale: float,
    clusters: list[_Cluster], ground: Ground, aspect: float, rng: random.Random,
) -> None:  # fmt: skip
    """Stand a group behind or before its anchor, so that both show."""
    anchor = groups[anchors[group.index] or 0]
    group.height = group.natural * scale * SIZES[group.wish.size]
    _fold(group, aspect, ground)
    cluster = _Cluster(group, [(group, 0.0, 0.0)])
    _pile(group, cluster, groups, anchors, lean)
    way, drift = lean[group.index]
    before = group.wish.relation == "front"
    edge = EDGE * min(1.0, aspect)
    low, high = edge - cluster.left, aspect - edge - cluster.right
    high = max(low, high)
    if before:
        if anchor.y > LOWEST - 0.05:
            _lift(anchor, groups, anchors, 0.05)
        y = min(LOWEST, max(anchor.y + 0.05 + 0.03 * abs(drift), cluster.top + EDGE))
        reach = (0.2, 0.35, 0.5, 0.65)
    else:
        y = max(min(anchor.y - 0.05, max(ground.horizon + 0.05, anchor.y - 0.16)), cluster.top + EDGE)
        reach = (0.1, 0.35, 0.5, 0.65)
    # The nearest place at which the one behind shows by half.
    places = [min(max(low, anchor.x + s * k * (anchor.width + group.width)), high) for k in reach for s in (way, -way)]
    hidden, shown = (anchor, (group, y)) if before else (group, (anchor, anchor.y))
    seen = [_seen(hidden, x if hidden is group else anchor.x, y if hidden is group else anchor.y,
                  shown[0], x if shown[0] is group else anchor.x, shown[1]) for x in places]  # fmt: skip
    best = next((k for k, share in enumerate(seen) if share >= 0.55), max(range(len(seen)), key=lambda k: seen[k]))
    group.depth = 0.0
    _settle(cluster, places[best], y)
    level = anchor.y + anchor.depth
    for member, _, _ in cluster.members:
        offset = level + (0.01 if before else -0.01) - y
        if (before and offset > 0) or (not before and offset < 0):
            member.depth += offset
    clusters.append(cluster)


def _seen(back: _Group, bx: float, by: float, front: _Group, fx: float, fy: float) -> float:
    """The share of the box of `back` that the box of `front` leaves free."""
    wide = min(bx + back.width / 2, fx + front.width / 2) - max(bx - back.width / 2, fx - front.width / 2)
    high = min(by, fy) - max(by - back.tall, fy - front.tall)
    return 1 - max(0.0, wide) * max(0.0, high) / (back.width * back.tall)


def _lift(anchor: _Group, groups: list[_Group], anchors: list[int | None], by: float) -> None:
    """Move an anchor and what is piled on it up, away from the lower edge."""
    for group in groups:
        if group is anchor or (anchors[group.index] == anchor.index and group.wish.relation in PILED):
            group.y -= by


def _hang(
    hung: list[_Group], groups: list[_Group], anchors: list[int | None], lean: dict[int, tuple[int, float]],
    stood: list[_Cluster], ground: Ground, aspect: float, rng: random.Random, zoom: float,
) -> None:  # fmt: skip
    """Hang groups in the air side by side, over what stands below or, where there is no room, beside it."""
    if not hung:
        return
    heads = min((c.root.y - c.top for c in stood), default=1.0)
    room = SKY if not stood else max(0.36, min(SKY, heads + 0.1))
    order = _ordered(hung, anchors, rng)
    tallest = max(g.natural for g in hung)
    wanted = zoom * (min(0.56, 0.34 + 0.5 * max(0.0, tallest - 0.16)) if not stood else min(tallest, 0.34)) / tallest
    scale = _fit(order, groups, anchors, lean, wanted, aspect, room - EDGE, ground)
    clusters = _build(order, groups, anchors, lean, scale, aspect, ground)
    _spread(clusters, aspect, rng)
    for cluster in clusters:
        slack = max(0.0, room - EDGE - cluster.top - cluster.sag)
        _settle(cluster, cluster.x, EDGE + cluster.top + slack * rng.uniform(0.1, 0.9 if not stood else 0.6))
        for group, _, _ in cluster.members:
            group.depth -= 0.5  # the air is behind all that stands


def _family(roots: list[_Group], groups: list[_Group], anchors: list[int | None]) -> list[_Group]:
    """The roots and all that is piled on them."""
    found = list(roots)
    for group in found:
        found += [g for g in groups if anchors[g.index] == group.index and g.wish.relation in PILED and g not in found]
    return found


def _items(group: _Group, groups: list[_Group], aspect: float, rng: random.Random) -> list[tuple[float, Item]]:
    """The group's items with the depth they are sorted by."""
    result: list[tuple[float, Item]] = []
    wish, flip = group.wish, group.flip
    crowded = any(g.wish.relation == "on" and g.about == "clothes" and g.wish.other == group.index for g in groups)
    aside = group.x / aspect - 0.5
    if group.faces and not crowded and abs(aside) > 0.12 and rng.random() < 0.8:
        flip = flip != (group.faces * aside > 0)  # look towards the middle
    for k in range(wish.count):
        row, column = divmod(k + group.rows * group.columns - wish.count, group.columns)  # the last row is full
        missing = group.rows * group.columns - wish.count if row == 0 else 0
        in_row, column = group.columns - missing, column - missing
        step = group.step
        crowd = wish.count > 1
        stagger = (0.25 if row % 2 else -0.25) * step if group.rows > 1 and in_row == group.columns else 0.0
        x = group.x + (column - (in_row - 1) / 2) * step + stagger + (rng.uniform(-0.02, 0.02) * step if crowd else 0.0)
        y = (
            group.y
            - (group.rows - 1 - row) * group.row_step
            + (rng.uniform(-0.015, 0.015) * group.height if crowd else 0.0)
        )
        item = wish.looks[k - 1] if 0 < k <= len(wish.looks) else wish.item
        facing = rng.random() < 0.5 if isinstance(item, Person) else flip
        update = {"x": round(x / aspect, 4), "y": round(y, 4), "height": round(group.height, 4), "flip": facing}
        result.append((y + group.depth, item.model_copy(update=update)))
    return result
