"""What is said of weights before anything is loaded: what they are, what is wrong with them, what to do."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import gguf
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
import transformers
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ModelUnusable
from limner.models import folder, headers, layout
from limner.models.families import FAMILIES, family_of
from limner.models.registry import Lora, Model, Style
from limner.models.signs import SIGNS
from parity import stable_diffusion_folder

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Shapes = Mapping[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, as diffusers saves it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    stable_diffusion_folder(path)
    return path


@pytest.fixture
def tiny(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def refusal(weights: str | Path, base: str | Path | None = None) -> str:
    with pytest.raises(ModelUnusable) as caught:
        folder.check(weights, base)
    message = caught.value.message
    assert "\n" not in message
    assert message.rstrip("/")[-1] in ".?", message
    return message


def header_of(shapes: Shapes, kind: str = "F16") -> bytes:
    table, place = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=object)) * headers.BITS[kind] // 8
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    return json.dumps(table).encode()


def sparse(path: Path, shapes: Shapes, kind: str = "F16") -> Path:
    """A safetensors file of tensors of these shapes; their bytes take no room on the disk."""
    header = header_of(shapes, kind)
    size = sum(int(np.prod(shape, dtype=object)) * headers.BITS[kind] // 8 for shape in shapes.values())
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# A folder that is whole


def test_a_whole_folder_is_described_part_by_part(tiny: Path) -> None:
    found = folder.check(str(tiny))
    assert (found.layout, found.pipeline, found.family.name) == (
        "diffusers",
        "StableDiffusionPipeline",
        "stable-diffusion",
    )
    assert folder.places(found) == (tiny, None)
    parts = {part.name: part for part in found.parts}
    assert set(parts) >= {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet")
    assert parts["unet"].parameters == sum(p.numel() for p in unet.parameters())
    assert parts["unet"].bytes == 4 * parts["unet"].parameters
    assert parts["unet"].precision == "f32"
    assert (parts["scheduler"].bytes, parts["scheduler"].precision) == (0, "")
    assert found.bytes == sum(part.bytes for part in found.parts)
    assert tiny / "model_index.json" in found.files
    assert tiny / "tokenizer" / "tokenizer.json" in found.files


@pytest.mark.parametrize("spelling", ["{0}/", "{0}/.", "{0}/../tiny"])
def test_ways_to_write_the_same_folder(tiny: Path, spelling: str) -> None:
    assert folder.check(spelling.format(tiny)).bytes == folder.check(tiny).bytes


def test_a_home_folder_is_written_with_a_tilde(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert folder.check("~/tiny").path == tiny


def test_a_template_of_conversations_counts_as_part_of_a_tokenizer(tiny: Path) -> None:
    (tiny / "tokenizer" / "chat_template.jinja").write_text("{{ messages }}")
    assert tiny / "tokenizer" / "chat_template.jinja" in folder.check(tiny).files


def test_links_out_of_the_folder_are_followed_as_a_hubs_cache_needs(tiny: Path, tmp_path: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "blob")
    weights.symlink_to(tmp_path / "blob")
    assert folder.check(tiny).parts


def test_pickles_beside_safetensors_are_passed_over(tiny: Path) -> None:
    (tiny / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02junk")
    assert all(path.suffix != ".bin" for path in folder.check(tiny).files)


def test_weights_that_are_there_in_half_precision_only_are_a_variant(tiny: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    unet = next(part for part in folder.check(tiny).parts if part.name == "unet")
    assert unet.variant == "fp16"
    assert diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet", variant="fp16") is not None


def test_shards_of_an_index_are_one_part(tiny: Path) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet")
    whole = folder.check(tiny)
    (tiny / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(tiny / "unet", max_shard_size="100KB")
    sharded = folder.check(tiny)
    assert len(sharded.files) > len(whole.files)
    assert (sharded.bytes, sharded.parameters) == (whole.bytes, whole.parameters)


def test_of_a_file_and_shards_side_by_side_those_are_checked_that_are_loaded(tiny: Path) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet")
    unet.save_pretrained(tiny / "apart", max_shard_size="100KB")
    for path in (tiny / "apart").iterdir():
        path.rename(tiny / "unet" / path.name)
    single = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    assert single not in folder.check(tiny).files
    single.write_bytes(b"damaged, and not read")
    assert diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet", use_safetensors=True) is not None
    folder.check(tiny)

    index = tiny / "text_encoder" / "model.safetensors.index.json"
    index.write_text("damaged, and not read")
    assert transformers.CLIPTextModel.from_pretrained(tiny / "text_encoder") is not None
    assert index not in folder.check(tiny).files


def test_a_pipeline_of_no_family_of_our_own_falls_back_and_says_so(tiny: Path) -> None:
    edit(tiny / "model_index.json", lambda index: index.update(_class_name="SomeOtherPipeline"))
    found = folder.check(tiny)
    assert found.family.name == "any-diffusers"
    assert "SomeOtherPipeline" in found.about


def test_parts_that_no_family_of_ours_loads_may_be_missing(tiny: Path) -> None:
    edit(tiny / "model_index.json", lambda index: index.update(safety_checker=["stable_diffusion", "SafetyChecker"]))
    assert "safety_checker" not in {part.name for part in folder.check(tiny).parts}
    edit(tiny / "model_index.json", lambda index: index.update(_class_name="SomeOtherPipeline"))
    assert "lacks the folder of its safety_checker" in refusal(tiny)


def test_the_libraries_of_parts_are_those_of_the_installed_diffusers() -> None:
    for library in layout.OWN_LIBRARIES:
        assert hasattr(diffusers.pipelines, library)


# A folder that is not


def test_everything_that_is_wrong_is_told_at_once(tiny: Path) -> None:
    shutil.rmtree(tiny / "vae")
    (tiny / "unet" / "config.json").unlink()
    message = refusal(tiny)
    assert "lacks the folder of its vae (AutoencoderKL)" in message
    assert "unet lacks config.json" in message
    assert len(folder.inspect(tiny).problems) == 2


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("scheduler/scheduler_config.json", "none of scheduler_config.json for its"),
        ("tokenizer/", "none of tokenizer.json, vocab.json"),
        ("unet/diffusion_pytorch_model.safetensors", "lacks its weights, diffusion_pytorch_model.safetensors"),
        ("text_encoder/model.safetensors", "lacks its weights, model.safetensors"),
    ],
)
def test_a_missing_file_is_named(tiny: Path, file: str, sentence: str) -> None:
    if file.startswith("tokenizer"):
        shutil.rmtree(tiny / "tokenizer")
        (tiny / "tokenizer").mkdir()
    else:
        (tiny / file).unlink()
    assert sentence in refusal(tiny)


def test_weights_under_another_name_are_not_looked_for_but_told(tiny: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("weights.safetensors"))
    assert "weights.safetensors is there, which is not the name" in refusal(tiny)


def test_weights_that_are_a_pickle_only_are_to_be_converted(tiny: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    message = refusal(tiny)
    assert "as a pickle only" in message
    assert "convert it to safetensors" in message


@pytest.mark.parametrize("start", [b"PK\x03\x04\x14\0\0\0\x08\x08", b"\x80\x02}q\x00X\x05\0\0\0"])
def test_a_pickle_under_the_name_of_safetensors_is_told_by_its_content(tiny: Path, start: bytes) -> None:
    (tiny / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(start + bytes(100))
    assert "pickle or zip archive, whatever its name says" in refusal(tiny)


def test_a_real_pickle_of_torch_is_told_too(tmp_path: Path) -> None:
    for legacy in (True, False):
        torch.save({"a": torch.zeros(3)}, tmp_path / "a.safetensors", _use_new_zipfile_serialization=not legacy)
        assert "pickle" in refusal(tmp_path / "a.safetensors")


def test_a_truncated_file_is_told_by_its_size(tiny: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1000)
    message = refusal(tiny)
    assert "ends early, 1000 bytes before" in message
    assert "again, whole" in message


def test_an_interrupted_download_is_a_link_to_nothing(tiny: Path, tmp_path: Path) -> None:
    weights = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "blobs" / "abc")
    assert "is not there. Finish the download" in refusal(tiny)
    (tiny / "model_index.json").unlink()
    (tiny / "model_index.json").symlink_to(tmp_path / "blobs" / "def")
    assert "Finish the download" in refusal(tiny)


def test_a_pointer_of_git_lfs_is_told(tiny: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"
    (tiny / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(pointer)
    assert "git lfs pull" in refusal(tiny)


def test_the_wrong_network_in_a_parts_place_is_told_by_its_settings_or_its_tensors(tiny: Path) -> None:
    shutil.copy(tiny / "vae" / "config.json", tiny / "unet" / "config.json")
    assert "unet should hold a UNet2DConditionModel but its config.json says AutoencoderKL" in refusal(tiny)


@pytest.mark.parametrize(
    ("place", "of", "kind"),
    [("unet", "vae", "autoencoder"), ("vae", "unet", "Stable Diffusion"), ("text_encoder", "vae", "autoencoder")],
)
def test_the_wrong_tensors_in_a_parts_place_are_told(tiny: Path, made: Path, place: str, of: str, kind: str) -> None:
    def weights(root: Path, part: str) -> Path:
        return next((root / part).glob("*.safetensors"))

    shutil.copy(weights(made, of), weights(tiny, place))
    message = refusal(tiny)
    assert f"{place} should hold a" in message
    assert kind in message


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "a\\b.safetensors", "x.bin", ""])
def test_an_index_cannot_lead_out_of_its_folder(tiny: Path, name: str) -> None:
    (tiny / "unet" / "diffusion_pytorch_model.safetensors").rename(tiny / "secret.safetensors")
    index = {"weight_map": {"conv_in.weight": name}}
    (tiny / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert "no safetensors file of its own folder" in refusal(tiny)


def test_an_index_of_files_or_tensors_that_are_not_there_is_told(tiny: Path) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet")
    (tiny / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(tiny / "unet", max_shard_size="100KB")
    index = tiny / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    edit(index, lambda document: document["weight_map"].update(more=sorted(document["weight_map"].values())[0]))
    assert "lacks the tensor more" in refusal(tiny)
    sorted((tiny / "unet").glob("*-of-*.safetensors"))[1].unlink()
    assert "lacks 1 of" in refusal(tiny)
    edit(index, lambda document: document.update(weight_map=[]))
    assert "weight_map" in refusal(tiny)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda index: index.update(_class_name=["mine", "MyPipeline"]), "pipeline of its own code (MyPipeline)"),
        (lambda index: index.update(unet=["mine", "MyUNet"]), "takes its unet from 'mine'"),
        (lambda index: index.update(unet=["diffusers", "utils.os"]), "Code that comes with weights"),
        (lambda index: index.update(unet=["subprocess", "Popen"]), "neither diffusers nor transformers"),
        (lambda index: index.update({"_class_name": "X", "../vae": ["diffusers", "Y"]}), "no folder's name"),
        (lambda index: index.update(vae=[None, None]), "names no vae"),
        (lambda index: index.pop("_class_name"), "names no pipeline"),
        (lambda index: index.pop("unet"), "names no unet, which a StableDiffusionPipeline must have"),
    ],
)
def test_code_paths_and_gaps_in_the_index_are_refused(
    tiny: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    edit(tiny / "model_index.json", change)
    assert sentence in refusal(tiny)


@pytest.mark.parametrize("file", ["text_encoder/config.json", "tokenizer/tokenizer_config.json"])
def test_settings_that_ask_for_code_of_their_own_are_refused(tiny: Path, file: str) -> None:
    edit(tiny / file, lambda config: config.update(auto_map={"AutoModel": "mine.Model"}))
    assert "auto_map" in refusal(tiny)


def test_a_library_that_the_folder_brings_as_a_file_is_refused(tiny: Path) -> None:
    (tiny / "unet" / "diffusers.py").write_text("raise SystemExit")
    assert "Code that comes with weights is never run" in refusal(tiny)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": ' + "[" * 100_000 + "}", "\xff"])
def test_settings_that_are_no_json_object_are_refused(tiny: Path, text: str) -> None:
    (tiny / "unet" / "config.json").write_bytes(text.encode("latin-1"))
    assert "unet/config.json" in refusal(tiny)
    (tiny / "model_index.json").write_bytes(text.encode("latin-1"))
    assert "model_index.json" in refusal(tiny)


def test_settings_that_are_absurdly_large_are_not_read(tiny: Path) -> None:
    os.truncate(tiny / "tokenizer" / "tokenizer.json", 10**12)
    assert "larger than" in refusal(tiny)


# The path itself


def test_a_folder_one_level_too_high_or_too_low_is_put_right(tiny: Path) -> None:
    assert f"{tiny} does. Name that folder" in refusal(tiny.parent)
    assert f"Name the whole model, the folder {tiny}" in refusal(tiny / "unet")


def test_folders_that_are_no_models_say_what_they_are(tiny: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is empty" in refusal(empty)
    part = Path(shutil.copytree(tiny / "unet", tmp_path / "part" / "unet"))
    assert "is one part of a model, without model_index.json" in refusal(part)
    (empty / "sd.safetensors").write_bytes(b"")
    assert f"Name {empty / 'sd.safetensors'} itself" in refusal(empty)
    (empty / "sd.safetensors").rename(empty / "sd.ckpt")
    assert "holds pickles" in refusal(empty)
    (empty / "sd.ckpt").rename(empty / "notes.md")
    assert "no model in diffusers' layout" in refusal(empty)


def test_a_path_that_is_not_there_names_the_nearest(tiny: Path) -> None:
    assert f"Did you mean {tiny}?" in refusal(tiny.with_name("tini"))
    assert "is not there" in refusal(tiny / "no" / "such")
    assert "is not there" in refusal("~nobody-of-this-name/sd")
    assert "without the zero character" in refusal("sd\0turbo")
    (tiny / "link").symlink_to("nowhere")
    assert "is a link to nowhere" in refusal(tiny / "link")


def test_files_that_are_no_weights_say_where_the_model_is(tiny: Path) -> None:
    assert f"Name its folder, {tiny}" in refusal(tiny / "model_index.json")
    (tiny / "model.ckpt").write_bytes(b"")
    assert "pickle by its name" in refusal(tiny / "model.ckpt")
    (tiny / "page.safetensors").write_text("<!doctype html><html></html>")
    assert "text file" in refusal(tiny / "page.safetensors")


def test_a_path_that_cannot_be_read_is_a_sentence(tiny: Path) -> None:
    assert "cannot be read: File name too long" in refusal("/" + "x" * 300)
    assert "cannot be read: Is a directory" in refusal_of_a_header(tiny)
    assert "is not there" in refusal(tiny / "model_index.json" / "below")
    tiny.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        assert "cannot be read: Permission denied" in refusal(tiny / "unet")
    finally:
        if root:
            os.seteuid(0)
        tiny.chmod(0o700)


def refusal_of_a_header(path: Path) -> str:
    with pytest.raises(ModelUnusable) as caught:
        headers.read(path)
    return caught.value.message


def test_a_name_that_is_not_utf_8_can_be_shown(made: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"mod\xe8le")
    shutil.copytree(made, odd)
    assert folder.check(odd).parts
    assert len(folder.fingerprint(folder.check(odd), tmp_path / "cache")) == 64
    (odd / "model_index.json").unlink()
    assert "mod\\xe8le" in refusal(odd).encode().decode()


def test_a_hubs_name_is_looked_up_in_its_cache_alone(made: Path, tmp_path: Path) -> None:
    message = refusal("stabilityai/sd-turbo")
    assert "hf download stabilityai/sd-turbo" in message
    below = tmp_path / "hub" / "models--stabilityai--sd-turbo"
    revision = "0123456789abcdef" * 2 + "01234567"
    shutil.copytree(made, below / "snapshots" / revision)
    (below / "refs").mkdir()
    (below / "refs" / "main").write_text(revision)
    assert folder.check("stabilityai/sd-turbo").path == below / "snapshots" / revision
    (below / "refs" / "main").write_text("../../../tiny")
    assert "hf download" in refusal("stabilityai/sd-turbo")


def test_where_the_hubs_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    from limner.models.found import hub_cache

    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache() == Path(constants.default_home).expanduser() / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert hub_cache() == Path("/c/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/h")
    assert hub_cache() == Path("/h/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/x")
    assert hub_cache() == Path("/x")


# A single file

LATENT = {"input_blocks.0.0.weight": (320, 4, 3, 3), "time_embed.0.weight": (1280, 320)}
LOW, HIGH = (f"input_blocks.{n}.1.transformer_blocks.0.attn2.to_k.weight" for n in (1, 4))
FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}

ORIGINALS: dict[str, tuple[str, str, Shapes]] = {
    "sd1": (
        "Stable Diffusion 1", "v1",
        LATENT | {LOW: (320, 768), "output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1)},
    ),
    "sd2": (
        "Stable Diffusion 2", "v2",
        LATENT | {LOW: (320, 1024), "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)},
    ),
    "sdxl": ("Stable Diffusion XL", "xl_base", LATENT | {HIGH: (640, 2048), "label_emb.0.0.weight": (1280, 2816)}),
    "sd3": (
        "Stable Diffusion 3", "sd35_large",
        {"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9,), "joint_blocks.37.x_block.mlp.fc1.weight": (9,)},
    ),
    "flux": ("FLUX.1", "flux-schnell", FLUX),
    "flux-dev": ("FLUX.1", "flux-dev", FLUX | {"guidance_in.in_layer.bias": (3072,)}),
    "flux2": ("FLUX.2", "flux-2-dev", {"single_stream_modulation.lin.weight": (9, 9)}),
    "chroma": ("Chroma", "chroma", FLUX | {"distilled_guidance_layer.in_proj.bias": (9,)}),
    "z-image": (
        "Z-Image", "z-image-turbo",
        {"layers.0.adaLN_modulation.0.weight": (9, 9), "noise_refiner.0.attention_norm1.weight": (9,)},
    ),
}  # fmt: skip
"""Tensors that tell families in their first publication's spelling: our name, diffusers' name, shapes."""


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", ORIGINALS)
def test_a_denoiser_in_its_first_spelling_is_told_as_diffusers_tells_it(tmp_path: Path, name: str, prefix: str) -> None:
    about, theirs, shapes = ORIGINALS[name]
    shapes = {prefix + tensor: shape for tensor, shape in shapes.items()}
    if name == "sdxl":
        shapes["conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"] = (1280,)
    if prefix or name not in ("sd1", "sd2"):  # diffusers knows these two by their prefix alone
        assert infer_diffusers_model_type({k: np.empty(v, np.bool_) for k, v in shapes.items()}) == theirs
    found = folder.inspect(sparse(tmp_path / "a.safetensors", shapes))
    assert found.about == about
    assert found.family == family_of(next(sign for sign in SIGNS if sign.about == about).pipelines[0])


PUBLISHED: dict[str, tuple[type, dict[str, Any]]] = {
    "Stable Diffusion 1": (diffusers.UNet2DConditionModel, {"cross_attention_dim": 768}),
    "Stable Diffusion 2": (diffusers.UNet2DConditionModel, {"cross_attention_dim": 1024}),
    "Stable Diffusion XL": (
        diffusers.UNet2DConditionModel,
        {
            "cross_attention_dim": 2048, "block_out_channels": (320, 640, 1280), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
    ),
    "Stable Diffusion 3": (diffusers.SD3Transformer2DModel, {"num_layers": 2}),
    "FLUX.1": (diffusers.FluxTransformer2DModel, {"num_layers": 1, "num_single_layers": 1}),
    "FLUX.2": (diffusers.Flux2Transformer2DModel, {"num_layers": 1, "num_single_layers": 1}),
    "Qwen-Image": (diffusers.QwenImageTransformer2DModel, {"num_layers": 1}),
    "Z-Image": (diffusers.ZImageTransformer2DModel, {"n_layers": 1}),
    "an autoencoder (VAE)": (diffusers.AutoencoderKL, {}),
    "a Tiny AutoEncoder": (diffusers.AutoencoderTiny, {}),
}  # fmt: skip
"""Networks of the published widths, few layers deep."""


@pytest.mark.parametrize("about", PUBLISHED)
def test_a_network_in_the_spelling_of_diffusers_is_told(tmp_path: Path, about: str) -> None:
    kind, config = PUBLISHED[about]
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in kind(**config).state_dict().items()}
    path = sparse(tmp_path / "a.safetensors", shapes)
    if about.startswith("a"):
        assert about in refusal(path)
    else:
        assert folder.inspect(path).about == about


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"a.lora_A.weight": (4, 8), "a.lora_B.weight": (8, 4)}, "a LoRA: list it under `loras`"),
        ({"lora_unet_a.lora_down.weight": (4, 8)}, "a LoRA"),
        ({"image_proj.proj.weight": (4, 8), "ip_adapter.1.to_k_ip.weight": (4, 8)}, "an IP-Adapter"),
        ({"controlnet_cond_embedding.conv_in.weight": (4, 8)}, "a ControlNet"),
        ({"text_model.embeddings.token_embedding.weight": (4, 8)}, "a text encoder (CLIP)"),
        (LATENT | {"input_blocks.0.0.weight": (320, 9, 3, 3)}, "for inpainting"),
        (LATENT | {HIGH: (640, 1280)}, "refiner"),
        (FLUX | {"img_in.weight": (3072, 384)}, "Fill"),
        ({"mystery": (4, 8)}, "no network that Limner knows"),
        ({}, "no network that Limner knows"),
    ],
)
def test_what_is_no_denoiser_is_told(tmp_path: Path, shapes: Shapes, sentence: str) -> None:
    assert sentence in refusal(sparse(tmp_path / "a.safetensors", shapes))


def test_a_denoiser_alone_needs_a_base_of_its_family(tiny: Path, made: Path) -> None:
    file = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    alone = file.rename(tiny.parent / "mine.safetensors")
    assert "as its base (--base" in refusal(alone)
    assert folder.inspect(alone).family.name == "stable-diffusion"
    with pytest.raises(ModelUnusable, match="base"):
        folder.places(folder.inspect(alone))
    found = folder.check(alone, tiny)  # its weights are where the base has none
    assert folder.places(found) == (tiny, alone)
    assert (found.bytes, found.pipeline) == (folder.check(made).bytes, "StableDiffusionPipeline")
    unet = next(part for part in found.parts if part.name == "unet")
    assert unet.files == (tiny / "unet" / "config.json", alone)
    assert "is no folder" in refusal(alone, alone)
    assert "Leave the base out" in refusal(made, tiny)
    edit(tiny / "model_index.json", lambda index: index.update(_class_name="FluxPipeline"))
    assert "Name a base of the same family" in refusal(alone, tiny)
    shutil.rmtree(tiny / "vae")
    assert "lacks the folder of its vae" in refusal(alone, tiny)


def test_a_checkpoint_of_several_parts_is_weighed_part_by_part(tmp_path: Path, made: Path) -> None:
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in ORIGINALS["sd1"][2].items()}
    shapes |= {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}
    shapes |= {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (100, 768)}
    found = folder.check(sparse(tmp_path / "sd.safetensors", shapes), made)
    sizes = {part.name: (part.parameters, part.precision) for part in found.parts if part.bytes}
    assert sizes["vae"] == (512 * 4 * 9, "f16")
    assert sizes["text_encoder"] == (100 * 768, "f16")


def test_what_an_entry_adds_to_its_weights_is_checked_with_them(tiny: Path, tmp_path: Path) -> None:
    lora = sparse(tmp_path / "lora.safetensors", {"a.lora_A.weight": (4, 8)})
    adapter = sparse(tmp_path / "ip.safetensors", {"image_proj.proj.weight": (4, 8)})
    entry = Model(
        "x", str(tiny), adapter=str(adapter), loras=(Lora(str(lora)),), styles=(Style("s", lora=Lora(str(lora))),)
    )
    assert folder.inspect_model(entry).problems == ()
    assert folder.inspect_model(replace(entry, adapter=str(tmp_path))).problems == ()
    for wrong, sentence in (
        ({"loras": (Lora(str(adapter)),)}, "ip.safetensors should be a LoRA, but is an IP-Adapter. Name another"),
        ({"styles": (Style("s", lora=Lora("/gone")),)}, "/gone cannot be read: No such file"),
        ({"adapter": str(lora)}, "should be an IP-Adapter, but is a LoRA."),
        ({"adapter": str(next((tiny / "unet").glob("*.safetensors")))}, "should be an IP-Adapter, but is none."),
    ):
        (problem,) = folder.inspect_model(replace(entry, **wrong)).problems
        assert sentence in problem
    edit(tiny / "model_index.json", lambda index: index.update(_class_name="SomeOtherPipeline"))
    (problem,) = folder.inspect_model(entry).problems
    assert "names an adapter, which any-diffusers has no use for" in problem


def test_gguf_is_told_by_its_tensors_and_its_kinds(tmp_path: Path) -> None:
    path = tmp_path / "flux.gguf"
    write_gguf(path, "flux", {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (64, 64)})
    found = folder.inspect(path)
    assert (found.layout, found.about, found.parts[0].precision) == ("gguf", "FLUX.1", "q8_0")
    assert found.parameters == 128 + 64 * 64
    write_gguf(path, "llama", {"token_embd.weight": (64, 64)})
    assert "a language model" in refusal(path)
    write_gguf(path, "mystery", {"mystery": (64, 64)})
    assert "'mystery'" in refusal(path)


def write_gguf(path: Path, architecture: str, shapes: Shapes) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("some.list", ["a", "b"])
    writer.add_array("some.numbers", [1, 2, 3])
    for name, shape in shapes.items():
        data = np.ones(shape, np.float32)
        if len(shape) > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_kinds_of_gguf_are_those_of_its_own_library() -> None:
    theirs = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert theirs == headers.GGML


@pytest.mark.parametrize("end", [3, 8, 20, 40, 120, 250, -1])
def test_a_gguf_that_ends_early_is_refused(tmp_path: Path, end: int) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, "flux", {"img_in.weight": (64, 64), "b": (32,)})
    path.write_bytes(path.read_bytes()[:end])
    assert "no intact" in refusal_of_a_header(path)


def test_a_gguf_whose_header_goes_on_and_on_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "HEADER_MAX", 1000)
    with (tmp_path / "a.gguf").open("wb") as file:
        names = b"".join(struct.pack("<Q2sIB", 2, b"%02x" % number, 0, 1) for number in range(100))
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 100) + names)
    assert "header is longer than" in refusal_of_a_header(tmp_path / "a.gguf")


def test_a_gguf_of_another_version_is_refused(tmp_path: Path) -> None:
    for form in ("<I", ">I"):
        (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack(form, 1 if form == "<I" else 3) + bytes(16))
        assert "versions 2 and 3" in refusal_of_a_header(tmp_path / "a.gguf")


# Headers from strangers


def raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b"", b"", "has only 8 bytes"),
        (b"[]  ", b"", "not a JSON object"),
        (b"nope", b"", "not JSON"),
        (b"[" * 100_000, b"", "nested too deep"),
        (b'{"a": 1, "a": 2}', b"", "stands in it twice"),
        (b'{"__metadata__": {"a": 1}}', b"", "__metadata__"),
        (json.dumps({"a": ENTRY}).encode(), bytes(7), "ends early, 1 bytes"),
        (json.dumps({"a": ENTRY}).encode(), bytes(9), "1 bytes behind its last tensor"),
        (json.dumps({"a": ENTRY, "b": ENTRY}).encode(), bytes(8), "overlap or leave a gap"),
        (json.dumps({"a": ENTRY | {"data_offsets": [8, 16]}}).encode(), bytes(16), "overlap or leave a gap"),
        *(
            (json.dumps({"a": ENTRY | wrong}).encode(), bytes(8), "'a' is described wrongly")
            for wrong in (
                {"dtype": "F33"}, {"dtype": None}, {"shape": [3]}, {"shape": [2.0]}, {"shape": "2"},
                {"shape": [True, 2]},
                {"shape": [-2]}, {"shape": [2**62, 4]}, {"shape": [2**40] * 8 + [0]}, {"shape": [1] * 17 + [2]},
                {"data_offsets": [0]}, {"data_offsets": [8, 0]}, {"data_offsets": [0, 10**400]}, {"more": 1},
                {"dtype": "F4", "shape": [3]},
            )
        ),
        (b'{"a": 3}', b"", "'a' is described wrongly"),
    ],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, header: bytes, data: bytes, reason: str) -> None:
    assert reason in refusal_of_a_header(raw(tmp_path / "a.safetensors", header, data))


def test_a_header_that_claims_an_absurd_length_is_not_read(tmp_path: Path) -> None:
    assert "would be" in refusal_of_a_header(raw(tmp_path / "a", b"{}", length=headers.HEADER_MAX + 1))
    assert "does not fit" in refusal_of_a_header(raw(tmp_path / "a", b"{}", length=1000))


def test_more_tensors_than_any_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "TENSORS_MAX", 2)
    assert headers.read(sparse(tmp_path / "a", {"a": (2,), "b": (2,)})).parameters == 4
    assert "lists 3 tensors" in refusal_of_a_header(sparse(tmp_path / "a", {"a": (2,), "b": (2,), "c": (2,)}))
    for tensors, values in ((3, 0), (0, 3)):
        (tmp_path / "a").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, values))
        assert f"lists {tensors} tensors and {values} settings" in refusal_of_a_header(tmp_path / "a")


def accepted(data: bytes, path: Path) -> bool:
    path.write_bytes(data)
    try:
        headers.read(path)
    except ModelUnusable as error:
        told = error.message
    else:
        return True
    assert "\n" not in told
    return False


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.safetensors"


sides = st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**63, 2**64])
entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "U8", "BOOL", "F8_E4M3", "F64", "X", "F4"]),
        "shape": st.lists(sides, max_size=3),
        "data_offsets": st.lists(st.integers(0, 40) | sides, min_size=1, max_size=3),
    }
)
tables = st.dictionaries(
    st.text(max_size=3) | st.just("__metadata__"),
    entry | st.dictionaries(st.text(max_size=2), st.text(max_size=2)),
    max_size=3,
)


@given(table=tables, size=st.integers(0, 64), padding=st.sampled_from([b"", b"   ", b"\0"]))
@settings(max_examples=300, deadline=None)
def test_no_made_up_header_passes_that_the_formats_own_library_refuses(
    scratch: Path, table: dict[str, Any], size: int, padding: bytes
) -> None:
    header = json.dumps(table).encode() + padding
    data = struct.pack("<Q", len(header)) + header + bytes(size)
    if accepted(data, scratch):
        safetensors.deserialize(data)


@given(
    shapes=st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 3), max_size=3), max_size=4),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_a_real_file_passes_and_a_damaged_one_is_refused_or_still_one(
    scratch: Path, shapes: dict[str, list[int]], cut: int, flips: list[tuple[int, int]]
) -> None:
    shapes.pop("__metadata__", None)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    data = bytearray(safetensors.numpy.save(arrays))
    assert accepted(bytes(data), scratch)
    assert {name: list(t.shape) for name, t in headers.read(scratch).tensors.items()} == shapes
    if cut:
        assert not accepted(bytes(data[:-cut]), scratch)
    for place, value in flips:
        data[place % len(data)] = value
    if accepted(bytes(data), scratch):
        safetensors.deserialize(bytes(data))


@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"GGUF\x03\0\0\0", b"\x10\0\0\0\0\0\0\0{"]))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused_in_a_sentence(scratch: Path, data: bytes, start: bytes) -> None:
    accepted(start + data, scratch)


@given(flips=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_damaged_gguf_is_refused_or_still_whole(scratch: Path, flips: list[tuple[int, int]]) -> None:
    path = scratch.with_suffix(".gguf")
    if not path.exists():
        write_gguf(path, "flux", {"img_in.weight": (64, 64), "b": (32,)})
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place] = value
    accepted(bytes(data), scratch)


# The families


def test_every_family_names_diffusers_own_pipelines_and_their_denoisers() -> None:
    for name, family in FAMILIES.items():
        kind = getattr(diffusers, name)
        assert family.denoiser in kind._get_signature_keys(kind)[0]
        assert family.steps is not None
        assert family.guidance is not None
        assert family.side % 8 == 0


@pytest.mark.parametrize("pipeline", [*FAMILIES, "SomeOtherPipeline"])
def test_every_family_is_a_class_of_our_own_by_that_name(pipeline: str) -> None:
    family = family_of(pipeline)
    assert getattr(importlib.import_module(family.module), family.kind).name == family.name


def test_every_sign_leads_to_a_pipeline_of_diffusers() -> None:
    for sign in SIGNS:
        assert bool(sign.pipelines) == (sign.role == "denoiser")
        for pipeline in sign.pipelines:
            assert hasattr(diffusers, pipeline)


# Checksums


def test_a_fingerprint_is_of_contents_and_places_not_of_where_the_model_lies(made: Path, tiny: Path) -> None:
    first = folder.fingerprint(folder.check(made))
    assert folder.fingerprint(folder.check(tiny)) == first
    (tiny / "README.md").write_text("what is not loaded does not count")
    assert folder.fingerprint(folder.check(tiny)) == first
    edit(tiny / "scheduler" / "scheduler_config.json", lambda config: config.update(beta_end=0.5))
    assert folder.fingerprint(folder.check(tiny)) != first


def test_a_second_start_reads_no_weights_again(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, cache = folder.check(tiny), tmp_path / "deep" / "cache"
    for path in found.files:
        os.utime(path, (1e9, 1e9))
    first = folder.fingerprint(found, cache)
    with monkeypatch.context() as patched:
        patched.setattr("limner.models.folder.hashlib.file_digest", None)  # reading any would fail
        assert folder.fingerprint(folder.check(tiny), cache) == first
    weights = tiny / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert folder.fingerprint(folder.check(tiny), cache) != first


def test_a_file_that_changed_just_now_is_not_remembered(tiny: Path, tmp_path: Path) -> None:
    found = folder.check(tiny)
    for path in found.files:
        os.utime(path, (1e9, 1e9))
    os.utime(tiny / "model_index.json")
    folder.fingerprint(found, tmp_path)
    remembered = json.loads((tmp_path / "checksums.json").read_text())
    assert len(remembered) == len(found.files) - 1
    assert str(tiny / "model_index.json") not in remembered


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3, "x"]}', "\xff", "[" * 100_000, '{"a": [[], {}, null, ""]}']
)
def test_a_damaged_memory_of_checksums_does_no_harm(tiny: Path, tmp_path: Path, text: str) -> None:
    found = folder.check(tiny)
    for path in found.files:
        os.utime(path, (1e9, 1e9))
    expected = folder.fingerprint(found)
    (tmp_path / "checksums.json").write_bytes(text.encode("latin-1"))
    assert folder.fingerprint(found, tmp_path) == expected
    assert len(json.loads((tmp_path / "checksums.json").read_text())) == len(found.files)
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_a_memory_that_cannot_be_written_does_no_harm(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = folder.check(tiny)
    assert folder.fingerprint(found, tmp_path / "file" / "cache") == folder.fingerprint(found)


def test_a_file_that_went_away_is_a_sentence(tiny: Path) -> None:
    found = folder.check(tiny)
    (tiny / "model_index.json").unlink()
    with pytest.raises(ModelUnusable, match="cannot be read"):
        folder.fingerprint(found)
