"""References by IP-Adapter are painted as diffusers paints them, with several of them, in any batch, and with none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from limner.engine.core import Request, SamplerName, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines import faces, families
from limner.pipelines.latents import on_white
from limner.pipelines.parts import Conversion, Parts
from limner.pipelines.stable_diffusion import StableDiffusion
from limner.pipelines.stable_diffusion_xl import StableDiffusionXL
from parity import (
    Case,
    Folders,
    asked,
    emphatic,
    painted,
    psnr,
    seeded,
    stable_diffusion_folder,
    stable_diffusion_xl_folder,
    together,
)

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

STRENGTH = 0.7
WIDTH, EMBEDDED, PATCHES = 24, 20, 5
"""Of the image encoder: numbers in a patch's features and in the picture's, and patches with the whole."""


def pictures(count: int) -> tuple[UInt8, ...]:
    """References of different shapes, partly transparent."""
    draws = np.random.default_rng(3)
    return tuple(draws.integers(0, 256, (40 + 9 * i, 52, 4), np.uint8) for i in range(count))


def save_adapter(folder: Path, kind: str) -> None:
    """An adapter of this kind for the model in `folder`, as published, in `folder`/adapters/`kind`."""
    unet: Any = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    text = unet.config.cross_attention_dim
    shapes = dict(PROJECTIONS[kind](text))
    for index, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        size = attention.to_q.weight.shape[0]
        if attention.is_cross_attention:
            shapes |= {f"ip_adapter.{index}.to_{side}_ip.weight": (size, text) for side in "kv"}
        if kind == "face":
            source = attention.to_k.weight.shape[1]
            for side, given in (("q", size), ("k", source), ("v", source), ("out", size)):
                shapes |= {
                    f"ip_adapter.{index}.to_{side}_lora.down.weight": (3, given),
                    f"ip_adapter.{index}.to_{side}_lora.up.weight": (size, 3),
                }
    tensors = seeded(
        lambda: {
            name: torch.randn(shape) * (0.2 if "lora" in name else 0.5 if len(shape) > 1 else 0.1)
            + (".norm" in name and len(shape) == 1)
            for name, shape in shapes.items()
        },
        seed=4,
    )
    path = folder / "adapters" / kind
    path.mkdir(parents=True)
    save_file(tensors, path / "adapter.safetensors")
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=32,
        patch_size=16, projection_dim=EMBEDDED,
    )  # fmt: skip
    if kind != "face":
        encoder = emphatic(seeded(lambda: transformers.CLIPVisionModelWithProjection(config)), 12)
        encoder.save_pretrained(path / "image_encoder")


Shapes = dict[str, tuple[int, ...]]


def _pair(name: str, out: int, given: int) -> Shapes:
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _base(text: int) -> Shapes:
    return _pair("image_proj.proj", 4 * text, EMBEDDED) | _norm("image_proj.norm", text)


def _full(text: int) -> Shapes:
    mlp = _pair("image_proj.proj.0", WIDTH, WIDTH) | _pair("image_proj.proj.2", text, WIDTH)
    return mlp | _norm("image_proj.proj.3", text)


def _face(text: int) -> Shapes:
    mlp = _pair("image_proj.proj.0", 1024, 512) | _pair("image_proj.proj.2", 4 * text, 1024)
    return mlp | _norm("image_proj.norm", text)


def _plus(text: int) -> Shapes:
    inner, heads = 12, 2 * 64
    shapes: Shapes = {"image_proj.latents": (1, 6, inner)}
    shapes |= _pair("image_proj.proj_in", inner, WIDTH) | _pair("image_proj.proj_out", text, inner)
    shapes |= _norm("image_proj.norm_out", text)
    for layer in range(4):
        name = f"image_proj.layers.{layer}"
        shapes |= _norm(f"{name}.0.norm1", inner) | _norm(f"{name}.0.norm2", inner) | _norm(f"{name}.1.0", inner)
        shapes |= {
            f"{name}.0.to_q.weight": (heads, inner), f"{name}.0.to_kv.weight": (2 * heads, inner),
            f"{name}.0.to_out.weight": (inner, heads), f"{name}.1.1.weight": (4 * inner, inner),
            f"{name}.1.3.weight": (inner, 4 * inner),
        }  # fmt: skip
    return shapes


PROJECTIONS: dict[str, Callable[[int], Shapes]] = {"base": _base, "plus": _plus, "full": _full, "face": _face}


def with_adapters(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder)
    for kind in PROJECTIONS:
        save_adapter(folder, kind)


SD = partial(with_adapters, make=stable_diffusion_folder)
XL = partial(with_adapters, make=stable_diffusion_xl_folder)


def made(kind: Any, folder: Path, adapter: str, device: str = "cpu", **fields: Any) -> Any:
    """One of our families with an adapter."""
    path = str(folder / "adapters" / adapter)
    model = Model("tiny", str(folder), adapter=path, reference_strength=STRENGTH, **fields)
    return kind(Parts(folder, device=device), model)


def measured(
    folder: Path, device: str, adapter: str, count: int, pipeline: Any, family: Any, sampler: SamplerName = "ddim",
    guidance: float = 4.0,
) -> float:  # fmt: skip
    """PSNR of a picture of ours after so many references against diffusers', dB."""
    pipe = pipeline.from_pretrained(folder).to(device)
    pipe.load_ip_adapter(folder / "adapters" / adapter, subfolder="", weight_name="adapter.safetensors")
    pipe.set_ip_adapter_scale(STRENGTH)
    expected = painted(
        pipe, sampler, prompt="a red fox", num_inference_steps=3, guidance_scale=guidance, width=64, height=64,
        ip_adapter_image=[[Image.fromarray(on_white(picture)) for picture in pictures(count)]],
    )  # fmt: skip
    request = asked("a red fox", references=pictures(count), sampler=sampler, steps=3, guidance=guidance)
    return psnr(paint(made(family, folder, adapter, device), request).pixels, expected)


