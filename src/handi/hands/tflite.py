"""Read a `.tflite` file into a frozen, differentiable torch module.

A `.tflite` file is a FlatBuffer (schema: tensorflow/lite/schema/schema.fbs). The 13 operations of
MediaPipe's palm and landmark networks are known here; any other is an error that names it. Networks are
NHWC in the file and NCHW here; float16 constants behind DEQUANTIZE become float32 when the file is read.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handi.core.errors import ModelError

# Built-in operator codes of the schema.
NAMES = {
    0: "ADD",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    34: "PAD",
    40: "MEAN",
    54: "PRELU",
}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}
ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {0: lambda x: x, 1: F.relu, 3: F.relu6}
CHANNELS_FIRST = {0: 0, 1: 2, 2: 3, 3: 1}  # axis in NHWC → axis in NCHW


# -------------------------------------------------------------------------------------- flatbuffer


class _Table:
    """A FlatBuffer table: fields are found through a vtable of 16-bit offsets, absent ones have a default."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - self._unpack("i", position)
        self.vtable_size = self._unpack("H", self.vtable)

    def _unpack(self, kind: str, position: int) -> int:
        return struct.unpack_from("<" + kind, self.data, position)[0]

    def _field(self, number: int) -> int:
        entry = 4 + 2 * number
        offset = self._unpack("H", self.vtable + entry) if entry < self.vtable_size else 0
        return self.position + offset if offset else 0

    def number(self, field: int, kind: str, default: int = 0) -> int:
        position = self._field(field)
        return self._unpack(kind, position) if position else default

    def table(self, field: int) -> _Table:
        position = self._field(field)
        if not position:
            raise ValueError(f"field {field} is missing")
        return _Table(self.data, position + self._unpack("I", position))

    def vector(self, field: int) -> tuple[int, int]:
        """(position of the first element, length)."""
        position = self._field(field)
        if not position:
            return 0, 0
        position += self._unpack("I", position)
        return position + 4, self._unpack("I", position)

    def tables(self, field: int) -> list[_Table]:
        start, length = self.vector(field)
        places = [start + 4 * i for i in range(length)]
        return [_Table(self.data, place + self._unpack("I", place)) for place in places]

    def array(self, field: int, dtype: Any) -> np.ndarray:
        start, length = self.vector(field)
        return np.frombuffer(self.data, dtype, length, start) if length else np.zeros(0, dtype)


# ------------------------------------------------------------------------------------------- graph


@dataclass(frozen=True)
class Operation:
    name: str
    inputs: tuple[int, ...]  # tensor numbers; -1 where an optional input is left out
    output: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """A network as it stands in the file, DEQUANTIZE folded away."""

    operations: tuple[Operation, ...]
    constants: dict[int, np.ndarray]
    shapes: dict[int, tuple[int, ...]]  # NHWC
    input: int
    outputs: tuple[int, ...]
    outputs_at: int  # where the file holds the output numbers (int32), see `with_outputs`

    def producer(self, tensor: int) -> Operation:
        return next(op for op in self.operations if op.output == tensor)


def read_graph(data: bytes, *, where: str = "a .tflite file") -> Graph:
    """Parse the bytes of a `.tflite` file. Raises: ModelError (no such file, cut off, unknown operation)."""
    try:
        if data[4:8] != b"TFL3":
            raise ValueError("no TFL3 mark")
        return _parse(data)
    except (struct.error, ValueError, IndexError, KeyError, MemoryError) as error:
        raise ModelError(f"is not a whole .tflite network ({error})", where=where) from error
    except NotImplementedError as error:
        raise ModelError(str(error), where=where, hint="only MediaPipe's hand networks are known") from error


def _parse(data: bytes) -> Graph:
    model = _Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    subgraphs, buffers = model.tables(2), model.tables(4)
    graph = subgraphs[0]
    shapes, constants = {}, {}
    for number, tensor in enumerate(graph.tables(0)):
        shapes[number] = tuple(tensor.array(0, np.int32).tolist())
        content = buffers[tensor.number(2, "I")].array(0, np.uint8)
        if len(content):
            dtype = DTYPES[tensor.number(1, "b")]
            constants[number] = np.frombuffer(content.tobytes(), dtype).reshape(shapes[number])
    operations = []
    for entry in graph.tables(3):
        code = codes[entry.number(0, "I")]
        inputs = tuple(entry.array(1, np.int32).tolist())
        output = int(entry.array(2, np.int32)[0])
        if code not in NAMES:
            raise NotImplementedError(f"operation {code} (of the schema's BuiltinOperator) is not supported")
        name = NAMES[code]
        if name == "DEQUANTIZE":
            if inputs[0] not in constants:
                raise NotImplementedError("DEQUANTIZE of a value that is not constant is not supported")
            constants[output] = constants[inputs[0]].astype(np.float32)
        else:
            operations.append(Operation(name, inputs, output, _options(name, entry)))
    return Graph(
        tuple(operations),
        constants,
        shapes,
        input=int(graph.array(1, np.int32)[0]),
        outputs=tuple(graph.array(2, np.int32).tolist()),
        outputs_at=graph.vector(2)[0],
    )


