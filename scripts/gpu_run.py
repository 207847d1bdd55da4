"""Train the denoiser on a machine that has PyTorch and no network: pack here, run there, join here.

    python scripts/gpu_run.py pack --pack runs/pack                      # here: what that machine lacks
    python3 scripts/gpu_run.py run --pack runs/pack --out OUT ...        # there, again and again until it says so
    python scripts/gpu_run.py join --parts FOLDER --to runs/gpu          # here: weights.pt, to export or to go on from

`run` does what is not done yet, in slices of time: it installs the pack beside itself, draws shards on all cores,
trains, and leaves in OUT at most eight files of at most 16 MiB: the averaged weights in float16, in parts, the run's
state, the log, the last sheet, and the table of `evaluate` when training is over. A slice goes on from the checkpoint
in --work, if that machine still has it, and else from the weights in the pack (`pack --start`), with a short warm-up.

This file needs Python's standard library alone, and the tree around it.
"""

# ruff: noqa: S603, T201 - our own commands, and a script speaks on its standard output

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = 16 * 1024**2 - 4096  # bytes of a part, at most
PARTS = 4  # so that eight files hold them beside the log, the sheet, the table and the state
TRAIN = "limner.painter.training"
PACKAGES = (
    "annotated-types", "ml_dtypes", "onnx", "opencv-python-headless", "pillow", "protobuf", "pydantic", "pydantic_core",
    "skia-python", "tokenizers", "typing-inspection", "typing_extensions",
)  # fmt: skip
THERE = ("ml_dtypes", "onnx", "opencv-python-headless", "pillow", "protobuf", "tokenizers", "typing_extensions")
"""What machines with PyTorch for such work mostly have too; `pack --bare` carries it nonetheless."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
SYSTEM = re.compile(r"(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|ld-linux.*)\.so|linux-vdso")


def pack(args: argparse.Namespace) -> None:
    """Wheels for that machine's Python, the shared libraries that Skia needs, and weights to start from."""
    shutil.rmtree(args.pack, ignore_errors=True)
    wheels, libraries = args.pack / "wheels", args.pack / "lib"
    libraries.mkdir(parents=True)
    names = [name for name in PACKAGES if args.bare or name not in THERE]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--python-version", args.python, "--implementation", "cp",
            *(word for p in PLATFORMS for word in ("--platform", f"{p}_x86_64")),
            "--dest", str(wheels), *(f"{name}=={pins[name]}" for name in names),
        ],
        check=True,
    )  # fmt: skip
    import skia

    listed = subprocess.run(["ldd", skia.__file__], check=True, capture_output=True, text=True).stdout  # noqa: S607
    for name, path in re.findall(r"(\S+) => (/\S+)", listed):
        if not SYSTEM.match(name) and ".libs/" not in path:  # those come with the wheel
            shutil.copy(path, libraries / name)
    if args.start:
        join_parts(args.start, args.pack / "start.pt")
        shutil.copy(args.start / "state.json", args.pack / "state.json")
    size = sum(f.stat().st_size for f in args.pack.rglob("*") if f.is_file())
    print(f"{args.pack}: {size / 2**20:.1f} MiB")


