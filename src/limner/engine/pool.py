"""Which models are in memory. Plain bookkeeping that the engine acts on; no thread, clock or file is known here.

Requests for a model that is loaded are admitted at once; others wait in one line, outside the scheduler. The policy:

1. One model is loaded at a time, for the first request of the line that needs one (before all requests, those that are
   to be there from the start).
2. Where the budget has no room for it, the models go that were used least recently and that no request is using. Where
   these are not enough, those that were used least recently yield: they finish what they were given, and later
   requests for them wait behind the one that needs the room. Other models go on as before.
3. A model that has come serves everybody who was waiting for it by then, also those who came after others that still
   wait (gated service: Takagi, Queuing analysis of polling models, ACM Computing Surveys 1988), so that a long load is
   done once for all of them. Whoever comes later may have to wait behind the others, by the second rule.

So nobody starves: a request waits for at most one load of each other model, and for what those were given. A model that
was evicted and loaded again paints the same pictures, since a pipeline's results depend on request and weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from limner.errors import InvalidRequest, LimnerError, ModelUnusable, OutOfMemory
from limner.pipelines.base import Pipeline

Progress = Callable[[float], None]
"""Told how much of a model is loaded, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A model that can be loaded."""

    load: Callable[[Progress], Pipeline]  # runs in a thread of its own; raises LimnerError
    size: int = 0  # memory that the pipeline is expected to take, bytes
    device: str = "cpu"  # whose memory that is
    from_start: bool = False  # it is loaded before anybody asks for it


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What the engine is to do in another thread: let go of `evicted`, then load. The list is its own to empty."""

    name: str
    source: Source
    evicted: list[Pipeline]


@dataclass(frozen=True, slots=True)
class News:
    """What has changed for the requests that wait, and what is to be loaded now."""

    admitted: list[str] = field(default_factory=list)  # their model is loaded; in the order in which they came
    failed: dict[str, LimnerError] = field(default_factory=dict)  # it could not be loaded
    loading: dict[str, float] = field(default_factory=dict)  # how much of it is loaded, where that is news
    load: Load | None = None


@dataclass(slots=True, eq=False)
class _Model:
    name: str
    source: Source
    pipeline: Pipeline | None = None
    users: set[str] = field(default_factory=set)  # requests that were admitted and have not ended
    used: int = 0  # when the last of them was admitted, by the pool's count
    came: bool = False  # it has been loaded, now or before
    done: float | None = None  # of a load in progress
    cramped: bool = False  # there was not enough memory at the last try, made beside models that nobody used
    failure: str | None = None  # of the last load, in words for everybody

    @property
    def state(self) -> str:
        done = self.done  # which the engine's thread may change meanwhile
        if self.pipeline is not None:
            return "loaded"
        if done is not None:
            return f"loading {math.floor(100 * done)}%"
        return "not loaded" if self.failure is None else f"failed: {self.failure}"


@dataclass(slots=True, eq=False)
class _Waiting:
    model: _Model
    told: float | None = None  # the last news of its loading