PAIRS: list[tuple[str, Any, Any, Any]] = [
    ("Stable Diffusion", SD, diffusers.StableDiffusionPipeline, StableDiffusion),
    ("SDXL", XL, diffusers.StableDiffusionXLPipeline, StableDiffusionXL),
]
CASES: list[Case] = [
    Case(
        f"{name}, IP-Adapter {adapter}, references: {count}", "ddim", make,
        partial(measured, adapter=adapter, count=count, pipeline=pipeline, family=family),
    )
    for name, make, pipeline, family in PAIRS
    for adapter, count in [("base", 1), ("plus", 2), ("full", 1)]
]  # fmt: skip
CASES.append(
    Case(
        "Stable Diffusion, IP-Adapter plus, unguided", "euler", SD,
        partial(measured, adapter="plus", count=1, pipeline=diffusers.StableDiffusionPipeline, family=StableDiffusion,
                sampler="euler", guidance=1.0),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(folders: Folders) -> Path:
    return folders(SD)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_after_references_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 60


def unlike(one: UInt8, other: UInt8) -> bool:
    return psnr(one, other) < 40


@pytest.mark.parametrize("adapter", PROJECTIONS)
def test_without_references_it_paints_exactly_as_without_the_adapter(
    adapter: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch)
    family = made(StableDiffusion, folder, adapter)
    request = asked("a red fox", steps=3, guidance=4.0)
    bare = paint(StableDiffusion(Parts(folder), Model("tiny", str(folder))), request).pixels
    assert (paint(family, request).pixels == bare).all()
    assert unlike(paint(family, replace(request, references=pictures(1))).pixels, bare)


def test_every_reference_and_the_strength_have_an_effect(folder: Path) -> None:
    family = made(StableDiffusion, folder, "plus")
    request = asked("a red fox", steps=3, guidance=4.0)
    one, two = (paint(family, replace(request, references=pictures(count))).pixels for count in (1, 2))
    assert unlike(one, two)
    path = str(folder / "adapters" / "plus")
    weak = StableDiffusion(Parts(folder), Model("tiny", str(folder), adapter=path, reference_strength=0.1))
    assert unlike(paint(weak, replace(request, references=pictures(1))).pixels, one)
    assert len({family.fingerprint, weak.fingerprint, made(StableDiffusion, folder, "base").fingerprint}) == 3


@pytest.mark.parametrize(("precision", "least"), [("f32", 50), ("bf16", 20)])
def test_converted_for_the_cpu_it_paints_the_same(
    precision: Literal["f32", "bf16"], least: float, folders: Folders, tmp_path: Path
) -> None:
    folder, request = folders(XL), asked("a red fox", steps=3, guidance=4.0)
    model = Model("tiny", str(folder), adapter=str(folder / "adapters" / "base"))
    conversion = Conversion(tmp_path, precision, threads=1)
    converted = StableDiffusionXL(Parts(folder, precision=precision, conversion=conversion), model)
    plain = StableDiffusionXL(Parts(folder), model)
    for count in (0, 1, 2):
        request = replace(request, references=pictures(count))
        assert psnr(paint(converted, request).pixels, paint(plain, request).pixels) > least


@pytest.mark.parametrize("adapter", PROJECTIONS)
def test_a_request_without_references_can_share_a_batch_with_one_that_has_one(
    adapter: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch)
    family = made(StableDiffusion, folder, adapter)
    assert family.encode(asked()).key == family.encode(asked(references=pictures(1))).key


def mixed() -> list[Request]:
    requests = [
        asked("a red fox", steps=3, guidance=4.0, sampler="euler", references=pictures(1)),
        asked("a dog", steps=4, guidance=1.0, sampler="heun"),
        asked("a cat", steps=3, guidance=2.0, sampler="ddim", references=pictures(2)[1:]),
        asked("a hen", steps=2, guidance=2.0, sampler="lcm", references=pictures(2)),
    ]
    return [replace(request, id=str(number)) for number, request in enumerate(requests)]


@pytest.mark.parametrize("adapter", ["base", "plus"])
def test_neighbours_with_and_without_references_change_no_picture(adapter: str, folder: Path) -> None:
    family = made(StableDiffusion, folder, adapter, batch=4)
    painted_together, calls = together(family, mixed())
    assert calls < sum(together(family, [request])[1] for request in mixed())
    assert min(psnr(painted_together[request.id], paint(family, request).pixels) for request in mixed()) > 50


def test_batches_of_one_are_exact_in_any_company(folder: Path) -> None:
    family = made(StableDiffusion, folder, "base")
    painted_together, _ = together(family, mixed())
    assert all((painted_together[request.id] == paint(family, request).pixels).all() for request in mixed())


# Faces


def seen(monkeypatch: pytest.MonkeyPatch, *identities: Any) -> None:
    """Stand in for insightface, which is not installed, with a reader that finds these, smaller faces first."""
    found = identities or (np.linspace(-1, 1, 512, dtype=np.float32),)
    people = [SimpleNamespace(bbox=(0, 0, 9 + i, 9), normed_embedding=identity) for i, identity in enumerate(found)]

    class FaceAnalysis:
        def __init__(self, **settings: Any) -> None:
            assert settings["name"] == "buffalo_l"

        def prepare(self, **settings: Any) -> None: ...

        def get(self, picture: UInt8) -> list[Any]:
            assert picture.shape[2] == 3
            return people if picture.any() else []

    faces.reader.cache_clear()
    monkeypatch.setitem(sys.modules, "insightface", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "insightface.app", SimpleNamespace(FaceAnalysis=FaceAnalysis))
    monkeypatch.setattr(faces, "NETWORKS", Path(__file__).parent)


@pytest.mark.parametrize("count", [1, 2])
def test_a_face_is_painted_as_diffusers_paints_it(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the LoRAs that come with the adapter, in force for the prompt and for what guidance leads away from."""
    identities = seeded(lambda: torch.randn(2, 512).div(512**0.5)).numpy()
    seen(monkeypatch, *identities)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.load_ip_adapter(
        folder / "adapters" / "face", subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None
    )
    pipe.set_ip_adapter_scale(STRENGTH)
    shown = torch.from_numpy(np.stack([identities[1]] * count))[None]
    expected = painted(
        pipe, "ddim", prompt="a red fox", num_inference_steps=3, guidance_scale=4.0, width=64, height=64,
        ip_adapter_image_embeds=[torch.cat([torch.zeros_like(shown), shown])],
    )  # fmt: skip
    request = asked("a red fox", references=pictures(count), sampler="ddim", steps=3, guidance=4.0)
    assert psnr(paint(made(StableDiffusion, folder, "face"), request).pixels, expected) > 60


def test_a_reference_without_a_face_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch)
    black = np.zeros((16, 16, 4), np.uint8)
    black[..., 3] = 255
    with pytest.raises(InvalidRequest, match="There is no face"):
        made(StableDiffusion, folder, "face").encode(asked(references=(black,)))


def test_without_insightface_the_sentence_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces.reader.cache_clear()
    monkeypatch.setitem(sys.modules, "insightface.app", None)  # importing it raises ImportError
    with pytest.raises(ModelUnusable, match="Install the package insightface"):
        made(StableDiffusion, folder, "face")


def test_insightface_is_never_let_download_its_networks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch)
    monkeypatch.setattr(faces, "NETWORKS", folder / "nowhere")
    with pytest.raises(ModelUnusable, match="nowhere; it is missing"):
        made(StableDiffusion, folder, "face")


# Weights that cannot be used


def spoilt(folder: Path, to: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of the plus adapter with its tensors changed, in an own folder without an image encoder."""
    tensors = load_file(folder / "adapters" / "plus" / "adapter.safetensors")
    change(tensors)
    path = to / "changed.safetensors"
    save_file(tensors, path)
    return path


def with_adapter(folder: Path, adapter: Path) -> StableDiffusion:
    return StableDiffusion(Parts(folder), Model("tiny", str(folder), adapter=str(adapter)))


def test_a_file_and_the_folder_that_holds_it_are_the_same_adapter(folder: Path) -> None:
    path = folder / "adapters" / "base"
    file = with_adapter(folder, path / "adapter.safetensors")
    assert file.fingerprint == with_adapter(folder, path).fingerprint


def test_an_adapter_without_its_image_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="Put the folder image_encoder"):
        with_adapter(folder, spoilt(folder, tmp_path, lambda tensors: None))


def test_an_adapter_of_another_model_is_refused(folders: Folders) -> None:
    with pytest.raises(ModelUnusable, match="another kind of network"):
        with_adapter(folders(SD), folders(XL) / "adapters" / "base")


def test_an_adapter_of_another_image_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["image_proj.proj_in.weight"] = torch.zeros(12, 99)

    (tmp_path / "image_encoder").symlink_to(folder / "adapters" / "plus" / "image_encoder")
    with pytest.raises(ModelUnusable, match="takes features of 99 numbers"):
        with_adapter(folder, spoilt(folder, tmp_path, widen))


def test_weights_that_are_no_adapter_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="no IP-Adapter of a kind"):
        with_adapter(folder, spoilt(folder, tmp_path, lambda tensors: tensors.pop("image_proj.latents")))


def test_a_truncated_file_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes((folder / "adapters" / "base" / "adapter.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelUnusable, match="damaged or not of safetensors"):
        with_adapter(folder, path)


@pytest.mark.parametrize("name", ["ip-adapter.bin", "missing.safetensors"])
def test_pickles_and_missing_files_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "ip-adapter.bin").write_bytes(b"")
    with pytest.raises(ModelUnusable, match=r"is no file \.safetensors"):
        with_adapter(folder, tmp_path / name)


def test_a_folder_with_several_adapters_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnusable, match=r"holds 2 files \.safetensors"):
        with_adapter(folder, tmp_path)


def test_an_adapter_in_the_models_own_folder_is_used(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "model"
    shutil.copytree(folder, own)
    shutil.copytree(folder / "adapters" / "plus", own / "ip_adapter")
    request = asked("a red fox", steps=3, guidance=4.0, references=pictures(1))
    loaded = families.load(Model("tiny", str(own), runtime="torch", precision="f32"), tmp_path / "cache")
    named = Model("tiny", str(folder), adapter=str(folder / "adapters" / "plus"))
    assert np.array_equal(paint(loaded, request).pixels, paint(StableDiffusion(Parts(folder), named), request).pixels)
