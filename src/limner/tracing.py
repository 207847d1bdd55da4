"""Spans of a call and of its job, sent to an OpenTelemetry collector where `tracing_url` names one.

Where it does not, nothing of OpenTelemetry is imported and a span costs a comparison. A trace has the id of the call
that began it, which is its job's id too, unless the caller sent a W3C `traceparent` of its own. Spans carry numbers and
names of models: never a prompt, a key, a picture's name or what a caller wrote. The variables that OpenTelemetry
defines are minded as well: OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

from structlog.contextvars import bound_contextvars

import limner
from limner.config import Settings
from limner.errors import SettingsInvalid

EXPORT_SECONDS = 5.0
"""Longest time that sending spans may take, and that the end of the service waits for it."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server", "client"]


class Span(Protocol):
    """What a span's block may still say of it."""

    @property
    def name(self) -> str: ...

    def set_attribute(self, key: str, value: str | int | float | bool) -> None: ...

    def update_name(self, name: str) -> None: ...


class _Silent:
    name = ""

    def set_attribute(self, key: str, value: str | int | float | bool) -> None:
        pass

    def update_name(self, name: str) -> None:
        pass


_SILENT = _Silent()
_trace_id: ContextVar[str] = ContextVar("limner_trace_id")
_provider: Any = None  # an opentelemetry.sdk.trace.TracerProvider, while spans are sent
_tracer: Any = None


def start(settings: Settings) -> None:
    """Send spans from now on, if `tracing_url` is set. May be called again; what was there before is stopped.

    Raises:
        SettingsInvalid: OpenTelemetry is not installed.
    """
    global _provider, _tracer
    stop()
    if settings.tracing_url is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError:
        raise SettingsInvalid(
            "tracing_url is set, but OpenTelemetry is not installed: pip install 'limner[tracing]'."
        ) from None

    class Ids(RandomIdGenerator):
        """A trace that begins here has the id of its call."""

        def generate_trace_id(self) -> int:
            given = _trace_id.get("")
            return int(given, 16) if given else super().generate_trace_id()

    about = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "limner"),
        "service.version": limner.__version__,
    }
    _provider = TracerProvider(resource=Resource.create(about), id_generator=Ids(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(settings.tracing_url, timeout=EXPORT_SECONDS)
    _provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=1000 * EXPORT_SECONDS))
    _tracer = _provider.get_tracer("limner", limner.__version__)


def stop() -> None:
    """Send what has not been sent yet, and nothing from then on. Blocks, for EXPORT_SECONDS or a little more."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    trace: str | None = None,
    traceparent: str | None = None,
) -> Iterator[Span]:
    """Time what is done within, as part of the span around it.

    Where there is none around it, it begins a trace of the id `trace` (32 hexadecimal digits), or goes on with that of
    `traceparent` (W3C Trace Context), if it is a valid one. What is raised within marks it as failed, by the name of
    the error's class alone.
    """
    if _tracer is None:
        yield _SILENT
        return
    from opentelemetry import trace as api
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent or ""}
    context = TraceContextTextMapPropagator().extract(carrier) if traceparent else None
    token = _trace_id.set(trace or "")
    try:
        begun = _tracer.start_span(name, context, api.SpanKind[kind.upper()], dict(attributes or {}))
    finally:
        _trace_id.reset(token)
    with api.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield begun
        except BaseException as error:
            begun.set_status(api.StatusCode.ERROR, type(error).__name__)
            raise


@contextmanager
def serving(method: str, trace: str, traceparent: str | None) -> Iterator[Span]:
    """The span of one call. Its log lines carry the trace's id where it is not the call's own, `trace`."""
    known = method if method in METHODS else "_OTHER"
    with span(known, {"http.request.method": known}, kind="server", trace=trace, traceparent=traceparent) as begun:
        of = trace_id()
        with bound_contextvars(**({} if of in (None, trace) else {"trace_id": of})):
            yield begun


def record(name: str, seconds: float, attributes: Attributes | None = None, *, ended: float | None = None) -> None:
    """A span that is over, as part of the one that is open: it took so many seconds until `ended`, Unix time or now."""
    if _tracer is None:
        return
    end = int((time.time() if ended is None else ended) * 1e9)
    done = _tracer.start_span(name, attributes=dict(attributes or {}), start_time=end - int(max(0.0, seconds) * 1e9))
    done.end(end)


def trace_id() -> str | None:
    """The id of the trace that is open, 32 hexadecimal digits; None where no spans are sent or none is open."""
    if _tracer is None:
        return None
    from opentelemetry import trace as api

    context = api.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
