"""Which models are in memory: the policy, driven by hand and by random sequences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.engine.pool import Load, News, Pool, Source
from limner.errors import InvalidRequest, LimnerError, ModelUnusable, OutOfMemory
from limner.pipelines.base import Pipeline
from tiny_pipeline import TinyPipeline

BROKEN = ModelUnusable("The file /models/x/unet.safetensors is cut short. Copy it again.")
SHORT = OutOfMemory("There is not enough memory to load it.")


def never(_: Any) -> Pipeline:
    raise AssertionError("a pool itself loads nothing")


@dataclass
class Desk:
    """A pool, driven as the engine drives it, and what came of every request."""

    pool: Pool
    models: dict[str, str] = field(default_factory=dict)  # of each request
    admitted: list[str] = field(default_factory=list)
    failed: dict[str, LimnerError] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    loads: list[Load] = field(default_factory=list)
    open: Load | None = None  # the load that has begun and not ended

    @classmethod
    def of(cls, budget: int | None = None, /, from_start: str = "", **sizes: int) -> Desk:
        sources = {name: Source(never, size, from_start=name in from_start) for name, size in sizes.items()}
        return cls(Pool(sources, {} if budget is None else {"cpu": budget}))

    def turn(self) -> News:
        news = self.pool.turn()
        self.admitted += news.admitted
        self.failed |= news.failed
        if news.load is not None:
            assert self.open is None, "one load at a time"
            self.open = news.load
            self.loads.append(news.load)
        return news

    def come(self, *models: str) -> list[str]:
        """One request for each of these models; their ids."""
        ids = [f"{model}{len(self.models) + i}" for i, model in enumerate(models)]
        for request_id, model in zip(ids, models, strict=True):
            self.models[request_id] = model
            self.pool.enter(request_id, model)
        self.turn()
        return ids

    def end(self, *requests: str) -> None:
        for request_id in requests:
            self.gone.add(request_id)
            self.pool.leave(request_id, self.models[request_id])
        self.turn()

    def load(self, error: LimnerError | None = None) -> str:
        """End the load that has begun."""
        assert self.open is not None
        name, self.open = self.open.name, None
        if error is None:
            self.pool.loaded(name, TinyPipeline())
        else:
            self.pool.failed(name, error)
        self.turn()
        return name

    @property
    def names(self) -> list[str]:
        """Of the models that were loaded or began to, in order."""
        return [load.name for load in self.loads]

    @property
    def loaded(self) -> set[str]:
        return {name for name, state in self.pool.states.items() if state == "loaded"}


def test_a_model_is_loaded_when_it_is_first_asked_for_and_then_serves_at_once() -> None:
    desk = Desk.of(a=1, b=1)
    assert desk.turn().load is None
    (first,) = desk.come("a")
    assert desk.names == ["a"]
    assert desk.admitted == []
    assert desk.load() == "a"
    (second,) = desk.come("a")
    assert desk.admitted == [first, second]
    assert desk.names == ["a"]
    assert desk.loaded == {"a"}


def test_models_are_loaded_one_at_a_time_in_the_order_in_which_they_were_asked_for() -> None:
    desk = Desk.of(a=1, b=1, c=1)
    desk.come("b", "a", "b", "c")
    assert [desk.load() for _ in range(3)] == ["b", "a", "c"]
    assert Counter(desk.models[request_id] for request_id in desk.admitted) == {"a": 1, "b": 2, "c": 1}


def test_while_one_model_is_loaded_requests_for_others_go_on() -> None:
    desk = Desk.of(a=1, b=1)
    desk.come("a")
    desk.load()
    desk.come("b")
    (other,) = desk.come("a")
    assert desk.open is not None
    assert other in desk.admitted


def test_models_that_are_there_from_the_start_come_first_and_the_pool_is_ready_then() -> None:
    desk = Desk.of(from_start="bc", a=1, b=1, c=1)
    assert not desk.pool.ready
    desk.come("a")
    assert desk.load() == "b"
    assert not desk.pool.ready
    assert [desk.load(), desk.load()] == ["c", "a"]
    assert desk.pool.ready


def test_a_pool_stays_ready_when_what_was_there_from_the_start_is_evicted() -> None:
    desk = Desk.of(1, from_start="a", a=1, b=1)
    desk.turn()
    desk.load()
    desk.come("b")
    desk.load()
    assert desk.loaded == {"b"}
    assert desk.pool.ready


def test_the_least_recently_used_that_nobody_uses_makes_room() -> None:
    desk = Desk.of(2, a=1, b=1, c=1)
    for name in "ab":
        (request_id,) = desk.come(name)
        desk.load()
        desk.end(request_id)
    desk.end(*desk.come("a"))
    desk.come("c")
    assert len(desk.loads[-1].evicted) == 1
    assert desk.loaded == {"a"}


def test_small_models_do_not_go_in_vain_before_a_large_one() -> None:
    desk = Desk.of(10, small=2, large=8, other=8)
    for name in ("small", "large"):
        (request_id,) = desk.come(name)
        desk.load()
        desk.end(request_id)
    desk.come("other")
    assert desk.loaded == {"small"}


def test_a_model_in_use_is_not_evicted_and_later_requests_for_it_wait_behind_the_one_that_needs_its_room() -> None:
    desk = Desk.of(1, a=1, b=1)
    (first,) = desk.come("a")
    desk.load()
    (other,) = desk.come("b")
    assert desk.open is None
    (late,) = desk.come("a")
    assert late not in desk.admitted
    desk.end(first)
    assert desk.load() == "b"
    assert desk.admitted == [first, other]
    desk.end(other)
    assert desk.load() == "a"
    assert desk.admitted == [first, other, late]


def test_those_whose_room_is_not_needed_go_on_while_another_waits() -> None:
    desk = Desk.of(3, a=1, b=2, c=2)
    (first_a,) = desk.come("a")
    desk.load()
    (first_b,) = desk.come("b")
    desk.load()
    desk.come("c")  # needs the room of b; that of a is not enough
    late_a, late_b = desk.come("a", "b")
    assert late_a in desk.admitted
    assert late_b not in desk.admitted
    desk.end(first_b)
    assert desk.load() == "c"
    assert desk.loaded == {"a", "c"}
    desk.end(first_a)


def test_memory_of_another_device_is_not_made_room_in() -> None:
    gpu = {name: Source(never, 2, "cuda:0") for name in "ab"}
    desk = Desk(Pool({"c": Source(never, 2), **gpu}, {"cpu": 2, "cuda:0": 2}))
    for name in "ca":
        (request_id,) = desk.come(name)
        desk.load()
        desk.end(request_id)
    desk.come("b")
    desk.load()
    assert desk.loaded == {"c", "b"}


def test_requests_that_yielded_go_on_when_the_one_that_needed_room_has_left() -> None:
    desk = Desk.of(1, a=1, b=1)
    desk.come("a")
    desk.load()
    waiting, late = *desk.come("b"), *desk.come("a")
    assert late not in desk.admitted
    desk.end(waiting)
    assert late in desk.admitted
    assert desk.names == ["a"]


def test_a_load_serves_all_who_wait_by_then_and_those_who_come_later_wait_their_turn() -> None:
    desk = Desk.of(1, a=1, b=1)
    b_first, a_first, b_second = desk.come("b", "a", "b")
    desk.load()
    assert desk.admitted == [b_first, b_second]
    (b_late,) = desk.come("b")
    assert b_late not in desk.admitted
    desk.end(b_first, b_second)
    desk.load()
    assert desk.admitted == [b_first, b_second, a_first]
    desk.end(a_first)
    desk.load()
    assert desk.admitted[-1] == b_late


def test_a_load_that_fails_fails_those_who_wait_for_it_and_the_next_request_tries_again() -> None:
    desk = Desk.of(a=1, b=1)
    ids = desk.come("a", "b", "a")
    desk.load(BROKEN)
    assert desk.failed == {ids[0]: BROKEN, ids[2]: BROKEN}
    assert desk.load() == "b"
    assert desk.admitted == [ids[1]]
    (again,) = desk.come("a")
    assert desk.pool.states["a"] == "loading 0%"
    assert desk.load() == "a"
    assert again in desk.admitted


def test_a_model_of_the_start_that_fails_is_not_tried_until_it_is_asked_for() -> None:
    desk = Desk.of(from_start="a", a=1)
    desk.turn()
    desk.load(BROKEN)
    assert desk.turn().load is None
    assert not desk.pool.ready
    desk.come("a")
    desk.load()
    assert desk.pool.ready


def test_where_memory_is_short_a_load_is_tried_once_more_without_what_nobody_uses() -> None:
    desk = Desk.of(idle=1, used=1, new=1, late=1)
    (request_id,) = desk.come("idle")
    desk.load()
    desk.end(request_id)
    desk.come("used")
    desk.load()
    waiting = desk.come("new")
    desk.load(SHORT)
    assert desk.failed == {}
    assert desk.loaded == {"used"}
    assert len(desk.loads[-1].evicted) == 1
    desk.load(SHORT)
    assert desk.failed == dict.fromkeys(waiting, SHORT)
    assert desk.pool.states["new"] == "failed: There is not enough memory to load it."


def test_a_model_that_can_never_fit_is_refused_with_a_sentence_and_blocks_nobody() -> None:
    desk = Desk.of(8_000_000_000, from_start="huge, small", huge=24_000_000_000, small=1)
    sentence = "it takes 24.00 GB of memory, and all models together may take 8.00 GB"
    with pytest.raises(ModelUnusable, match=f"The model huge cannot be loaded: {sentence}; .* raise memory_gb"):
        desk.pool.check("huge")
    assert desk.pool.states["huge"].startswith(f"failed: {sentence}")
    desk.turn()
    assert desk.load() == "small"


def test_an_unknown_model_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(InvalidRequest, match=r"There is no model 'c' here; the models are: a, b\."):
        Desk.of(b=1, a=1).pool.check("c")


def test_what_waits_is_told_once_and_then_as_the_loading_moves() -> None:
    desk = Desk.of(a=1, b=1)
    first, other = desk.come("a", "b")
    desk.pool.enter("late", "a")
    assert desk.turn().loading == {"late": 0.0}
    assert desk.turn().loading == {}
    desk.pool.progressed("a", 0.4)
    assert desk.pool.states == {"a": "loading 40%", "b": "not loaded"}
    assert desk.turn().loading == {first: 0.4, "late": 0.4}
    desk.pool.progressed("a", 0.3)
    desk.pool.progressed("b", 0.9)  # of no load that has begun
    assert desk.turn().loading == {}
    assert other not in desk.admitted


def test_states_and_fingerprints_are_those_of_every_model_and_name_no_file() -> None:
    desk = Desk.of(a=1, b=1, c=1)
    desk.come("a", "b", "c")
    desk.load()
    desk.load(BROKEN)
    assert desk.pool.states == {
        "a": "loaded",
        "b": "failed: its weights cannot be used; the log says why",
        "c": "loading 0%",
    }
    assert desk.pool.fingerprints == {"a": "tiny-1", "b": None, "c": None}


# Any sequence


@dataclass
class Waiter:
    """What happened while a request waited."""

    model: str
    ahead: set[str]  # models of those that waited when it came, or of the load in progress
    begun: Counter[str] = field(default_factory=Counter)


SIZES = {"a": 2, "b": 3, "c": 5, "d": 1}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(sorted(SIZES))),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("load"), st.sampled_from([None, None, None, BROKEN, SHORT])),
        st.tuples(st.just("progress"), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(steps=STEPS, budget=st.sampled_from([5, 6, 8, 11, None]), from_start=st.sampled_from(["", "c", "ab"]))
def test_whatever_comes_the_budget_holds_nobody_loses_his_model_and_everybody_comes_to_his_turn(
    steps: list[tuple[str, Any]], budget: int | None, from_start: str
) -> None:
    desk = Desk.of(budget, from_start=from_start, **SIZES)
    waiters: dict[str, Waiter] = {}
    active: list[str] = []  # admitted, not ended
    known = 0

    def settle() -> None:
        """Follow what the last step changed, and hold the pool to its promises."""
        nonlocal known
        for request_id in [name for name in waiters if name in desk.admitted or name in desk.failed]:
            waiter = waiters.pop(request_id)
            if request_id in desk.admitted:
                active.append(request_id)
            others = {name: count for name, count in waiter.begun.items() if name != waiter.model}
            assert set(others) <= waiter.ahead, "served later than others that came after it"
            assert all(count <= 2 for count in others.values()), "more than a load and its second try"
        for load in desk.loads[known:]:
            for waiter in waiters.values():
                waiter.begun[load.name] += 1
        known = len(desk.loads)
        held = [*desk.loaded, *([desk.open.name] if desk.open else [])]
        assert budget is None or sum(SIZES[name] for name in held) <= budget
        for request_id in active:
            assert desk.models[request_id] in desk.loaded, "a model was evicted under a request"

    def come(model: str) -> None:
        ahead = {waiter.model for waiter in waiters.values()} | {*from_start}
        if desk.open is not None:
            ahead.add(desk.open.name)
        (request_id,) = desk.come(model)
        waiters[request_id] = Waiter(model, ahead)

    desk.turn()
    settle()
    for kind, detail in steps:
        if kind == "come":
            come(detail)
        elif kind == "end" and active:
            desk.end(active.pop(detail % len(active)))
        elif kind == "cancel" and waiters:
            request_id = sorted(waiters)[detail % len(waiters)]
            del waiters[request_id]
            desk.end(request_id)
        elif kind == "load" and desk.open is not None:
            desk.load(detail)
        elif kind == "progress" and desk.open is not None:
            desk.pool.progressed(desk.open.name, detail)
        settle()
    while waiters or desk.open:
        if desk.open is not None:
            desk.load()
        else:
            assert active, "nobody moves"
            desk.end(active.pop(0))
        settle()
    waited = set(desk.models) - desk.gone
    assert set(desk.admitted) | set(desk.failed) >= waited
    assert len(desk.admitted) == len(set(desk.admitted))
    assert not set(desk.admitted) & set(desk.failed)


@given(
    flood=st.lists(st.tuples(st.sampled_from("abd"), st.integers(1, 3)), min_size=1, max_size=6),
    budget=st.sampled_from([5, 6, 8]),
)
def test_a_flood_of_requests_for_others_cannot_keep_a_model_out(flood: list[tuple[str, int]], budget: int) -> None:
    """The others' requests keep coming and each takes some turns; c, whose room they hold, is loaded all the same."""
    desk = Desk.of(budget, from_start="", **SIZES)
    active: dict[str, int] = {}  # turns that each has left
    seen = 0

    def moment() -> None:
        nonlocal seen
        for model, turns in flood:
            lasts[desk.come(model)[0]] = turns
        for request_id in desk.admitted[seen:]:
            active[request_id] = lasts[request_id]
        seen = len(desk.admitted)
        for request_id in list(active):
            active[request_id] -= 1
            if not active[request_id]:
                del active[request_id]
                desk.end(request_id)
        if desk.open is not None:
            desk.load()

    lasts: dict[str, int] = {}
    for _ in range(5):
        moment()
    (wanted,) = desk.come("c")
    lasts[wanted] = 1
    moments = 0
    while wanted not in desk.admitted:
        moment()
        moments += 1
        assert moments <= 5 * (len(SIZES) + 1)  # for each model, 3 to drain those in its way and one to load
