from __future__ import annotations

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from limner.backends.base import Backend
from limner.backends.local import LocalBackend
from limner.engine.core import (
    ENDINGS,
    Batch,
    Cancelled,
    Done,
    Encoded,
    Event,
    Failed,
    Float32,
    Loading,
    Queued,
    Request,
    Started,
    Stepped,
    UInt8,
)
from limner.engine.engine import Engine
from limner.engine.pool import Pool, Progress, Source
from limner.errors import Busy, EngineFailed, InvalidRequest, ModelUnusable, OutOfMemory
from tiny_pipeline import Explosion, TinyPipeline


def request(
    name: str, prompt: str = "a red fox", seed: int = 1, width: int = 64, height: int = 96, **more: Any
) -> Request:
    return Request(name, prompt, seed, width, height, **more)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """The lines that were logged; rendering them is not what is tested here."""
    with capture_logs() as lines:
        yield lines


class Desk:
    """An engine driven by hand, one step at a time, and all that it told."""

    def __init__(self, pipeline: TinyPipeline | None = None, limit: int = 100, pool: Pool | None = None) -> None:
        self.pipeline = pipeline or TinyPipeline()
        self.engine = Engine(pool or {"image-01": self.pipeline}, limit)
        self.events: list[Event] = []

    def submit(self, *requests: Request) -> None:
        self.engine.submit(requests, self.events.append)

    def run(self) -> None:
        while self.engine.waiting or self.engine.running:
            self.engine.step()

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.id == name]

    def ending(self, name: str) -> Event:
        (end,) = [event for event in self.of(name) if isinstance(event, ENDINGS)]
        assert end is self.of(name)[-1]
        return end

    def pixels(self, name: str) -> bytes:
        end = self.ending(name)
        assert isinstance(end, Done), end
        return end.pixels.tobytes()

    def error(self, name: str) -> Exception:
        end = self.ending(name)
        assert isinstance(end, Failed), end
        return end.error

    def evaluated(self, name: str) -> int:
        return sum(batch.count(name) for batch in self.pipeline.batches)


def alone(wanted: Request) -> bytes:
    desk = Desk()
    desk.submit(wanted)
    desk.run()
    return desk.pixels(wanted.id)


# What a request is told


def test_a_request_is_queued_started_stepped_and_done_in_this_order() -> None:
    desk = Desk()
    desk.submit(request("a", steps=3))
    desk.run()
    assert [type(event) for event in desk.events] == [Queued, Started, Stepped, Stepped, Stepped, Done]
    queued, started, *steps, done = desk.events
    assert queued == Queued("a", ahead=0)
    assert started == Started("a", steps=3, notes=("A note.",), plan={"prompt": "a red fox"}, cost=3 * 2 * 3.0)
    assert steps == [Stepped("a", step, 3) for step in (1, 2, 3)]
    assert isinstance(done, Done)
    assert done.pixels.shape == (96, 64, 3)
    assert done.pixels.dtype == np.uint8
    assert done.seconds.keys() == {"encode", "evaluate", "decode"}
    assert all(seconds > 0 for seconds in done.seconds.values())


def test_a_request_is_told_how_many_are_ahead() -> None:
    desk = Desk()
    desk.submit(request("a"), request("b"))
    desk.submit(request("c"))
    desk.run()
    assert [event.ahead for event in desk.events if isinstance(event, Queued)] == [0, 1, 2]


def test_steps_are_told_and_evaluations_counted_apart() -> None:
    desk = Desk(TinyPipeline(max_batch=1))
    desk.submit(request("a", prompt="heun", steps=3, guidance=2.0))
    desk.run()
    assert [event.step for event in desk.events if isinstance(event, Stepped)] == [1, 2, 3]
    assert desk.evaluated("a") == 2 * (2 * 3 - 1)
    assert desk.engine.evaluations == desk.engine.batches == 10
    assert desk.engine.evaluation_seconds > 0


def test_what_waits_and_what_runs_is_counted() -> None:
    desk = Desk(TinyPipeline(max_batch=1))
    desk.submit(request("a"), request("b"))
    assert (desk.engine.waiting, desk.engine.running) == (2, 0)
    desk.engine.step()
    assert (desk.engine.waiting, desk.engine.running) == (1, 1)
    desk.run()
    assert (desk.engine.waiting, desk.engine.running) == (0, 0)
    assert desk.engine.scheduler.idle


# A picture depends on its own request alone

SIZES = ((64, 96), (96, 64), (128, 128))
REQUESTS = st.builds(
    lambda prompt, seed, size, **more: request("", prompt, seed, *size, **more),
    prompt=st.sampled_from(["a red fox", "two cats, heun", "rain, euler", "the sea, multistep"]),
    seed=st.one_of(st.integers(0, 5), st.just(2**64 - 1)),
    size=st.sampled_from(SIZES),
    steps=st.one_of(st.none(), st.integers(1, 7)),
    guidance=st.sampled_from([None, 1.0, 2.5]),
    tenant=st.sampled_from(["", "t"]),
)


