"""One evaluation of a denoiser on the CPU with the same random weights: Limner's runtime beside its peers.

    python benchmarks/real_weights.py --peers PATH [--size sd-turbo|tiny] [--rounds N] [--threads N] [--keep FOLDER]

The network is Stable Diffusion Turbo's U-Net in its published configuration, at 512×512 pixels, batch 1. Every
contestant runs in a process of its own and they take turns, so that all see the same machine. The table has

- the best and the median of the rounds, and the best's ratio to ours in bf16;
- the seconds of processor time of the cheapest round, which other load on the machine moves less (for
  stable-diffusion.cpp they hold its text and picture too);
- the prediction's error against torch in float32, and the PSNR of the pictures that a Tiny AutoEncoder makes of both;
  nan where a contestant gives no prediction.

Contestants of float32 are timed in a heat of their own, with ours in bf16 in both, because all of them at once need
more than 16 GB.

The peers are never part of Limner's install. They live in a virtual environment of their own, named by --peers:

    python3 -m venv peers
    peers/bin/pip install openvino-genai==2026.4.1.0 cyllama==0.2.18

Without it, or where one of them is missing, the table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WORDS = 77
SIZES: dict[str, dict[str, Any]] = {
    # stabilityai/sd-turbo, unet/config.json; the 64 are the latent's side
    "sd-turbo": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "tiny": {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "use_linear_projection": True,
    },
}
OURS = "Limner, OpenVINO bf16"
PEERS = {"genai": "openvino_genai", "sdcpp": "cyllama", "sdcpp-q8": "cyllama"}
"""Contestants that run in the peers' environment, and the package that each needs."""

HEATS: tuple[dict[str, str], ...] = (
    {"limner-bf16": OURS, "limner-f32": "Limner, OpenVINO f32", "torch-f32": "diffusers, torch f32"},
    {
        "limner-bf16": OURS,
        "limner-int8": "Limner, OpenVINO int8",
        "genai": "openvino-genai, bf16",
        "torch-bf16": "diffusers, torch bf16",
        "sdcpp": "stable-diffusion.cpp, f16",
        "sdcpp-q8": "stable-diffusion.cpp, q8_0",
    },
)
"""What is timed by turns, by the name that a process of it is started with."""

COLUMNS = ("best, s", "median, s", "× ours", "core s", "error", "picture, dB")

Once = Callable[[], tuple[float, Any]]
"""Evaluates once: seconds, and the prediction, or None where a contestant does not give it."""


def inputs(size: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise, a time and words, float32, as the network takes them."""
    rng = np.random.default_rng(seed)
    side = SIZES[size]["sample_size"]
    return {
        "sample": rng.standard_normal((1, 4, side, side), np.float32),
        "timestep": np.array([999.0 - 250 * (seed % 4)], np.float32),
        "encoder_hidden_states": rng.standard_normal((1, WORDS, SIZES[size]["cross_attention_dim"]), np.float32),
    }


def make_weights(size: str, folder: Path) -> None:
    """Write a folder in diffusers' layout with random weights in float16."""
    import torch
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    torch.manual_seed(0)
    UNet2DConditionModel(**SIZES[size]).half().save_pretrained(folder / "unet")
    AutoencoderTiny().half().save_pretrained(folder / "taesd")
    if size == "tiny":
        return
    # What stable-diffusion.cpp needs beside the U-Net to say a prompt and to end in a picture. It is not timed.
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
    )
    CLIPTextModel(text).half().save_pretrained(folder / "text_encoder")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks).half().save_pretrained(
        folder / "vae"
    )
    parts = {
        "unet.": "unet/diffusion_pytorch_model.safetensors",
        "vae.": "vae/diffusion_pytorch_model.safetensors",
        "te.text_model.": "text_encoder/model.safetensors",
    }
    single = {
        before + name: tensor for before, path in parts.items() for name, tensor in load_file(folder / path).items()
    }
    save_file(single, folder / "single.safetensors")


def unet(folder: Path, dtype: str) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=getattr(torch, dtype)).eval()


def torch_eager(size: str, folder: Path, threads: int, dtype: str) -> Once:
    import torch

    torch.set_num_threads(threads)
    network = unet(folder, dtype)
    given = {name: torch.from_numpy(array).to(network.dtype) for name, array in inputs(size).items()}

    def once() -> tuple[float, Any]:
        began = time.perf_counter()
        with torch.inference_mode():
            prediction = network(**given, return_dict=False)[0]
        return time.perf_counter() - began, prediction.float().numpy()

    return once


def limner(size: str, folder: Path, threads: int, arithmetic: str) -> Once:
    import torch

    from limner.runtime.convert import Converted, Recipe

    def calibrate(network: Callable[..., Any]) -> None:
        for seed in range(1, 5):
            network(**{name: torch.from_numpy(array) for name, array in inputs(size, seed).items()})

    given = {name: torch.from_numpy(array) for name, array in inputs(size).items()}
    network = Converted(
        Recipe("unet", f"random {size}", arithmetic),  # type: ignore[arg-type] # from the table above
        lambda: unet(folder, "float32"),
        given,
        folder / "converted",
        calibrate=calibrate,
        threads=threads,
    )

    def once() -> tuple[float, Any]:
        began = time.perf_counter()
        prediction = network(**given)
        return time.perf_counter() - began, prediction.numpy()

    return once