def _options(name: str, operation: _Table) -> dict[str, Any]:
    """The options of an operation that change what it computes; field numbers are the schema's."""
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"):
        table = operation.table(4)
        activation = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "MAX_POOL_2D": 5}[name]
        options = {
            "same": table.number(0, "b") == 0,
            "stride": (table.number(2, "i"), table.number(1, "i")),
            "activation": table.number(activation, "b"),
        }
        if name == "MAX_POOL_2D":
            options["kernel"] = (table.number(4, "i"), table.number(3, "i"))
        else:
            across, down = (4, 5) if name == "CONV_2D" else (5, 6)
            if (table.number(across, "i", 1), table.number(down, "i", 1)) != (1, 1):
                raise NotImplementedError(f"{name} with dilation is not supported")
        return options
    if name in ("ADD", "FULLY_CONNECTED"):
        return {"activation": operation.table(4).number(0, "b")}
    if name == "CONCATENATION":
        return {"axis": operation.table(4).number(0, "i")}
    if name == "RESIZE_BILINEAR":
        table = operation.table(4)
        align, half_pixel = bool(table.number(2, "b")), bool(table.number(3, "b"))
        if align == half_pixel:
            raise NotImplementedError("RESIZE_BILINEAR with neither corners nor half pixels is not supported")
        return {"align_corners": align}
    return {}


def fingerprint(graph: Graph) -> str:
    """SHA-256 of what a graph computes (operations, options, constants), not of the file around it."""
    digest = hashlib.sha256()
    for op in graph.operations:
        digest.update(repr((op.name, sorted(op.options.items()), graph.shapes[op.output])).encode())
        for number in op.inputs:
            if number in graph.constants:
                digest.update(np.ascontiguousarray(graph.constants[number]).tobytes())
    return digest.hexdigest()


def with_outputs(data: bytes, graph: Graph, outputs: Sequence[int]) -> bytes:
    """The same file giving other tensors: as many as before, so that four bytes each change in place."""
    if len(outputs) != len(graph.outputs):
        raise ValueError(f"{len(outputs)} outputs in place of {len(graph.outputs)}")
    packed = struct.pack(f"<{len(outputs)}i", *outputs)
    return data[: graph.outputs_at] + packed + data[graph.outputs_at + len(packed) :]


# ------------------------------------------------------------------------------------------ module


class TFLiteModule(nn.Module):
    """A graph as a torch module without parameters: weights are buffers and stay as they are.

    `forward(x)` takes B×3×H×W float32 and gives the output tensors in the file's layout (B×...). Gradients
    reach x. Runs in float32 whatever autocast says: half precision moves landmarks by pixels.
    """

    def __init__(self, graph: Graph, outputs: Sequence[int] | None = None) -> None:
        super().__init__()
        self.input, self.outputs = graph.input, tuple(outputs or graph.outputs)
        self.steps = nn.ModuleList(_step(op, graph) for op in graph.operations)
        self.wiring = [(tuple(i for i in op.inputs if i not in graph.constants and i >= 0), op.output)
                       for op in graph.operations]  # fmt: skip
        last = {tensor: place for place, (inputs, _) in enumerate(self.wiring) for tensor in inputs}
        self.done = [[t for t in set(inputs) if last[t] == place and t not in self.outputs]
                     for place, (inputs, _) in enumerate(self.wiring)]  # fmt: skip
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, taps: Sequence[int] = ()) -> list[Tensor]:
        """Outputs, then the tensors numbered in `taps` (B×C×H×W): activations for feature matching."""
        values, kept = {self.input: x}, {}
        with torch.autocast(x.device.type, enabled=False):
            values[self.input] = x.float()
            for step, (inputs, output), done in zip(self.steps, self.wiring, self.done, strict=True):
                values[output] = step(*(values[tensor] for tensor in inputs))
                if output in taps:
                    kept[output] = values[output]
                for tensor in done:
                    del values[tensor]
        return [values[tensor] for tensor in self.outputs] + [kept[tensor] for tensor in taps]


