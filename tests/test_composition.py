"""Composition: everything named is in the picture, where its relation says, and stands on something."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.composition import Relation, Size, Wish, arrange
from limner.painter.places import KINDS
from limner.painter.scene import Item, Person, Reference, Thing

BANK = Bank.load()
RATIOS: dict[Item, float] = {}
ASPECTS = (0.25, 0.5625, 1.0, 1.7778, 2.3333, 4.0)


@dataclass(frozen=True)
class Floor:
    horizon: float = 0.6
    ground: float = 0.86
    surface: Literal["ground", "water", "air", "none"] = "ground"


def ratio_of(item: Item) -> float:
    if isinstance(item, Reference):
        return 0.6
    if item not in RATIOS:
        RATIOS[item] = draft.ratio(item, BANK)
    return RATIOS[item]


def compose(
    *wishes: Wish,
    aspect: float = 1.0,
    seed: int = 1,
    floor: Floor | None = None,
    zoom: float = 1.0,
    water: float | None = None,
) -> tuple[Item, ...]:
    return arrange(wishes, floor or Floor(), aspect, random.Random(seed), BANK, ratio_of, zoom, water)


def thing(concept: str, **more: Any) -> Wish:
    return Wish(Thing(concept=concept), **more)


def person(**more: Any) -> Wish:
    return Wish(Person(), **more)


def box(item: Item, aspect: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom as fractions of the picture."""
    half = (
        item.height * ratio_of(item.model_copy(update={"x": 0.5, "y": 0.9, "height": 0.4, "flip": False})) / aspect / 2
    )
    return item.x - half, item.y - item.height, item.x + half, item.y


def visible(item: Item, aspect: float) -> float:
    left, top, right, bottom = box(item, aspect)
    inside = max(0.0, min(1, right) - max(0, left)) * max(0.0, min(1, bottom) - max(0, top))
    return inside / ((right - left) * (bottom - top))


def names(items: tuple[Item, ...]) -> list[str]:
    return [item.concept if isinstance(item, Thing) else item.kind for item in items]


def one(items: tuple[Item, ...], concept: str) -> Thing:
    return next(i for i in items if isinstance(i, Thing) and i.concept == concept)


CONCEPTS = st.sampled_from(BANK.names)
ITEMS = st.one_of(
    CONCEPTS.map(lambda name: Thing(concept=name)),
    st.sampled_from([Person(), Person(age="child", pose="running"), Person(age="elder", pose="arms-up", hat="wizard")]),
    st.just(Reference()),
)
WISHES = st.lists(
    st.builds(
        Wish,
        ITEMS,
        st.integers(1, 20),
        st.sampled_from([None, *get_args(Size)]),
        st.sampled_from([None, *get_args(Relation)]),
        st.sampled_from([None, 0, 1, 2, 3, 7]),
    ),
    min_size=1,
    max_size=8,
)
FLOORS = st.sampled_from([Floor(k.horizon, k.ground, k.surface) for k in KINDS.values()])


@settings(max_examples=150, deadline=None)
@given(WISHES, st.floats(0.25, 4), FLOORS, st.integers(0, 2**32), st.sampled_from([0.6, 1.0, 1.35]))
def test_whatever_is_wished_is_in_the_picture(
    wishes: list[Wish], aspect: float, floor: Floor, seed: int, zoom: float
) -> None:
    items = compose(*wishes, aspect=aspect, seed=seed, floor=floor, zoom=zoom)
    assert len(items) == sum(w.count for w in wishes)
    assert min(visible(i, aspect) for i in items) >= 0.85
    assert all(type(i).model_validate(i.model_dump()) == i for i in items)
    assert compose(*wishes, aspect=aspect, seed=seed, floor=floor, zoom=zoom) == items


def test_nothing_wished_is_nothing_shown() -> None:
    assert compose() == ()


def test_one_thing_alone_is_large_and_one_of_many_is_smaller() -> None:
    alone = compose(thing("fox"))[0]
    assert 0.4 < alone.height < 0.8
    assert one(compose(thing("fox"), thing("wolf"), thing("lion")), "fox").height < alone.height


def test_zoom_makes_things_larger_and_smaller() -> None:
    near, usual, far = (compose(thing("fox"), zoom=z)[0].height for z in (1.35, 1.0, 0.6))
    assert near > 1.2 * usual > 1.2 * 1.5 * far


def test_natures_differences_in_size_are_kept() -> None:
    items = compose(thing("mouse"), thing("elephant"), person(), aspect=2.0)
    heights = {i.concept if isinstance(i, Thing) else "person": i.height for i in items}
    assert heights["mouse"] < heights["elephant"]
    assert heights["mouse"] < 0.6 * heights["person"]