def named(name: str, plain: Request) -> Request:
    fields = {field: getattr(plain, field) for field in Request.__slots__}
    return Request(**fields | {"id": name})


@given(drawn=st.lists(REQUESTS, min_size=2, max_size=8), max_batch=st.integers(1, 4), between=st.integers(0, 3))
def test_a_picture_is_the_same_alone_and_among_neighbours(drawn: list[Request], max_batch: int, between: int) -> None:
    desk = Desk(TinyPipeline(max_batch))
    for i, plain in enumerate(drawn):
        desk.submit(named(str(i), plain))
        for _ in range(between):
            desk.engine.step()
    desk.run()
    for i, plain in enumerate(drawn):
        assert desk.pixels(str(i)) == alone(named(str(i), plain))


def test_the_kth_picture_of_a_call_is_the_first_of_its_own_seed() -> None:
    desk = Desk()
    seeds = [(2**64 - 2 + k) % 2**64 for k in range(4)]
    desk.submit(*(request(str(k), seed=seed) for k, seed in enumerate(seeds)))
    desk.run()
    pictures = [desk.pixels(str(k)) for k in range(4)]
    assert pictures == [alone(request("x", seed=seed)) for seed in seeds]
    assert len(set(pictures)) == 4


def test_what_a_request_asks_for_changes_its_picture() -> None:
    pictures = [
        alone(request("x")),
        alone(request("x", prompt="a blue fox")),
        alone(request("x", steps=7)),
        alone(request("x", guidance=3.0)),
    ]
    assert len(set(pictures)) == 4


def test_requests_of_one_key_do_share_batches_and_others_do_not() -> None:
    desk = Desk(TinyPipeline(max_batch=4))
    desk.submit(*(request(f"tall-{i}", width=64, height=96) for i in range(3)), request("wide", width=96, height=64))
    desk.run()
    assert max(len(batch) for batch in desk.pipeline.batches) > 1
    assert all({name[:4] for name in batch} in ({"tall"}, {"wide"}) for batch in desk.pipeline.batches)


# Nobody is stuck behind another


def test_a_short_request_is_done_long_before_a_long_one_that_came_first() -> None:
    desk = Desk(TinyPipeline(max_batch=1))
    desk.submit(request("long", steps=100, width=128, height=128))
    for _ in range(5):
        desk.engine.step()
    desk.submit(request("short", steps=4))
    while not any(isinstance(event, Done) for event in desk.of("short")):
        desk.engine.step()
    assert desk.evaluated("long") <= 5 + 2
    desk.run()
    assert desk.evaluated("long") == 100


def test_a_request_waits_for_no_more_than_one_encoding_before_each_evaluation() -> None:
    desk = Desk(TinyPipeline(max_batch=1))
    desk.submit(request("first", steps=8))
    desk.submit(*(request(f"later-{i}", steps=9) for i in range(8)))
    for step in range(1, 9):
        desk.engine.step()
        assert len(desk.pipeline.encoded) == step
    assert isinstance(desk.ending("first"), Done)


def test_a_greedy_tenant_delays_another_by_no_more_than_the_others_own_work() -> None:
    desk = Desk(TinyPipeline(max_batch=1))
    desk.submit(*(request(f"greedy-{i}", steps=50, tenant="greedy") for i in range(20)))
    for _ in range(40):
        desk.engine.step()
    before = len(desk.pipeline.batches)
    desk.submit(request("modest", steps=10, tenant="modest"))
    while not any(isinstance(event, Done) for event in desk.of("modest")):
        desk.engine.step()
    assert len(desk.pipeline.batches) - before <= 2 * 10 + 2


# The queue's bound


def takes(desk: Desk, tenant: str, requests: int = 1) -> bool:
    """Submit so many more of a tenant's; whether they were accepted, which `room` must have told before."""
    room, number = desk.engine.room(tenant), len(desk.events) + desk.engine.waiting + desk.engine.running
    try:
        desk.submit(*(request(f"{tenant}-{number}-{k}", tenant=tenant) for k in range(requests)))
    except Busy:
        assert requests > room
        return False
    assert requests <= room
    return True


def test_a_tenant_that_is_alone_may_fill_every_place_and_no_more() -> None:
    desk = Desk(limit=8)
    assert takes(desk, "a", 5)
    assert not takes(desk, "a", 4)
    assert takes(desk, "a", 3)
    assert desk.engine.room("a") == 0
    assert not takes(desk, "a")


def test_who_has_less_than_its_share_is_let_in_though_another_filled_every_place() -> None:
    desk = Desk(limit=8)
    assert takes(desk, "greedy", 8)
    assert desk.engine.room("modest") == 4
    assert not takes(desk, "modest", 5)
    assert takes(desk, "modest", 3)
    assert takes(desk, "modest")
    assert not takes(desk, "modest")  # it has its share
    assert not takes(desk, "greedy")
    assert takes(desk, "third", 2)  # 8 // 3
    assert not takes(desk, "third")
    desk.run()
    assert {desk.engine.room(tenant) for tenant in ("greedy", "modest", "third")} == {8}


