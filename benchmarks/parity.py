"""The parity table: each family and sampler beside diffusers' own pipeline, on tiny networks with random weights.

    python benchmarks/parity.py [--device cpu cuda] [--family FLUX]

The same cases as the tests', which ask for 50 dB in float32 on a CPU. Exit code 1 where one falls short of it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

LIMIT = 50.0
"""PSNR of our picture against diffusers', dB."""

TESTS = Path(__file__).parent.parent / "tests"


def main() -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--device", nargs="+", default=["cpu"], help="torch's names of devices")
    asked.add_argument("--family", default="", help="a part of the names of those to measure")
    options = asked.parse_args()

    sys.path.insert(0, str(TESTS))
    parity = importlib.import_module("parity")
    modules = sorted(path.stem for path in TESTS.glob("test_*.py") if "\nCASES" in path.read_text("utf-8"))
    cases = [case for module in modules for case in importlib.import_module(module).CASES]
    cases = [case for case in cases if options.family.lower() in case.family.lower()]
    warnings.simplefilter("ignore")  # of diffusers and transformers, about each other

    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = parity.Folders(Path(scratch))
        print("| family | sampler |" + "".join(f" {device} |" for device in options.device))
        print("| --- | --- |" + " --- |" * len(options.device))
        least: defaultdict[str, float] = defaultdict(lambda: float("inf"))
        for case in cases:
            row = []
            for device in options.device:
                measured = case.measure(folders(case.make), device)
                least[device] = min(least[device], measured)
                failed += measured <= LIMIT
                row.append(f" {measured:.1f} dB" + (" (too low)" if measured <= LIMIT else "") + " |")
            print(f"| {case.family} | {case.sampler} |" + "".join(row), flush=True)
    lowest = ", ".join(f"{value:.1f} dB on {device}" for device, value in least.items())
    print(f"\n{len(cases)} cases, the lowest {lowest}; {failed} at or under {LIMIT:.0f} dB")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
