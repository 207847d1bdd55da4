"""LoRAs change a network as diffusers' do, in every form of file, several at once, and leave no trace."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import peft
import pytest
import torch
import transformers
from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.errors import EngineFailed, InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model, Style
from limner.pipelines.lora import Loras
from limner.pipelines.parts import Conversion, Parts
from limner.pipelines.stable_diffusion import StableDiffusion
from limner.pipelines.stable_diffusion_xl import StableDiffusionXL
from parity import (
    asked,
    clip_text_config,
    clip_tokenizer,
    painted,
    psnr,
    seeded,
    stable_diffusion_folder,
    stable_diffusion_xl_folder,
    together,
)

pytestmark = [
    # diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # peft's loader, the one beside which ours is held, warns of a second LoRA.
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning"),
    # OpenVINO's conversion traces in the way that torch wants to give up.
    pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning"),
]

SD, XL, FLUX = diffusers.StableDiffusionPipeline, diffusers.StableDiffusionXLPipeline, diffusers.FluxPipeline


def unet(**fields: Any) -> Any:
    return seeded(
        lambda: diffusers.UNet2DConditionModel(
            block_out_channels=(32, 64), sample_size=16, in_channels=4, out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4), norm_num_groups=8,
            **{"use_linear_projection": True, "layers_per_block": 1, "cross_attention_dim": 32} | fields,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sd")
    pipe = SD(
        unet=unet(), vae=None, text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config())).eval(),
        tokenizer=clip_tokenizer(path / "letters"), scheduler=diffusers.EulerDiscreteScheduler(steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xl")
    config = clip_text_config(projection_dim=32)
    pipe = XL(
        unet=unet(
            layers_per_block=2, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80, cross_attention_dim=64, transformer_layers_per_block=(1, 2),
        ),
        vae=None,
        text_encoder=seeded(lambda: transformers.CLIPTextModel(config)).eval(),
        text_encoder_2=seeded(lambda: transformers.CLIPTextModelWithProjection(config), 1).eval(),
        tokenizer=clip_tokenizer(path / "letters"), tokenizer_2=clip_tokenizer(path / "letters"),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flux")
    pipe = FLUX(
        transformer=seeded(
            lambda: diffusers.FluxTransformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            )
        ),
        vae=None, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def inputs(kind: Any) -> dict[str, Tensor]:
    """What the denoiser of each family is called with."""
    x = drawn(1, 4, 16, 16, seed=1) * 3
    if kind is FLUX:
        return {
            "hidden_states": drawn(1, 16, 16, seed=1) * 3, "encoder_hidden_states": drawn(1, 5, 32, seed=2),
            "pooled_projections": drawn(1, 32, seed=3), "timestep": torch.tensor([0.5]),
            "img_ids": torch.arange(48).reshape(16, 3).float() % 4, "txt_ids": torch.zeros(5, 3),
        }  # fmt: skip
    width = 64 if kind is XL else 32
    more = {"text_embeds": drawn(1, 32, seed=3), "time_ids": torch.ones(1, 6)} if kind is XL else None
    return {
        "sample": x, "timestep": torch.tensor([500]), "encoder_hidden_states": drawn(1, 7, width, seed=2),
    } | ({"added_cond_kwargs": more} if more else {})  # type: ignore[dict-item]  # a table beside tensors  # fmt: skip


def outputs(modules: Any, kind: Any) -> dict[str, Tensor]:
    """What each network gives; `modules` maps a part to its network."""
    results = {}
    with torch.inference_mode():
        denoiser = "transformer" if kind is FLUX else "unet"
        results[denoiser] = modules(denoiser)(**inputs(kind), return_dict=False)[0]
        for part in {SD: ("text_encoder",), XL: ("text_encoder", "text_encoder_2")}.get(kind, ()):
            encoded = modules(part)(torch.arange(2, 79)[None], output_hidden_states=True)
            results[part] = encoded.hidden_states[-1] + 0 * encoded[0].sum()
            if part == "text_encoder_2":
                results["projected"] = encoded[0]
    return results


def theirs(kind: Any, folder: Path, files: list[Path], weights: list[float]) -> dict[str, Tensor]:
    lacking = {name: None for name, part in Parts(folder).index.items() if part == [None, None]}
    pipe = kind.from_pretrained(folder, **lacking)
    for file in files:
        pipe.load_lora_weights(file, adapter_name=file.stem)
    pipe.set_adapters([file.stem for file in files], weights)
    return outputs(lambda part: getattr(pipe, part).eval(), kind)


def ours(folder: Path, kind: Any, chosen: tuple[tuple[str, float], ...], files: list[Path]) -> dict[str, Tensor]:
    parts = Parts(folder)
    loras = Loras(parts, Model("tiny", str(folder), loras=tuple(Lora(str(file)) for file in files)))
    with loras.applied(chosen):
        return outputs(parts.module, kind)


def nearness(one: Tensor, other: Tensor) -> float:
    """Peak signal to noise, dB, of two outputs; the peak is the other's greatest magnitude."""
    error = float(((one - other) ** 2).mean())
    return 10 * math.log10(float(other.abs().max()) ** 2 / error) if error else math.inf


