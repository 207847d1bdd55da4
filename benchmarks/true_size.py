"""Models of the published sizes with random weights: that they load, run, and keep to a budget of memory, on the CPU.

    python benchmarks/true_size.py [sd-turbo sdxl flux flux-fp8] [--sides 512 1024] [--work FOLDER] [--budget GIB]

The denoisers and autoencoders are those of SD-Turbo, SDXL and FLUX.1 schnell, number for number; text encoders are
stand-ins, a layer or two deep, of the published width. Each model's folder is written in bf16, as published, a file of
1 GiB at a time, and removed in the end. Then, in a process of its own, Limner's family loads it, evaluates twice, and
decodes; the second evaluation is told. A larger picture than the first is left out where an evaluation of it would take
over two minutes.

Peak memory is all that the process ever held at once (VmHWM), Python and torch and mapped files included. Exit code 1
where a model needs more than its budget.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu import FLUX, SDXL
from machine import machine
from real_weights import SIZES

SHARD = 2**30
"""Bytes of weights of one file, at least, and of what writing holds at once."""

PATIENCE = 120.0
"""Most seconds that an evaluation may take of a picture that is larger than the first."""

MARGIN = 4 * 2**30
"""Bytes that a model's folder leaves free on the disk."""

VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Published:
    """A model as it is published, and what it is held to."""

    name: str
    pipeline: str  # diffusers' name
    module: str  # and class of our family
    family: str
    part: str  # the denoiser's
    kind: str
    denoiser: dict[str, Any]
    tiny: dict[str, Any]  # settings of the denoiser for a test
    parameters: int  # of the denoiser
    vae: dict[str, Any]
    scheduler: tuple[str, dict[str, Any]]
    widths: tuple[int, ...]  # of the text encoders: CLIP's, then SDXL's second CLIP or FLUX's T5
    budget: float  # GiB
    quantize: str | None = None


TURBO = SIZES["sd-turbo"]
SCHNELL = FLUX | {"guidance_embeds": False}
MODELS = {
    "sd-turbo": Published(
        "SD-Turbo", "StableDiffusionPipeline", "limner.pipelines.stable_diffusion", "StableDiffusion",
        "unet", "UNet2DConditionModel", TURBO, {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1},
        865_910_724, VAE | {"latent_channels": 4, "scaling_factor": 0.18215},
        ("EulerDiscreteScheduler", DIFFUSION | {"timestep_spacing": "trailing"}), (1024,), budget=4,
    ),
    "sdxl": Published(
        "SDXL", "StableDiffusionXLPipeline", "limner.pipelines.stable_diffusion_xl", "StableDiffusionXL",
        "unet", "UNet2DConditionModel", SDXL,
        {"block_out_channels": (32, 64, 64), "transformer_layers_per_block": (1, 1, 1), "layers_per_block": 1},
        2_567_463_684, VAE | {"latent_channels": 4, "scaling_factor": 0.13025},
        ("EulerDiscreteScheduler", DIFFUSION | {"timestep_spacing": "leading", "steps_offset": 1}), (768, 1280),
        budget=8,
    ),
}  # fmt: skip
for _kind in ("int8", "fp8"):
    MODELS["flux" if _kind == "int8" else f"flux-{_kind}"] = Published(
        f"FLUX.1 schnell, {_kind} weights", "FluxPipeline", "limner.pipelines.flux", "Flux",
        "transformer", "FluxTransformer2DModel", SCHNELL,
        {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 4}, 11_891_178_560,
        VAE | {"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False,
               "use_post_quant_conv": False},
        ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}), (768, 4096), budget=14, quantize=_kind,
    )  # fmt: skip