@pytest.mark.parametrize("aspect", ASPECTS)
def test_things_side_by_side_do_not_overlap(aspect: float) -> None:
    for seed in range(8):
        items = compose(
            thing("cat"),
            thing("dog", relation="right", other=0),
            thing("cow", relation="right", other=1),
            aspect=aspect,
            seed=seed,
        )
        boxes = sorted(box(i, aspect) for i in items)
        assert all(a[2] <= b[0] + 1e-3 for a, b in pairwise(boxes))
        assert [i.concept for i in sorted(items, key=lambda i: i.x) if isinstance(i, Thing)] == ["cat", "dog", "cow"]


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("count", [2, 3, 5, 8, 12, 20])
def test_a_crowd_can_be_counted(count: int, aspect: float) -> None:
    """No two of one kind are so near that one hides most of the other."""
    for concept in ("red-apple", "star", "ewe"):
        items = compose(thing(concept, count=count), aspect=aspect)
        for k, a in enumerate(items):
            for b in items[k + 1 :]:
                (l1, t1, r1, b1), (l2, t2, r2, b2) = box(a, aspect), box(b, aspect)
                shared = max(0.0, min(r1, r2) - max(l1, l2)) * max(0.0, min(b1, b2) - max(t1, t2))
                assert shared <= 0.45 * (r1 - l1) * (b1 - t1)


def test_things_stand_on_the_ground_and_not_in_the_sky() -> None:
    for aspect in ASPECTS:
        for seed in range(6):
            for item in compose(thing("cat", count=7), thing("house"), person(), aspect=aspect, seed=seed):
                assert Floor().horizon <= item.y <= 0.97


def test_what_flies_hangs_above_what_stands() -> None:
    for aspect in ASPECTS:
        items = compose(thing("house"), thing("balloon", count=3), thing("airplane"), aspect=aspect)
        assert max(i.y for i, name in zip(items, names(items), strict=True) if name != "house") < one(items, "house").y
        assert names(items)[-1] == "house"


def test_in_water_fish_float_and_crabs_stand() -> None:
    floor = Floor(0.7, 0.88, "water")
    for seed in range(6):
        items = compose(thing("fish"), thing("crab"), floor=floor, seed=seed, aspect=1.5)
        assert one(items, "crab").y >= 0.88
        assert one(items, "fish").y < one(items, "crab").y + 0.06


def test_boats_lie_in_the_water_of_a_beach() -> None:
    for seed in range(6):
        items = compose(thing("ship"), person(), water=0.6, seed=seed, aspect=1.5)
        ship, man = one(items, "ship"), next(i for i in items if isinstance(i, Person))
        assert ship.y < 0.75 < man.y
        assert items[0] == ship


@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_pile_stays_a_pile(aspect: float) -> None:
    items = compose(
        thing("teapot", relation="on", other=1),
        thing("closed-book", relation="on", other=2),
        thing("package"),
        aspect=aspect,
    )
    cup, book, crate = one(items, "teapot"), one(items, "closed-book"), one(items, "package")
    assert cup.y < book.y < crate.y
    assert book.y == pytest.approx(crate.y - 0.9 * crate.height, abs=0.02)
    assert max(cup.x, book.x, crate.x) - min(cup.x, book.x, crate.x) < 0.2 / min(1, aspect)
    assert names(items) == ["package", "closed-book", "teapot"]


def test_two_on_one_seat_share_it() -> None:
    items = compose(thing("cat", relation="on", other=2), thing("dog", relation="on", other=2), thing("couch-and-lamp"))
    cat, dog, sofa = box(one(items, "cat"), 1), box(one(items, "dog"), 1), box(one(items, "couch-and-lamp"), 1)
    assert min(cat[2], dog[2]) <= max(cat[0], dog[0]) + 0.02
    assert sofa[0] - 0.1 < min(cat[0], dog[0])
    assert max(cat[2], dog[2]) < sofa[2] + 0.1


def test_a_rider_is_drawn_behind_the_mount() -> None:
    items = compose(person(relation="on", other=1), thing("horse"))
    assert [i.kind for i in items] == ["person", "thing"]
    assert items[0].y < items[1].y
    assert items[0].y - items[0].height < items[1].y - items[1].height


