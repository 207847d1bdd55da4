"""The engine: one thread that paints every accepted request, one evaluation of the denoiser at a time."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np
import structlog

from limner.engine import loading, samplers
from limner.engine.core import (
    RANGES,
    Activity,
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
from limner.engine.pool import Pool
from limner.engine.scheduler import Scheduler
from limner.errors import Busy, Closing, EngineFailed, InvalidRequest, LimnerError, OutOfMemory, light
from limner.pipelines import repaint
from limner.pipelines.base import Pipeline, Previewing

log = structlog.get_logger(__name__)

PREVIEW_SECONDS, PREVIEW_SHARE = 1.0, 0.1
"""A picture's previews may take so many seconds, and this share of its evaluations' time: others wait for them, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """An accepted request."""

    request: Request
    emit: Callable[[Event], None]
    call: str  # id of the first of those that were submitted together
    ahead: int  # requests that were in the engine before it
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("encode", "evaluate", "decode"), 0.0))


@dataclass(slots=True, eq=False)
class Painting:
    """A task that is encoded, and how far it came."""

    task: Task
    encoded: Encoded
    rows: int  # of one evaluation: 2 with guidance, conditional first
    state: samplers.State
    predictions: list[Float32] = field(default_factory=list)  # rows of the current evaluation, each of key.shape
    showing: float = 0.0  # seconds spent on previews; infinite once one has failed


Row = tuple[Painting, int]


