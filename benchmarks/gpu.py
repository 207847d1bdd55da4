"""Evaluations a second of SDXL and FLUX.1 at 1024×1024 on a GPU, ours beside diffusers', with random weights.

    python benchmarks/gpu.py pack --pack runs/gpu_pack              # here: what a machine without network lacks
    python3 benchmarks/gpu.py run --pack runs/gpu_pack --out OUT    # there, until it says that all is measured

A slice measures rows that are not in results.json yet, of OUT or of the folder --earlier, and ends before --seconds are
over. Weights are drawn on the device. One evaluation is one picture through the denoiser once. Ours begins and ends
with the engine's numpy latents; diffusers' is its pipeline's own loop with embeddings given, output_type latent and no
second row for guidance. The share is of the chip's dense bf16 rate, by the operations that torch counts.

OUT gets results.json and table.md. This file needs torch and what `pack` carries.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("diffusers", "importlib_metadata", "structlog", "torchao")
TORCHAO = "0.18.0"  # where constraints.txt does not name it

PEAKS = {
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "A10": 125, "L40S": 362,
    "L40": 181, "L4": 121, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
"""Dense bf16 rate in TFLOP/s by the vendors' datasheets, by the first of these names that is in the device's."""

SDXL = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
FLUX = {
    "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
SDXL_TINY = SDXL | {
    "block_out_channels": (32, 64, 64), "transformer_layers_per_block": (1, 1, 1), "attention_head_dim": (2, 4, 4),
    "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 1568, "layers_per_block": 1,
}  # fmt: skip
FLUX_TINY = FLUX | {
    "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "in_channels": 16,
    "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip

WAYS = (
    "diffusers eager", "eager", "diffusers compiled", "compiled", "blocks compiled", "CUDA graphs", "fp8", "int8",
)  # fmt: skip
"""In the order in which they are measured; those without diffusers' name are ours, the last two compiled too."""