@pytest.mark.parametrize("aspect", [0.5625, 1.0, 1.7778, 2.3333])
def test_the_main_subject_stands_near_the_middle(aspect: float) -> None:
    for seed in range(8):
        crowd = compose(person(), thing("dog"), thing("cat"), thing("palm-tree"), aspect=aspect, seed=seed)
        x = next(i.x for i in crowd if isinstance(i, Person))
        assert abs(x - 0.5) < (0.25 if aspect >= 1 else 0.3)  # two abreast fill a narrow picture
        beside = compose(thing("rabbit", relation="beside", other=1), thing("mushroom"), thing("house"), seed=seed)
        assert one(beside, "rabbit").x == sorted(i.x for i in beside)[1]


@pytest.mark.parametrize("aspect", [0.5625, 1.0, 1.7778, 2.3333])
def test_someone_alone_is_tall_and_in_the_middle_third(aspect: float) -> None:
    for seed in range(12):
        (alone,) = compose(person(), aspect=aspect, seed=seed)
        assert 0.6 <= alone.height <= 0.76
        assert 1 / 3 < alone.x < 2 / 3


def test_a_small_main_subject_is_not_lost() -> None:
    small = one(compose(thing("rabbit", size="small"), thing("fox")), "rabbit").height
    usual = one(compose(thing("rabbit"), thing("fox")), "rabbit").height
    assert 0.7 * usual < small < 0.9 * usual


def test_a_coat_is_worn_on_the_body_and_a_hat_on_the_head() -> None:
    for concept, low, high in (("coat", 0.0, 0.5), ("top-hat", 0.5, 1.2)):
        items = compose(thing("rabbit"), thing(concept, relation="on", other=0))
        rabbit = one(items, "rabbit")
        assert low < (rabbit.y - one(items, concept).y) / rabbit.height < high


def test_riders_have_a_mount_each() -> None:
    items = compose(Wish(Person(), 2, relation="on", other=1), thing("horse", count=2), aspect=1.7778)
    riders = sorted(i.x for i in items if isinstance(i, Person))
    mounts = sorted(i.x for i in items if isinstance(i, Thing))
    assert all(abs(r - m) < 0.06 for r, m in zip(riders, mounts, strict=True))


def test_what_is_behind_is_drawn_first_and_still_seen() -> None:
    for seed in range(10):
        items = compose(thing("castle", relation="behind", other=1), person(), seed=seed)
        assert [i.kind for i in items] == ["thing", "person"]
        (l1, t1, r1, b1), (l2, t2, r2, b2) = box(items[0], 1), box(items[1], 1)
        hidden = max(0.0, min(r1, r2) - max(l1, l2)) * max(0.0, min(b1, b2) - max(t1, t2))
        assert hidden < 0.6 * (r1 - l1) * (b1 - t1)


def test_what_looks_out_of_a_box_is_seen_by_half() -> None:
    items = compose(thing("cat", relation="inside", other=1), thing("package"))
    cat, crate = one(items, "cat"), one(items, "package")
    assert items.index(cat) < items.index(crate)
    assert crate.y - crate.height - (cat.y - cat.height) > 0.35 * cat.height


def test_a_canopy_is_over_the_head_of_who_is_under_it_or_holds_it() -> None:
    under = compose(thing("cat", relation="under", other=1), thing("umbrella"))
    assert one(under, "umbrella").y < one(under, "cat").y - 0.5 * one(under, "cat").height
    held = compose(person(), thing("umbrella", relation="holding", other=0))
    person_, umbrella = next(i for i in held if isinstance(i, Person)), one(held, "umbrella")
    assert umbrella.y - umbrella.height < person_.y - person_.height


@pytest.mark.parametrize(("side", "low", "high"), [("left", 0.0, 0.5), ("right", 0.5, 1.0)])
def test_a_side_of_the_picture_is_kept(side: Relation, low: float, high: float) -> None:
    for seed in range(6):
        items = compose(thing("cat", relation=side), thing("dog"), seed=seed)
        assert low < one(items, "cat").x < high


def test_relations_in_a_circle_are_not_kept_but_all_is_shown() -> None:
    items = compose(
        thing("cat", relation="on", other=1),
        thing("dog", relation="on", other=0),
        thing("cow", relation="left", other=2),
    )
    assert sorted(i.concept for i in items if isinstance(i, Thing)) == ["cat", "cow", "dog"]


def test_people_of_one_group_may_look_different() -> None:
    looks = (Person(top_colour="red"), Person(top_colour="green"))
    items = compose(Wish(Person(top_colour="blue"), 3, looks=looks))
    assert sorted(i.top_colour for i in items if isinstance(i, Person)) == ["blue", "green", "red"]


def test_seeds_move_things() -> None:
    places = {
        tuple((i.x, i.y, i.flip) for i in compose(thing("fox"), thing("deciduous-tree"), seed=seed))
        for seed in range(9)
    }
    assert len(places) == 9
