"""MediaPipe's selfie segmentation network, from its TFLite file to an ONNX file of plain operations.

    python -m limner.painter.training.matting_people --packages runs/packages --out src/limner/painter/weights/matting

The network finds people in photographs: (1, 3, 256, 256) in [0, 1] to (1, 1, 256, 256) in [0, 1]. Its source is the npm
package @mediapipe/selfie_segmentation, Apache-2.0. A TFLite file is a FlatBuffer; `Table` reads as much of that format
as is needed (https://flatbuffers.dev, tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from limner.painter.training.packages import fetch
from limner.painter.training.sources import PHOTOGRAPHS

SIDE = 256
Array = npt.NDArray[Any]


class Table:
    """A FlatBuffer table: field number k is at an offset that its vtable gives, or absent."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    @classmethod
    def root(cls, data: bytes) -> Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _field(self, k: int) -> int | None:
        vtable = self.at - self._read("i", self.at)
        if 4 + 2 * k >= self._read("H", vtable):
            return None
        offset = self._read("H", vtable + 4 + 2 * k)
        return self.at + offset if offset else None

    def _read(self, kind: str, at: int) -> int:
        value: int = struct.unpack_from(f"<{kind}", self.data, at)[0]
        return value

    def number(self, k: int, kind: str = "i", default: int = 0) -> int:
        at = self._field(k)
        return default if at is None else self._read(kind, at)

    def table(self, k: int) -> Table:
        """The table of field k; where there is none, one without fields, which has the default of each."""
        at = self._field(k)
        return EMPTY if at is None else Table(self.data, at + self._read("I", at))

    def _vector(self, k: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        at = self._field(k)
        if at is None:
            return 0, 0
        start = at + self._read("I", at)
        return start + 4, self._read("I", start)

    def tables(self, k: int) -> list[Table]:
        start, count = self._vector(k)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, at + self._read("I", at)) for at in places]

    def array(self, k: int, dtype: str) -> Array:
        start, count = self._vector(k)
        return np.frombuffer(self.data, dtype, count, start)


EMPTY = Table(struct.pack("<HHi", 4, 4, 4), 4)
# Numbers of operations, element types and enumerations in schema.fbs.
ADD, AVERAGE_POOL, CONV, DEPTHWISE, DEQUANTIZE, LOGISTIC = 0, 1, 3, 4, 6, 14
MUL, RELU, RESIZE_BILINEAR, CUSTOM, HARD_SWISH = 18, 19, 23, 32, 117
ELEMENTS = {0: "<f4", 1: "<f2", 2: "<i4"}
SAME, FUSED_RELU, FUSED_RELU6 = 0, 1, 3


