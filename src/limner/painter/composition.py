"""Composition: from what should be in the picture to where it stands.

A `Wish` is one group of equal things with its relation to another group. `arrange` piles up what is on, under, above,
in or in the hand of something else into clusters, stands the clusters side by side in one or more ranks, hangs what
flies in the air, and makes all of it as large as fits. It is a pure function of its arguments and of the random
generator's state; planner and training both use it, so they cannot drift.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from limner.painter.bank import Bank
from limner.painter.piles import (
    EDGE,
    HEIGHTS,
    LIGHT,
    LOWEST,
    MOUNTS,
    SCENERY,
    SEABED,
    SKY,
    Cluster,
    Ground,
    Group,
    Relation,
    Size,
    Stage,
    Wish,
    items,
    seen,
    stage_of,
)  # fmt: skip
from limner.painter.scene import Item, Person, Thing

LAYERED = ("behind", "front")  # relations that overlap
RANKS = 4
WORTH = 1.25  # how much larger things must become for another rank
CENTRAL = 0.36  # of the width: the main subject's middle is no nearer to an edge, if that can be had
PORTRAIT = 1.3  # a person's height in a portrait, which shows head and chest
SHOWN = 0.55  # how much of what is behind should be seen


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
        wishes: what to show; the first is the main subject. Relations that go round in a circle are not kept.
        ground: the place's horizon, ground line and what it is made of.
        aspect: width over height of the picture, from 0.25 to 4.
        rng: decides positions, facing and small differences.
        bank: the drawings, for their sizes and surfaces.
        ratio_of: width over height of an item's drawing.
        zoom: how much larger (or, below 1, smaller) than usual things are, as far as they fit.
        water: where boats and swimmers lie in a place with water and land, in picture heights; None stands them on the
            ground.

    Returns:
        The items, farthest first, with x, y, height and flip set.
    """
    if not wishes:
        return ()
    stage = stage_of(wishes, ground, aspect, rng, bank, ratio_of)
    roots = [g for g in stage.groups if not stage.is_piled(g)]
    hung = [g for g in roots if g.home == "air"]
    stood = [g for g in roots if g.home != "air"]
    clusters = _stand(stood, stage, rng, zoom, low=bool(hung))
    if water is not None:
        _launch(clusters, water, bank, rng)
    _hang(hung, clusters, stage, rng, zoom)
    placed = [entry for group in stage.groups for entry in items(group, stage, rng)]
    placed.sort(key=lambda entry: entry[0])
    return tuple(item for _, item in placed)


def _stand(stood: list[Group], stage: Stage, rng: random.Random, zoom: float, low: bool) -> list[Cluster]:
    """Stand all clusters on the ground (or let them float), in as many ranks as make them much larger."""
    layered = [g for g in stood if _is_layered(g, stood, stage)]
    side = [g for g in stood if g not in layered]
    if not side:
        return []
    order = _ordered(side, stage, rng)
    tallest = max(g.natural for g in side)
    least, most = (0.44, 0.74) if len(stood) == 1 else (0.36, 0.68)
    wanted = zoom * min(most, least + 0.62 * max(0.0, tallest - HEIGHTS["tiny"])) / tallest * rng.uniform(0.92, 1.04)
    floats = stage.ground.surface in ("air", "none") or all(g.home == "float" for g in side)
    beside = [g for g in layered if stage.anchor(g) in side]
    scale, ranks = 0.0, [order]
    for count in range(1, min(RANKS, len(order)) + 1):
        rows = _split(order, stage, count)
        if len(rows) == count:
            room = _room(count, stage.ground, floats)
            fit = min(_fit(row, stage, wanted, room, beside) for row in rows)
            if fit > scale * WORTH:
                scale, ranks = fit, rows
    clusters: list[Cluster] = []
    for number, row in enumerate(ranks):
        built = stage.build(row, scale)
        _spread(built, stage, rng)
        for cluster in built:
            cluster.settle(cluster.x, _feet(cluster, number, len(ranks), stage.ground, floats, low, rng))
        clusters += built
    for group in sorted(layered, key=stage.links):
        clusters.append(_layer(group, stage, scale))
    return clusters


def _is_layered(group: Group, stood: list[Group], stage: Stage) -> bool:
    """Whether it stands behind or before something else that stands."""
    anchor = stage.anchor(group)
    return group.wish.relation in LAYERED and anchor is not None and stage.root(anchor) in stood


def _room(count: int, ground: Ground, floats: bool) -> float:
    """The height that the tallest cluster of a rank may have, where there are `count` ranks."""
    if floats or count == 1:
        return (LOWEST - EDGE) / count
    return 1.35 * (LOWEST - ground.horizon - 0.04) / (count - 1)