def hold(kind: Any, folder: Path, files: list[Path], weights: list[float], changed: set[str]) -> None:
    """Ours and diffusers' outputs are the same, and `changed` are the parts whose outputs the LoRAs change."""
    chosen = tuple((file.stem, weight) for file, weight in zip(files, weights, strict=True))
    with_them, bare = ours(folder, kind, chosen, files), ours(folder, kind, (), files)
    expected = theirs(kind, folder, files, weights)
    for part, output in with_them.items():
        assert nearness(output, expected[part]) > 80, part
        assert (nearness(output, bare[part]) < 40) == (part in changed), part


def peft_file(kind: Any, folder: Path, path: Path, targets: dict[str, list[str]], seed: int, **config: Any) -> Path:
    """A LoRA trained with peft on these layers of each part, saved by diffusers."""
    saved: dict[str, Any] = {}
    for part, names in targets.items():
        network = Parts(folder).module(part)
        settings = peft.LoraConfig(r=4, target_modules=names, **config)
        peft.inject_adapter_in_model(settings, network)
        state = peft.get_peft_model_state_dict(network)
        state = {key: drawn(*value.shape, seed=seed + k) for k, (key, value) in enumerate(state.items())}
        if part.startswith("text_encoder"):
            state = convert_state_dict_to_diffusers(state)
        saved[f"{part}_lora_layers"] = state
        if config:
            saved[f"{part}_lora_adapter_metadata"] = settings.to_dict() | {"target_modules": names}
    kind.save_lora_weights(path.parent, weight_name=path.name, **saved)
    return path


def kohya_file(path: Path, layers: dict[str, nn.Module], seed: int, rank: int = 4, alpha: float = 2.0) -> Path:
    """A LoRA as kohya's scripts write it: names joined by underscores, each with its alpha."""
    state = {}
    for k, (name, layer) in enumerate(layers.items()):
        tail: tuple[int, ...] = (1, 1) if isinstance(layer, nn.Conv2d) else ()
        across = layer.kernel_size if isinstance(layer, nn.Conv2d) else ()
        wide, out = layer.weight.shape[1], layer.weight.shape[0]
        state |= {
            f"{name}.lora_down.weight": drawn(rank, wide, *across, seed=seed + k),
            f"{name}.lora_up.weight": drawn(out, rank, *tail, seed=seed - k - 1 + 2**20),
            f"{name}.alpha": torch.tensor(alpha),
        }
    save_file(state, path)
    return path


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT = ["q_proj", "v_proj", "out_proj"]


def test_diffusers_own_form_several_at_once_with_weights(sd: Path, tmp_path: Path) -> None:
    targets = {"unet": [*ATTENTION, "conv1", "ff.net.2", "proj_in"], "text_encoder": TEXT}
    one = peft_file(SD, sd, tmp_path / "one.safetensors", targets, 10)
    two = peft_file(SD, sd, tmp_path / "two.safetensors", {"unet": ATTENTION}, 900)
    hold(SD, sd, [one, two], [0.8, -0.5], {"unet", "text_encoder"})