def test_places_that_others_leave_free_are_anyones() -> None:
    desk = Desk(limit=8)
    assert takes(desk, "modest")
    assert takes(desk, "greedy", 7)
    assert not takes(desk, "greedy")


def test_a_tenant_whose_share_is_not_one_request_waits_until_there_is_a_place() -> None:
    desk = Desk(limit=2)
    assert takes(desk, "a", 2)
    assert takes(desk, "b")
    assert not takes(desk, "c")
    desk.run()
    assert takes(desk, "c")


@given(
    calls=st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 9), st.integers(0, 3)), max_size=60),
    limit=st.integers(1, 12),
)
def test_however_many_tenants_come_the_places_stay_bounded_and_a_share_is_always_free(
    calls: list[tuple[str, int, int]], limit: int
) -> None:
    desk, most = Desk(limit=limit), sum(limit // k for k in range(1, limit + 1))
    here: Counter[str] = Counter()
    for number, (tenant, wanted, leave) in enumerate(calls):
        total, share = here.total(), limit // len({*here, tenant})
        fits = total + wanted <= limit or here[tenant] + wanted <= share
        names = [f"{number}-{k}" for k in range(wanted)]
        try:
            desk.submit(*(request(name, tenant=tenant) for name in names))
        except (Busy, InvalidRequest):
            assert not fits
        else:
            assert fits
        desk.engine._receive()
        for gone in [task.request.id for task in list(desk.engine._tasks.values())[:leave]]:
            desk.engine.cancel(gone)
        desk.engine._receive()
        here = Counter(task.request.tenant for task in desk.engine._tasks.values())
        assert here.total() <= most
        assert max(here.values(), default=0) <= limit


# What goes wrong


@pytest.mark.parametrize("where", ["encode", "evaluate", "decode"])
def test_a_request_that_explodes_fails_alone(where: str) -> None:
    desk = Desk()
    desk.submit(request("a"), request("bad", prompt=f"explode in {where}"), request("b", seed=2))
    desk.run()
    assert isinstance(desk.error("bad"), EngineFailed)
    assert "image-01 failed while" in str(desk.error("bad"))
    assert desk.pixels("a") == alone(request("a"))
    assert desk.pixels("b") == alone(request("b", seed=2))


def test_an_unforeseen_failure_is_logged_with_its_traceback_and_without_the_prompt(
    logged: list[MutableMapping[str, Any]],
) -> None:
    desk = Desk()
    desk.submit(request("bad", prompt="explode in decode, said Ada"))
    desk.run()
    (line,) = logged
    assert line["request"] == "bad"
    assert isinstance(line["exc_info"], Explosion)
    assert "Ada" not in repr(line) + str(desk.error("bad"))


def test_a_failed_batch_is_tried_once_more_request_by_request() -> None:
    desk = Desk(TinyPipeline(max_batch=6))
    for name in ("a", "b"):
        desk.submit(request(name, steps=1, guidance=2.0))
    desk.submit(request("bad", prompt="explode in evaluate", steps=1, guidance=2.0))
    desk.engine.step()  # a alone, and it is done
    desk.engine._encode("bad")
    desk.pipeline.batches.clear()
    desk.engine.step()
    assert desk.pipeline.batches == [["b", "b", "bad", "bad"], ["b", "b"], ["bad", "bad"]]
    assert isinstance(desk.error("bad"), EngineFailed)
    assert isinstance(desk.ending("b"), Done)


def test_a_panic_of_an_extension_ends_one_request_and_not_the_engine() -> None:
    desk = Desk()
    desk.submit(request("bad", prompt="panic"), request("good"))
    desk.run()
    assert isinstance(desk.error("bad"), EngineFailed)
    assert isinstance(desk.ending("good"), Done)


@pytest.mark.parametrize(("prompt", "decoded"), [("nan", ["good"]), ("ragged", ["bad", "good"])])
def test_a_latent_that_is_not_finite_or_a_picture_of_a_wrong_size_fails(prompt: str, decoded: list[str]) -> None:
    desk = Desk()
    desk.submit(request("bad", prompt=prompt), request("good"))
    desk.run()
    assert isinstance(desk.error("bad"), EngineFailed)
    assert isinstance(desk.ending("good"), Done)
    assert desk.pipeline.decoded == decoded


class Misguided(TinyPipeline):
    """Asks for guidance of a kind that there is not, where the prompt says "odd"."""

    def encode(self, request: Request) -> Encoded:
        encoded = super().encode(request)
        odd: Any = "odd"
        return replace(encoded, guiding=odd) if "odd" in request.prompt else encoded


def test_a_step_that_cannot_be_taken_fails_its_request_alone() -> None:
    desk = Desk(Misguided())
    desk.submit(request("good", guidance=2.0), request("bad", prompt="odd", guidance=2.0))
    desk.run()
    assert isinstance(desk.error("bad"), EngineFailed)
    assert "failed while painting" in str(desk.error("bad"))
    assert desk.pixels("good") == alone(request("good", guidance=2.0))


def test_a_pipelines_own_sentence_reaches_the_caller_as_it_is() -> None:
    desk = Desk()
    desk.submit(request("bad", prompt="refuse"))
    desk.run()
    assert isinstance(desk.error("bad"), InvalidRequest)
    assert str(desk.error("bad")) == "This prompt cannot be painted. Use another."


def test_a_listener_that_raises_harms_nobody() -> None:
    desk = Desk()

    def listener(event: Event) -> None:
        raise OSError("gone")

    desk.engine.submit([request("deaf")], listener)
    desk.submit(request("a"))
    desk.run()
    assert isinstance(desk.ending("a"), Done)
    assert desk.pipeline.decoded == ["deaf", "a"]


def test_an_unknown_model_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(InvalidRequest, match=r"There is no model 'image-02' here; the models are: image-01\."):
        Desk().submit(request("a", model="image-02"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 201),
        ("guidance", 0.5),
        ("guidance", 31.0),
        ("guidance", float("nan")),
        ("strength", -0.1),
        ("strength", 1.1),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_value_out_of_range_is_refused_and_its_neighbours_are_not_accepted(field: str, value: float) -> None:
    desk, wrong = Desk(), dict[str, Any]({field: value})
    with pytest.raises(InvalidRequest, match=f"{field} is .*; it must be between"):
        desk.submit(request("good"), request("bad", **wrong))
    assert desk.engine.waiting == 0


def test_a_full_engine_is_busy_and_takes_all_of_a_call_or_none() -> None:
    desk = Desk(limit=4)
    desk.submit(request("a"), request("b"))
    with pytest.raises(Busy, match="2 of 4 places are taken") as busy:
        desk.submit(request("c"), request("d"), request("e"))
    assert busy.value.retry_after > 0
    assert desk.engine.waiting == 2
    desk.submit(request("c"), request("d"))
    desk.run()
    desk.submit(request("e"))
    desk.run()
    assert all(isinstance(desk.ending(name), Done) for name in "abcde")


def test_a_call_that_can_never_fit_is_invalid_and_not_busy() -> None:
    with pytest.raises(InvalidRequest, match="5 pictures were asked for at once, but at most 4 fit"):
        Desk(limit=4).submit(*(request(str(i)) for i in range(5)))


def test_an_id_in_use_is_refused() -> None:
    desk = Desk()
    desk.submit(request("a"))
    for twice in ([request("a")], [request("b"), request("b")]):
        with pytest.raises(ValueError, match="in use"):
            desk.submit(*twice)
    assert desk.engine.waiting == 1


def test_a_cancelled_request_is_not_evaluated_again() -> None:
    desk = Desk()
    desk.submit(request("a", steps=50), request("b", steps=5))
    for _ in range(3):
        desk.engine.step()
    before = desk.evaluated("a")
    desk.engine.cancel("a")
    desk.engine.cancel("never seen")
    desk.run()
    assert isinstance(desk.ending("a"), Cancelled)
    assert desk.evaluated("a") == before
    assert isinstance(desk.ending("b"), Done)
    desk.engine.cancel("b")
    desk.engine.step()
    assert isinstance(desk.ending("b"), Done)


def test_a_request_cancelled_before_it_began_is_never_encoded() -> None:
    desk = Desk()
    desk.submit(request("a"))
    desk.engine.cancel("a")
    desk.run()
    assert isinstance(desk.ending("a"), Cancelled)
    assert desk.pipeline.encoded == []


def test_closing_ends_what_is_in_flight_and_refuses_what_comes() -> None:
    desk = Desk()
    desk.submit(request("running"), request("waiting"))
    desk.engine.step()
    desk.submit(request("just come"))
    desk.engine.close()
    desk.engine.close()
    for name in ("running", "waiting", "just come"):
        assert isinstance(desk.error(name), EngineFailed)
        assert "shutting down" in str(desk.error(name))
    with pytest.raises(EngineFailed, match="shutting down"):
        desk.submit(request("late"))


class FlakyScheduler:
    """Stands in for the engine's scheduler and raises at the next call."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("a bug of ours")


JOBS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        ["fox", "cat, heun", "refuse", "nan", "ragged", "panic"]
                        + [f"explode in {stage}" for stage in ("encode", "evaluate", "decode")]
                    ),
                    st.sampled_from(SIZES),
                    st.integers(1, 4),
                    st.sampled_from([1.0, 2.0]),
                    st.sampled_from("AB"),
                ),
                min_size=1,
                max_size=4,
            ),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("bug"), st.none()),
        st.tuples(st.just("deaf"), st.none()),
    ),
    max_size=25,
)


@given(jobs=JOBS, max_batch=st.integers(1, 4), close=st.booleans())
def test_every_accepted_request_ends_exactly_once(jobs: list[tuple[str, Any]], max_batch: int, close: bool) -> None:
    desk, accepted, deaf = Desk(TinyPipeline(max_batch), limit=8), list[str](), set[str]()

    def listen(event: Event) -> None:
        desk.events.append(event)
        if event.id in deaf:
            raise OSError("gone")

    def step() -> None:
        """As the engine's thread does."""
        try:
            desk.engine.step()
        except RuntimeError as error:
            desk.engine._recover(error)

    for kind, detail in jobs:
        if kind == "submit":
            requests = [
                request(f"{len(accepted) + i}", prompt, i, *size, steps=steps, guidance=guidance, tenant=tenant)
                for i, (prompt, size, steps, guidance, tenant) in enumerate(detail)
            ]
            try:
                desk.engine.submit(requests, listen)
            except Busy:
                continue
            accepted += [wanted.id for wanted in requests]
        elif kind == "cancel":
            desk.engine.cancel(str(detail))
        elif kind == "step":
            for _ in range(detail):
                step()
        elif kind == "bug":
            desk.engine.scheduler = FlakyScheduler()  # type: ignore[assignment]  # it breaks on purpose
            step()
        else:
            deaf |= set(accepted[-1:])
    if close:
        desk.engine.close()
    else:
        desk.run()
    ends = Counter(event.id for event in desk.events if isinstance(event, ENDINGS))
    assert ends == Counter(accepted)
    for name in accepted:
        desk.ending(name)  # and nothing after it
    assert (desk.engine.waiting, desk.engine.running) == (0, 0)
    assert desk.engine.scheduler.idle


# Models that are loaded when they are needed


class Shelf:
    """Models on disk, so to speak: what was loaded, let go of and closed, and a way to stop the loading.

    Attributes:
        loads: The models that were loaded, in order.
        gates: Acquired before a model of this name is loaded, if there is one.
        errors: Raised once instead of loading.
        alive: Pipelines that something still refers to.
    """

    def __init__(self, **kinds: type[TinyPipeline]) -> None:
        self.kinds = kinds
        self.loads: list[str] = []
        self.gates: dict[str, threading.Semaphore] = {}
        self.errors: dict[str, BaseException] = {}
        self.alive: weakref.WeakSet[TinyPipeline] = weakref.WeakSet()
        self.alive_at_load: list[int] = []
        self.closed: list[str] = []

    def source(self, name: str) -> Source:
        def load(progress: Progress) -> TinyPipeline:
            self.loads.append(name)
            self.alive_at_load.append(len(self.alive))
            progress(0.5)
            if gate := self.gates.get(name):
                gate.acquire()
            if error := self.errors.pop(name, None):
                raise error
            pipeline = self.kinds[name](max_batch=2)
            pipeline.close = lambda: self.closed.append(name)  # type: ignore[attr-defined]  # what a pipeline may offer
            self.alive.add(pipeline)
            return pipeline

        return Source(load, size=1)

    def pool(self, budget: int | None = None) -> Pool:
        return Pool({name: self.source(name) for name in self.kinds}, {} if budget is None else {"cpu": budget})


def two(**gates: threading.Semaphore) -> Shelf:
    shelf = Shelf(a=TinyPipeline, b=TinyPipeline)
    shelf.gates |= gates
    return shelf


def until(desk: Desk, true: Callable[[], Any]) -> None:
    """Turn the loop until `true()`; a test that never gets there is ended by its timeout."""
    while not true():
        desk.engine.step()


def test_a_request_waits_for_its_model_and_is_told_how_far_it_is() -> None:
    shelf = two(a=(gate := threading.Semaphore(0)))
    desk = Desk(pool=shelf.pool())
    desk.submit(request("x", model="a", steps=1))
    until(desk, lambda: Loading("x", 0.5) in desk.events)
    assert desk.engine.pool.states == {"a": "loading 50%", "b": "not loaded"}
    assert (desk.engine.waiting, desk.engine.running) == (1, 0)
    gate.release()
    desk.run()
    kinds = [type(event) for event in desk.events]
    assert kinds == [Queued, *[Loading] * kinds.count(Loading), Started, Stepped, Done]
    assert desk.pixels("x") == alone(request("x", steps=1))


def test_requests_for_other_models_go_on_while_one_is_loaded() -> None:
    shelf = two(b=(gate := threading.Semaphore(0)))
    desk = Desk(pool=shelf.pool())
    desk.submit(request("first", model="a"))
    desk.run()
    desk.submit(request("waits", model="b"), request("goes on", model="a"))
    until(desk, lambda: any(isinstance(event, Done) for event in desk.of("goes on")))
    assert not any(isinstance(event, ENDINGS) for event in desk.of("waits"))
    gate.release()
    desk.run()
    assert isinstance(desk.ending("waits"), Done)


def test_pictures_are_the_same_before_and_after_an_eviction_and_only_one_model_is_ever_alive() -> None:
    shelf = two()
    desk = Desk(pool=shelf.pool(budget=1))
    for turn in range(3):
        for model in "ab":
            desk.submit(*(request(f"{model}{turn}{seed}", seed=seed, model=model) for seed in range(2)))
            desk.run()
    assert shelf.loads == [*"ababab"]
    assert shelf.closed == [*"ababa"]
    assert shelf.alive_at_load == [0] * 6
    for turn in range(3):
        assert desk.pixels(f"a{turn}1") == desk.pixels(f"b{turn}1") == alone(request("x", seed=1))


def test_models_that_make_room_for_each_other_take_turns_and_everybody_is_served() -> None:
    shelf = two()
    desk = Desk(pool=shelf.pool(budget=1))
    for number in range(12):
        desk.submit(request(str(number), seed=number, model="ab"[number % 2], steps=3))
        desk.engine.step()
    desk.run()
    for number in range(12):
        assert desk.pixels(str(number)) == alone(request("x", seed=number, steps=3))
    assert len(shelf.loads) <= 6  # those who wait for a model share its load


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (ModelUnusable("The file x is cut short."), ModelUnusable, "The file x is cut short."),
        (ArithmeticError("whispered"), ModelUnusable, "The model a could not be loaded; the service's log says why."),
        (KeyboardInterrupt(), ModelUnusable, "The model a could not be loaded; the service's log says why."),
        (MemoryError(), OutOfMemory, "There is not enough memory to load the model a. The operator can"),
    ],
)
def test_a_model_that_cannot_be_loaded_fails_its_requests_alone_and_the_next_tries_again(
    raised: BaseException, kind: type[Exception], sentence: str
) -> None:
    shelf = two()
    shelf.errors["a"] = raised
    desk = Desk(pool=shelf.pool())
    desk.submit(request("x", model="a"), request("y", model="b"), request("z", model="a"))
    desk.run()
    for name in "xz":
        assert type(desk.error(name)) is kind
        assert str(desk.error(name)).startswith(sentence)
    assert isinstance(desk.ending("y"), Done)
    desk.submit(request("again", model="a"))
    desk.run()
    assert isinstance(desk.ending("again"), Done)


