"""Log lines on standard error: for people or, one JSON object a line, for machines.

Whatever is bound with `structlog.contextvars` stands in every line of that call or job: `id`, which both share, and
`trace_id` where the caller's own trace goes on (`limner.tracing`). No line holds a prompt, a key, a picture or the name
of one; other packages, which may write addresses and values, are heard from warnings up alone. Whatever stands in a
line, it stays one: control characters are escaped, and the lines of a traceback are indented.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from limner.config import Settings

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What could end a line, move the terminal's cursor or turn the direction of text around."""


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _escape(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Texts of a line for people; what is no text is shown by its `repr`, which escapes them."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in line.items()}


def _traceback(out: TextIO, error: ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    out.write("\n".join(f"    {_escaped(line)}" for line in plain.getvalue().splitlines()))


_JSON = structlog.processors.JSONRenderer(ensure_ascii=False)


def _json(logger: WrappedLogger, method: str, line: EventDict) -> str:
    """JSON escapes what ends a line, but for a few characters that some readers take for ends, too."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", str(_JSON(logger, method, line)))


def configure(settings: Settings) -> None:
    """Send structlog's lines and the standard library's through one formatter, from log_level up. May be repeated."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without local variables: a prompt or a key may be among them.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    renderer: list[Processor] = (
        [structlog.processors.ExceptionRenderer(tracebacks), _json]
        if settings.log_format == "json"
        else [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback)]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    least = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger("limner").setLevel(least)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