@dataclass(frozen=True)
class Subject:
    """A family at the size that is measured: its network's settings, and how both sides call it."""

    name: str
    config: dict[str, Any]
    side: int  # pixels
    text: int  # tokens

    def inputs(self, batch: int) -> dict[str, Any]:
        """Of the network, for so many pictures: numpy latents as the engine has them, and torch conditioning."""
        import torch

        def drawn(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))

        config = self.config
        if self.name == "FLUX.1":
            tokens = (self.side // 16) ** 2
            return {
                "hidden_states": drawn(batch, tokens, config["in_channels"]).numpy(),
                "encoder_hidden_states": drawn(batch, self.text, config["joint_attention_dim"]),
                "pooled_projections": drawn(batch, config["pooled_projection_dim"]),
                "timestep": torch.full((batch,), 0.5), "guidance": torch.full((batch,), 3.5),
                "img_ids": torch.zeros(tokens, 3), "txt_ids": torch.zeros(self.text, 3),
            }  # fmt: skip
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        return {
            "sample": drawn(batch, 4, self.side // 8, self.side // 8).numpy(),
            "timestep": torch.full((batch,), 500.0),
            "encoder_hidden_states": drawn(batch, self.text, config["cross_attention_dim"]),
            "added_cond_kwargs": {"text_embeds": drawn(batch, pooled), "time_ids": torch.ones(batch, 6)},
        }

    def made(self, device: str, dtype: Any) -> Any:
        """The network with random weights, drawn on the device."""
        import diffusers
        import torch

        kind = diffusers.FluxTransformer2DModel if self.name == "FLUX.1" else diffusers.UNet2DConditionModel
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                return kind(**self.config).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(torch.float32)

    def pipeline(self, network: Any) -> Callable[[int, int], Any]:
        """diffusers' own loop over the network: called with pictures and steps, it paints latents."""
        import diffusers
        import torch

        given = self.inputs(1)
        device, dtype = network.device, network.dtype
        if self.name == "FLUX.1":
            scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
            pipe: Any = diffusers.FluxPipeline(scheduler, None, None, None, None, None, network)
            prompt, pooled = given["encoder_hidden_states"], given["pooled_projections"]
            guidance = 3.5
        else:
            pipe = diffusers.StableDiffusionXLPipeline(
                None, None, None, None, None, network, diffusers.EulerDiscreteScheduler(), add_watermarker=False
            )  # type: ignore[arg-type]
            prompt, pooled = given["encoder_hidden_states"], given["added_cond_kwargs"]["text_embeds"]
            guidance = 1.0
        pipe.set_progress_bar_config(disable=True)

        def run(batch: int, steps: int) -> Any:
            return pipe(
                prompt_embeds=prompt.to(device, dtype), pooled_prompt_embeds=pooled.to(device, dtype),
                num_images_per_prompt=batch, num_inference_steps=steps, guidance_scale=guidance, height=self.side,
                width=self.side, output_type="latent", generator=torch.Generator().manual_seed(0),
            ).images.float().cpu()  # fmt: skip

        return run


SUBJECTS = (Subject("SDXL", SDXL, 1024, 77), Subject("FLUX.1", FLUX, 1024, 512))
TINY = (Subject("SDXL", SDXL_TINY, 128, 7), Subject("FLUX.1", FLUX_TINY, 128, 7))


def operations(subject: Subject) -> float:
    """Floating-point operations of one evaluation of one picture, two for each multiply and add."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subject.made("meta", torch.float32)(**_moved(subject.inputs(1), "meta", torch.float32))
    return float(counter.get_total_flops())


def _moved(given: Any, device: Any, dtype: Any) -> Any:
    """Inputs as the network takes them; a timestep keeps its precision."""
    import torch

    if isinstance(given, dict):
        return {
            name: _moved(value, device, torch.float32 if name == "timestep" else dtype) for name, value in given.items()
        }
    return torch.as_tensor(given).to(device, dtype)


def one_way(subject: Subject, way: str, args: argparse.Namespace) -> Callable[[int, int], Any]:
    """The network made and prepared in this way: called with pictures and steps, it evaluates and waits for the end."""
    import torch

    from limner.pipelines.latents import to_array
    from limner.runtime import torch as runtime

    dtype = torch.bfloat16
    network = runtime.placed(subject.made(args.device, dtype), torch.device(args.device))
    if way.startswith("diffusers"):
        if way == "diffusers compiled":
            network.to(memory_format=torch.channels_last)  # as its guide says
            network.compile(fullgraph=True, backend=args.backend)
        return subject.pipeline(network)
    call: Any = network
    if way in ("fp8", "int8"):
        if importlib.util.find_spec("torchao") is not None:
            runtime.quantized(network, way)  # type: ignore[arg-type]
        else:
            from limner.pipelines import narrow

            narrow.narrow(network, way)  # type: ignore[arg-type]
    if way != "eager":
        how: Any = {"blocks compiled": "blocks", "CUDA graphs": "graphs"}.get(way, "whole")
        call = runtime.Compiled(network, args.work, how, args.backend)
    latents = "hidden_states" if subject.name == "FLUX.1" else "sample"
    told: dict[int, dict[str, Any]] = {}

    def run(batch: int, steps: int) -> Any:
        # The conditioning stays on the device between evaluations, as in a family's Encoded; the latents do not.
        if batch not in told:
            given = subject.inputs(batch)
            told.clear()
            told[batch] = _moved(given, args.device, dtype) | {latents: given[latents]}
        with torch.inference_mode():
            for _ in range(steps):
                x = torch.from_numpy(told[batch][latents]).to(args.device, dtype)
                output = to_array(call(**told[batch] | {latents: x}, return_dict=False)[0])
        return output

    return run


def measured(run: Callable[[int, int], Any], batch: int, device: str, seconds: float) -> dict[str, float]:
    """Evaluations a second over about so many seconds, after a first call that compiles; and the peak of memory."""
    import torch

    cuda = device.startswith("cuda")
    began = time.perf_counter()
    run(batch, 2)
    first = time.perf_counter() - began
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    run(batch, 2)
    steps = max(2, min(50, int(seconds * 2 / (time.perf_counter() - began))))
    began = time.perf_counter()
    run(batch, steps)
    taken = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "evaluations_per_second": batch * steps / taken, "steps": steps, "first_call_seconds": first,
        "peak_gib": peak / 2**30,
    }  # fmt: skip


def slice_(args: argparse.Namespace) -> bool:
    """Measure what results.json lacks while there is time; whether all is there."""
    import torch

    deadline = time.monotonic() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.json"
    source = path if path.exists() or args.earlier is None else args.earlier / "results.json"
    results: dict[str, Any] = json.loads(source.read_text("utf-8")) if source.exists() else {}
    name = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "CPU"
    results |= {"device": name, "torch": torch.__version__, "weights": "random", "side": 128 if args.tiny else 1024}
    rows = results.setdefault("rows", {})
    subjects = [subject for subject in (TINY if args.tiny else SUBJECTS) if subject.name in args.models]
    for subject in subjects:
        results.setdefault("operations", {}).setdefault(subject.name, 0.0)
        results["operations"][subject.name] = results["operations"][subject.name] or operations(subject)
    for subject, way in ((subject, way) for subject in subjects for way in args.ways):
        lacking = [batch for batch in args.batches if f"{subject.name}|{way}|{batch}" not in rows]
        run: Callable[[int, int], Any] | None = None
        for batch in lacking:
            # A compiled row that would not end in time is left to the next slice.
            if deadline - time.monotonic() < args.reserve * (1 if "eager" in way else 4):
                written(path, results)
                return False
            print(f"[{deadline - time.monotonic():.0f} s left] {subject.name}, {way}, batch {batch}", flush=True)
            key = f"{subject.name}|{way}|{batch}"
            try:
                run = run or one_way(subject, way, args)
                rows[key] = measured(run, batch, args.device, args.each)
            except Exception as error:  # a way that fails is a row that says why
                rows[key] = {"failed": f"{type(error).__name__}: {error}"[:300]}
                run = None
                _emptied()
            written(path, results)
        del run
        _emptied()
    written(path, results)
    return True


def _emptied() -> None:
    import torch

    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def written(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1), "utf-8")
    (path.parent / "table.md").write_text("\n".join(table(results)) + "\n", "utf-8")


def table(results: dict[str, Any]) -> Iterator[str]:
    """Markdown: for each family, evaluations a second by way and batch, with the share of the peak and memory."""
    rows, device = results["rows"], results["device"]
    peak = next((rate for name, rate in PEAKS.items() if all(word in device for word in name.split())), None)
    yield f"{device}, torch {results['torch']}, {results['side']}×{results['side']}, bf16, random weights."
    yield f"Share of {peak} TFLOP/s." if peak else "The peak rate of this device is not known here."
    for family, count in results["operations"].items():
        batches = sorted({int(key.split("|")[2]) for key in rows if key.startswith(f"{family}|")})
        yield f"\n{family}: evaluations a second, {count / 1e12:.3g} TFLOP each\n"
        yield "| |" + "".join(f" batch {batch} |" for batch in batches) + " peak GiB |"
        yield "|---|" + "---:|" * (len(batches) + 1)
        for way in WAYS:
            found = [rows.get(f"{family}|{way}|{batch}", {}) for batch in batches]
            cells = [_cell(row, count, peak) for row in found]
            memory = max((row.get("peak_gib", 0.0) for row in found), default=0.0)
            if any(found):
                yield f"| {way} | " + " | ".join(cells) + f" | {memory:.1f} |"
    for key, row in rows.items():
        if "failed" in row:
            yield f"\n{key.replace('|', ', ')}: {row['failed']}"


def _cell(row: dict[str, Any], count: float, peak: float | None) -> str:
    if not row:
        return ""
    if "failed" in row:
        return "failed"
    rate = row["evaluations_per_second"]
    return f"{rate:.2f}" + (f" ({rate * count / peak / 1e12:.0%})" if peak else "")


def pack(args: argparse.Namespace) -> None:
    """Wheels for that machine's Python."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    pins.setdefault("torchao", TORCHAO)
    wanted = [f"{name}=={pins[name]}" if name in pins else name for name in PACKAGES]
    platforms = [word for n in (28, 27, 24, 17) for word in ("--platform", f"manylinux_2_{n}_x86_64")]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--python-version", args.python, "--implementation", "cp", "--abi", "abi3", "--abi", "none",
            *platforms, "--platform", "any", "--dest", str(args.pack), *wanted,
        ],
        check=True,
    )  # fmt: skip
    print(f"{args.pack}: {sum(f.stat().st_size for f in args.pack.glob('*.whl')) / 2**20:.1f} MiB")


