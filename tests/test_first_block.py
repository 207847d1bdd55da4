"""First-block caching skips blocks, and no row sees another's memory."""

from __future__ import annotations

import gc
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from limner.pipelines.first_block import FirstBlockCache, Told
from parity import seeded

BLOCKS = 4


class Counted:
    """A tiny transformer of FLUX's kind, and how often its blocks ran."""

    def __init__(self, threshold: float | None) -> None:
        self.network: Any = seeded(
            lambda: diffusers.FluxTransformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=BLOCKS - 1, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            )
        ).eval()  # fmt: skip
        self.ran = 0
        for block in (*self.network.transformer_blocks, *self.network.single_transformer_blocks):
            block.norm1 = self._counting(block.norm1) if hasattr(block, "norm1") else None
            if hasattr(block, "norm"):
                block.norm = self._counting(block.norm)
        self.cache = None if threshold is None else FirstBlockCache(self.network, threshold)

    def _counting(self, norm: Any) -> Any:
        norm.register_forward_hook(self._count)
        return norm

    def _count(self, *_: Any) -> None:
        self.ran += 1

    @torch.inference_mode()
    def step(self, told: Told, k: int) -> Tensor:
        """The k-th evaluation of a row that moves a little at a time."""
        drawn = seeded(lambda: [torch.randn(1, 16, 16), torch.randn(1, 16, 16)], 5)
        given: dict[str, Any] = {
            "hidden_states": drawn[0] + 0.01 * k * drawn[1], "timestep": torch.tensor([0.5]),
            "img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(5, 3), "return_dict": False,
        }  # fmt: skip
        if self.cache is None:
            return self.network(**given, **told)[0]  # type: ignore[no-any-return]  # modules return Any
        with self.cache.row(told):
            return self.network(**given, **told)[0]  # type: ignore[no-any-return]  # modules return Any


def told(seed: int) -> Told:
    drawn = seeded(lambda: [torch.randn(1, 5, 32), torch.randn(1, 32)], seed)
    return Told(encoder_hidden_states=drawn[0], pooled_projections=drawn[1])


def test_small_changes_skip_all_blocks_but_the_first_and_change_little() -> None:
    cached, whole, row = Counted(0.2), Counted(None), told(1)
    first = cached.step(row, 0)
    assert cached.ran == BLOCKS
    assert torch.allclose(first, whole.step(row, 0), atol=1e-5)
    second = cached.step(row, 1)
    assert cached.ran == BLOCKS + 1
    assert 0 < (second - whole.step(row, 1)).norm() / second.norm() < 0.05


def test_a_threshold_of_nothing_computes_everything() -> None:
    cached, whole, row = Counted(0.0), Counted(None), told(1)
    for k in range(3):
        assert torch.allclose(cached.step(row, k), whole.step(row, k), atol=1e-5)
    assert cached.ran == whole.ran == 3 * BLOCKS


@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_a_row_gives_the_same_bytes_alone_and_between_others(threshold: float) -> None:
    alone, together, one, other = Counted(threshold), Counted(threshold), told(1), told(2)
    expected = [alone.step(one, k) for k in range(4)]
    got = []
    for k in range(4):
        got.append(together.step(one, k))
        together.step(other, 7 * k)
    assert [output.numpy().tobytes() for output in got] == [output.numpy().tobytes() for output in expected]


def test_a_rows_memory_ends_with_its_conditioning() -> None:
    cached, one, other = Counted(0.2), told(1), told(2)
    assert cached.cache is not None
    cached.step(one, 0)
    cached.step(other, 0)
    assert cached.cache.rows == 2
    del one
    gc.collect()
    assert cached.cache.rows == 1
    before = cached.ran
    cached.step(told(1), 1)  # a new row, though it is told the same
    assert cached.ran == before + BLOCKS
