"""benchmarks/real_weights.py at its tiny size: every column is there, and what cannot run is said to be missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "real_weights.py"


@pytest.mark.timeout(300)  # four processes, each of which imports torch and diffusers
def test_the_table_has_times_ratios_and_errors_and_says_which_peer_is_missing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        SCRIPT,
        "--size",
        "tiny",
        "--rounds",
        "2",
        "--keep",
        tmp_path,
        "--peers",
        tmp_path / "no",
    ]
    done = subprocess.run(
        [*map(str, command), "--only", "torch-f32", "genai", "--threads", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", done.stdout, re.MULTILINE))
    best, middle, ratio, cores, error, _ = rows["diffusers, torch f32"].split(" | ")
    assert 0 < float(best) <= float(middle)
    assert float(ratio) > 0
    assert float(cores) > 0
    assert error == "0.00%"
    *_, ratio, _, error, decibels = rows["Limner, OpenVINO bf16"].split(" | ")
    assert ratio == "1.00"
    assert 0 < float(error.rstrip("%")) < 20
    assert 20 < float(decibels) < 100
    assert "not run" in rows["openvino-genai, bf16"]
    assert "No such file" in rows["openvino-genai, bf16"]