def run(args: argparse.Namespace, words: list[str]) -> int:
    """Unpack the wheels once, then measure a slice in a process that sees them and this tree."""
    site = args.work / "site"
    if args.pack is not None and not site.exists():
        wheels = sorted(map(str, args.pack.glob("*.whl")))
        quiet = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", str(site), *wheels], check=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "src"), str(site), os.environ.get("PYTHONPATH")))),
        "TORCHINDUCTOR_CACHE_DIR": str(args.work.resolve() / "inductor"),  # for both sides, and for later slices
    }
    return subprocess.run([sys.executable, __file__, "slice", *words], env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--pack", type=Path, default=Path("runs/gpu_pack"))
    packing.add_argument("--python", default="3.12", help="that machine's version")
    for command in ("run", "slice"):
        running = commands.add_parser(command)
        running.add_argument("--pack", type=Path, help="what `pack` made; without it, diffusers is installed here")
        running.add_argument("--work", type=Path, default=Path("/tmp/limner-gpu"), help="kept between slices")
        running.add_argument("--out", type=Path, required=True)
        running.add_argument("--earlier", type=Path, help="folder of an earlier slice's results.json")
        running.add_argument("--seconds", type=float, default=520, help="of this slice, all included")
        running.add_argument(
            "--reserve", type=float, default=30, help="a row is begun with so many left, or four times"
        )
        running.add_argument("--each", type=float, default=3, help="seconds that a row is timed for")
        running.add_argument("--device", default="cuda")
        running.add_argument("--backend", default="inductor", help="of torch.compile, for both sides")
        running.add_argument("--models", nargs="+", default=[subject.name for subject in SUBJECTS])
        running.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
        running.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
        running.add_argument("--tiny", action="store_true", help="tiny networks, to prove the way")
    args = parser.parse_args()
    if args.command == "pack":
        pack(args)
        return 0
    if args.command == "run":
        return run(args, sys.argv[2:])
    print("All is measured." if slice_(args) else "Run this again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