def _step(op: Operation, graph: Graph) -> nn.Module:
    """The torch module of one operation, its constants taken in."""
    constants = [graph.constants.get(number) for number in op.inputs]
    shape = graph.shapes[op.output]
    match op.name:
        case "CONV_2D" | "DEPTHWISE_CONV_2D":
            return _Convolution(constants, depthwise=op.name != "CONV_2D", **op.options)
        case "FULLY_CONNECTED":
            return _FullyConnected(constants, **op.options)
        case "PRELU":
            return _PReLU(constants)
        case "MAX_POOL_2D":
            return _MaxPool(**op.options)
        case "ADD":
            act = ACTIVATIONS[op.options["activation"]]
            return _Function(lambda a, b: act(a + b))
        case "PAD":
            before_after = np.asarray(constants[1]).tolist()  # N H W C, each (before, after)
            _, height, width, channels = before_after
            return _Function(lambda x: F.pad(x, (*width, *height, *channels)))
        case "RESIZE_BILINEAR":
            corners = op.options["align_corners"]
            size = shape[1:3]
            return _Function(lambda x: F.interpolate(x, size, mode="bilinear", align_corners=corners))
        case "RESHAPE":
            return _Function(lambda x: _channels_last(x).reshape(len(x), *shape[1:]))
        case "CONCATENATION":
            axis = op.options["axis"]
            axis = CHANNELS_FIRST[axis % 4] if len(shape) == 4 else axis
            return _Function(lambda *parts: torch.cat(parts, axis))
        case "MEAN":
            axes = [CHANNELS_FIRST[int(axis) % 4] for axis in np.asarray(constants[1]).ravel()]
            if sorted(axes) != [2, 3]:
                raise NotImplementedError("MEAN over other axes than height and width is not supported")
            return _Function(lambda x: x.mean((2, 3)))
        case "LOGISTIC":
            return _Function(torch.sigmoid)
    raise NotImplementedError(f"{op.name} is not supported")


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, int, int, int]:
    """TensorFlow's SAME padding as (left, right, top, bottom): an odd pixel goes to the right or bottom."""
    total = [
        max((-(-side // s) - 1) * s + k - side, 0)
        for side, k, s in zip(x.shape[-2:], kernel, stride, strict=True)
    ]
    down, across = total
    return across // 2, across - across // 2, down // 2, down - down // 2


class _Function(nn.Module):
    """An operation without weights."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _Weighted(nn.Module):
    """An operation with weights, and a bias where the file has one."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: np.ndarray | None, bias: np.ndarray | None = None) -> None:
        super().__init__()
        if weight is None:
            raise NotImplementedError("an operation whose weights are not constant is not supported")
        self.register_buffer("weight", torch.from_numpy(np.array(weight, dtype=np.float32)))
        self.register_buffer("bias", None if bias is None else torch.from_numpy(np.array(bias)))


class _Convolution(_Weighted):
    def __init__(
        self,
        constants: list[np.ndarray | None],
        *,
        depthwise: bool,
        same: bool,
        stride: tuple[int, int],
        activation: int,
    ) -> None:
        _, weight, *bias = constants
        # O×kH×kW×I, or 1×kH×kW×C where every channel has its own kernel → torch's O×I×kH×kW
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        super().__init__(None if weight is None else weight.transpose(order), bias[0] if bias else None)
        self.groups = len(self.weight) if depthwise else 1
        self.same, self.stride, self.activation = same, stride, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = (
            _same_padding(x, self.weight.shape[2:], self.stride) if self.same else [0] * 4
        )
        if (left, top) != (right, bottom):
            x = F.pad(x, (left, right, top, bottom))
            left = top = 0
        return self.activation(
            F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        )


class _FullyConnected(_Weighted):
    def __init__(self, constants: list[np.ndarray | None], *, activation: int) -> None:
        super().__init__(*constants[1:])
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(_channels_last(x).flatten(1), self.weight, self.bias))


class _PReLU(_Weighted):
    def __init__(self, constants: list[np.ndarray | None]) -> None:
        slope = constants[1]
        if slope is not None and slope.size != slope.shape[-1]:
            raise NotImplementedError("PRELU with a slope for every pixel is not supported")
        super().__init__(None if slope is None else slope.ravel())

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)


class _MaxPool(nn.Module):
    def __init__(
        self, *, same: bool, stride: tuple[int, int], kernel: tuple[int, int], activation: int
    ) -> None:
        super().__init__()
        self.same, self.stride, self.kernel = same, stride, kernel
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        padding = _same_padding(x, self.kernel, self.stride) if self.same else (0, 0, 0, 0)
        if any(padding):
            x = F.pad(x, padding, value=float("-inf"))
        return self.activation(F.max_pool2d(x, self.kernel, self.stride))
