"""Where pictures are painted, as the service sees it: in this process, or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from limner.engine.core import Activity, Event, Request


class Stream(Protocol):
    """An async iterator of the events of the requests of one call. It stops by itself once each of them has ended.

    Whoever leaves early closes it, best by `contextlib.aclosing`; that cancels what has not ended.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Event: ...

    async def aclose(self) -> None: ...


class Backend(Protocol):
    @property
    def models(self) -> Mapping[str, str | None]:
        """The models that a request may name, each with the fingerprint of its weights; None: not loaded now."""
        ...

    @property
    def states(self) -> Mapping[str, str]:
        """Of every model `loaded`, `loading 40%`, `not loaded`, or `failed:` with a sentence for everybody."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the models that are loaded at the start have been."""
        ...

    def room(self, tenant: str = "") -> int:
        """How many requests of this tenant would be accepted now. Others may come first, so `submit` alone decides."""
        ...

    @property
    def activity(self) -> Mapping[str, Activity]:
        """Of every model, how much is in hand and was done."""
        ...

    def submit(self, requests: Sequence[Request]) -> Stream:
        """Accept all of these requests or none; called from a running event loop.

        Raises:
            InvalidRequest: a field is out of range, or the model is unknown.
            ModelUnusable: the model can never be loaded.
            Busy: they do not all fit in the queue now.
            Closing: the backend is closed.
        """
        ...

    def close(self) -> None:
        """Stop. Blocks until the evaluation in progress is over; what has not ended fails."""
        ...