def test_a_model_that_can_never_be_loaded_is_refused_at_once() -> None:
    desk = Desk(pool=two().pool(budget=0))
    with pytest.raises(ModelUnusable, match="The model a cannot be loaded"):
        desk.submit(request("x", model="a"))
    assert desk.engine.waiting == 0


def test_those_who_wait_for_a_model_count_can_leave_and_end_when_the_engine_closes() -> None:
    shelf = two(a=threading.Semaphore(0))
    desk = Desk(pool=shelf.pool(), limit=3)
    desk.submit(*(request(name, model="a") for name in ("leaves", "stays", "third")))
    with pytest.raises(Busy):
        desk.submit(request("fourth", model="b"))
    until(desk, lambda: shelf.loads)
    desk.engine.cancel("leaves")
    desk.engine.step()
    assert isinstance(desk.ending("leaves"), Cancelled)
    desk.engine.close()
    for name in ("stays", "third"):
        assert "shutting down" in str(desk.error(name))
    shelf.gates["a"].release()


def test_the_running_engine_loads_what_is_to_be_there_from_the_start_and_wakes_for_those_who_wait() -> None:
    shelf = two()
    sources = {name: replace(shelf.source(name), from_start=name == "a") for name in "ab"}

    async def main(backend: Backend) -> None:
        while not backend.ready:
            await asyncio.sleep(0.001)
        assert backend.models == {"a": "tiny-1", "b": None}
        assert backend.states == {"a": "loaded", "b": "not loaded"}
        for model in "baab":
            assert isinstance((await collect(backend, [request("x", model=model)]))[-1], Done)
        together = [collect(backend, [request(f"{i}", model="ab"[i % 2])]) for i in range(8)]
        assert all(isinstance(events[-1], Done) for events in await asyncio.gather(*together))

    backend = LocalBackend(Engine(Pool(sources, {"cpu": 1}), 8))
    try:
        asyncio.run(main(backend))
    finally:
        backend.close()
    assert shelf.loads[:4] == [*"abab"]