class Pool:
    """The models by name, and who waits for which. Called from the engine's thread, but for what says otherwise.

    Args:
        models: By the name that a request carries.
        budget: Bytes that the loaded models of a device may take together, by their sizes; without it there is no
            bound.
    """

    def __init__(self, models: Mapping[str, Source], budget: Mapping[str, int] | None = None) -> None:
        self.budget = dict(budget or {})
        self._models = {name: _Model(name, source, failure=self._too_large(source)) for name, source in models.items()}
        self._line: dict[str, _Waiting] = {}  # oldest first
        self._loading: _Model | None = None
        self._next: _Model | None = None  # waits for room that others are using
        self._yielding: frozenset[_Model] = frozenset()  # those others
        self._uses = 0
        self._news = News()

    @classmethod
    def holding(cls, pipelines: Mapping[str, Pipeline]) -> Self:
        """A pool of pipelines that are loaded and stay so."""
        pool = cls({name: Source(partial(_held, pipeline)) for name, pipeline in pipelines.items()})
        for name, pipeline in pipelines.items():
            pool.loaded(name, pipeline)
        return pool

    # From any thread

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Of every model, the checksum of its weights; None where it is not loaded."""
        held = {name: model.pipeline for name, model in self._models.items()}
        return {name: None if pipeline is None else pipeline.fingerprint for name, pipeline in held.items()}

    @property
    def states(self) -> dict[str, str]:
        """Of every model: `loaded`, `loading 40%`, `not loaded`, or `failed:` and a sentence that names no file."""
        return {name: model.state for name, model in self._models.items()}

    @property
    def ready(self) -> bool:
        """Whether every model that is to be there from the start has been loaded."""
        return all(model.came for model in self._models.values() if model.source.from_start)

    def check(self, name: str) -> None:
        """Raises InvalidRequest where there is no such model, ModelUnusable where it can never be loaded."""
        if name not in self._models:
            known = ", ".join(sorted(self._models)) or "none"
            raise InvalidRequest(f"There is no model {name!r} here; the models are: {known}.")
        if too_large := self._too_large(self._models[name].source):
            raise ModelUnusable(f"The model {name} cannot be loaded: {too_large}.")

    def _too_large(self, source: Source) -> str | None:
        budget = self.budget.get(source.device, math.inf)
        if source.size <= budget:
            return None
        return (
            f"it takes {source.size / 1e9:.2f} GB of memory, and all models together may take {budget / 1e9:.2f} GB; "
            "the operator can raise memory_gb or choose smaller weights"
        )

    # From the engine's thread

    @property
    def waiting(self) -> bool:
        return bool(self._line)

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of a model that a request was admitted to."""
        pipeline = self._models[name].pipeline
        if pipeline is None:
            raise LookupError(f"the model {name} is not loaded")
        return pipeline

    def enter(self, request_id: str, name: str) -> None:
        """Let a request wait for its model."""
        self._line[request_id] = _Waiting(self._models[name])

    def leave(self, request_id: str, name: str) -> None:
        """A request has ended, waiting or admitted; one that is not here is ignored."""
        self._line.pop(request_id, None)
        self._models[name].users.discard(request_id)
        self._news.failed.pop(request_id, None)
        if request_id in self._news.admitted:
            self._news.admitted.remove(request_id)

    def loaded(self, name: str, pipeline: Pipeline) -> None:
        """A load is done: everybody who waits for it is admitted."""
        model = self._over(name)
        model.pipeline, model.came, model.cramped = pipeline, True, False
        self._used(model)
        for request_id in self._waiters(model):
            self._admit(request_id)

    def failed(self, name: str, error: LimnerError) -> None:
        """A load has failed, and with it whoever waits for it; the next request tries again.

        Where memory was short beside models that nobody uses, it is tried once more without them.
        """
        model = self._over(name)
        if isinstance(error, OutOfMemory) and not model.cramped and self._idle(model):
            model.cramped = True
            return
        model.cramped = False
        model.failure = (
            error.message
            if isinstance(error, OutOfMemory)  # others may name files
            else "its weights cannot be used; the log says why"
        )
        for request_id in self._waiters(model):
            del self._line[request_id]
            self._news.failed[request_id] = error

    def progressed(self, name: str, done: float) -> None:
        """So much of the model that is being loaded is there, 0 to 1."""
        model = self._models[name]
        if model is self._loading and model.done is not None:
            model.done = min(1.0, max(model.done, done))

    def turn(self) -> News:
        """What is new since the last turn. Cheap where nobody waits."""
        load = self._load() if self._loading is None else None
        for request_id, waiting in list(self._line.items()):
            if waiting.model.pipeline is not None and waiting.model not in self._yielding:
                self._admit(request_id)
        for request_id, waiting in self._line.items():
            done = waiting.model.done or 0.0
            if waiting.told != done:
                waiting.told = self._news.loading[request_id] = done
        news, self._news = self._news, News()
        return News(news.admitted, news.failed, news.loading, load)

    def _load(self) -> Load | None:
        """The load to begin now, if one is needed and has room."""
        wanted = next((model for model in self._wanted() if model.pipeline is None), None)
        if wanted is not self._next:
            self._next, self._yielding = None, frozenset()
        if wanted is None:
            return None
        idle = self._idle(wanted)
        going = self._making_room(wanted, idle)
        if going is None:
            if self._next is None:  # chosen once, so that their last requests' ends cannot change the choice
                self._next = wanted
                busy = [model for model in self._held(wanted) if model.users]
                self._yielding = frozenset(self._making_room(wanted, [*idle, *busy]) or ())
            return None
        self._loading, self._next, self._yielding = wanted, None, frozenset()
        wanted.done, wanted.failure = 0.0, None
        if wanted.cramped:
            going = idle
        evicted = [self.pipeline(model.name) for model in going]
        for model in going:
            model.pipeline = None
        return Load(wanted.name, wanted.source, evicted)

    def _making_room(self, wanted: _Model, candidates: list[_Model]) -> list[_Model] | None:
        """The first of the candidates that must go for `wanted` to fit; None where all of them are not enough."""
        taken = sum(model.source.size for model in self._held(wanted))
        room = self.budget.get(wanted.source.device, math.inf) - wanted.source.size - taken
        going = []
        for model in candidates:
            if room >= 0:
                break
            going.append(model)
            room += model.source.size
        if room < 0:
            return None
        for model in reversed(going):  # small ones went in vain where a later one gave enough
            if room >= model.source.size:
                going.remove(model)
                room -= model.source.size
        return going

    def _wanted(self) -> Iterable[_Model]:
        """Those to load, in this order, and some that are loaded."""
        for model in self._models.values():
            if model.source.from_start and not model.came and model.failure is None:
                yield model
        yield from (waiting.model for waiting in self._line.values())

    def _held(self, beside: _Model) -> list[_Model]:
        """What is loaded on a model's device, least recently used first."""
        device = beside.source.device
        held = [model for model in self._models.values() if model.pipeline is not None]
        return sorted((model for model in held if model.source.device == device), key=lambda model: model.used)

    def _idle(self, beside: _Model) -> list[_Model]:
        return [model for model in self._held(beside) if not model.users]

    def _waiters(self, model: _Model) -> list[str]:
        return [request_id for request_id, waiting in self._line.items() if waiting.model is model]

    def _admit(self, request_id: str) -> None:
        model = self._line.pop(request_id).model
        model.users.add(request_id)
        self._used(model)
        self._news.admitted.append(request_id)

    def _used(self, model: _Model) -> None:
        self._uses += 1
        model.used = self._uses

    def _over(self, name: str) -> _Model:
        """The model whose load has ended, one way or the other."""
        model = self._models[name]
        model.done = None
        if model is self._loading:
            self._loading = None
        return model


def _held(pipeline: Pipeline, _: Progress) -> Pipeline:
    """Loads nothing: the pipeline is there."""
    return pipeline
