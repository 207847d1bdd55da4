"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from limner.imaging import machine_kind


def machine() -> str:
    """Processor, cores, memory, kind, load and the versions that decide the figures, in a few lines."""
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        memory = re.search(r"^MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        named = memory = None
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = named[1] if named else platform.processor() or platform.machine()
    gib = int(memory[1]) / 2**20 if memory else 0
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    parts = [f"{name} {version(name)}" for name in ("limner", "openvino", "pillow", "skia-python", "numpy")]
    return "\n".join(
        [
            f"machine   {processor}, {cores} cores, {gib:.0f} GiB, {machine_kind()}",
            f"system    {system}, {', '.join(parts)}",
            f"load      {load:.2f} in the last minute before this run; figures of a busy machine are too high",
        ]
    )


def plain_environment() -> dict[str, str]:
    """The environment without settings of Limner's."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("LIMNER_")}
