"""Weights of 8 bits: how exact they are, how little memory they take, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import safetensors.torch
import torch
from torch import nn

from limner.errors import ModelUnusable
from limner.models.registry import Quantize
from limner.pipelines import narrow
from limner.pipelines.parts import Parts
from parity import seeded


def transformer() -> Any:
    """FLUX.1's transformer, small, with layers of more than 2**20 weights."""
    return seeded(
        lambda: diffusers.FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=64, num_attention_heads=8,
            joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(16, 24, 24),
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights in several files."""
    path = tmp_path_factory.mktemp("transformer")
    transformer().save_pretrained(path, max_shard_size="8MB")
    assert len(list(path.glob("*.safetensors"))) > 2
    return path


def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        "hidden_states": torch.randn(1, 6, 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, 4, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([0.7]),
        "img_ids": torch.zeros(6, 3),
        "txt_ids": torch.zeros(4, 3),
        "return_dict": False,
    }


@torch.inference_mode()
def told(network: nn.Module) -> torch.Tensor:
    output: torch.Tensor = network(**inputs())[0]
    return output


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("kind", "least", "most"), [("int8", 1e-4, 2e-3), ("fp8", 1e-3, 1e-2)])
def test_a_network_of_8_bits_is_near_the_exact_one(folder: Path, kind: Quantize, least: float, most: float) -> None:
    exact = told(transformer())
    network = narrow.load(diffusers.FluxTransformer2DModel, folder, torch.float32, kind)
    assert least < apart(told(network), exact) < most


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_network_is_the_same_narrowed_and_loaded_narrow(folder: Path, kind: Quantize) -> None:
    network = transformer()
    narrow.narrow(network, kind)
    assert torch.equal(told(network), told(narrow.load(diffusers.FluxTransformer2DModel, folder, torch.float32, kind)))


def test_weights_of_a_variant_are_found(folder: Path, tmp_path: Path) -> None:
    transformer().save_pretrained(tmp_path, variant="fp16", max_shard_size="8MB")
    kind = diffusers.FluxTransformer2DModel
    whole = told(narrow.load(kind, folder, torch.float32, "int8"))
    assert torch.equal(whole, told(narrow.load(kind, tmp_path, torch.float32, "int8", "fp16")))


def test_large_linear_layers_take_a_byte_a_weight(folder: Path) -> None:
    network = narrow.load(diffusers.FluxTransformer2DModel, folder, torch.bfloat16, "int8")
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    large = [layer for layer in layers if layer.weight.numel() >= narrow.LEAST]
    assert len(large) > 5
    assert all(isinstance(layer, narrow.Narrow) and layer.weight.itemsize == 1 for layer in large)
    assert all(layer.weight.dtype == torch.bfloat16 for layer in layers if layer not in large)


def test_a_models_denoiser_is_narrowed_where_its_parts_say_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "transformer").symlink_to(folder)
    (tmp_path / "model_index.json").write_text('{"transformer": ["diffusers", "FluxTransformer2DModel"]}')
    whole, parts = Parts(tmp_path, checksum="1"), Parts(tmp_path, quantize="int8", checksum="1")
    layers = [layer for layer in parts.module("transformer").modules() if isinstance(layer, narrow.Narrow)]
    assert {layer.weight.dtype for layer in layers} == {torch.int8}
    assert whole.fingerprint != parts.fingerprint


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "most"), [("int8", 0.015), ("fp8", 0.03)])
def test_a_layer_computes_in_the_precision_of_its_input(kind: Quantize, most: float, precision: torch.dtype) -> None:
    exact = seeded(lambda: nn.Linear(4096, 256))
    nn.init.normal_(exact.weight, generator=torch.Generator().manual_seed(2))
    exact.weight.data[3] = 0
    layer = narrow.Narrow(exact, kind)
    layer.fill(exact.weight)
    x = 100 * torch.randn(2, 4096, generator=torch.Generator().manual_seed(5))
    layer.bias = nn.Parameter(exact.bias.to(precision), requires_grad=False)
    output = layer(x.to(precision))
    assert output.dtype == precision
    assert apart(output.float(), exact(x).detach()) < most


def test_weights_that_do_not_fit_the_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    kind = diffusers.FluxTransformer2DModel
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelUnusable, match=r"has no diffusion_pytorch_model\.safetensors"):
        narrow.load(kind, tmp_path, torch.float32, "int8")
    weights = transformer().state_dict()
    for said, changed in (
        ("lack 1 tensors that its settings ask for, x_embedder.bias", {"x_embedder.bias": None}),
        ("hold x_embedder.more, which", {"x_embedder.more": torch.zeros(1)}),
        (r"x_embedder.bias is \(3,\); its settings ask for \(512,\)", {"x_embedder.bias": torch.zeros(3)}),
    ):
        kept = {name: value for name, value in (weights | changed).items() if value is not None}
        safetensors.torch.save_file(kept, tmp_path / f"{narrow.WEIGHTS}.safetensors")
        with pytest.raises(ModelUnusable, match=said):
            narrow.load(kind, tmp_path, torch.float32, "int8")


def test_a_file_cut_short_is_refused(folder: Path, tmp_path: Path) -> None:
    transformer().save_pretrained(tmp_path)
    file = tmp_path / f"{narrow.WEIGHTS}.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ModelUnusable, match=r"cannot be read.*Copy it again"):
        narrow.load(diffusers.FluxTransformer2DModel, tmp_path, torch.float32, "int8")