def test_alphas_and_patterns_that_peft_wrote_beside_the_weights(sd: Path, tmp_path: Path) -> None:
    one = peft_file(
        SD, sd, tmp_path / "one.safetensors", {"unet": ATTENTION}, 10,
        lora_alpha=2, alpha_pattern={"attn2.to_k": 16}, use_rslora=True,
    )  # fmt: skip
    hold(SD, sd, [one], [1.0], {"unet"})


def test_kohyas_form_of_stable_diffusion(sd: Path, tmp_path: Path) -> None:
    parts = Parts(sd)
    layers = {}
    for name, layer in parts.module("unet").named_modules():
        if name.endswith((*ATTENTION, "ff.net.0.proj", "proj_out", "conv1")):
            layers["lora_unet_" + name.replace(".", "_")] = layer
    for name, layer in parts.module("text_encoder").named_modules():
        if name.endswith((*TEXT, "k_proj", "fc1")):
            layers["lora_te_text_model_" + name.removeprefix("text_model.").replace(".", "_")] = layer
    file = kohya_file(tmp_path / "k.safetensors", layers, 5)
    hold(SD, sd, [file], [0.7], {"unet", "text_encoder"})


def test_each_layers_own_alpha_counts(sd: Path, tmp_path: Path) -> None:
    """Held beside weights that the products are added to, since diffusers 0.42 loses the alphas of attention here."""
    file, parts = tmp_path / "k.safetensors", Parts(sd)
    names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in parts.module("unet").named_modules()}
    chosen = {kohya: name for kohya, name in names.items() if name.endswith((*ATTENTION, "conv1"))}
    layers = {kohya: parts.module("unet").get_submodule(name) for kohya, name in chosen.items()}
    state = load_file(kohya_file(file, layers, 5))
    for k, kohya in enumerate(layers):
        state[f"{kohya}.alpha"] = torch.tensor(8.0 if k % 3 else 1.0)
    save_file(state, file)
    for kohya, layer in layers.items():
        down, up = (state[f"{kohya}.lora_{half}.weight"].flatten(1) for half in ("down", "up"))
        layer.weight.data += (state[f"{kohya}.alpha"] / len(down) * up @ down).reshape(layer.weight.shape)
    merged = outputs(parts.module, SD)["unet"]
    assert nearness(ours(sd, SD, (("k", 1.0),), [file])["unet"], merged) > 80


def test_kohyas_and_stabilitys_names_of_sdxl(xl: Path, tmp_path: Path) -> None:
    parts = Parts(xl)
    block = parts.module("unet").get_submodule("down_blocks.1.attentions.0.transformer_blocks.1")
    layers = {
        "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q": block.attn1.to_q,
        "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0": block.attn2.to_out[0],
        "lora_unet_middle_block_1_proj_in": parts.module("unet").mid_block.attentions[0].proj_in,
        "lora_unet_output_blocks_1_0_in_layers_2": parts.module("unet").up_blocks[0].resnets[1].conv1,
    }
    for k in (1, 2):
        part = "text_encoder" + ("_2" if k == 2 else "")
        for name, layer in parts.module(part).named_modules():
            if name.endswith((*TEXT, "fc2")):
                layers[f"lora_te{k}_text_model_{name.removeprefix('text_model.').replace('.', '_')}"] = layer
    kohya = kohya_file(tmp_path / "k.safetensors", layers, 5)
    own = peft_file(XL, xl, tmp_path / "own.safetensors", {"unet": ATTENTION, "text_encoder_2": TEXT}, 77)
    hold(XL, xl, [kohya, own], [0.9, 0.4], {"unet", "text_encoder", "text_encoder_2", "projected"})


def test_diffusers_form_of_flux_with_single_and_double_blocks(flux: Path, tmp_path: Path) -> None:
    targets = {"transformer": [*ATTENTION, "proj_mlp", "proj_out", "add_q_proj", "ff_context.net.2", "norm.linear"]}
    one = peft_file(FLUX, flux, tmp_path / "one.safetensors", targets, 3)
    two = peft_file(FLUX, flux, tmp_path / "two.safetensors", {"transformer": ATTENTION}, 400)
    hold(FLUX, flux, [one, two], [0.6, 1.1], {"transformer"})


