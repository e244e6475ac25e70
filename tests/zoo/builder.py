"""GraphBuilder: whole networks in a few lines, in NCHW with BatchNormalization, as PyTorch's exporter leaves them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
INPUT, OUTPUT = "input", "output"

#: What an operator does to the mean square of normally distributed values, roughly.
POWER = {"Relu": 0.5, "Clip": 0.5, "PRelu": 0.5, "LeakyRelu": 0.5, "Elu": 0.6, "HardSwish": 0.35, "Mul": 0.3}


class GraphBuilder:
    """Adds nodes to a graph; each method returns the name of the tensor it computes.

    Weights are random, scaled so that every convolution's output is about one in size at any depth: what the first
    layer sees still decides the output, and an error relative to the output's largest value means something.

    Attributes:
        channels: of each tensor.
        power: estimated mean square of each tensor.
    """

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.input = INPUT
        self.shape = shape
        self.channels = {INPUT: shape[1]}
        self.power = {INPUT: 1.0}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    # ------------------------------------------------------------------------------------------------- general

    def op(self, op_type: str, *inputs: str, channels: int = 0, **attributes: object) -> str:
        """A node with one output, which has as many channels as its first input unless told otherwise."""
        channels = channels or next(self.channels[x] for x in inputs if x in self.channels)
        return self.split_op(op_type, *inputs, channels=[channels], **attributes)[0]

    def split_op(self, op_type: str, *inputs: str, channels: Sequence[int], **attributes: object) -> list[str]:
        """A node with as many outputs as `channels` has entries."""
        name = f"/{op_type}_{len(self.nodes)}"
        outputs = [f"{name}_output_{index}" for index in range(len(channels))]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        self.channels.update(zip(outputs, channels, strict=True))
        power = sum(self.power.get(x, 0.0) for x in inputs) if op_type == "Add" else self.power.get(inputs[0], 1.0)
        self.power.update(dict.fromkeys(outputs, power * POWER.get(op_type, 1.0)))
        return outputs

    def constant(self, values: np.ndarray | Sequence[int] | Sequence[float] | float, kind: str = "constant") -> str:
        """An initializer: float32, or int64 for a list of integers."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"{kind}_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int, deviation: float) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32) * np.float32(deviation)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The finished model; its output is called `output`, several ones `output_0`, `output_1` ..."""
        names = [OUTPUT] if len(outputs) == 1 else [f"{OUTPUT}_{index}" for index in range(len(outputs))]
        for old, new in zip(outputs, names, strict=True):
            self._rename(old, new)
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)

    def _rename(self, old: str, new: str) -> None:
        for node in self.nodes:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    # ------------------------------------------------------------------------------------------------- layers

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        dilation: int = 1,
        pads: Sequence[int] | None = None,
        bias: bool = True,
    ) -> str:
        """Convolution of the input's rank; pads keep the size at stride 1 unless given."""
        rank = len(self.shape) - 2
        kernels = [kernel] * rank if isinstance(kernel, int) else list(kernel)
        fan_in = self.channels[x] // groups * int(np.prod(kernels))
        shape = (channels, self.channels[x] // groups, *kernels)
        inputs = [x, self.constant(self.normal(*shape, deviation=(fan_in * self.power[x]) ** -0.5), "weight")]
        if bias:
            inputs.append(self.constant(self.normal(channels, deviation=0.1), "bias"))
        output = self.op(
            "Conv",
            *inputs,
            channels=channels,
            kernel_shape=kernels,
            strides=[stride] * rank if isinstance(stride, int) else list(stride),
            group=groups,
            dilations=[dilation] * rank,
            pads=list(pads) if pads is not None else [(k - 1) * dilation // 2 for k in kernels] * 2,
        )
        self.power[output] = 1.0
        return output

    def depthwise(self, x: str, kernel: int = 3, *, stride: int = 1, act: str = "Relu", dilation: int = 1) -> str:
        channels = self.channels[x]
        return self.conv_bn(x, channels, kernel, stride=stride, groups=channels, act=act, dilation=dilation)

    def conv_transpose(self, x: str, channels: int, kernel: int, **attributes: object) -> str:
        shape = (self.channels[x], channels, kernel, kernel)
        weight = self.constant(self.normal(*shape, deviation=(self.channels[x] * 2) ** -0.5), "weight")
        bias = self.constant(self.normal(channels, deviation=0.1), "bias")
        kernel_shape = [kernel, kernel]
        return self.op("ConvTranspose", x, weight, bias, channels=channels, kernel_shape=kernel_shape, **attributes)

    def norm(self, x: str) -> str:
        """BatchNormalization that changes values, not their order of magnitude."""
        channels = self.channels[x]
        scale, variance = (self.random.uniform(0.7, 1.4, channels) for _ in range(2))
        bias, mean = (self.normal(channels, deviation=0.1) for _ in range(2))
        return self.op("BatchNormalization", x, *(self.constant(v, "norm") for v in (scale, bias, mean, variance)))

    def act(self, x: str, kind: str) -> str:
        """An activation, as exported: ReLU6 is a Clip, SiLU a Sigmoid and a Mul; "" is none."""
        if not kind:
            return x
        if kind == "Relu6":
            return self.op("Clip", x, self.constant(0.0), self.constant(6.0))
        if kind == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "PRelu":
            slope = self.random.uniform(0.1, 0.4, (self.channels[x], *[1] * (len(self.shape) - 2)))
            return self.op("PRelu", x, self.constant(slope, "slope"))
        attributes = {"alpha": 1 / 6, "beta": 0.5} if kind == "HardSigmoid" else {}
        return self.op(kind, x, **attributes)

    def conv_bn(
        self,
        x: str,
        channels: int,
        kernel: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        dilation: int = 1,
        pads: Sequence[int] | None = None,
        act: str = "Relu",
    ) -> str:
        """Convolution without bias, normalization, activation."""
        x = self.conv(x, channels, kernel, stride=stride, groups=groups, dilation=dilation, pads=pads, bias=False)
        return self.act(self.norm(x), act)

    def squeeze_excite(self, x: str, reduced: int, act: str = "Relu", gate: str = "Sigmoid") -> str:
        squeezed = self.act(self.conv(self.op("GlobalAveragePool", x), reduced, 1), act)
        return self.op("Mul", x, self.act(self.conv(squeezed, self.channels[x], 1), gate))

    def shuffle(self, x: str, groups: int, size: int) -> str:
        """Channel shuffle: reshape, transpose, reshape."""
        channels = self.channels[x]
        split = self.op("Reshape", x, self.constant([1, groups, channels // groups, size, size]))
        turned = self.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        return self.op("Reshape", turned, self.constant([1, channels, size, size]), channels=channels)

    def concat(self, *tensors: str) -> str:
        return self.op("Concat", *tensors, channels=sum(self.channels[t] for t in tensors), axis=1)

    def max_pool(self, x: str, kernel: int = 3, stride: int = 2, *, pad: int | None = None, ceil: bool = False) -> str:
        pads = [kernel // 2 if pad is None else pad] * 2 * (len(self.shape) - 2)
        return self.op(
            "MaxPool", x, kernel_shape=[kernel, kernel], strides=[stride] * 2, pads=pads, ceil_mode=int(ceil)
        )

    def average_pool(self, x: str, kernel: int = 2, stride: int = 2, **attributes: object) -> str:
        return self.op("AveragePool", x, kernel_shape=[kernel, kernel], strides=[stride] * 2, **attributes)

    def upsample(self, x: str, **attributes: object) -> str:
        """Twice the size."""
        return self.op("Resize", x, "", self.constant([1.0, 1.0, 2.0, 2.0]), **attributes)

    def linear(self, x: str, features: int, act: str = "") -> str:
        weight = self.normal(features, self.channels[x], deviation=self.channels[x] ** -0.5)
        bias = self.normal(features, deviation=0.1)
        inputs = (x, self.constant(weight, "weight"), self.constant(bias, "bias"))
        return self.act(self.op("Gemm", *inputs, channels=features, transB=1), act)

    def classify(self, x: str, classes: int = 10, *, mean: bool = False) -> onnx.ModelProto:
        """Global average pooling (`mean`: as ReduceMean), linear layer, done."""
        if mean:
            pooled = self.op("ReduceMean", x, axes=[2, 3], keepdims=0)
        else:
            pooled = self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)
        return self.model(self.linear(pooled, classes))