def write(model: Published, folder: Path, tiny: bool) -> dict[str, Any]:
    """Write the model's folder. Returns the parameters of its denoiser, and the peak memory."""
    import diffusers
    import torch

    parts = dict(text_encoders(model, folder))
    vae = model.vae | ({"block_out_channels": (32,) * 4, "layers_per_block": 1} if tiny else {})
    torch.manual_seed(0)
    diffusers.AutoencoderKL(**vae).to(torch.bfloat16).save_pretrained(folder / "vae")
    kind, settings = model.scheduler
    getattr(diffusers, kind)(**settings).save_pretrained(folder / "scheduler")
    parameters = write_random(model, folder / model.part, tiny)
    parts |= {"vae": "diffusers.AutoencoderKL", "scheduler": f"diffusers.{kind}", model.part: f"diffusers.{model.kind}"}
    index = {part: name.split(".") for part, name in parts.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": model.pipeline} | index))
    return {"parameters": parameters, "peak": peak()}


def write_random(model: Published, folder: Path, tiny: bool) -> int:
    """Write the denoiser's weights, shard by shard, drawn from one seed. Returns how many there are."""
    import diffusers
    import torch
    from safetensors.torch import save_file

    with torch.device("meta"):
        network = getattr(diffusers, model.kind)(**model.denoiser | (model.tiny if tiny else {}))
    network.save_config(folder)
    rng = np.random.default_rng(0)
    shards: list[dict[str, Any]] = [{}]
    places: dict[str, int] = {}
    filled = 0

    def close() -> None:
        if shards[-1]:
            save_file(shards[-1], folder / f"part-{len(shards)}.safetensors")
            shards[-1].clear()
            shards.append({})

    for name, empty in network.state_dict().items():
        shards[-1][name] = drawn(rng, tuple(empty.shape))
        places[name] = len(shards)
        filled += 2 * empty.numel()
        if filled >= SHARD:
            close()
            filled = 0
    close()
    files = {name: f"part-{number}.safetensors" for name, number in places.items()}
    size = sum(2 * value.numel() for value in network.state_dict().values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return sum(value.numel() for value in network.parameters())


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Weights in bf16 of about such a spread that a layer's output is as large as its input; biases 0, norms' scales 1.

    Made of random bits, since 12 billion normal numbers would take minutes: sign and mantissa as they fall, the
    exponent one of four.
    """
    import torch

    if len(shape) < 2:
        return torch.full(shape, 0.0 if shape[0] > 1 else 1.0, dtype=torch.bfloat16)
    exponent = 127 + round(-0.5 * math.log2(math.prod(shape[1:])))
    bits = np.frombuffer(rng.bytes(2 * math.prod(shape)), np.uint16)
    made = (bits & 0x807F) | ((exponent - ((bits >> 7) & 3)) << 7).astype(np.uint16)
    return torch.from_numpy(made.view(np.int16)).view(torch.bfloat16).reshape(shape)


def text_encoders(model: Published, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the stand-ins and their tokenizers; yields each part's name and class."""
    import transformers

    letters = [chr(code) for code in range(33, 127)]
    for number, width in enumerate(model.widths):
        end = "" if number == 0 else "_2"
        t5 = model.family == "Flux" and number == 1
        if t5:
            marks = [(mark, 0.0) for mark in ("<pad>", "</s>", "<unk>")]
            vocabulary = marks + [(letter, -2.0) for letter in ("▁", *letters)]
            tokenizer: Any = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)
            encoder: Any = transformers.T5EncoderModel(
                transformers.T5Config(vocab_size=98, d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
            )
        else:
            tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
            names = folder / f"letters{end}"
            names.mkdir(parents=True)
            (names / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
            (names / "merges.txt").write_text("#version: 0.2\n")
            tokenizer = transformers.CLIPTokenizer(
                str(names / "vocab.json"), str(names / "merges.txt"), model_max_length=77
            )
            config = transformers.CLIPTextConfig(
                vocab_size=190, hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=8,
                projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )  # fmt: skip
            projecting = model.family == "StableDiffusionXL" and number == 1
            encoder = (transformers.CLIPTextModelWithProjection if projecting else transformers.CLIPTextModel)(config)
        tokenizer.save_pretrained(folder / f"tokenizer{end}")
        encoder.save_pretrained(folder / f"text_encoder{end}")
        yield f"tokenizer{end}", f"transformers.{type(tokenizer).__name__}"
        yield f"text_encoder{end}", f"transformers.{type(encoder).__name__}"


def paint(model: Published, folder: Path, side: int, evaluations: int) -> dict[str, Any]:
    """Load the model, paint one picture in so many evaluations. Returns seconds, and the peak memory."""
    import importlib

    from limner.engine import samplers
    from limner.engine.core import Request
    from limner.models.registry import Model
    from limner.pipelines.parts import Parts

    began = time.perf_counter()
    kind = getattr(importlib.import_module(model.module), model.family)
    quantize: Any = model.quantize
    parts = Parts(folder, precision="bf16", quantize=quantize, checksum="random")
    pipeline = kind(parts, Model(model.name, str(folder)))
    loaded = time.perf_counter() - began
    request = Request("1", "a red fox on a snowy hill", 7, side, side, steps=evaluations, guidance=1.0, sampler="euler")
    encoded = pipeline.encode(request)
    state = samplers.begin(encoded.spread * samplers.noise(7, encoded.key.shape), encoded.levels)
    seconds = []
    while not state.finished:
        began = time.perf_counter()
        prediction = pipeline.evaluate(samplers.batch(encoded.key, [request], [state], [encoded.conditioning]))
        seconds.append(time.perf_counter() - began)
        state = samplers.SAMPLERS["euler"].advance(state, prediction[0])
    if not np.isfinite(state.result).all():
        raise SystemExit(f"{model.name} gave numbers that are not finite")
    began = time.perf_counter()
    pixels = pipeline.decode(request, encoded, state.result)
    decoded = time.perf_counter() - began
    if pixels.shape != (side, side, 3) or pixels.std() < 1:
        raise SystemExit(f"{model.name} gave no picture")
    return {"load": loaded, "evaluations": seconds, "decode": decoded, "peak": peak()}


def peak() -> float:
    """The most memory that this process ever held at once, GiB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**20


def apart(*words: str) -> dict[str, Any]:
    """What a function of this file returns in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure(
    name: str, sides: list[int], folder: Path, tiny: bool = False, budget: float | None = None, evaluations: int = 2
) -> bool:
    """Write, paint and print the rows of one model. Returns whether it kept to its budget, or to this one, GiB."""
    model = MODELS[name]
    budget = model.budget if budget is None else budget
    bytes_ = 0 if tiny else 2 * model.parameters
    free = shutil.disk_usage(folder.parent).free
    if free < bytes_ + MARGIN:
        raise SystemExit(f"{model.name} takes {bytes_ / 2**30:.0f} GiB of disk; {folder.parent} has {free / 2**30:.0f}")
    written = apart("write", name, str(folder), "tiny" if tiny else "whole")
    if not tiny and written["parameters"] != model.parameters:
        raise SystemExit(f"{model.name} has {written['parameters']} parameters, not the {model.parameters} published")
    kept, before = True, 0.0
    for side in sides:
        expected = before * (side / sides[0]) ** 2
        if expected > PATIENCE:
            print(f"| {model.name} | | {side}×{side} | left out: an evaluation would take {expected:.0f} s | | | | |")
            continue
        told = apart("paint", name, str(folder), str(side), str(evaluations))
        before = before or told["evaluations"][-1]
        held = max(told["peak"], written["peak"])
        kept &= held <= budget
        print(
            f"| {model.name} | {written['parameters'] / 1e9:.2f} | {side}×{side} | {told['load']:.1f} "
            f"| {told['evaluations'][-1]:.2f} | {told['decode']:.1f} | {told['peak']:.1f} ({written['peak']:.1f}) "
            f"| {budget:g}, {'kept' if held <= budget else 'MISSED'} |",
            flush=True,
        )
    return kept


def main() -> int:
    if sys.argv[1:2] == ["write"]:
        _, _, name, folder, size = sys.argv
        print(json.dumps(write(MODELS[name], Path(folder), tiny=size == "tiny")))
        return 0
    if sys.argv[1:2] == ["paint"]:
        _, _, name, folder, side, evaluations = sys.argv
        print(json.dumps(paint(MODELS[name], Path(folder), int(side), int(evaluations))))
        return 0
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("models", nargs="*", default=["sd-turbo", "sdxl", "flux"], help=", ".join(MODELS))
    asked.add_argument("--sides", nargs="+", type=int, default=[512, 1024], help="of the pictures, pixels")
    asked.add_argument("--work", type=Path, help="where the folders are written; 28 GiB for FLUX.1")
    asked.add_argument("--evaluations", type=int, default=2, help="of each picture; the last one is told")
    asked.add_argument("--budget", type=float, help="GiB that every model is held to, in place of its own")
    asked.add_argument("--tiny", action="store_true", help="small networks, for a test")
    options = asked.parse_args()
    if unknown := set(options.models) - MODELS.keys():
        asked.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    print(machine(), end="\n\n")
    print("| model | 10⁹ weights | picture | load, s | evaluation, s | decode, s | peak (writing), GiB | budget, GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(dir=options.work, prefix="true-size-") as work:
        kept = []
        for name in options.models:
            folder = Path(work) / name
            kept.append(measure(name, options.sides, folder, options.tiny, options.budget, options.evaluations))
            shutil.rmtree(folder)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