def _split(order: list[Group], stage: Stage, count: int) -> list[list[Group]]:
    """The order in `count` ranks, the nearest first; what is left or right of something stays in its rank."""
    if count > 1 and any(stage.is_aside(g) or g.bust for g in order):
        return []  # behind a bust, which is as near as can be, nothing would be seen
    families: list[list[Group]] = []
    for group in sorted(order, key=stage.links):
        kin = next((f for f in families if stage.anchor(group) in f), None)
        if kin is None:
            families.append([group])
        else:
            kin.append(group)
    if len(families) < count:
        return []
    families.sort(key=lambda f: (all(g.about in SCENERY for g in f), min(g.index for g in f)))
    ranks: list[list[Group]] = [[] for _ in range(count)]
    for number, family in enumerate(families):
        ranks[number * count // len(families)] += family
    return [[g for g in order if g in rank] for rank in ranks]


def _fit(row: list[Group], stage: Stage, wanted: float, room: float, beside: Sequence[Group] = ()) -> float:
    """The scale, `wanted` or less, at which a rank fits the picture's width and the height `room`.

    `beside` are groups that will look out from behind the row, and need some width too.
    """
    scale = wanted
    for _ in range(6):  # what is piled up does not grow evenly
        clusters = stage.build(row, scale)
        wide = sum(c.width for c in clusters) + _gap(stage.aspect, len(clusters)) * (len(clusters) - 1)
        wide += sum(0.35 * g.natural * scale * g.ratio for g in beside)
        factor = min(1.0, stage.room / wide, room / max(c.top + c.sag for c in clusters))
        if factor > 0.999:
            break
        scale *= factor
    return scale


def _gap(aspect: float, count: int) -> float:
    return min(0.06, 0.12 * aspect / max(1, count))


def _ordered(row: list[Group], stage: Stage, rng: random.Random) -> list[Group]:
    """The groups from left to right: the main one in the middle, the others around it by chance, relations obeyed."""
    order: list[Group] = []
    main = stage.main
    for group in sorted(row, key=lambda g: (stage.links(g), g.index)):
        anchor, relation = stage.anchor(group), group.wish.relation
        chance = rng.random() < 0.5
        if anchor in order and relation in ("left", "right", "beside"):
            at = order.index(anchor)
            lean = len(order) - 1 - 2 * at if group is main else 0  # where more stands, there is the middle
            right = relation == "right" or (relation == "beside" and (lean > 0 or (lean == 0 and chance)))
            order.insert(at + right, group)
        else:
            at = order.index(main) if main in order else 0
            left, rest = (sum(g.natural * g.ratio for g in side) for side in (order[:at], order[at + 1 :]))
            right = chance if main not in order or left == rest else left > rest
            order.insert(len(order) if right else 0, group)
    sides = {g.index: {"left": -1, "right": 1}.get(g.wish.relation or "", 0) for g in order if stage.anchor(g) is None}
    return sorted(order, key=lambda g: sides.get(g.index, 0))


def _spread(clusters: list[Cluster], stage: Stage, rng: random.Random) -> None:
    """Side by side over the width, not quite evenly; one alone stands near the middle or a third."""
    gap = _gap(stage.aspect, len(clusters))
    total = sum(c.width for c in clusters) + gap * (len(clusters) - 1)
    slack = max(0.0, stage.room - total)
    shares = [rng.uniform(0.6, 1.4) for _ in range(len(clusters) + 1)]
    # Wide pictures would tear a few things apart: what is beyond an arm's length goes to the sides.
    inner = min(slack * 0.6, 0.35 * (len(clusters) - 1))
    between = sum(shares[1:-1]) or 1.0
    outer = (slack - inner) * (0.5 + 1.2 * (shares[0] / (shares[0] + shares[-1]) - 0.5))
    x = (stage.aspect - total - slack) / 2 + outer
    for number, cluster in enumerate(clusters):
        if number:
            x += gap + inner * shares[number] / between
        cluster.x = x - cluster.left
        x += cluster.width
    _centre(clusters, stage)


def _centre(clusters: list[Cluster], stage: Stage) -> None:
    """Move a row so that the main group is near the middle, as far as the picture's edges let it."""
    main = next((c for c in clusters if c.root is stage.root(stage.main)), None)
    if main is None or any(stage.is_aside(c.root) for c in clusters):
        return
    wanted = min(max(main.x, CENTRAL * stage.aspect), (1 - CENTRAL) * stage.aspect) - main.x
    least = stage.margin - (clusters[0].x + clusters[0].left)
    most = stage.aspect - stage.margin - (clusters[-1].x + clusters[-1].right)
    shift = min(max(wanted, min(0.0, least)), max(0.0, most))
    for cluster in clusters:
        cluster.x += shift


def _feet(
    cluster: Cluster, rank: int, ranks: int, ground: Ground, floats: bool, low: bool, rng: random.Random
) -> float:
    """The height in the picture at which a cluster stands; `low` leaves room for what hangs above."""
    group = cluster.root
    if group.bust:
        return 1.0
    if floats or group.home == "float":
        band = (LOWEST - EDGE) / ranks
        slack = max(0.0, band - cluster.top - cluster.sag)
        return LOWEST - rank * band - cluster.sag - slack * rng.uniform(0.25, 0.75)
    if ranks > 1:
        y = LOWEST - 0.01 - rank * (LOWEST - 0.03 - max(0.3, ground.horizon + 0.1)) / (ranks - 1)
    else:
        y = ground.ground + rng.uniform(0.0, 0.06) + (0.03 if low else 0.0)
    huge = not group.human and group.natural * group.ratio**0.7 > 0.5 and len(cluster.members) == 1 and ranks == 1
    if huge or group.wish.relation == "behind":
        y = ground.horizon + 0.45 * (ground.ground - ground.horizon)
    elif group.wish.relation == "front":
        y = LOWEST
    return min(max(y, cluster.top + EDGE), LOWEST - cluster.sag)


def _launch(clusters: list[Cluster], water: float, bank: Bank, rng: random.Random) -> None:
    """Move what swims from the ground to the water."""
    for cluster in clusters:
        root, item = cluster.root, cluster.root.wish.role or cluster.root.wish.item
        swims = isinstance(item, Thing) and bank[item.concept].surface == "water" and root.about != "marine"
        if swims and root.home == "ground" and root.concept not in SEABED:
            lift = root.y - max(water + rng.uniform(-0.03, 0.03), min(root.y, cluster.top + EDGE))
            for group, _, _ in cluster.members:
                group.y -= lift


def _layer(group: Group, stage: Stage, scale: float) -> Cluster:
    """Stand a group behind or before its anchor, so that both show."""
    anchor = stage.groups[stage.anchors[group.index] or 0]
    (cluster,) = stage.build([group], _fit([group], stage, scale, LOWEST - EDGE))
    before = group.wish.relation == "front"
    way, drift = stage.lean[group.index]
    if before:
        if anchor.y > LOWEST - 0.05:
            for member in (anchor, *stage.piled_on(anchor)):
                member.y -= 0.05
        y = min(LOWEST, max(anchor.y + 0.05 + 0.03 * abs(drift), cluster.top + EDGE))
    else:
        y = max(min(anchor.y - 0.05, max(stage.ground.horizon + 0.05, anchor.y - 0.16)), cluster.top + EDGE)
    low = stage.margin - cluster.left
    high = max(low, stage.aspect - stage.margin - cluster.right)
    shares: list[tuple[float, float]] = []
    for reach in (0.15, 0.35, 0.5, 0.65):
        for side in (way, -way):
            x = min(max(low, anchor.x + side * reach * (anchor.width + group.width)), high)
            front, back = ((group, x, y), (anchor, anchor.x, anchor.y))[:: 1 if before else -1]
            shares.append((seen(*back, *front), x))
    # The nearest place at which enough of the one behind is seen.
    x = next((x for share, x in shares if share >= SHOWN), max(shares)[1])
    cluster.settle(x, y)
    gap = anchor.y + anchor.depth + (0.01 if before else -0.01) - y
    for member, _, _ in cluster.members:
        member.depth += max(gap, 0.0) if before else min(gap, 0.0)
    return cluster


def _hang(hung: list[Group], stood: list[Cluster], stage: Stage, rng: random.Random, zoom: float) -> None:
    """Hang groups in the air side by side, over what stands below."""
    if not hung:
        return
    heads = min((c.root.y - c.top for c in stood), default=1.0)
    room = max(0.36, min(SKY, heads + 0.1))
    tallest = max(g.natural for g in hung)
    wanted = min(tallest, 0.34) if stood else min(0.56, 0.34 + 0.5 * max(0.0, tallest - HEIGHTS["tiny"]))
    order = _ordered(hung, stage, rng)
    clusters = stage.build(order, _fit(order, stage, zoom * wanted / tallest, room - EDGE))
    _spread(clusters, stage, rng)
    for cluster in clusters:
        slack = max(0.0, room - EDGE - cluster.top - cluster.sag)
        cluster.settle(cluster.x, EDGE + cluster.top + slack * rng.uniform(0.1, 0.6 if stood else 0.9))
        for group, _, _ in cluster.members:
            group.depth -= 0.5  # the air is behind all that stands


def portrait(items: tuple[Item, ...], aspect: float, ratio_of: Callable[[Item], float]) -> tuple[Item, ...]:
    """A picture of one person alone, seen from close by; any other is returned as it is."""
    if len(items) != 1 or not isinstance(items[0], Person):
        return items
    height = min(PORTRAIT, 1.1 * aspect / ratio_of(items[0]))
    return (items[0].model_copy(update={"x": 0.5, "y": round(2 * EDGE + height, 4), "height": round(height, 4)}),)


__all__ = ["LIGHT", "MOUNTS", "Ground", "Relation", "Size", "Wish", "arrange"]
