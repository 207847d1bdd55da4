"""Networks on the CPU by OpenVINO: compiled once, called many times, with the same bits for the same input.

OpenVINO's results do not depend on the thread count, on other load or on earlier calls; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limner.errors import ModelUnusable

Precision = Literal["bf16", "f32"]


class Network:
    """A compiled network. Not to be called from two threads at once."""

    def __init__(self, source: Path | Any, *, precision: Precision = "f32", threads: int = 0) -> None:
        """Compile an ONNX file, or a model made of OpenVINO operations.

        Args:
            source: path of the file, or the model.
            precision: of the arithmetic inside; bf16 is used only where the CPU has it.
            threads: 0 takes all cores.

        Raises:
            ModelUnusable: the file is missing or not a network.
        """
        import openvino as ov

        core = ov.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "f32"
        self.precision: Precision = precision
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(source)) if isinstance(source, Path) else source
            self._call = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise ModelUnusable(
                f"{source} cannot be read as a network. Install Limner again, or export the model again."
            ) from error

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Run the network on named inputs; returns its first output, an array of its own.

        Raises:
            ValueError, RuntimeError: an input is missing or not of the shape and type that the network takes.
        """
        return self.all(inputs)[0]

    def all(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the network on named inputs; returns every output. Raises as a call does."""
        return [np.array(output, copy=True) for output in self._call.infer(dict(inputs)).values()]