class Engine:
    """Paints requests with pipelines that it calls from its own thread alone, and has others loaded meanwhile.

    `submit`, `cancel` and `close` may be called from any thread. Every accepted request ends in exactly one of Done,
    Failed and Cancelled, whatever the pipelines, their loading, this loop or the listeners raise.

    Args:
        models: The pool of models, or pipelines that are loaded, by the model name that a request carries.
        limit: Most requests in the engine at once, waiting or being painted, where one tenant is alone. Of several,
            none is turned away while it has less than its share, the limit over the number of tenants that are here,
            however many another has put in before. A tenant that came as the k-th since the engine was full has at
            most limit / k, and whose share is below one request waits its turn; so all of them together have at most
            limit/1 + limit/2 + ... + limit/limit, each rounded down: 280 for 64.

    Attributes:
        batches: Calls of a pipeline's evaluate so far.
    """

    def __init__(self, models: Pool | Mapping[str, Pipeline], limit: int) -> None:
        self.pool = models if isinstance(models, Pool) else Pool.holding(models)
        self.limit = limit
        self.scheduler = Scheduler()
        self.batches = 0
        self._evaluated: Counter[str] = Counter()  # rows, by model
        self._seconds: defaultdict[str, float] = defaultdict(float)  # spent on them
        self._tasks: dict[str, Task] = {}  # every accepted request that has not ended
        self._paintings: dict[str, Painting] = {}  # those that are encoded
        self._lock = threading.Lock()  # guards _closed, _tasks, and what leaves _paintings
        self._closed = False
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()  # what other threads want done on the engine's
        self._thread: threading.Thread | None = None

    def room(self, tenant: str = "") -> int:
        """How many requests of this tenant would be accepted now."""
        with self._lock:
            return self._room(tenant)

    @property
    def waiting(self) -> int:
        """Requests accepted and not yet begun."""
        with self._lock:
            return len(self._tasks) - len(self._paintings)

    @property
    def running(self) -> int:
        """Requests being painted."""
        return len(self._paintings)

    @property
    def evaluations(self) -> int:
        """Rows evaluated so far, the unit of scheduling."""
        return self._evaluated.total()

    @property
    def evaluation_seconds(self) -> float:
        """Time spent on them."""
        return sum(self._seconds.copy().values())

    @property
    def activity(self) -> dict[str, Activity]:
        """Of every model, what is in hand and what was done."""
        with self._lock:
            counts = Counter((task.request.model, name in self._paintings) for name, task in self._tasks.items())
        return {
            name: Activity(counts[name, False], counts[name, True], self._evaluated[name], self._seconds.get(name, 0.0))
            for name in self.pool.states
        }

    def start(self) -> None:
        """Run the loop in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._run, name="limner-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request], emit: Callable[[Event], None]) -> None:
        """Accept all of these requests, or none.

        `emit` is called from the engine's thread, in order for each request; what it raises is logged and dropped.

        Raises:
            InvalidRequest: a field is out of its range, the model is unknown, or they could never fit.
            ModelUnusable: the model can never be loaded.
            Busy: the engine is full.
            Closing: the engine is closed.
            ValueError: an id is in use.
        """
        for request in requests:
            self._check(request)
        if len(requests) > self.limit:
            raise InvalidRequest(
                f"{len(requests)} pictures were asked for at once, but at most {self.limit} fit. Ask for fewer."
            )
        with self._lock:
            if self._closed:
                raise Closing()
            ahead = len(self._tasks)
            if any(len(requests) > self._room(tenant) for tenant in {request.tenant for request in requests}):
                raise Busy(f"{ahead} of {self.limit} places are taken. Wait a little, then try again.")
            tasks = {request.id: Task(request, emit, requests[0].id, ahead + i) for i, request in enumerate(requests)}
            if len(tasks) < len(requests) or not tasks.keys().isdisjoint(self._tasks):
                raise ValueError("the id of a request is in use")
            self._tasks |= tasks
            self._inbox.put(lambda: self._add(list(tasks.values())))

    def cancel(self, request_id: str) -> None:
        """End a request as Cancelled once the turn in progress is over. One that is unknown or has ended is ignored."""
        self._inbox.put(lambda: self._cancel(request_id))

    def close(self) -> None:
        """Refuse new requests, wait for the evaluation in progress, and end all others as Failed.

        A model that is being loaded is not waited for: its thread ends with the process.
        """
        with self._lock:
            self._closed = True
        if self._thread is None:
            self._end_all(Closing())
        else:
            self._inbox.put(lambda: None)  # wakes the loop
            self._thread.join()

    def step(self) -> None:
        """One turn of the loop. Called by the engine's thread; without `start`, by whoever drives the engine."""
        self._receive()
        self._admit()
        self._encode(self.scheduler.next_waiting())
        rows = [(self._paintings[turn.id], turn.row) for turn in self.scheduler.schedule()]
        for painting, prediction in self._evaluate(rows):
            if self._advance(painting, prediction):
                self._decode(painting)

    def _run(self) -> None:
        self._inbox.put(lambda: None)  # a first step begins the loads that no request waits for
        while not self._closed:
            try:
                if self.scheduler.idle:
                    self._inbox.get()()
                self.step()
            except BaseException as error:
                self._recover(error)
        self._end_all(Closing())

    def _recover(self, error: BaseException) -> None:
        """After a bug of the loop itself: nothing half done is kept, and nobody is left without an answer."""
        log.error("the engine's loop failed", in_flight=len(self._tasks), exc_info=error)
        self.scheduler = Scheduler()
        self._end_all(EngineFailed("The engine failed and dropped what it was painting. Send the request again."))

    def _receive(self) -> None:
        while True:
            try:
                message = self._inbox.get_nowait()
            except Empty:
                return
            message()

    def _add(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.request.id in self._tasks:  # else the loop failed before it came to this one
                self.pool.enter(task.request.id, task.request.model)
                self._emit(task, Queued(task.request.id, task.ahead))

    def _admit(self) -> None:
        """Let those take part whose models are loaded, tell the others, and begin the next load."""
        news = self.pool.turn()
        if news.load is not None:
            loading.begin(news.load, self.pool, self._inbox.put)
        for request_id in news.admitted:
            task = self._tasks[request_id]
            self.scheduler.add(request_id, task.request.tenant, task.call)
        for request_id, error in news.failed.items():
            self._end(self._tasks[request_id], Failed(request_id, error))
        for request_id, done in news.loading.items():
            self._emit(self._tasks[request_id], Loading(request_id, done))

    def _cancel(self, request_id: str) -> None:
        if request_id in self._tasks:
            self._end(self._tasks[request_id], Cancelled(request_id))

    # What pipelines raise is caught as BaseException, since a panic in a Rust extension is no Exception.

    def _encode(self, request_id: str | None) -> None:
        if request_id is None:
            return
        task = self._tasks[request_id]
        began = perf_counter()
        try:
            pipeline = self.pool.pipeline(task.request.model)
            encoded = pipeline.encode(task.request)
            if task.request.mask is not None and encoded.held is None:
                raise InvalidRequest(f"Model {task.request.model} repaints no part of a picture. Leave the mask out.")
            rows = 1 if encoded.guidance == 1 else 2
            noise = samplers.noise(task.request.seed, encoded.key.shape)
            state = samplers.begin(encoded.spread * noise, encoded.levels, task.request.seed, encoded.held)
            evaluations = samplers.SAMPLERS[encoded.sampler].evaluations(encoded.levels)
            self.scheduler.admit(
                request_id,
                key=(id(pipeline), encoded.key),
                cost=encoded.cost,
                evaluations=evaluations,
                rows=rows,
                max_batch=pipeline.max_batch,
                finish=encoded.finish,
            )
        except BaseException as error:
            self._fail(task, "reading the request", error)
        else:
            task.seconds["encode"] = perf_counter() - began
            self._paintings[request_id] = Painting(task, encoded, rows, state)
            cost = rows * evaluations * encoded.cost
            self._emit(task, Started(request_id, encoded.steps, encoded.notes, encoded.plan, cost))

    def _evaluate(self, rows: list[Row]) -> list[tuple[Painting, Float32]]:
        """A prediction for each row, but for those whose evaluation failed also when tried without the others."""
        if not rows:
            return []
        paintings = [painting for painting, _ in rows]
        together = dict.fromkeys(paintings)
        try:
            return list(zip(paintings, self._predict(rows), strict=True))
        except BaseException as error:
            if len(together) == 1:
                self._fail(paintings[0].task, "painting", error)
                return []
            log.warning("a batch failed; trying each of its requests alone", requests=len(together), exc_info=True)
        # Out here the error is gone, and with it what its traceback kept in memory.
        alone = (self._evaluate([row for row in rows if row[0] is painting]) for painting in together)
        return [pair for pairs in alone for pair in pairs]

    def _predict(self, rows: list[Row]) -> Float32:
        """Evaluate one batch: (B, *key.shape), a copy, since a pipeline may hand out a buffer that it writes again."""
        paintings = [painting for painting, _ in rows]
        batch = samplers.batch(
            paintings[0].encoded.key,
            [painting.task.request for painting in paintings],
            [painting.state for painting in paintings],
            [painting.encoded.unconditional if row else painting.encoded.conditioning for painting, row in rows],
        )
        began = perf_counter()
        prediction = np.array(self.pool.pipeline(paintings[0].task.request.model).evaluate(batch), np.float32)
        seconds = perf_counter() - began
        self.batches += 1
        for painting in paintings:
            self._evaluated[painting.task.request.model] += 1
            self._seconds[painting.task.request.model] += seconds / len(rows)
        for painting in dict.fromkeys(paintings):
            painting.task.seconds["evaluate"] += seconds
        if prediction.shape != batch.x.shape or not np.isfinite(prediction).all():
            raise ArithmeticError(
                f"the network gave {prediction.shape} for {batch.x.shape}, or not all of it is finite"
            )
        return prediction

    def _advance(self, painting: Painting, prediction: Float32) -> bool:
        """Take in one row; whether the last step is done."""
        painting.predictions.append(prediction)
        if len(painting.predictions) < painting.rows:
            return False
        encoded, before = painting.encoded, painting.state
        try:
            if painting.rows == 2:
                conditional, unconditional = painting.predictions
                prediction = samplers.combined(encoded.guiding, conditional, unconditional, encoded.guidance, before)
            prediction = samplers.holding(prediction, encoded.held)
            painting.predictions = []
            painting.state = samplers.SAMPLERS[encoded.sampler].advance(before, prediction)
        except BaseException as error:
            self._fail(painting.task, "painting", error)
            return False
        if painting.state.step > before.step:
            request_id = painting.task.request.id
            preview = None if painting.state.finished else self._preview(painting, prediction)
            self._emit(painting.task, Stepped(request_id, painting.state.step, encoded.steps, preview))
        return painting.state.finished

    def _preview(self, painting: Painting, clean: Float32) -> UInt8 | None:
        """The picture as it comes along, from the latest prediction of its clean latent, if it was asked for."""
        request = painting.task.request
        spent_painting = painting.task.seconds["evaluate"]
        if not request.previews or painting.showing > PREVIEW_SECONDS + PREVIEW_SHARE * spent_painting:
            return None
        began, preview = perf_counter(), None
        try:
            pipeline = self.pool.pipeline(request.model)
            if isinstance(pipeline, Previewing):
                preview = pipeline.preview(request, painting.encoded, clean.copy())  # the sampler may keep its own
            painting.showing += perf_counter() - began
        except BaseException as error:
            painting.showing = math.inf
            log.warning("a preview failed; the picture goes on without", request=request.id, exc_info=error)
        return preview

    def _decode(self, painting: Painting) -> None:
        task, request = painting.task, painting.task.request
        began = perf_counter()
        try:
            pixels = self.pool.pipeline(request.model).decode(request, painting.encoded, painting.state.result)
            if pixels.shape != (request.height, request.width, 3) or pixels.dtype != np.uint8:
                raise ArithmeticError(f"decode gave {pixels.dtype} pixels of {pixels.shape}")
            pixels = repaint.laid(pixels, request)
        except BaseException as error:
            self._fail(task, "finishing the picture", error)
        else:
            task.seconds["decode"] = perf_counter() - began
            self._end(task, Done(request.id, pixels, task.seconds))

    def _fail(self, task: Task, doing: str, error: BaseException) -> None:
        """End one request; errors that are no sentence for the caller become one."""
        if isinstance(error, MemoryError):
            error = OutOfMemory()
        if isinstance(error, OutOfMemory):
            log.warning("no memory for a request", request=task.request.id, doing=doing)
        if not isinstance(error, LimnerError):
            log.error("a request failed", request=task.request.id, doing=doing, exc_info=error)
            error = EngineFailed(
                f"The model {task.request.model} failed while {doing}; other requests go on. "
                "Try once more, and if it fails again, see the service's log."
            )
        self._end(task, Failed(task.request.id, light(error)))

    def _end(self, task: Task, event: Event) -> None:
        """Free the place, then tell: the one way out of the engine."""
        request_id = task.request.id
        with self._lock:
            if self._tasks.pop(request_id, None) is None:
                return
            self._paintings.pop(request_id, None)
        self.pool.leave(request_id, task.request.model)
        self._emit(task, event)
        self.scheduler.remove(request_id)
        if self.pool.waiting:
            self._inbox.put(lambda: None)  # wakes the loop: there may be room for another model now

    def _end_all(self, error: LimnerError) -> None:
        with self._lock:
            tasks = list(self._tasks.values())
        for task in tasks:
            self._end(task, Failed(task.request.id, error))

    def _emit(self, task: Task, event: Event) -> None:
        try:
            task.emit(event)
        except Exception:
            log.exception("a listener failed", request=event.id)

    def _room(self, tenant: str) -> int:
        """As `room`, under the lock."""
        held = Counter(task.request.tenant for task in self._tasks.values())
        share = self.limit // len({tenant, *held})
        return max(self.limit - held.total(), share - held[tenant], 0)

    def _check(self, request: Request) -> None:
        self.pool.check(request.model)
        for name, (least, most) in RANGES.items():
            value = getattr(request, name)
            if value is not None and not least <= value <= most:
                raise InvalidRequest(f"{name} is {value}; it must be between {least} and {most}.")
