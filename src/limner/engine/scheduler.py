"""Who is evaluated next. Plain arithmetic on small numbers; no latent, clock or thread is known here.

The unit of service is a row: one evaluation of the denoiser for one request. With guidance an evaluation has two rows,
conditional and unconditional, which may share a batch or not. What follows the last one, decoding, is charged with it.
The policy, in three sentences:

1. Between tenants, the one that was served least goes first, where service is rows times cost, decoding counted in,
   and a tenant that was idle saves up no credit (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996).
2. Within a tenant, the call with the least work left goes first, so a short one is never stuck behind a long one, be it
   of many steps or of many pictures; but a fourth of the tenant's service goes to its oldest request, which is thus
   done after at most four times its own work.
3. Whoever shares the first one's key rides along in the same order, up to the pipeline's batch, and is charged alike.

Ties go by arrival, so that the same calls give the same order.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

PASSES = 3
"""How many times its own cost a tenant's oldest request lets others pass before it is served."""


class Turn(NamedTuple):
    """One row to evaluate."""

    id: str
    row: int  # 0 conditional, 1 unconditional


@dataclass(slots=True, eq=False)
class _Running:
    id: str
    tenant: _Tenant
    call: _Call
    arrival: int
    key: Hashable
    cost: float  # of one row
    finish: float  # of what follows the last one
    rows: int  # of one evaluation
    whole: int  # rows from beginning to end
    left: int  # of them still to serve
    max_batch: int
    passed: float = 0.0  # cost served to its tenant's others, while it was the oldest, since it was served itself

    def work(self) -> tuple[float, int]:
        """What its call has left, where the call's other requests are taken to be as long as this one."""
        rows = (self.call.requests - 1) * self.whole + self.left
        return rows * self.cost + self.call.requests * self.finish, self.arrival


@dataclass(slots=True, eq=False)
class _Call:
    """Requests that were made together, and are answered together."""

    requests: int = 0  # that are here


class _Waiting(NamedTuple):
    arrival: int
    call: _Call

    def work(self) -> tuple[int, int]:
        return self.call.requests, self.arrival


@dataclass(slots=True, eq=False)
class _Tenant:
    name: str
    served: float  # virtual time: cost served, as if it had been active from the beginning
    waiting: dict[str, _Waiting] = field(default_factory=dict)  # oldest first
    running: dict[str, _Running] = field(default_factory=dict)  # oldest first, as they are admitted in this order

    @property
    def active(self) -> bool:
        return bool(self.waiting or self.running)

    def oldest(self) -> _Running:
        return next(iter(self.running.values()))

    def leader(self) -> _Running:
        oldest = self.oldest()
        return oldest if oldest.passed >= PASSES * oldest.cost else min(self.running.values(), key=_Running.work)

    def serve(self, entry: _Running) -> Turn:
        """Charge the next row of one of this tenant's requests."""
        oldest = self.oldest()
        if entry is oldest:
            oldest.passed = max(0.0, oldest.passed - PASSES * oldest.cost)
        else:
            oldest.passed += entry.cost
        self.served += entry.cost
        turn = Turn(entry.id, -entry.left % entry.rows)
        entry.left -= 1
        if not entry.left:
            self.served += entry.finish
            del self.running[entry.id]
        return turn


