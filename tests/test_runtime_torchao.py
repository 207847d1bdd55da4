"""Weights of 8 bits by torchao: smaller, near, and with LoRAs beside them."""

from __future__ import annotations

import pytest
import torch

from limner.pipelines.lora_file import Term
from limner.runtime import torch as runtime
from test_runtime_torch import error, shown, transformer

# torchao 0.18 loads kernels of other devices, and registers its types in a way that torch 2.13 takes no more.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.02), ("fp8", 0.06)])
def test_weights_of_eight_bits_are_near_those_they_were_made_of(
    kind: runtime.Quantize, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LARGE", 1024)
    network = transformer().bfloat16()
    expected = shown(network)
    runtime.quantized(network, kind)
    layer = network.transformer_blocks[0].attn.to_q
    assert type(layer.weight).__module__.startswith("torchao")
    assert type(network.x_embedder.weight) is torch.nn.Parameter  # a small layer
    assert 0 < error(shown(network), expected) < most
    assert Term(torch.zeros(4, 32), torch.zeros(32, 4)).fits(layer)
