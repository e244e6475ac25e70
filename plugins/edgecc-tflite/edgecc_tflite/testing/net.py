"""Networks in a few lines: a builder of ONNX models with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.model import Model
from edgecc_tflite.testing.case import parse, to_model


class Net:
    """Adds nodes one after another; every method takes and returns names of tensors."""

    def __init__(self, seed: int = 0, **inputs: str) -> None:
        """Start a network.

        Args:
            seed: of the random weights.
            inputs: name and type of each input, such as x="f:1,3,32,32".
        """
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs = []
        self._channels: dict[str, int] = {}
        for name, operand in inputs.items():
            dtype, shape = parse(operand)
            self._inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape))
            if len(shape) > 1 and isinstance(shape[1], int):
                self._channels[name] = shape[1]

    def op(self, op: str, *inputs: str | np.ndarray | None, outputs: int = 1, **attributes: Any) -> Any:
        """Any node; arrays become constants. Returns its output's name, or a list of them."""
        names = [self._name(value) for value in inputs]
        outs = [f"{op.lower()}_{len(self._nodes)}" + (f"_{n}" if outputs > 1 else "") for n in range(outputs)]
        self._nodes.append(helper.make_node(op, names, outs, name=outs[0], **attributes))
        for out in outs:
            self._channels[out] = self._channels.get(names[0], 0)
        return outs if outputs > 1 else outs[0]

    def _name(self, value: str | np.ndarray | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def random(self, *shape: int, scale: float = 0.3) -> np.ndarray:
        return (self._random.standard_normal(shape) * scale).astype(np.float32)

    # ------------------------------------------------------------------------------------------------------- layers

    def conv(
        self, x: str, outs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: str = "", channels: int = 0
    ) -> str:
        """A padded convolution with bias and an activation."""
        ins = channels or self._channels[x]
        weights = self.random(outs, ins // groups, kernel, kernel, scale=(2 / (ins // groups * kernel**2)) ** 0.5)
        pad, strides = [kernel // 2] * 4, [stride, stride]
        y = self.op("Conv", x, weights, self.random(outs), pads=pad, strides=strides, group=groups)
        self._channels[y] = outs
        return self.act(y, act)

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, act: str = "") -> str:
        channels = self._channels[x]
        return self.conv(x, channels, kernel, stride, groups=channels, act=act)

    def act(self, x: str, kind: str) -> str:
        """`relu6` and `silu`, as exporters write them, or any operator by its name."""
        if not kind:
            return x
        if kind == "relu6":
            return str(self.op("Clip", x, np.zeros((), np.float32), np.full((), 6, np.float32)))
        if kind == "silu":
            return str(self.op("Mul", x, self.op("Sigmoid", x)))
        return str(self.op(kind, x))

    def squeeze_excite(self, x: str, middle: int, gate: str = "HardSigmoid") -> str:
        channels = self._channels[x]
        squeezed = self.conv(self.op("GlobalAveragePool", x), middle, act="Relu")
        return str(self.op("Mul", x, self.act(self.conv(squeezed, channels), gate)))

    def shuffle(self, x: str, groups: int, height: int, width: int) -> str:
        channels = self._channels[x]
        split = self.op("Reshape", x, np.array([-1, groups, channels // groups, height, width]))
        mixed = self.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        y = self.op("Reshape", mixed, np.array([-1, channels, height, width]))
        self._channels[y] = channels
        return str(y)

    def concat(self, *parts: str) -> str:
        y = self.op("Concat", *parts, axis=1)
        self._channels[y] = sum(self._channels[p] for p in parts)
        return str(y)

    def head(self, x: str, classes: int = 10) -> str:
        """Pool, flatten and classify."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.linear(flat, self._channels[x], classes)

    def linear(self, x: str, ins: int, outs: int) -> str:
        weights = self.random(outs, ins, scale=ins**-0.5)
        return str(self.op("Gemm", x, weights, self.random(outs), transB=1))

    def model(self, *outputs: str) -> Model:
        return to_model(self._nodes, self._inputs, outputs, self._constants)


def randomize(model: Model, seed: int = 0) -> Model:
    """Give a model without trained weights random ones for which its values neither vanish nor explode."""
    random = np.random.default_rng(seed)
    done: set[int] = set()
    for node in model.nodes():
        for index, tensor in enumerate(node.inputs):
            values = getattr(tensor, "values", None)
            if values is None or values.dtype != np.float32 or id(tensor) in done or values.size < 2:
                continue
            done.add(id(tensor))
            tensor.values = _plausible(random, node.op, index, values.shape)
    return model


def _plausible(random: np.random.Generator, op: str, index: int, shape: Sequence[int]) -> np.ndarray:
    if index == 1 and op in {"Conv", "Gemm", "MatMul"}:
        inputs = int(np.prod(shape[1:])) if op != "MatMul" else shape[0]
        values = random.standard_normal(shape, dtype=np.float32)
        values *= np.float32((2 / inputs) ** 0.5)
        return values
    if op == "BatchNormalization" or op == "Mul":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    return (random.standard_normal(shape) * 0.1).astype(np.float32)