def test_kohyas_form_of_flux_with_its_joined_layers(flux: Path, tmp_path: Path) -> None:
    joined = nn.Linear(32, 96)
    layers: dict[str, nn.Module] = {
        "lora_unet_double_blocks_0_img_attn_qkv": joined,
        "lora_unet_double_blocks_0_txt_attn_qkv": joined,
        "lora_unet_double_blocks_0_img_attn_proj": nn.Linear(32, 32),
        "lora_unet_double_blocks_0_img_mlp_0": nn.Linear(32, 128),
        "lora_unet_single_blocks_1_linear2": nn.Linear(160, 32),
    }
    hold(FLUX, flux, [kohya_file(tmp_path / "k.safetensors", layers, 9)], [1.0], {"transformer"})


def test_fluxs_own_names(flux: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {}
    for k, (name, wide, out) in enumerate(
        (("qkv_lora1", 32, 96), ("qkv_lora2", 32, 96), ("proj_lora1", 32, 32), ("proj_lora2", 32, 32))
    ):
        state[f"double_blocks.0.processor.{name}.down.weight"] = drawn(4, wide, seed=k)
        state[f"double_blocks.0.processor.{name}.up.weight"] = drawn(out, 4, seed=k + 50)
    save_file(state, path)
    hold(FLUX, flux, [path], [1.0], {"transformer"})


def test_a_swap_leaves_no_trace(sd: Path, tmp_path: Path) -> None:
    one = peft_file(SD, sd, tmp_path / "one.safetensors", {"unet": ATTENTION, "text_encoder": TEXT}, 10)
    two = peft_file(SD, sd, tmp_path / "two.safetensors", {"unet": ["conv2"]}, 900)
    parts = Parts(sd)
    loras = Loras(parts, Model("tiny", str(sd), loras=(Lora(str(one)), Lora(str(two)))))

    def now(*chosen: tuple[str, float]) -> list[bytes]:
        with loras.applied(chosen):
            return [output.numpy().tobytes() for output in outputs(parts.module, SD).values()]

    def weights() -> list[bytes]:
        return [value.numpy().tobytes() for value in parts.module("unet").state_dict().values()]

    bare, first, kept = now(), now(("one", 0.5)), weights()
    assert now(("one", 0.5), ("two", 1.0)) != first != bare
    assert now(("two", 1.0)) != now(("two", 0.5))
    assert (now(), now(("one", 0.5)), weights()) == (bare, first, kept)
    with pytest.raises(ZeroDivisionError), loras.applied((("one", 0.5),)):
        _ = 1 / 0
    assert now() == bare


def test_in_half_precision_the_additions_follow_the_network(sd: Path, tmp_path: Path) -> None:
    file = peft_file(SD, sd, tmp_path / "one.safetensors", {"unet": ATTENTION}, 10)
    parts = Parts(sd, precision="bf16")
    loras = Loras(parts, Model("tiny", str(sd), loras=(Lora(str(file)),)))
    given = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs(SD).items()}
    with torch.inference_mode(), loras.applied((("one", 0.5),)):
        output = parts.module("unet")(**given, return_dict=False)[0]
    assert output.dtype is torch.bfloat16
    assert nearness(output.float(), ours(sd, SD, (("one", 0.5),), [file])["unet"]) > 35


def test_a_traced_network_carries_the_loras_of_its_tracing(sd: Path, tmp_path: Path) -> None:
    file = peft_file(SD, sd, tmp_path / "one.safetensors", {"text_encoder": ["fc1"]}, 10)
    parts = Parts(sd)
    loras = Loras(parts, Model("tiny", str(sd), loras=(Lora(str(file)),)))
    inner = next(m for name, m in parts.module("text_encoder").named_modules() if name.endswith("layers.0.mlp"))
    x = drawn(1, 7, 32, seed=1)
    with torch.inference_mode():
        with loras.applied((("one", 1.0),)):
            traced, expected = torch.jit.trace(inner, x), inner(x)
        assert nearness(traced(x), expected) > 100
        assert nearness(traced(x), inner(x)) < 40


