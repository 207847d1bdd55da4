"""Server-sent events, from bytes as they come (HTML Living Standard, 9.2.6). Pure: no connection."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from limner.client.errors import ServiceFailed

MAX_EVENT_CHARS: Final = 8_000_000
"""Of an event that has not ended yet; a job with its scene, and a preview, have far fewer."""


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: str
    id: str  # the last one that came, which is what Last-Event-ID is to say


class Parser:
    """`feed` it what comes; it gives the events that are whole, and keeps the rest for the next time."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line = ""
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Raises ServiceFailed where one of them does not end."""
        text = self._line + self._text.decode(chunk)
        # A carriage return at the end may be the first half of a line's end.
        held = "\r" if text.endswith("\r") else ""
        lines = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = lines.pop() + held
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._line) + sum(map(len, self._data)) > MAX_EVENT_CHARS:
            raise ServiceFailed(f"An event has more than {MAX_EVENT_CHARS} characters. Is base_url that of a service?")
        return events

    def _take(self, line: str) -> Event | None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                event = Event(self._name or "message", "\n".join(self._data), self._id) if self._data else None
                self._name, self._data = "", []
                return event
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
        return None