class OtherTiny(TinyPipeline):
    """Paints the negative, under the same name and keys."""

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return super().decode(request, encoded, -x)


def test_models_whose_pipelines_make_equal_keys_share_no_batch() -> None:
    desk = Desk(pool=Pool.holding({"a": TinyPipeline(max_batch=4), "b": (other := OtherTiny(max_batch=4))}))
    desk.submit(*(request(f"{model}{seed}", seed=seed, model=model) for seed in range(3) for model in "ab"))
    desk.run()
    assert all(name[0] == "b" for batch in other.batches for name in batch)
    assert desk.pixels("a1") == alone(request("x", seed=1))
    assert desk.pixels("b1") != desk.pixels("a1")


class Cramped(TinyPipeline):
    """Has memory for one row; a prompt with "vast" does not fit either, and as MemoryError with "system".

    Attributes:
        held: Evaluations whose arrays are still in memory.
        found: That number as each began.
    """

    def __init__(self, max_batch: int = 4) -> None:
        super().__init__(max_batch)
        self.held = 0
        self.found: list[int] = []

    def encode(self, request: Request) -> Encoded:
        if "long prompt" in request.prompt:
            raise OutOfMemory
        return super().encode(request)

    def evaluate(self, batch: Batch) -> Float32:
        self.found.append(self.held)
        scratch = np.zeros(10_000_000, np.uint8)  # what the traceback of an error would keep
        weakref.finalize(scratch, self._freed)
        self.held += 1
        prompts = [request.prompt for request in batch.requests]
        if len(prompts) > 1 or "vast" in prompts[0]:
            raise MemoryError if "system" in prompts[0] else OutOfMemory
        return super().evaluate(batch)

    def _freed(self) -> None:
        self.held -= 1


