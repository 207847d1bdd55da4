"""Torch networks converted for the CPU: the same function, kept on disk, loaded from there without torch's part."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_telemetry
import pytest
import torch
from diffusers.models import (
    AutoencoderKL,
    AutoencoderTiny,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from structlog.testing import capture_logs
from torch import Tensor, nn

from limner.errors import ModelUnusable
from limner.runtime import convert, graph
from limner.runtime.convert import Arithmetic, Converted, Recipe, entry
from limner.runtime.entries import ABANDONED

Inputs = dict[str, Tensor]


def tiny_unet() -> nn.Module:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        use_linear_projection=True,
    )


def tiny_flux() -> nn.Module:
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )


def tiny_sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=32,
    )


class Small(nn.Module):
    """The kinds of operation that a denoiser has, once each: what is tested of the cache is tested on it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(4, 32, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)
        self.inner = nn.Conv2d(32, 32, 3, padding=1)
        self.time = nn.Linear(16, 32)
        self.words = nn.Linear(32, 32)
        self.upward = nn.Conv2d(32, 32, 3, padding=1)
        self.out = nn.Conv2d(32, 4, 3, stride=2, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        x = self.inner(self.norm(self.into(sample)))
        x = (
            x
            + self.time(torch.cos(timestep[:, None].to(x.dtype) * torch.arange(16).to(x.dtype) / 700))[:, :, None, None]
        )
        words = self.words(encoder_hidden_states)
        seen = nn.functional.scaled_dot_product_attention(x.flatten(2).transpose(1, 2), words, words)
        x = x + seen.transpose(1, 2).reshape(x.shape)
        x = self.upward(nn.functional.interpolate(nn.functional.silu(x), scale_factor=2.0, mode="nearest"))
        return self.out(nn.functional.silu(x))


class Decoder(nn.Module):
    """The decoding half of an autoencoder."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent).sample


def tiny_taesd() -> nn.Module:
    return Decoder(AutoencoderTiny(encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4))


def tiny_vae() -> nn.Module:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return Decoder(AutoencoderKL(block_out_channels=(16, 32), norm_num_groups=8, **blocks))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unet_inputs(height: int = 8, width: int = 8, words: int = 7, seed: int = 0) -> Inputs:
    return {
        "sample": normal(1, 4, height, width, seed=seed),
        "timestep": torch.tensor([700.0 - seed]),
        "encoder_hidden_states": normal(1, words, 32, seed=seed + 1),
    }


def flux_inputs(height: int = 4, width: int = 4, words: int = 7) -> Inputs:
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return {
        "hidden_states": normal(1, height * width, 16),
        "encoder_hidden_states": normal(1, words, 32, seed=1),
        "pooled_projections": normal(1, 32, seed=2),
        "timestep": torch.tensor([0.7]),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, cols], -1).reshape(-1, 3).float(),
        "txt_ids": torch.zeros(words, 3),
        "guidance": torch.tensor([3.5]),
    }


def sd3_inputs(height: int = 8, width: int = 8, words: int = 7) -> Inputs:
    return {
        "hidden_states": normal(1, 4, height, width),
        "encoder_hidden_states": normal(1, words, 32, seed=1),
        "pooled_projections": normal(1, 64, seed=2),
        "timestep": torch.tensor([300.0]),
    }


def latent(height: int = 8, width: int = 8) -> Inputs:
    return {"latent": normal(1, 4, height, width)}


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Inputs, list[Inputs]]] = {
    "unet": (tiny_unet, unet_inputs(), [unet_inputs(12, 6, 11)]),
    "flux": (tiny_flux, flux_inputs(), [flux_inputs(3, 6, 5)]),
    "sd3": (tiny_sd3, sd3_inputs(), [sd3_inputs(4, 12, 9)]),
    "tiny autoencoder": (tiny_taesd, latent(), [latent(5, 9)]),
    "autoencoder": (tiny_vae, latent(), [latent(5, 9)]),
}
"""Module, example, and inputs of other sizes."""


def module(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return make().eval().to(dtype)


def never() -> nn.Module:
    raise AssertionError("the module was made although the network is on disk")


def by_torch(network: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        output = network(**inputs)
    return output if isinstance(output, Tensor) else output.sample


def error(got: Tensor, exact: Tensor) -> float:
    return float((got - exact).norm() / exact.norm())


def small(folder: Path, arithmetic: Arithmetic = "f32", **options: Any) -> Converted:
    recipe = Recipe("small", "tiny", arithmetic)
    if arithmetic == "int8":
        options.setdefault("calibrate", lambda network: [network(**unet_inputs(seed=seed)) for seed in range(3)])
    return Converted(recipe, options.pop("make", lambda: module(Small)), unet_inputs(), folder, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the small network in float32."""
    folder = tmp_path_factory.mktemp("kept")
    small(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_each_kind_of_network_computes_what_torch_computes_at_any_size(family: str, tmp_path: Path) -> None:
    make, example, others = FAMILIES[family]
    exact = module(make)
    network = Converted(Recipe(family, "x", "f32"), lambda: module(make), example, tmp_path)
    for inputs in (example, *others, example):
        expected = by_torch(exact, inputs)
        got = network(**inputs)
        assert got.dtype == torch.float32
        assert got.shape == expected.shape
        assert error(got, expected) < 1e-5


@pytest.mark.parametrize(
    ("arithmetic", "dtype", "within"),
    [
        ("f32", torch.bfloat16, 0.02),
        ("bf16", torch.float32, 0.02),
        ("bf16", torch.float16, 0.02),
        ("int8", torch.float32, 0.06),
    ],
)
def test_fewer_bits_stay_near_and_are_fewer_on_disk(
    arithmetic: Arithmetic, dtype: torch.dtype, within: float, tmp_path: Path, kept: Path
) -> None:
    network = small(tmp_path, arithmetic, make=lambda: module(Small, dtype))
    for inputs in (unet_inputs(seed=8), unet_inputs(6, 10, seed=9)):
        assert 1e-7 < error(network(**inputs), by_torch(module(Small), inputs)) < within
    size, whole = (sum(p.stat().st_size for p in folder.glob("*/network.bin")) for folder in (tmp_path, kept))
    assert size < {"int8": 0.5, "bf16": 0.6, "f32": 1.01}[arithmetic] * whole


def test_a_later_start_loads_the_same_bits_and_does_not_make_the_module(tmp_path: Path) -> None:
    for arithmetic in ("bf16", "int8"):
        first = small(tmp_path, arithmetic)
        assert not first.from_disk
        later = small(tmp_path, arithmetic, make=never)
        assert later.from_disk
        torch.testing.assert_close(later(**unet_inputs()), first(**unet_inputs()), rtol=0, atol=0)


def test_the_module_is_let_go_of_when_it_is_converted(tmp_path: Path) -> None:
    weights: list[weakref.ref[Any]] = []

    def make() -> nn.Module:
        made = module(Small)
        weights.extend(weakref.ref(parameter) for parameter in made.parameters())
        return made

    network = small(tmp_path, make=make)
    assert len(weights) > 5
    assert not any(weight() is not None for weight in weights)
    network(**unet_inputs())


def test_the_same_input_gives_the_same_bits_also_after_other_shapes(kept: Path) -> None:
    network = small(kept, make=never)
    first = network(**unet_inputs())
    copy = first.clone()
    for shape in ((4, 4, 3), (16, 8, 12), (8, 10, 7)):
        network(**unet_inputs(*shape))
    torch.testing.assert_close(network(**unet_inputs()), copy, rtol=0, atol=0)
    torch.testing.assert_close(first, copy, rtol=0, atol=0)


def test_whatever_determines_a_network_names_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = [Recipe("unet", "a"), Recipe("unet", "b"), Recipe("text encoder/2", "a"), Recipe("unet", "a", "f32")]
    names = [entry(recipe, unet_inputs()) for recipe in recipes]
    names += [entry(recipes[0], unet_inputs(16)), entry(recipes[0], unet_inputs() | {"mask": normal(1)})]
    monkeypatch.setattr(convert, "_version", lambda package: "2031.1.0")
    names.append(entry(recipes[0], unet_inputs()))
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name for name in names)
    assert entry(recipes[0], unet_inputs(seed=5)) == names[-1]  # the example's numbers say nothing


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("network.xml", cut),
        ("network.bin", cut),
        ("network.bin", flip),
        ("network.bin", Path.unlink),
        ("meta.json", cut),
        ("meta.json", Path.unlink),
    ],
)
def test_a_damaged_entry_is_converted_again(
    name: str, harm: Callable[[Path], None], kept: Path, tmp_path: Path
) -> None:
    place = tmp_path / next(kept.iterdir()).name
    place.mkdir()
    for path in next(kept.iterdir()).iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    harm(place / name)
    network = small(tmp_path)
    assert not network.from_disk
    assert error(network(**unet_inputs()), by_torch(module(Small), unet_inputs())) < 1e-5
    assert small(tmp_path, make=never).from_disk
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_two_at_once_end_in_one_whole_entry(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def make() -> nn.Module:
        both.wait(30)  # neither has found an entry
        return made

    made = module(Small)
    networks: list[Converted] = []
    threads = [threading.Thread(target=lambda: networks.append(small(tmp_path, make=make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (network(**unet_inputs()) for network in networks)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 1
    assert small(tmp_path, make=never).from_disk


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow past 16 KiB; the system then answers writes as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_told_and_the_network_serves(tmp_path: Path) -> None:
    with capture_logs() as logs:
        network = small(tmp_path, "bf16")
    assert error(network(**unet_inputs()), by_torch(module(Small), unet_inputs())) < 0.02
    assert any("could not be kept" in str(line) for line in logs)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_could_not_be_kept_gives_the_bits_of_one_that_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    unkept = small(tmp_path / "file", "bf16")
    torch.testing.assert_close(unkept(**unet_inputs()), small(tmp_path, "bf16")(**unet_inputs()), rtol=0, atol=0)


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not(kept: Path, tmp_path: Path) -> None:
    name = next(kept.iterdir()).name
    old, new = (tmp_path / f"{name}.{token}.part" for token in ("0000", "1111"))
    for part in (old, new):
        part.mkdir()
    (old / "network.bin").write_bytes(b"half")
    past = time.time() - ABANDONED - 60
    os.utime(old, (past, past))
    small(tmp_path)
    assert not old.exists()
    assert new.exists()


class Branching(nn.Module):
    """Uses an operation that OpenVINO does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x)


def test_a_network_that_cannot_be_converted_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"The network spectrum cannot be converted .* Run it by torch."):
        Converted(Recipe("spectrum", "x"), Branching, {"x": torch.eye(3)}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_or_missing_input_is_an_error_and_the_network_lives_on(kept: Path) -> None:
    network = small(kept, make=never)
    before = network(**unet_inputs())
    with pytest.raises(ValueError, match="the network takes sample, timestep, encoder_hidden_states, not sample"):
        network(sample=normal(1, 4, 8, 8))
    with pytest.raises(ValueError, match="mask"):
        network(**unet_inputs(), mask=normal(1))
    with pytest.raises(RuntimeError):
        network(**unet_inputs() | {"sample": normal(1, 5, 8, 8)})
    torch.testing.assert_close(network(**unet_inputs()), before, rtol=0, atol=0)


def test_int8_needs_to_see_what_the_network_will_meet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int8 needs `calibrate`"):
        small(tmp_path, "int8", calibrate=None)
    with pytest.raises(ValueError, match="never called"):
        small(tmp_path, "int8", calibrate=lambda network: None)


def test_int8_arithmetic_is_what_runs_but_at_the_edges(tmp_path: Path) -> None:
    small(tmp_path, "int8")
    model = ov.Core().read_model(next(tmp_path.glob("*/network.xml")))
    stored = [op for op in model.get_ops() if op.get_type_name() == "Constant" and op.get_element_type() == ov.Type.i8]
    assert len(stored) == len(list(graph.quantizable(traced()))) == 4
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    inside = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    precisions: dict[str, list[str]] = {}
    for told in inside:
        precisions.setdefault(told["layerType"].astype(str), []).append(told["runtimePrecision"].astype(str))
    assert sum(precision in ("i8", "u8") for precision in precisions["Convolution"]) == 1
    assert len(precisions["Convolution"]) == 3
    assert set(precisions["Deconvolution"]) <= {"i8", "u8"}


def traced() -> Any:
    """The small network as OpenVINO's operations, nothing done to it."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated
        return convert.traced(module(Small), tuple(unet_inputs().values()))


def test_converting_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(*_: Any, **__: Any) -> None:
        raise AssertionError("OpenVINO's telemetry was called")

    monkeypatch.setattr(openvino_telemetry.Telemetry, "__init__", sent)
    monkeypatch.setattr(multiprocessing.Process, "start", sent)
    assert not small(tmp_path).from_disk


def test_doubling_and_convolution_become_one_with_the_same_sums() -> None:
    plain, folded = traced(), traced()
    assert graph.fold_upsampling(folded) == 1
    kinds = [op.get_type_name() for op in folded.get_ops()]
    assert "ConvolutionBackpropData" in kinds
    assert "Interpolate" not in kinds
    for inputs in (unet_inputs(), unet_inputs(6, 10)):
        given = [tensor.numpy() for tensor in inputs.values()]
        exact, got = (
            ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)[0]
            for model in (plain, folded)
        )
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5)


def test_meta_says_what_an_entry_is(kept: Path) -> None:
    meta = json.loads((next(kept.iterdir()) / "meta.json").read_text())
    assert meta["kind"] == "small"
    assert meta["checksum"] == "tiny"
    assert meta["openvino"] == ov.__version__
