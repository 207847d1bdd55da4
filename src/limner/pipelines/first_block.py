"""First-block caching: a transformer's evaluation that hardly differs from the row's last one is not made again.

The first block is always computed. Where what it adds has changed by less than a threshold since the last evaluation of
the same row, all other blocks are taken to add what they added then (ParaAttention's first-block cache, after Liu et
al. 2024, arXiv:2411.19108). The arithmetic is diffusers'; here is whose memory it works on: each row's own, for as long
as its conditioning lives, so that a picture depends on its own request alone. Rows are evaluated one at a time.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks.first_block_cache import FirstBlockCacheConfig
from torch import Tensor


class Told(dict[str, Tensor]):
    """A row's conditioning, whose end is noticed. One object for the whole of a request, as Encoded holds it."""

    __slots__ = ("__weakref__",)


class FirstBlockCache:
    """Gives a transformer the memory.

    Args:
        network: one of diffusers' transformers, of three blocks or more.
        threshold: mean change of what the first block adds, relative to its mean size; 0 computes everything, and 0.05
            to 0.15 is usual.
    """

    def __init__(self, network: Any, threshold: float) -> None:
        self._network = network
        self._network.enable_cache(FirstBlockCacheConfig(threshold=threshold))

    @contextmanager
    def row(self, told: Told) -> Iterator[None]:
        """Evaluate the network inside for the one row that is told this."""
        name = str(id(told))
        if not any(name in memory for memory in self._memories()):
            weakref.finalize(told, self._forget, name)
        with self._network.cache_context(name):
            yield

    @property
    def rows(self) -> int:
        """How many have a memory now."""
        return len({name for memory in self._memories() for name in memory})

    def _memories(self) -> list[dict[str, Any]]:
        hooked = (getattr(block, "_diffusers_hook", None) for block in self._network.modules())
        hooks = [hook for registry in hooked if registry is not None for hook in registry.hooks.values()]
        return [hook.state_manager._state_cache for hook in hooks if hasattr(hook, "state_manager")]

    def _forget(self, name: str) -> None:
        for memory in self._memories():
            memory.pop(name, None)