class Scheduler:
    """The order of service. A request is added, admitted once its cost is known, scheduled, and removed.

    The queue's bound is the engine's affair; with it, a linear scan over what is here is cheap.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._owner: dict[str, tuple[_Tenant, str]] = {}  # id to tenant and call
        self._calls: dict[str, _Call] = {}
        self._arrivals = 0
        self._clock = 0.0  # virtual time of the tenant that led last; newcomers start here

    @property
    def idle(self) -> bool:
        return not self._owner

    def add(self, request_id: str, tenant: str, call: str | None = None) -> None:
        """Let a request wait for its admission. Requests with the same `call` were made together; None: it is alone."""
        owner = self._tenants.setdefault(tenant, _Tenant(tenant, self._clock))  # no credit from before it came
        name = request_id if call is None else call
        shared = self._calls.setdefault(name, _Call())
        shared.requests += 1
        owner.waiting[request_id] = _Waiting(self._arrivals, shared)
        self._owner[request_id] = owner, name
        self._arrivals += 1

    def next_waiting(self) -> str | None:
        """Whom to encode next: of the tenant served least, the oldest of the smallest call. None if nobody waits."""
        tenants = [tenant for tenant in self._tenants.values() if tenant.waiting]
        if not tenants:
            return None
        tenant = min(tenants, key=lambda tenant: (tenant.served, next(iter(tenant.waiting.values())).arrival))
        return min(tenant.waiting, key=lambda request_id: tenant.waiting[request_id].work())

    def admit(
        self,
        request_id: str,
        *,
        key: Hashable,
        cost: float,
        evaluations: int,
        rows: int,
        max_batch: int,
        finish: float = 0.0,
    ) -> None:
        """Let a waiting request take part.

        Args:
            key: Rows with equal keys may share a batch.
            cost: Price of one row, above 0 and finite.
            evaluations: How many it needs, at least 1.
            rows: Rows of one evaluation, at least 1.
            max_batch: Most rows of a batch with this key, at least 1.
            finish: Price of what follows its last row, in the unit of cost, finite and not below 0.

        Raises:
            ValueError: a number is out of its range.
        """
        if not 0 < cost < math.inf or min(evaluations, rows, max_batch) < 1:
            raise ValueError(f"must be above 0 and finite: {cost=}, {evaluations=}, {rows=}, {max_batch=}")
        if not 0 <= finish < math.inf:
            raise ValueError(f"must be finite and not below 0: {finish=}")
        tenant, _ = self._owner[request_id]
        arrival, call = tenant.waiting.pop(request_id)
        whole = evaluations * rows
        tenant.running[request_id] = _Running(
            request_id, tenant, call, arrival, key, cost, finish, rows, whole, whole, max_batch
        )

    def schedule(self) -> list[Turn]:
        """The rows of the next batch, charged to their tenants; empty if there is nothing to evaluate.

        A request's rows come in order, and no row of its next evaluation before the last of this one was returned.
        """
        tenants = [tenant for tenant in self._tenants.values() if tenant.running]
        if not tenants:
            return []
        first = min(tenants, key=lambda tenant: (tenant.served, tenant.oldest().arrival))
        self._clock = max(self._clock, first.served)
        self._forgive()

        leader = first.leader()
        riders = [
            entry
            for tenant in tenants
            for entry in tenant.running.values()
            if entry.key == leader.key and entry is not leader
        ]
        riders.sort(key=lambda entry: (entry.tenant.served, entry.work()))
        turns: list[Turn] = []
        for entry in (leader, *riders):
            unserved = (entry.left - 1) % entry.rows + 1  # rows of its current evaluation
            room = leader.max_batch - len(turns)
            turns += [entry.tenant.serve(entry) for _ in range(min(unserved, room))]
        return turns

    def remove(self, request_id: str) -> None:
        """Forget a request, wherever it is; unknown ones are ignored."""
        if request_id in self._owner:
            tenant, call = self._owner.pop(request_id)
            self._calls[call].requests -= 1
            if not self._calls[call].requests:
                del self._calls[call]
            tenant.waiting.pop(request_id, None)
            tenant.running.pop(request_id, None)
            self._forgive()

    def _forgive(self) -> None:
        """Drop idle tenants, but for those who must not shed by a pause what they were served ahead of others."""
        if self.idle:
            self._tenants.clear()
            self._clock = 0.0
        for tenant in [t for t in self._tenants.values() if not t.active and t.served <= self._clock]:
            del self._tenants[tenant.name]