@pytest.fixture
def two(sd: Path, tmp_path: Path) -> Callable[..., Loras]:
    """A model with two LoRAs and a style of a third."""
    for seed, name in enumerate(("grain", "soft", "ink")):
        peft_file(SD, sd, tmp_path / f"{name}.safetensors", {"unet": ["to_q"]}, seed)

    def make(**weights: float) -> Loras:
        entry = tuple(Lora(str(tmp_path / f"{name}.safetensors"), weight) for name, weight in weights.items())
        comic = Style("comic", lora=Lora(str(tmp_path / "ink.safetensors"), 0.9))
        return Loras(Parts(sd), Model("tiny", str(sd), loras=entry, styles=(comic,)))

    return make


def test_a_request_adds_to_the_entrys_loras_and_changes_their_weights(two: Callable[..., Loras]) -> None:
    loras = two(grain=0.5, soft=0.0)
    assert loras.chosen(asked()) == (("grain", 0.5),)
    assert loras.chosen(asked(loras=(("soft", 0.2),))) == (("grain", 0.5), ("soft", 0.2))
    assert loras.chosen(asked(loras=(("grain", 0.0),))) == ()
    assert loras.chosen(asked(loras=(("ink", 0.9),))) == (("grain", 0.5), ("ink", 0.9))  # a style's


def test_a_request_names_listed_loras_alone(two: Callable[..., Loras], tmp_path: Path) -> None:
    loras = two(grain=0.5, soft=0.0)
    with pytest.raises(InvalidRequest, match=r"no LoRA '/etc/passwd' for image-01; there are: grain, ink, soft\."):
        loras.chosen(asked(loras=(("/etc/passwd", 1.0),)))
    with pytest.raises(InvalidRequest, match="There is no LoRA"):
        loras.chosen(asked(loras=((str(tmp_path / "grain.safetensors"), 1.0),)))
    with pytest.raises(InvalidRequest, match="named twice"):
        loras.chosen(asked(loras=(("soft", 1.0), ("soft", 0.5))))
    for weight in (5.0, -5.0, math.nan, math.inf):
        with pytest.raises(InvalidRequest, match=r"must be -4\.0 to 4\.0"):
            loras.chosen(asked(loras=(("soft", weight),)))


def test_a_fingerprint_is_of_every_listed_file(two: Callable[..., Loras], sd: Path, tmp_path: Path) -> None:
    listed = two(grain=0.5).fingerprint
    assert two(grain=0.0).fingerprint == listed
    peft_file(SD, sd, tmp_path / "ink.safetensors", {"unet": ["to_q"]}, 50)
    assert two(grain=0.5).fingerprint != listed
    assert Loras(Parts(sd), Model("tiny", str(sd))).fingerprint == ""


def unusable(folder: Path, file: Path, match: str) -> None:
    with pytest.raises(ModelUnusable, match=match):
        Loras(Parts(folder), Model("tiny", str(folder), loras=(Lora(str(file)),)))