class Conversion:
    """The graph as it is being made. Tensors are named by their numbers; pictures are turned from NHWC to NCHW."""

    def __init__(self, data: bytes) -> None:
        root = Table.root(data)
        graph = root.tables(2)[0]
        buffers = root.tables(4)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.codes = [max(code.number(0, "b"), code.number(3, "i")) for code in root.tables(1)]
        self.tensors = graph.tables(0)
        self.shapes = [tuple(tensor.array(0, "<i4").tolist()) for tensor in self.tensors]
        self.constants: dict[int, Array] = {}
        for number, tensor in enumerate(self.tensors):
            content = buffers[tensor.number(2, "I")].array(0, "u1")
            if len(content):
                kind = ELEMENTS[tensor.number(1, "b")]
                self.constants[number] = content.view(kind).reshape(self.shapes[number])
        self.inputs, self.outputs = (graph.array(k, "<i4").tolist() for k in (1, 2))
        for operation in graph.tables(3):
            self.convert(operation)

    def convert(self, operation: Table) -> None:
        """Append one operation.

        Raises:
            ValueError: it is one that the selfie network has none of.
        """
        code = self.codes[operation.number(0, "I")]
        inputs, outputs = operation.array(1, "<i4").tolist(), operation.array(2, "<i4").tolist()
        options, out = operation.table(4), outputs[0]
        if code == DEQUANTIZE:  # float16 weights, read as what they are
            self.constants[out] = self.constants[inputs[0]]
        elif code in (CONV, DEPTHWISE):
            self.convolution(inputs, out, options, code == DEPTHWISE)
        elif code == CUSTOM:  # Convolution2DTransposeBias, of MediaPipe's own: stride 2, kernel 2
            kernel = self.constants[inputs[1]].transpose(3, 0, 1, 2)
            names = [self.constant(inputs[1], kernel), self.constant(inputs[2], self.constants[inputs[2]])]
            self.node("ConvTranspose", [self.name(inputs[0]), *names], self.name(out), strides=[2, 2])
        elif code in (ADD, MUL):
            self.fused("Add" if code == ADD else "Mul", [self.name(i) for i in inputs], out, options.number(0, "b"))
        elif code == AVERAGE_POOL:
            if self.shapes[out][1:3] != (1, 1):
                raise ValueError("only pooling over the whole picture is converted")
            self.node("GlobalAveragePool", [self.name(inputs[0])], self.name(out))
        elif code == RESIZE_BILINEAR:
            self.resize(inputs[0], out, options)
        elif code in (LOGISTIC, RELU):
            self.node("Sigmoid" if code == LOGISTIC else "Relu", [self.name(inputs[0])], self.name(out))
        elif code == HARD_SWISH:
            self.node("HardSwish", [self.name(inputs[0])], self.name(out))
        else:
            raise ValueError(f"operation {code} is not known")

    def convolution(self, inputs: list[int], out: int, options: Table, depthwise: bool) -> None:
        """TFLite keeps kernels as OHWI, of depthwise ones as 1HWC, and pads unevenly where the stride is 2."""
        image, kernel, bias = inputs
        weight = self.constants[kernel]
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        strides = [options.number(2), options.number(1)]
        pads = [0, 0, 0, 0]
        if options.number(0, "b") == SAME:
            for axis in (0, 1):
                inner, outer = self.shapes[image][1 + axis], self.shapes[out][1 + axis]
                needed = max(0, (outer - 1) * strides[axis] + weight.shape[2 + axis] - inner)
                pads[axis], pads[2 + axis] = needed // 2, needed - needed // 2
        names = [self.name(image), self.constant(kernel, weight), self.constant(bias, self.constants[bias])]
        groups = weight.shape[0] if depthwise else 1
        self.fused("Conv", names, out, options.number(4 if depthwise else 3, "b"),
                   strides=strides, pads=pads, group=groups)  # fmt: skip

    def resize(self, image: int, out: int, options: Table) -> None:
        corners, centres = (bool(options.number(k, "b")) for k in (2, 3))
        mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
        scales = self.constant(out, np.array([1, 1, 2, 2], np.float32))
        self.node("Resize", [self.name(image), "", scales], self.name(out),
                  mode="linear", coordinate_transformation_mode=mode)  # fmt: skip

    def fused(self, kind: str, inputs: list[str], out: int, activation: int, **attributes: Any) -> None:
        """An operation and the activation that TFLite makes part of it."""
        if activation not in (0, FUSED_RELU):
            raise ValueError(f"activation {activation} is not known")
        name = self.name(out)
        self.node(kind, inputs, f"{name}.plain" if activation else name, **attributes)
        if activation:
            self.node("Relu", [f"{name}.plain"], name)

    def name(self, number: int) -> str:
        return "picture" if number in self.inputs else "person" if number in self.outputs else f"t{number}"

    def constant(self, number: int, value: Array) -> str:
        name = f"w{number}"
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value.astype("<f4")), name)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def model(self) -> onnx.ModelProto:
        """The whole as an ONNX model in float32."""
        picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
        person = helper.make_tensor_value_info("person", TensorProto.FLOAT, [1, 1, SIDE, SIDE])
        graph = helper.make_graph(self.nodes, "people", [picture], [person], list(self.weights.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="limner")
        model.ir_version = 9
        onnx.checker.check_model(model, full_check=True)
        return model


def people(packages: Path) -> onnx.ModelProto:
    """The network that finds people, from the npm package, which is fetched unless the folder holds it.

    Raises:
        BuildFailed: the package cannot be had, or its file is not the one that was pinned.
    """
    return Conversion((fetch(PHOTOGRAPHS, packages) / "selfie_segmentation.tflite").read_bytes()).model()