@pytest.mark.parametrize("prompt", ["a vast fox", "a vast system fox", "a long prompt"])
def test_out_of_memory_ends_one_request_with_a_sentence_and_the_others_go_on(prompt: str) -> None:
    desk = Desk(Cramped(max_batch=4))
    desk.submit(request("a"), request("large", prompt=prompt), request("b", seed=2))
    desk.run()
    assert str(desk.error("large")) == (
        "There is not enough memory for this picture. Ask for a smaller one, or for fewer at once."
    )
    assert isinstance(desk.error("large"), OutOfMemory)
    assert desk.pixels("a") == alone(request("a"))
    assert desk.pixels("b") == alone(request("b", seed=2))


def test_an_evaluation_that_ran_out_of_memory_gives_its_own_back_before_anything_is_tried_again() -> None:
    pipeline = Cramped(max_batch=4)
    desk = Desk(pipeline)
    desk.submit(request("a", steps=2), request("large", prompt="vast", steps=2))
    desk.engine.step()
    desk.engine.step()  # both together, then each alone
    assert pipeline.found == [0] * 4
    assert pipeline.held == 0  # though the listener keeps the error
    assert isinstance(desk.error("large"), OutOfMemory)


@given(
    jobs=st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.lists(st.sampled_from("abc"), min_size=1, max_size=3)),
            st.tuples(st.just("cancel"), st.integers(0, 20)),
            st.tuples(st.just("step"), st.integers(1, 4)),
            st.tuples(st.just("break"), st.sampled_from("abc")),
            st.tuples(st.just("bug"), st.none()),
        ),
        max_size=20,
    ),
    budget=st.sampled_from([1, 2, None]),
    close=st.booleans(),
)
def test_every_request_ends_exactly_once_however_models_come_and_go(
    jobs: list[tuple[str, Any]], budget: int | None, close: bool
) -> None:
    shelf = Shelf(a=TinyPipeline, b=TinyPipeline, c=Cramped)
    desk, accepted = Desk(pool=shelf.pool(budget), limit=8), list[str]()
    for kind, detail in jobs:
        if kind == "submit":
            requests = [request(str(len(accepted) + i), model=model, steps=2) for i, model in enumerate(detail)]
            try:
                desk.submit(*requests)
            except Busy:
                continue
            accepted += [wanted.id for wanted in requests]
        elif kind == "cancel":
            desk.engine.cancel(str(detail))
        elif kind == "break":
            shelf.errors[detail] = ModelUnusable("It is cut short.")
        elif kind == "bug":
            desk.engine.scheduler = FlakyScheduler()  # type: ignore[assignment]  # it breaks on purpose
        for _ in range(detail if kind == "step" else 1):
            try:
                desk.engine.step()
            except RuntimeError as error:
                desk.engine._recover(error)
    if close:
        desk.engine.close()
    else:
        desk.run()
    ends = Counter(event.id for event in desk.events if isinstance(event, ENDINGS))
    assert ends == Counter(accepted)
    for name in accepted:
        if isinstance(desk.ending(name), Done):
            assert desk.pixels(name) == alone(request("x", steps=2))
    assert (desk.engine.waiting, desk.engine.running) == (0, 0)
    assert desk.engine.scheduler.idle