def export(folder: Path, size: str) -> None:
    """Write the U-Net as OpenVINO's own converter gives it, 16-bit constants, where openvino-genai looks for it."""
    import openvino as ov
    import torch

    from limner.runtime.convert import Named, traced

    place = folder / "genai" / "unet"
    place.mkdir(parents=True, exist_ok=True)
    given = {name: torch.from_numpy(array) for name, array in inputs(size).items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns
        model = traced(Named(unet(folder, "float32"), tuple(given)), tuple(given.values()))
    for port, name in zip(model.inputs, given, strict=True):
        port.get_tensor().set_names({name})
    model.outputs[0].get_tensor().set_names({"out_sample"})
    ov.save_model(model, str(place / "openvino_model.xml"), compress_to_fp16=True)
    config = json.loads((folder / "unet" / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"time_cond_proj_dim": None}))
    (folder / "genai" / "vae_decoder").mkdir(exist_ok=True)  # where it looks up how many pixels a latent has
    (folder / "genai" / "vae_decoder" / "config.json").write_text(json.dumps({"block_out_channels": [1, 1, 1, 1]}))


def genai(size: str, folder: Path, threads: int) -> Once:
    import openvino
    import openvino_genai

    given = {name: openvino.Tensor(array) for name, array in inputs(size).items()}
    side = 8 * SIZES[size]["sample_size"]
    network = openvino_genai.UNet2DConditionModel(folder / "genai" / "unet")
    network.reshape(1, side, side, WORDS)
    network.compile("CPU", INFERENCE_NUM_THREADS=threads, INFERENCE_PRECISION_HINT="bf16", PERFORMANCE_HINT="LATENCY")

    def once() -> tuple[float, Any]:
        began = time.perf_counter()
        network.set_hidden_states("encoder_hidden_states", given["encoder_hidden_states"])
        prediction = network.infer(given["sample"], given["timestep"])
        return time.perf_counter() - began, np.array(prediction.data)

    return once


def stable_diffusion_cpp(size: str, folder: Path, threads: int, kind: str) -> Once:
    from cyllama import sd

    if size == "tiny":
        raise SystemExit("knows the published shapes alone")
    told: list[str] = []
    sd.set_log_callback(lambda _, text: told.append(text))
    params = sd.SDContextParams(
        model_path=str(folder / "single.safetensors"), n_threads=threads, wtype=getattr(sd.SDType, kind)
    )
    params.taesd_path = str(folder / "taesd" / "diffusion_pytorch_model.safetensors")
    params.prediction = sd.Prediction.EPS  # else it evaluates once to find out
    params.diffusion_flash_attn = True
    params.free_params_immediately = False
    context = sd.SDContext(params)

    def once() -> tuple[float, Any]:
        told.clear()
        context.generate(
            prompt="a fox",
            width=512,
            height=512,
            seed=0,
            sample_steps=1,
            cfg_scale=1.0,
            sample_method=sd.SampleMethod.EULER_A,
        )
        said = re.search(r"sampling completed, taking ([\d.]+)s", "".join(told))
        if said is None:
            raise SystemExit("did not say how long sampling took")
        return float(said[1]), None

    return once


def contestant(name: str, size: str, folder: Path, threads: int) -> None:
    """Run one contestant: answers each line on standard input by the seconds of one evaluation, and those of cores."""
    kind, _, how = name.partition("-")
    start: dict[str, Callable[[], Once]] = {
        "limner": lambda: limner(size, folder, threads, how),
        "torch": lambda: torch_eager(size, folder, threads, {"f32": "float32", "bf16": "bfloat16"}[how]),
        "genai": lambda: genai(size, folder, threads),
        "sdcpp": lambda: stable_diffusion_cpp(size, folder, threads, "Q8_0" if how else "F16"),
    }
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a peer may print what it likes
    once = start[kind]()
    _, prediction = once()  # the first call also packs weights
    if prediction is not None:
        np.save(folder / f"{name}.npy", prediction)
    print("ready", file=say)
    for _ in sys.stdin:
        began = time.process_time()
        seconds, _ = once()
        print(seconds, time.process_time() - began, file=say)


