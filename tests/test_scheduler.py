from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.engine.scheduler import PASSES, Scheduler, Turn


class Floor:
    """A scheduler with the bookkeeping that an engine does around it."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.left: dict[str, int] = {}
        self.served: Counter[str] = Counter()  # rows by request
        self.finished: list[str] = []
        self.owner: dict[str, str] = {}

    def add(
        self,
        name: str,
        evaluations: int,
        tenant: str = "",
        cost: float = 1.0,
        rows: int = 1,
        call: str | None = None,
        **admission: Any,
    ) -> None:
        self.scheduler.add(name, tenant, call)
        self.admit(name, tenant, evaluations, cost, rows, **admission)

    def admit(
        self,
        name: str,
        tenant: str,
        evaluations: int,
        cost: float,
        rows: int,
        key: object = "key",
        max_batch: int = 1,
        finish: float = 0.0,
    ) -> None:
        self.scheduler.admit(
            name, key=key, cost=cost, evaluations=evaluations, rows=rows, max_batch=max_batch, finish=finish
        )
        self.left[name] = evaluations * rows
        self.owner[name] = tenant

    def serve(self) -> list[Turn]:
        turns = self.scheduler.schedule()
        for turn in turns:
            self.served[turn.id] += 1
            self.left[turn.id] -= 1
            if not self.left[turn.id]:
                self.finished.append(turn.id)
                self.scheduler.remove(turn.id)
        return turns

    def serve_all(self) -> list[list[Turn]]:
        batches = []
        while batch := self.serve():
            batches.append(batch)
        return batches


def test_an_empty_scheduler_is_idle_and_schedules_nothing() -> None:
    scheduler = Scheduler()
    assert scheduler.idle
    assert scheduler.next_waiting() is None
    assert scheduler.schedule() == []
    scheduler.add("a", "")
    assert not scheduler.idle
    assert scheduler.schedule() == []
    scheduler.remove("a")
    scheduler.remove("never seen")
    assert scheduler.idle


def test_a_short_request_overtakes_a_long_one_already_running() -> None:
    floor = Floor()
    floor.add("long", 100)
    for _ in range(10):
        floor.serve()
    floor.add("short", 6)
    while "short" not in floor.finished:
        floor.serve()
    assert floor.served["long"] - 10 <= 6 // (PASSES) + 1
    floor.serve_all()
    assert floor.finished == ["short", "long"]


def test_least_remaining_counts_cost_and_not_steps_alone() -> None:
    floor = Floor()
    floor.add("large", 5, cost=16)
    floor.add("small", 20, cost=1)
    floor.serve_all()
    assert floor.finished == ["small", "large"]


def test_a_call_for_one_picture_overtakes_an_earlier_call_for_nine() -> None:
    floor = Floor()
    for k in range(9):
        floor.add(f"nine-{k}", 4, call="nine")
    for _ in range(2):
        floor.serve()
    floor.add("one", 4)
    floor.serve_all()
    assert floor.finished.index("one") <= 1
    assert floor.finished[-1] == "nine-8"
    assert [name for name in floor.finished if name != "one"] == [f"nine-{k}" for k in range(9)]


def test_a_call_of_which_little_is_left_goes_before_a_larger_new_one() -> None:
    floor = Floor()
    for k in range(3):
        floor.add(f"old-{k}", 4, call="old")
    while len(floor.finished) < 2:
        floor.serve()
    for k in range(2):
        floor.add(f"new-{k}", 4, call="new")
    floor.serve_all()
    assert floor.finished == ["old-0", "old-1", "old-2", "new-0", "new-1"]


def test_the_smallest_call_is_encoded_first_and_within_it_the_oldest() -> None:
    scheduler = Scheduler()
    for name, call in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c", None)):
        scheduler.add(name, "", call)
    order = []
    while (name := scheduler.next_waiting()) is not None:
        order.append(name)
        scheduler.admit(name, key="key", cost=1.0, evaluations=1, rows=1, max_batch=1)
    assert order == ["c", "b1", "b2", "a1", "a2", "a3"]
    for name in order:
        scheduler.remove(name)
    assert scheduler.idle


def test_equals_are_served_in_the_order_of_arrival() -> None:
    floor = Floor()
    for name in "abcd":
        floor.add(name, 3)
    floor.serve_all()
    assert floor.finished == list("abcd")


def test_a_long_request_finishes_under_an_endless_stream_of_short_ones() -> None:
    floor = Floor()
    floor.add("long", 50)
    for turn in range(50 * (PASSES + 1)):
        if floor.left["long"] == 0:
            break
        floor.add(f"short-{turn}", 1)
        floor.serve()
    assert floor.left["long"] == 0


def test_the_oldest_gets_a_fourth_of_the_service_and_not_of_the_turns() -> None:
    floor = Floor()
    floor.add("large", 100, cost=16)
    for i in range(400):
        floor.add(f"small-{i}", 1, cost=1)
    while any(floor.left[f"small-{i}"] for i in range(400)):
        floor.serve()
    assert floor.served["large"] * 16 == pytest.approx(400 / PASSES, abs=16)


def test_a_greedy_tenant_takes_no_more_than_its_share() -> None:
    floor = Floor()
    for i in range(30):
        floor.add(f"greedy-{i}", 50, tenant="greedy")
    for _ in range(100):
        floor.serve()
    floor.add("modest", 20, tenant="modest")
    while "modest" not in floor.finished:
        floor.serve()
    greedy = sum(count for name, count in floor.served.items() if name != "modest") - 100
    assert greedy <= 20 + 1


def test_shares_are_of_cost_so_that_large_pictures_get_fewer_turns() -> None:
    floor = Floor()
    floor.add("large", 1000, tenant="a", cost=8)
    floor.add("small", 1000, tenant="b", cost=1)
    for _ in range(90):
        floor.serve()
    assert floor.served["large"] * 8 == pytest.approx(floor.served["small"], abs=8)


def test_an_idle_tenant_saves_up_no_credit() -> None:
    floor = Floor()
    floor.add("early", 1, tenant="sleeper")
    floor.add("busy", 10_000, tenant="busy")
    for _ in range(500):
        floor.serve()
    floor.add("late", 1000, tenant="sleeper")
    before = floor.served["busy"]
    for _ in range(100):
        floor.serve()
    assert floor.served["busy"] - before == pytest.approx(50, abs=1)


def test_a_pause_does_not_wipe_out_what_a_tenant_was_served_ahead() -> None:
    floor = Floor()
    floor.add("other", 1000, tenant="other", cost=1)
    floor.add("heavy-1", 1, tenant="heavy", cost=100)
    while "heavy-1" not in floor.finished:
        floor.serve()
    floor.add("heavy-2", 1, tenant="heavy", cost=100)
    before = floor.served["other"]
    while "heavy-2" not in floor.finished:
        floor.serve()
    assert floor.served["other"] - before == pytest.approx(100, abs=2)


def test_a_batch_holds_one_key_and_at_most_the_pipelines_rows() -> None:
    floor = Floor()
    for i in range(5):
        floor.add(f"wide-{i}", 2, key="wide", max_batch=3)
        floor.add(f"tall-{i}", 2, key="tall", max_batch=3)
    for batch in floor.serve_all():
        assert len(batch) <= 3
        assert len({turn.id.split("-")[0] for turn in batch}) == 1
        assert len({turn.id for turn in batch}) == len(batch)
    assert len(floor.finished) == 10


def test_requests_of_other_tenants_ride_along_and_pay() -> None:
    floor = Floor()
    floor.add("a", 4, tenant="a", max_batch=2)
    floor.add("b", 4, tenant="b", max_batch=2)
    assert [sorted(turn.id for turn in batch) for batch in floor.serve_all()] == [["a", "b"]] * 4


def test_riders_come_in_the_order_in_which_they_would_lead() -> None:
    floor = Floor()
    floor.add("paid", 1, tenant="served", cost=5.0, key="other")
    for name, tenant, evaluations in (("d", "served", 5), ("b", "fresh", 9), ("c", "fresh", 7), ("a", "fresh", 3)):
        floor.add(name, evaluations, tenant=tenant, max_batch=4)
    assert [turn.id for turn in floor.serve()] == ["paid"]
    assert [turn.id for turn in floor.serve()] == ["a", "c", "b", "d"]


def test_the_two_rows_of_guidance_share_a_batch_where_there_is_room() -> None:
    floor = Floor()
    floor.add("a", 2, rows=2, max_batch=4)
    floor.add("b", 2, rows=2, max_batch=4)
    assert floor.serve_all() == [[Turn("a", 0), Turn("a", 1), Turn("b", 0), Turn("b", 1)]] * 2


def test_the_two_rows_of_guidance_come_one_by_one_where_there_is_none() -> None:
    floor = Floor()
    floor.add("a", 2, rows=2, max_batch=1)
    assert floor.serve_all() == [[Turn("a", 0)], [Turn("a", 1)]] * 2


def test_a_batch_may_be_filled_with_half_of_an_evaluation() -> None:
    floor = Floor()
    floor.add("a", 1, rows=2, max_batch=3)
    floor.add("b", 2, rows=2, max_batch=3)
    assert floor.serve() == [Turn("a", 0), Turn("a", 1), Turn("b", 0)]
    assert floor.serve() == [Turn("b", 1)]


def test_a_removed_request_is_never_scheduled_again() -> None:
    floor = Floor()
    floor.add("a", 5)
    floor.add("b", 5)
    floor.serve()
    floor.scheduler.remove("a")
    assert {turn.id for batch in floor.serve_all() for turn in batch} == {"b"}


def test_the_next_to_encode_is_of_the_tenant_that_was_served_least() -> None:
    floor = Floor()
    floor.add("running", 10, tenant="greedy")
    for _ in range(3):
        floor.serve()
    floor.scheduler.add("greedy-next", "greedy")
    floor.scheduler.add("modest", "modest")
    assert floor.scheduler.next_waiting() == "modest"
    floor.scheduler.remove("modest")
    assert floor.scheduler.next_waiting() == "greedy-next"


@pytest.mark.parametrize(
    "wrong",
    [{"cost": 0.0}, {"cost": float("nan")}, {"cost": float("inf")}, {"evaluations": 0}, {"rows": 0}, {"max_batch": 0}],
)
def test_numbers_that_would_break_the_order_are_refused(wrong: dict[str, Any]) -> None:
    scheduler = Scheduler()
    scheduler.add("a", "")
    admission: dict[str, Any] = {"key": "k", "cost": 1.0, "evaluations": 1, "rows": 1, "max_batch": 1}
    with pytest.raises(ValueError, match="must be above 0"):
        scheduler.admit("a", **admission | wrong)
    assert scheduler.next_waiting() == "a"


JOBS = st.lists(
    st.tuples(
        st.sampled_from("ABC"),  # tenant
        st.integers(1, 12),  # evaluations
        st.sampled_from([1.0, 4.0, 9.0]),  # cost
        st.integers(1, 2),  # rows
        st.integers(0, 4),  # batches served before the next one arrives
    ),
    min_size=1,
    max_size=15,
)


@given(jobs=JOBS, max_batch=st.integers(1, 4))
def test_every_row_is_served_once_and_in_order_and_the_order_is_deterministic(
    jobs: list[tuple[str, int, float, int, int]], max_batch: int
) -> None:
    def run() -> list[list[Turn]]:
        floor, batches = Floor(), []
        for i, (tenant, evaluations, cost, rows, then) in enumerate(jobs):
            floor.add(str(i), evaluations, tenant, cost, rows, key=cost, max_batch=max_batch)
            batches += [floor.serve() for _ in range(then)]
        return [*batches, *floor.serve_all()]

    batches = run()
    assert run() == batches
    for i, (_, evaluations, _, rows, _) in enumerate(jobs):
        served = [turn.row for batch in batches for turn in batch if turn.id == str(i)]
        assert served == list(range(rows)) * evaluations
    for batch in batches:
        assert len(batch) <= max_batch
        assert len({jobs[int(turn.id)][2] for turn in batch}) <= 1


@given(jobs=JOBS, turns=st.integers(1, 120))
def test_tenants_with_work_left_are_served_alike_within_one_evaluation_of_each(
    jobs: list[tuple[str, int, float, int, int]], turns: int
) -> None:
    floor = Floor()
    for i, (tenant, _, cost, rows, _) in enumerate(jobs):
        floor.add(str(i), 1000, tenant, cost, rows)
    for _ in range(turns):
        floor.serve()
    total = dict.fromkeys((tenant for tenant, *_ in jobs), 0.0)
    for name, rows in floor.served.items():
        total[jobs[int(name)][0]] += rows * jobs[int(name)][2]
    assert max(total.values()) - min(total.values()) <= 9.0


def test_decoding_is_charged_to_its_tenant_so_that_large_pictures_take_no_more_than_their_share() -> None:
    floor = Floor()
    for k in range(20):
        floor.add(f"large-{k}", 4, "greedy", finish=40.0)
        floor.add(f"small-{k}", 4, "modest")
    while sum(name.startswith("small") for name in floor.finished) < 20:
        floor.serve()
    # Twenty small ones cost 80; as much is one large one and the better part of a second.
    assert sum(name.startswith("large") for name in floor.finished) == 2


def test_who_comes_while_another_is_in_debt_is_served_without_a_break() -> None:
    floor = Floor()
    for k in range(3):
        floor.add(f"greedy-{k}", 4, "greedy", finish=12.0)
    while not floor.finished:
        floor.serve()
    floor.add("modest", 4, "modest", finish=12.0)
    assert [floor.serve()[0].id for _ in range(4)] == ["modest"] * 4


def test_decoding_counts_to_the_work_that_a_call_has_left() -> None:
    floor = Floor()
    floor.add("large", 4, finish=12.0)
    floor.add("small", 6)
    assert floor.serve()[0].id == "small"


@pytest.mark.parametrize("finish", [-1.0, float("inf"), float("nan")])
def test_a_price_of_the_end_that_is_none_is_refused(finish: float) -> None:
    scheduler = Scheduler()
    scheduler.add("a", "")
    with pytest.raises(ValueError, match="finish"):
        scheduler.admit("a", key="key", cost=1.0, evaluations=1, rows=1, max_batch=1, finish=finish)