def run(args: argparse.Namespace) -> None:
    """One slice."""
    deadline = time.monotonic() + args.seconds
    work: Path = args.work
    environment = install(args.pack, work)
    size = {
        "depth": args.depth, "batch": args.batch, "shards": args.shards, "paintings": args.paintings, "every": 1000,
    }  # fmt: skip
    if args.tiny:
        size |= {"depth": 2, "batch": 4, "shards": 2, "paintings": 8, "every": 10**9}

    def command(module: str, *words: object) -> list[str]:
        print(f"[{deadline - time.monotonic():.0f} s left] {module} {' '.join(map(str, words))}", flush=True)
        return [sys.executable, "-W", "ignore", "-m", f"{TRAIN}.{module}", *map(str, words)]

    def python(module: str, *words: object) -> str:
        done = subprocess.run(
            command(module, *words), check=True, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        print(done.stdout, flush=True)
        return done.stdout

    def drawn() -> int:
        return len(list((work / "data").glob("[0-9]*/text.npy")))

    def drawing(seconds: float, processes: int) -> list[str]:
        return command(
            "data", "--out", work / "data", "--shards", size["shards"], "--processes", processes, "--seconds", seconds
        )

    if not drawn():
        subprocess.run(drawing(args.draw_seconds, args.processes), check=True, env=environment, cwd=ROOT)
    left = deadline - time.monotonic() - args.reserve
    # The rest is drawn while the GPU trains, for the next slice.
    beside = None
    if drawn() < size["shards"]:
        beside = subprocess.Popen(drawing(left - 20, max(1, args.processes - 4)), env=environment, cwd=ROOT)
    trained, out = work / "run", args.out
    first = json.loads((args.pack / "state.json").read_text())["step"] if (args.pack / "state.json").exists() else 0
    start = ("--start", args.pack / "start.pt", "--first", first) if first else ()
    settings = ("--depth", size["depth"], "--batch", size["batch"], "--steps", args.steps, "--rate", args.rate)
    subprocess.run(
        command(
            "train", "--data", work / "data", "--out", trained, *settings, *start, "--device", args.device,
            "--seconds", max(0, left), "--sheet-steps", size["every"], "--peak-tflops", args.peak_tflops,
            "--compiled" if args.compiled else "--no-compiled",
        ),
        check=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    if beside:
        beside.wait()

    out.mkdir(parents=True, exist_ok=True)
    python("portable", "--checkpoint", trained / "checkpoint.pt", "--out", work / "weights.pt")
    state = json.loads((work / "weights.json").read_text())
    shutil.copy(work / "weights.json", out / "state.json")
    split(work / "weights.pt", out)
    for path in (trained / "log.jsonl", *sorted(trained.glob("sheet-*.png"))[-1:]):
        if path.exists():
            shutil.copy(path, out / ("sheet.png" if path.suffix == ".png" else path.name))
    if state["step"] >= args.steps:
        table = python(
            "evaluate", "--weights", trained / "checkpoint.pt", "--device", args.device, "--paintings",
            size["paintings"],
        )  # fmt: skip
        (out / "table.txt").write_text(table)
        print("Training is over.")
    else:
        print(f"Step {state['step']} of {args.steps}: run this again.")


def install(pack: Path, work: Path) -> dict[str, str]:
    """Unpack the wheels once; returns the environment in which the tree's own modules run."""
    site, done = work / "site", work / "site.done"
    if not done.exists():
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(site, ignore_errors=True)
        wheels = sorted(map(str, (pack / "wheels").glob("*.whl")))
        quiet = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", str(site), *wheels], check=True)
        done.touch()
    libraries = [str((pack / "lib").resolve()), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{site.resolve()}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "TORCHINDUCTOR_CACHE_DIR": str((work / "compiled").resolve()),  # a later slice compiles nothing again
    }


def split(path: Path, out: Path) -> None:
    """Cut a file into parts that may come back from that machine."""
    data = path.read_bytes()
    parts = [data[k : k + PART] for k in range(0, len(data), PART)]
    if len(parts) > PARTS:
        raise SystemExit(f"{path} has {len(data) / 2**20:.0f} MiB; at most {PARTS * PART / 2**20:.0f} come back.")
    for k, part in enumerate(parts):
        (out / f"weights.pt.{k}").write_bytes(part)


def join_parts(parts: Path, to: Path) -> None:
    """Put the parts of weights.pt together."""
    found = sorted(parts.glob("weights.pt.[0-9]"))
    if not found:
        raise SystemExit(f"{parts} holds no weights.pt.0.")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(b"".join(part.read_bytes() for part in found))


def join(args: argparse.Namespace) -> None:
    """weights.pt in --to, to be given to `export --checkpoint` or `train --start`; the parts for `pack --start`."""
    join_parts(args.parts, args.to / "weights.pt")
    print(f"Joined. Export with\npython -m {TRAIN}.export --checkpoint {args.to}/weights.pt --out FOLDER")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on a machine with PyTorch and no network.")
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.set_defaults(do=pack)
    packing.add_argument("--pack", type=Path, default=Path("runs/pack"))
    packing.add_argument("--python", default="3.12", help="that machine's version")
    packing.add_argument("--bare", action="store_true", help="that machine has PyTorch and numpy alone")
    packing.add_argument("--start", type=Path, help="folder that a slice brought back, to go on from")
    running = commands.add_parser("run")
    running.set_defaults(do=run)
    running.add_argument("--pack", type=Path, default=Path("runs/pack"))
    running.add_argument("--work", type=Path, default=Path("/tmp/limner-run"), help="kept there between slices")  # noqa: S108
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--device", default="cuda")
    running.add_argument("--seconds", type=float, default=570, help="of this slice, all included")
    running.add_argument("--draw-seconds", type=float, default=240, help="of the first slice for drawing alone")
    running.add_argument("--reserve", type=float, default=75, help="of it for what comes after training")
    running.add_argument("--processes", type=int, default=os.cpu_count())
    running.add_argument("--shards", type=int, default=520)
    running.add_argument("--depth", type=int, default=9)
    running.add_argument("--batch", type=int, default=1024)
    running.add_argument("--steps", type=int, default=16_000)
    running.add_argument("--rate", type=float, default=1.5e-3)
    running.add_argument("--paintings", type=int, default=128)
    running.add_argument("--peak-tflops", type=float, default=989.0, help="an H100's, dense, in bf16")
    running.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    running.add_argument("--tiny", action="store_true", help="depth 2 on two shards, to prove the way")
    joining = commands.add_parser("join")
    joining.set_defaults(do=join)
    joining.add_argument("--parts", type=Path, required=True)
    joining.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