class Process:
    """A contestant in a process of its own."""

    def __init__(self, python: Path, name: str, args: argparse.Namespace, folder: Path) -> None:
        command = [python, __file__, "--contestant", name, "--size", args.size, "--threads", args.threads]
        self.log = folder / f"{name}.log"
        began = time.perf_counter()
        self.child = subprocess.Popen(
            [*map(str, command), "--keep", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            # Threads that spin while they wait would take the time of whoever has the turn.
            env=os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(args.threads)},
        )
        self.answer()
        self.start = time.perf_counter() - began

    def answer(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline().strip()
        if not line:
            self.child.wait()
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(last[0] if last else f"ended with {self.child.returncode}")
        return line

    def once(self) -> tuple[float, float]:
        """Seconds of one evaluation, on the clock and of the cores."""
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        clock, cores = map(float, self.answer().split())
        return clock, cores

    def end(self) -> None:
        if self.child.stdin is not None:
            self.child.stdin.close()
        self.child.wait()


def timed(
    names: dict[str, str], args: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, str]]:
    """Seconds of each contestant in each round, and why others are not among them."""
    running: dict[str, Process] = {}
    absent: dict[str, str] = {}
    for name, title in names.items():
        python = Path(sys.executable)
        if name in PEERS:
            if args.peers is None:
                absent[title] = "not run: no --peers"
                continue
            python = args.peers / "bin" / "python"
        try:
            running[title] = Process(python, name, args, folder)
            print(f"          {title} is ready after {running[title].start:.0f} s", flush=True)
        except (OSError, RuntimeError) as error:
            absent[title] = f"not run: {error}"
    seconds: dict[str, list[tuple[float, float]]] = {title: [] for title in running}
    for _ in range(args.rounds):
        for title in list(running):
            try:
                seconds[title].append(running[title].once())
            except RuntimeError as error:
                absent[title] = f"not run: {error}"
                del running[title], seconds[title]
    for process in running.values():
        process.end()
    return seconds, absent


def quality(folder: Path) -> dict[str, tuple[float, float]]:
    """Each contestant's prediction against torch's in float32: the norm of the difference over the norm, and the PSNR
    in dB of the pictures that a Tiny AutoEncoder makes of both, the range of torch's picture taken as the peak.
    """
    import torch
    from diffusers import AutoencoderTiny

    exact = folder / "torch-f32.npy"
    if not exact.exists():
        return {}
    autoencoder = AutoencoderTiny.from_pretrained(folder / "taesd").float().eval()

    def both(path: Path) -> tuple[np.ndarray, np.ndarray]:
        prediction = np.load(path)
        with torch.inference_mode():
            return prediction, autoencoder.decode(torch.from_numpy(prediction)).sample.numpy()

    prediction, picture = both(exact)
    peak = picture.max() - picture.min()
    table = {}
    for path in folder.glob("*.npy"):
        got, drawn = both(path)
        off = float(np.linalg.norm(got - prediction) / np.linalg.norm(prediction))
        table[(HEATS[0] | HEATS[1])[path.stem]] = (
            off,
            20 * math.log10(peak / (np.sqrt(np.mean((drawn - picture) ** 2)) + 1e-9)),
        )
    return table


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def run(args: argparse.Namespace, folder: Path) -> None:
    from machine import machine

    print(machine())
    began = time.perf_counter()
    if not (folder / "unet" / "diffusion_pytorch_model.safetensors").exists():
        make_weights(args.size, folder)
    if args.peers is not None and not (folder / "genai" / "vae_decoder" / "config.json").exists():
        export(folder, args.size)
    print(f"weights   random, {args.size}, {time.perf_counter() - began:.0f} s to make", flush=True)
    print(f"one evaluation, {args.threads} threads, {args.rounds} rounds\n")
    for heat in HEATS:
        names = {name: title for name, title in heat.items() if name in args.only or title == OURS}
        if len(names) == 1:
            continue
        seconds, absent = timed(names, args, folder)
        if OURS in absent:
            raise SystemExit(f"{OURS}: {absent[OURS]}")
        table = quality(folder)
        ours = min(clock for clock, _ in seconds[OURS])
        print("", row("contestant", *COLUMNS), row(*["---"] * (1 + len(COLUMNS))), sep="\n")
        for title, times in sorted(seconds.items(), key=lambda item: min(item[1])):
            off, decibels = table.get(title, (math.nan, math.nan))
            clock, cores = zip(*times, strict=True)
            best, middle = min(clock), statistics.median(clock)
            numbers = [f"{best:.3g}", f"{middle:.3g}", f"{best / ours:.2f}", f"{min(cores):.3g}"]
            print(row(title, *numbers, f"{off:.2%}", f"{decibels:.1f}"))
        for title, why in absent.items():
            print(row(title, why, *[""] * (len(COLUMNS) - 1)), flush=True)
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", type=Path, help="virtual environment with the peers")
    parser.add_argument("--size", choices=SIZES, default="sd-turbo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for weights and converted networks; kept for the next run")
    everyone = sorted(HEATS[0] | HEATS[1])
    parser.add_argument(
        "--only", nargs="+", choices=everyone, default=everyone, metavar="NAME", help=f"of {', '.join(everyone)}"
    )
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        contestant(args.contestant, args.size, args.keep, args.threads)
        return
    with tempfile.TemporaryDirectory(prefix="limner-real-weights-") as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        run(args, folder.resolve())


if __name__ == "__main__":
    main()