def test_two_loras_of_one_name_are_refused(sd: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [tmp_path / "a.safetensors", tmp_path / "other" / "a.safetensors"]
    for file in files:
        save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(ModelUnusable, match="two LoRAs named a"):
        Loras(Parts(sd), Model("tiny", str(sd), loras=tuple(Lora(str(file)) for file in files)))


def test_a_file_that_is_missing_pickled_or_cut_is_refused_before_anything_is_painted(sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    unusable(sd, file, "cannot be opened")
    file.write_bytes(pickle.dumps({"lora_unet_x.lora_up.weight": [1.0]}))
    unusable(sd, file, "pickles among them, are never loaded")
    torch.save({"x": torch.zeros(3)}, file)
    unusable(sd, file, "pickles among them, are never loaded")
    save_file({"x.lora_A.weight": torch.zeros(300)}, file)
    file.write_bytes(file.read_bytes()[:-5])
    unusable(sd, file, r"no whole \.safetensors file")


def good(sd: Path, tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    file = peft_file(SD, sd, tmp_path / "a.safetensors", {"unet": ["to_q"]}, 10)
    return file, load_file(file)


@pytest.mark.parametrize("sign", ["dora_scale", "lokr_w1", "hada_w1_a", "lora_mid.weight", "lora_B.bias", "diff_b"])
def test_other_kinds_of_addition_are_refused(sd: Path, tmp_path: Path, sign: str) -> None:
    file, state = good(sd, tmp_path)
    layer = next(iter(state)).rpartition(".lora")[0]
    save_file(state | {f"{layer}.{sign}": torch.ones(4)}, file)
    unusable(sd, file, "which cannot be painted with. Use a plain LoRA")


def test_odd_halves_and_odd_numbers_are_refused(sd: Path, tmp_path: Path) -> None:
    file, state = good(sd, tmp_path)
    key = next(key for key in state if "lora_A" in key or "down" in key)
    save_file({name: value for name, value in state.items() if name != key}, file)
    unusable(sd, file, "not two halves of a low-rank product")
    save_file(state | {"unet.something": torch.ones(4)}, file)
    unusable(sd, file, r"unet\.something that are not two halves")
    save_file(state | {"unet.somewhere.alpha": torch.tensor(1.0)}, file)
    unusable(sd, file, "without what they scale")
    save_file(state | {key: torch.full_like(state[key], torch.nan)}, file)
    unusable(sd, file, "numbers that are not finite")


def test_settings_that_are_not_json_are_refused(sd: Path, tmp_path: Path) -> None:
    file, state = good(sd, tmp_path)
    for settings in ("{", json.dumps([1])):
        save_file(state, file, metadata={"lora_adapter_metadata": settings})
        unusable(sd, file, "are not JSON")


def test_a_lora_of_another_model_is_refused(sd: Path, xl: Path, flux: Path, tmp_path: Path) -> None:
    file = peft_file(XL, xl, tmp_path / "xl.safetensors", {"unet": ATTENTION}, 10)
    unusable(sd, file, r"is not for the model in .*: (this has no layer|.* is of another shape)")
    unusable(flux, file, "is not for the model in")
    file = peft_file(XL, xl, tmp_path / "te2.safetensors", {"text_encoder_2": TEXT}, 10)
    unusable(sd, file, r"it has text_encoder_2\..*, which is not known")
    file = kohya_file(tmp_path / "f.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": nn.Linear(32, 96)}, 9)
    unusable(sd, file, "is not for the model in")


def test_what_a_converter_would_drop_in_silence_is_refused(flux: Path, sd: Path, tmp_path: Path) -> None:
    known = {"lora_unet_double_blocks_0_img_attn_qkv": nn.Linear(32, 96)}
    for extra in ("lora_unet_nothing_of_flux", "lora_te1_text_projection", "text_encoders.t5xxl.transformer.x"):
        file = kohya_file(tmp_path / "f.safetensors", known | {extra: nn.Linear(32, 32)}, 9)
        unusable(flux, file, "is not for the model in")
    layer = "lora_unet_down_blocks_1_attentions_0_proj_in"
    file = kohya_file(tmp_path / "s.safetensors", {layer: nn.Linear(64, 64), "strange": nn.Linear(3, 3)}, 9)
    unusable(sd, file, "is not for the model in")


def test_a_model_whose_pipeline_takes_none_is_told(sd: Path, tmp_path: Path) -> None:
    file, _ = good(sd, tmp_path)
    parts = Parts(sd)
    parts.index["_class_name"] = "DDPMPipeline"
    with pytest.raises(ModelUnusable, match="takes no LoRA"):
        Loras(parts, Model("tiny", str(sd), loras=(Lora(str(file)),)))


def test_a_converted_network_holds_the_usual_loras_and_torch_runs_the_others(sd: Path, tmp_path: Path) -> None:
    files = [
        peft_file(SD, sd, tmp_path / "usual.safetensors", {"unet": ATTENTION}, 10),
        peft_file(SD, sd, tmp_path / "extra.safetensors", {"unet": ["conv1"]}, 900),
    ]
    given = inputs(SD) | {"timestep": torch.tensor([5.0])}

    def network() -> tuple[Parts, Loras, Any]:
        parts = Parts(sd, conversion=Conversion(tmp_path / "cache", "f32"))
        entry = (Lora(str(files[0]), 0.8), Lora(str(files[1]), 0.0))
        loras = Loras(parts, Model("tiny", str(sd), loras=entry))
        return parts, loras, loras.network("unet", lambda: given)

    plain = Parts(sd)
    beside = Loras(plain, Model("tiny", str(sd), loras=tuple(Lora(str(file)) for file in files)))

    def expected(*chosen: tuple[str, float]) -> Tensor:
        with torch.inference_mode(), beside.applied(chosen):
            return plain.network("unet")(**given)

    def got(loras: Loras, run: Any, *chosen: tuple[str, float]) -> Tensor:
        with torch.inference_mode(), loras.applied(chosen):
            return run(**given)  # type: ignore[no-any-return]  # modules return Any

    parts, loras, run = network()
    assert nearness(got(loras, run, ("usual", 0.8)), expected(("usual", 0.8))) > 60
    assert "unet" not in parts._modules  # torch was not needed for it
    for chosen in ((), (("extra", 1.0), ("usual", 0.8)), (("usual", 0.4),)):
        assert nearness(got(loras, run, *chosen), expected(*chosen)) > 100
    assert nearness(got(loras, run, ("usual", 0.8)), expected(("usual", 0.8))) > 60
    entries = set((tmp_path / "cache").iterdir())
    network()
    assert set((tmp_path / "cache").iterdir()) == entries


@pytest.mark.parametrize("family", ["stable diffusion", "sdxl"])
def test_pictures_are_those_of_diffusers_in_a_batch_too(family: str, tmp_path: Path) -> None:
    """Two LoRAs with weights, on denoiser and texts; other requests with other LoRAs are painted at the same time."""
    kind, make, load = {
        "stable diffusion": (SD, stable_diffusion_folder, StableDiffusion),
        "sdxl": (XL, stable_diffusion_xl_folder, StableDiffusionXL),
    }[family]
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    files = [
        peft_file(kind, folder, tmp_path / "one.safetensors", {"unet": ATTENTION, "text_encoder": TEXT}, 10),
        peft_file(kind, folder, tmp_path / "two.safetensors", {"unet": ["conv1"]}, 900),
    ]
    pipe = kind.from_pretrained(folder)
    for file in files:
        pipe.load_lora_weights(file, adapter_name=file.stem)
    pipe.set_adapters(["one", "two"], [0.8, -0.5])
    expected = painted(
        pipe, "euler", prompt="a red fox", negative_prompt="a dog", num_inference_steps=4, guidance_scale=3.0,
        width=64, height=64,
    )  # fmt: skip

    entry = tuple(Lora(str(file), 0.0) for file in files)
    pipeline: Any = load(Parts(folder), Model("image-01", str(folder), loras=entry, batch=4))
    fields: dict[str, Any] = {"negative_prompt": "a dog", "sampler": "euler", "steps": 4, "guidance": 3.0}
    first = replace(asked("a red fox", loras=(("one", 0.8), ("two", -0.5)), **fields), id="first")
    bare = replace(asked("a red fox", **fields), id="bare")
    other = replace(asked("a red fox", loras=(("two", 1.5),), **fields), id="other")
    pictures, _ = together(pipeline, [first, bare, other])
    assert psnr(pictures["first"], expected) > 50
    assert psnr(paint(pipeline, first).pixels, expected) > 50
    assert max(psnr(pictures["bare"], expected), psnr(pictures["other"], expected)) < 40
    without: Any = load(Parts(folder), Model("image-01", str(folder), batch=4))
    assert (pictures["bare"] == together(without, [bare])[0]["bare"]).all()


def test_beside_converted_networks_one_that_does_not_fit_fails_its_request(sd: Path, tmp_path: Path) -> None:
    file = kohya_file(tmp_path / "odd.safetensors", {"lora_unet_mid_block_attentions_0_proj_in": nn.Linear(8, 8)}, 1)
    parts = Parts(sd, conversion=Conversion(tmp_path / "cache", "f32"))
    loras = Loras(parts, Model("tiny", str(sd), loras=(Lora(str(file), 0.0),)))
    said = "is not for this model; the service's log says which"
    with pytest.raises(EngineFailed, match=said) as raised, loras.applied((("odd", 1.0),)):
        pass
    assert str(tmp_path) not in raised.value.message
