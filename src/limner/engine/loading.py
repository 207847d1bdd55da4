"""Loading a model beside the engine: a thread for each load, whose outcome is told on the engine's own."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import structlog

from limner.engine.pool import Load, Pool
from limner.errors import LimnerError, ModelUnusable, OutOfMemory, light
from limner.pipelines.base import Pipeline

log = structlog.get_logger(__name__)

THREAD = "limner-loader"

Tell = Callable[[Callable[[], None]], None]
"""Has a function called on the engine's thread, soon."""


def begin(load: Load, pool: Pool, tell: Tell) -> None:
    """Start to let go of what was evicted and to load; `tell` the pool how it goes. Does not block.

    Nothing can end the thread before the load is over, and it does not keep the process alive.
    """
    thread = threading.Thread(target=_carry_out, args=(load, pool, tell), name=THREAD, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system gives no more threads
        reason = _sentence(load.name, error)
        tell(lambda: pool.failed(load.name, reason))


def busy() -> bool:
    """Whether a model is being loaded anywhere in this process."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def _carry_out(load: Load, pool: Pool, tell: Tell) -> None:
    name, percent = load.name, 0

    def progress(done: float) -> None:
        nonlocal percent
        if int(100 * done) > percent:
            percent = int(100 * done)
            tell(lambda: pool.progressed(name, done))

    try:
        _let_go(load.evicted)
        pipeline = load.source.load(progress)
    except BaseException as error:  # a panic in a Rust extension is no Exception
        reason = _sentence(name, error)
        tell(lambda: pool.failed(name, reason))
    else:
        log.info("model loaded", model=name, weights=pipeline.fingerprint)
        tell(lambda: pool.loaded(name, pipeline))


def _let_go(pipelines: list[Pipeline]) -> None:
    """Close pipelines that nobody uses any more, and give back their memory. Empties the list."""
    if not pipelines:
        return
    while pipelines:
        pipeline = pipelines.pop()
        log.info("model evicted", weights=pipeline.fingerprint)
        try:
            getattr(pipeline, "close", lambda: None)()
        except Exception:
            log.exception("a model could not be closed", weights=pipeline.fingerprint)
        del pipeline
    gc.collect()  # networks hold references to themselves


def _sentence(name: str, error: BaseException) -> LimnerError:
    """Why a model could not be loaded, for those who wait for it."""
    if isinstance(error, MemoryError | OutOfMemory):
        log.warning("no memory for a model", model=name)
        return OutOfMemory(
            f"There is not enough memory to load the model {name}. The operator can lower memory_gb, so that other "
            "models make room for it, or choose smaller weights."
        )
    if isinstance(error, LimnerError):
        log.warning("a model could not be loaded", model=name, reason=error.message)
        return light(error)
    log.error("a model could not be loaded", model=name, exc_info=error)
    return ModelUnusable(f"The model {name} could not be loaded; the service's log says why.")
