"""Weights in one file, with a folder for what the file lacks, paint what the folder's own weights paint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import parity
from limner.engine.core import UInt8
from limner.errors import ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines import families
from parity import asked, psnr
from test_z_image import write as z_image_folder

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
PLAIN = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder")
    parity.stable_diffusion_folder(path)
    return path


def first_spelling(name: str) -> str:
    """The name that the first Stable Diffusion gave to a tensor of a denoiser with one layer a block."""
    stem, _, kind = name.rpartition(".")
    if stem in PLAIN:
        return f"{PLAIN[stem]}.{kind}"
    where, _, rest = name.partition(".")
    numbers = rest.split(".")
    if where == "mid_block":
        which, number, *inner = numbers
        at = f"middle_block.{1 if which == 'attentions' else 2 * int(number)}"
    else:
        level, which, number, *inner = numbers
        block = 2 * int(level) + int(number)
        begin = f"input_blocks.{block + 1}" if where == "down_blocks" else f"output_blocks.{block}"
        if which == "downsamplers":
            return f"input_blocks.{2 * int(level) + 2}.0.op.{kind}"
        if which == "upsamplers":
            return f"output_blocks.{2 * int(level) + 1}.2.conv.{kind}"
        at = f"{begin}.{int(which == 'attentions')}"
    layer = RESNET[inner[0]] if which == "resnets" else ".".join(inner[:-1])
    return f"{at}.{layer}.{kind}"


def tensors(folder: Path, part: str) -> Iterator[tuple[str, Tensor]]:
    for path in sorted((folder / part).glob("*.safetensors")):
        yield from safetensors.torch.load_file(path).items()


def picture(model: Model, cache: Path, **fields: Any) -> UInt8:
    return paint(families.load(model, cache, threads=1), asked("a red fox", steps=2, **fields)).pixels


def model(weights: Path, **fields: Any) -> Model:
    return Model("test", str(weights), runtime="torch", precision="f32", **fields)


def test_a_checkpoint_of_several_parts_paints_as_the_folder_that_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    held = {f"model.diffusion_model.{first_spelling(name)}": value for name, value in tensors(folder, "unet")}
    for name, value in tensors(folder, "text_encoder"):
        held[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    safetensors.torch.save_file(held, tmp_path / "checkpoint.safetensors")
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    for part in ("unet", "text_encoder"):  # which are the file's
        for path in (base / part).glob("*.safetensors"):
            path.unlink()
    alone = model(tmp_path / "checkpoint.safetensors", base=str(base))
    assert psnr(picture(alone, tmp_path), picture(model(folder), tmp_path)) > 90


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose denoiser is found as GGUF in the wild."""
    path = tmp_path_factory.mktemp("streams")
    z_image_folder(path)
    return path


@pytest.mark.parametrize(("kind", "least"), [("F32", 90.0), ("Q8_0", 25.0)])
def test_a_gguf_denoiser_paints_as_the_folder_as_nearly_as_its_rounding_allows(
    streams: Path, tmp_path: Path, kind: str, least: float
) -> None:
    file = tmp_path / f"denoiser-{kind}.gguf"
    quantization = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(file, "lumina2")
    for name, value in tensors(streams, "transformer"):
        array = value.to(torch.float32).numpy()
        rounds = kind != "F32" and array.ndim == 2 and name.endswith("weight") and array.shape[1] % 32 == 0
        if rounds:
            writer.add_tensor(name, gguf.quants.quantize(array, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours = picture(model(file, base=str(streams)), tmp_path)
    assert psnr(ours, picture(model(streams), tmp_path)) > least


def test_a_file_without_a_base_is_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    held = {first_spelling(name): value for name, value in tensors(folder, "unet")}
    safetensors.torch.save_file(held, tmp_path / "unet.safetensors")
    with pytest.raises(ModelUnusable, match="base"):
        picture(model(tmp_path / "unet.safetensors"), tmp_path)