# The thread, and the way back to the event loop


@contextmanager
def serving(pipeline: TinyPipeline, limit: int = 8) -> Iterator[LocalBackend]:
    backend = LocalBackend(Engine({"image-01": pipeline}, limit))
    try:
        yield backend
    finally:
        if pipeline.gate is not None:
            pipeline.gate.release(1000)
        backend.close()


async def collect(backend: Backend, requests: Sequence[Request]) -> list[Event]:
    return [event async for event in backend.submit(requests)]


def test_the_backend_names_its_models_and_their_weights() -> None:
    with serving(TinyPipeline()) as backend:
        assert backend.models == {"image-01": "tiny-1"}


def test_a_stream_carries_every_event_of_its_requests_and_then_stops() -> None:
    with serving(TinyPipeline()) as backend:
        events = asyncio.run(collect(backend, [request("a", steps=2), request("bad", prompt="explode in decode")]))
    assert [type(event) for event in events if event.id == "a"] == [Queued, Started, Stepped, Stepped, Done]
    (ending,) = [event for event in events if event.id == "bad" and isinstance(event, ENDINGS)]
    assert isinstance(ending, Failed)


def test_pictures_of_concurrent_calls_are_as_alone() -> None:
    wanted = [request(str(i), seed=i, width=64 + 32 * (i % 3), steps=1 + i, guidance=1.0 + i % 2) for i in range(8)]

    async def main(backend: Backend) -> list[list[Event]]:
        return await asyncio.gather(*(collect(backend, [each]) for each in wanted))

    with serving(TinyPipeline()) as backend:
        streams = asyncio.run(main(backend))
    for each, events in zip(wanted, streams, strict=True):
        assert isinstance(events[-1], Done)
        assert events[-1].pixels.tobytes() == alone(each)


