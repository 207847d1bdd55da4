"""The GPU's table is made in slices, each row once, also where a way fails."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# torch's own compiler imports what torch wants to give up; diffusers' network asks torch for its version there, and
# hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
]

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("benchmark_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def asked(folder: Path, out: str, **fields: Any) -> Namespace:
    usual = {
        "work": folder / "work", "out": folder / out, "earlier": None, "seconds": 500, "reserve": 30, "each": 0.05,
        "device": "cpu", "backend": "eager", "models": ["SDXL", "FLUX.1"], "batches": [1, 2], "tiny": True,
        "ways": ["diffusers eager", "eager"],
    }  # fmt: skip
    return Namespace(**usual | fields)


def rows(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["rows"]
    return found


def test_both_families_and_sides_are_measured_and_a_later_slice_goes_on(gpu: ModuleType, tmp_path: Path) -> None:
    assert not gpu.slice_(asked(tmp_path, "a", seconds=20))
    assert rows(tmp_path / "a") == {}
    assert gpu.slice_(asked(tmp_path, "a"))
    measured = rows(tmp_path / "a")
    assert set(measured) == {
        f"{family}|{way}|{batch}"
        for family in ("SDXL", "FLUX.1")
        for way in ("diffusers eager", "eager")
        for batch in (1, 2)
    }
    for row in measured.values():
        assert row.get("evaluations_per_second", 0) > 0, row
        assert row["peak_gib"] > 0
    table = (tmp_path / "a" / "table.md").read_text()
    assert table.count("| diffusers eager | ") == table.count("| eager | ") == 2

    command = [sys.executable, str(SCRIPT), "run", "--tiny", "--device", "cpu", "--work", str(tmp_path / "work")]
    command += ["--earlier", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--batches", "1", "2"]
    command += ["--ways", "diffusers eager", "eager"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "All is measured.\n"  # and nothing is measured twice
    assert rows(tmp_path / "b") == measured


def test_compiled_and_rounded_ways_run_and_one_that_fails_says_why(gpu: ModuleType, tmp_path: Path) -> None:
    ways = ["diffusers compiled", "blocks compiled", "CUDA graphs", "int8", "unheard of"]
    made = gpu.one_way

    def one_way(subject: Any, way: str, args: Namespace) -> Any:
        if way == "unheard of":
            raise RuntimeError("no such way")
        return made(subject, way, args)

    gpu.one_way = one_way
    assert gpu.slice_(asked(tmp_path, "a", models=["FLUX.1"], batches=[1], ways=ways))
    gpu.one_way = made
    found = rows(tmp_path / "a")
    assert {key: row["failed"] for key, row in found.items() if "failed" in row} == {
        "FLUX.1|unheard of|1": "RuntimeError: no such way"
    }
    assert len(found) == len(ways)


@pytest.mark.parametrize(
    ("device", "share"), [("NVIDIA H100 80GB HBM3", "20%"), ("NVIDIA H100 PCIe", "26%"), ("A Toaster", None)]
)
def test_the_share_is_of_the_peak_of_the_device(gpu: ModuleType, device: str, share: str | None) -> None:
    row = {"evaluations_per_second": 197.8, "peak_gib": 1.0}
    results = {
        "device": device, "torch": "2", "side": 1024, "operations": {"SDXL": 1e12},
        "rows": {"SDXL|eager|1": row, "SDXL|int8|1": {"failed": "no wheel"}},
    }  # fmt: skip
    table = "\n".join(gpu.table(results))
    assert (f"197.80 ({share})" if share else "| 197.80 |") in table
    assert "| int8 | failed |" in table
    assert "SDXL, int8, 1: no wheel" in table
