"""Torch networks: device and precision, compiled shapes, small weights, little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from limner.errors import ModelUnusable, OutOfMemory
from limner.runtime import torch as runtime
from parity import seeded

# torch's own compiler imports what torch wants to give up.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

CPU = torch.device("cpu")


class Small(nn.Module):
    """Two layers, and a count of how often Python itself ran them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(32, 64), nn.Linear(64, 32)
        self.calls = 0

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        if not torch.compiler.is_compiling():
            self.calls += 1
        return scale * self.outer(torch.relu(self.inner(x)))  # type: ignore[no-any-return]  # modules return Any


@pytest.fixture
def small() -> Small:
    made: Small = seeded(Small).eval().requires_grad_(False)
    return made


def test_auto_is_a_device_of_this_machine_and_computes_in_what_it_has() -> None:
    device = runtime.device_of("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    features: Any = torch.cpu.get_capabilities()
    assert runtime.precision_of("auto", CPU) == ("bf16" if features.get("avx512_bf16") else "f32")
    assert runtime.precision_of("f16", CPU) == "f16"
    with torch.inference_mode():
        torch.ones(4, 4, device=device).to(torch.bfloat16) @ torch.ones(4, 4, device=device, dtype=torch.bfloat16)


@pytest.mark.parametrize("asked", ["cuda:99", "cpu:1", "cpu:x", "tpu", "", "cuda:-1"])
def test_a_device_that_is_not_there_is_told(asked: str) -> None:
    with pytest.raises(ModelUnusable, match=r"There is no device .* here\. Set device to auto"):
        runtime.device_of(asked)


def test_a_lack_of_memory_is_told_and_what_was_taken_is_given_back() -> None:
    held: list[Any] = []

    class Marker:
        def __del__(self) -> None:
            held.append("freed")

    def greedy() -> None:
        marker = Marker()
        torch.empty(2**48)
        del marker

    with pytest.raises(OutOfMemory, match="not enough memory") as raised:
        runtime.sparing()(greedy)()
    assert held == ["freed"]
    assert raised.value.code == 1024


def test_pythons_own_lack_of_memory_is_told_and_other_errors_pass() -> None:
    with pytest.raises(OutOfMemory), runtime.sparing():
        raise MemoryError
    with pytest.raises(OutOfMemory), runtime.sparing():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), runtime.sparing():
        torch.ones(2, 3) @ torch.ones(2, 3)
    with runtime.sparing():
        pass


def test_a_network_is_compiled_once_for_each_shape_and_for_a_bounded_number(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SHAPES", 2)
    network = runtime.Compiled(small, tmp_path, "whole", backend="eager")
    for rows in (1, 2, 1, 2, 1):
        network(x=torch.ones(rows, 32))
    assert (network.shapes, small.calls) == (2, 0)
    x = torch.ones(3, 32)
    assert torch.equal(network(x=x), Small.forward(small, x))
    assert network.shapes == 2
    assert small.calls == 2  # the third shape ran as it is, and so did the line above


def test_a_compiled_network_gives_what_it_gave_before(small: Small, tmp_path: Path) -> None:
    x = seeded(lambda: torch.randn(4, 32))
    with torch.inference_mode():
        expected = small(x, scale=0.5)
        assert torch.allclose(runtime.Compiled(small, tmp_path, "whole", "aot_eager")(x=x, scale=0.5), expected)


def test_hooks_of_an_altered_network_are_heeded_though_it_is_compiled(small: Small, tmp_path: Path) -> None:
    x = torch.ones(1, 32)
    network = runtime.Compiled(small, tmp_path, "whole", backend="eager")
    bare = network(x=x)
    hook = small.outer.register_forward_hook(lambda layer, inputs, output: output + 1)
    with runtime.altered(small):
        assert torch.allclose(network(x=x), bare + 1)
    hook.remove()
    assert torch.equal(network(x=x), bare)


def test_a_network_that_cannot_be_compiled_runs_as_it_is(small: Small, tmp_path: Path) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    network = runtime.Compiled(small, tmp_path, "whole", backend=broken)  # type: ignore[arg-type]
    x = torch.ones(1, 32)
    assert torch.equal(network(x=x), Small.forward(small, x))
    assert network.shapes <= 1


def transformer() -> Any:
    return (
        seeded(
            lambda: diffusers.FluxTransformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            )
        )
        .eval()
        .requires_grad_(False)
    )  # fmt: skip


def shown(network: Any) -> Tensor:
    dtype = torch.bfloat16
    drawn = seeded(lambda: [torch.randn(1, 16, 16), torch.randn(1, 5, 32), torch.randn(1, 32)])
    with torch.inference_mode():
        output: Tensor = network(
            hidden_states=drawn[0].to(dtype), encoder_hidden_states=drawn[1].to(dtype),
            pooled_projections=drawn[2].to(dtype), timestep=torch.tensor([0.5], dtype=dtype),
            img_ids=torch.zeros(16, 3), txt_ids=torch.zeros(5, 3), return_dict=False,
        )[0]  # fmt: skip
    return output.float()


def test_the_blocks_that_repeat_are_compiled_once_for_all_of_them(tmp_path: Path) -> None:
    network = transformer().bfloat16()
    expected = shown(network)
    compiled = runtime.Compiled(network, tmp_path, "blocks", backend="eager")
    assert torch.equal(shown(compiled), expected)
    assert network.single_transformer_blocks[0]._compiled_call_impl is not None
    assert network._compiled_call_impl is None


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_torchao_is_for_gpus() -> None:
    assert not runtime.takes_torchao(CPU)


def test_offloaded_weights_stay_in_main_memory_and_change_nothing() -> None:
    network = transformer().bfloat16()
    expected = shown(network)
    runtime.offload(network, CPU)
    assert torch.equal(shown(network), expected)
    assert torch.equal(shown(runtime.placed(transformer().bfloat16(), CPU)), expected)


def test_an_autoencoder_works_in_tiles_only_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(32, 64), latent_channels=4, sample_size=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip
    runtime.tiling(vae, 64 * 64, CPU)
    assert not vae.use_tiling
    monkeypatch.setattr(runtime, "capacity", lambda device: 2**20)
    runtime.tiling(vae, 64 * 64, CPU)
    assert vae.use_tiling
    monkeypatch.undo()
    runtime.tiling(vae, 64 * 64, CPU)
    assert not vae.use_tiling


def test_free_memory_is_what_the_machine_says() -> None:
    total = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1])
    assert 2**20 < runtime.room(CPU) < total * 1024