def test_a_full_backend_is_busy_at_once() -> None:
    async def main(backend: Backend) -> None:
        async with aclosing(backend.submit([request("a"), request("b")])):
            with pytest.raises(Busy):
                backend.submit([request("c")])

    with serving(TinyPipeline(gate=threading.Semaphore(0)), limit=2) as backend:
        asyncio.run(main(backend))


def test_closing_the_stream_cancels_within_one_evaluation() -> None:
    pipeline = TinyPipeline(max_batch=1, gate=(gate := threading.Semaphore(0)))

    async def main(backend: Backend) -> list[Event]:
        stream = backend.submit([request("leaves", steps=100)])
        async with aclosing(stream):
            async for event in stream:
                if isinstance(event, Started):
                    break
            await asyncio.to_thread(pipeline.entered.acquire)
        assert [event async for event in stream] == []
        gate.release(1000)
        return await collect(backend, [request("stays", steps=2)])

    with serving(pipeline) as backend:
        events = asyncio.run(main(backend))
        assert isinstance(events[-1], Done)
        assert sum(batch.count("leaves") for batch in pipeline.batches) == 1
        assert pipeline.decoded == ["stays"]


def test_a_cancelled_task_cancels_what_it_waits_for() -> None:
    pipeline = TinyPipeline(max_batch=1, gate=(gate := threading.Semaphore(0)))

    async def main(backend: Backend) -> None:
        task = asyncio.create_task(collect(backend, [request("leaves", steps=100)]))
        await asyncio.sleep(0)
        await asyncio.to_thread(pipeline.entered.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.release(1000)
        events = await collect(backend, [request("stays", steps=2)])
        assert isinstance(events[-1], Done)

    with serving(pipeline) as backend:
        asyncio.run(main(backend))
        assert sum(batch.count("leaves") for batch in pipeline.batches) == 1


def test_a_closed_event_loop_cancels_its_requests_and_the_engine_goes_on() -> None:
    pipeline = TinyPipeline(max_batch=1, gate=(gate := threading.Semaphore(0)))

    async def leave(backend: Backend) -> None:
        backend.submit([request("orphan", steps=100)])
        await asyncio.to_thread(pipeline.entered.acquire)

    with serving(pipeline) as backend:
        asyncio.run(leave(backend))
        gate.release(1000)
        events = asyncio.run(collect(backend, [request("stays")]))
        assert isinstance(events[-1], Done)
        assert pipeline.decoded == ["stays"]
        assert sum(batch.count("orphan") for batch in pipeline.batches) <= 2


def test_a_bug_in_the_loop_fails_what_is_in_flight_and_the_engine_goes_on() -> None:
    pipeline = TinyPipeline(gate=(gate := threading.Semaphore(0)))

    async def main(backend: LocalBackend) -> None:
        struck = [asyncio.create_task(collect(backend, [request(name)])) for name in ("a", "b")]
        await asyncio.sleep(0)
        await asyncio.to_thread(pipeline.entered.acquire)
        backend.engine.scheduler = FlakyScheduler()  # type: ignore[assignment]  # it breaks on purpose
        gate.release(1000)
        for events in await asyncio.gather(*struck):
            assert isinstance(events[-1], Failed)
            assert isinstance(events[-1].error, EngineFailed)
            assert "dropped" in str(events[-1].error)
        assert isinstance((await collect(backend, [request("c")]))[-1], Done)

    with serving(pipeline) as backend:
        asyncio.run(main(backend))


def test_closing_the_backend_ends_open_streams() -> None:
    pipeline = TinyPipeline(gate=(gate := threading.Semaphore(0)))

    async def main(backend: LocalBackend) -> None:
        waiting = asyncio.create_task(collect(backend, [request("a"), request("b")]))
        await asyncio.sleep(0)
        await asyncio.to_thread(pipeline.entered.acquire)
        closing = asyncio.create_task(asyncio.to_thread(backend.close))
        while not backend.engine._closed:
            await asyncio.sleep(0.001)
        gate.release(1)
        await closing
        endings = [event for event in await waiting if isinstance(event, ENDINGS)]
        assert sorted(event.id for event in endings) == ["a", "b"]
        assert all(isinstance(event, Failed) for event in endings)
        with pytest.raises(EngineFailed):
            backend.submit([request("late")])

    with serving(pipeline) as backend:
        asyncio.run(main(backend))
