"""Steps of random models that compute: linear, elementwise, normalizing, as exporters write them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.model import Constant
from edgecc.testing.random_builder import CHANNELS, Builder

if TYPE_CHECKING:
    from edgecc.model import Tensor


def unary(b: Builder, x: Tensor) -> Tensor:
    return b.node(b.pick(["Relu", "Sigmoid", "Tanh", "Abs", "Identity", "Dropout"]), [x], x.shape)


def binary(b: Builder, x: Tensor) -> Tensor:
    other = b.pick([t for t in b.tensors if t.shape == x.shape])
    return b.node(b.pick(["Add", "Max", "Min"]), [x, other], x.shape)


def per_channel(b: Builder, x: Tensor) -> Tensor:
    constant = b.weights(*b.pick([(x.shape[1], 1, 1), (1, x.shape[1], 1, 1), (1,), ()]))
    op = b.pick(["Mul", "Div", "Add", "Sub"])
    return b.node(op, [constant, x] if op in ("Mul", "Add") and b.flip() else [x, constant], x.shape)


def neutral(b: Builder, x: Tensor) -> Tensor:
    op = b.pick(["Mul", "Div", "Sub", "Add", "Pow", "Neg"])
    if op == "Neg":
        return b.node(op, [b.node(op, [x], x.shape)], x.shape)
    values = np.full(b.pick([(), (1, 1, 1), (x.shape[1], 1, 1)]), op in ("Mul", "Div", "Pow"), np.float32)
    neutral = b.model.constant("n", values)
    return b.node(op, [neutral, x] if op in ("Mul", "Add") and b.flip() else [x, neutral], x.shape)


def scalar(b: Builder, value: float) -> Constant:
    return b.model.constant("s", np.array(value, np.float32))


def limit(b: Builder, x: Tensor) -> Tensor:
    op = b.pick(["Relu", "Max", "Min", "Clip"])
    if op == "Relu":
        return b.node(op, [x], x.shape)
    bound = scalar(b, b.pick([0.0, 0.0, 0.5, 6.0]))
    if op == "Clip":
        bounds: list[Tensor] = b.pick([[bound], [bound, scalar(b, 6.0)], [gs.Variable.empty(), bound]])
        return b.node(op, [x, *bounds], x.shape)
    return b.node(op, [x, bound] if b.flip() else [bound, x], x.shape)


def hard_gate(b: Builder, x: Tensor) -> Tensor:
    """HardSigmoid, HardSwish or nearly one of them."""
    shifted = b.node("Add", [x, scalar(b, b.pick([3.0, 3.0, 3.0, 1.0]))], x.shape)
    gate = b.node("Clip", [shifted, scalar(b, 0.0), scalar(b, 6.0)], x.shape)
    if b.flip():
        gate = b.node("Mul", [gate, b.pick([x, x, x, shifted])], x.shape)
    result = b.node("Div", [gate, scalar(b, 6.0)], x.shape)
    if b.pick([False] * 5 + [True]):
        b.tensors.append(gate)
    return result


def logistic(b: Builder, x: Tensor) -> Tensor:
    exponential = b.node("Exp", [b.node("Neg", [x], x.shape)], x.shape)
    divisor = b.node("Add", [exponential, scalar(b, 1.0)], x.shape)
    return b.node("Div", [b.pick([x, scalar(b, 1.0)]), divisor], x.shape)


def mish(b: Builder, x: Tensor) -> Tensor:
    soft = b.node("Softplus", [x], x.shape)
    threshold = b.pick([None, None, 20.0, 20.0, 1.0])
    if threshold is not None:
        above = b.model.variable("above", np.bool_, x.shape)
        b.model.add("Greater", [x, scalar(b, threshold)], [above])
        soft = b.node("Where", [above, x, soft], x.shape)
    return b.node("Mul", [x, b.node("Tanh", [soft], x.shape)], x.shape) if b.flip() else soft


def gelu(b: Builder, x: Tensor) -> Tensor:
    error = b.node("Erf", [b.node("Div", [x, scalar(b, 2**0.5)], x.shape)], x.shape)
    product = b.node("Mul", [x, b.node("Add", [error, scalar(b, b.pick([1.0, 1.0, 2.0]))], x.shape)], x.shape)
    return b.node("Mul", [product, scalar(b, 0.5)], x.shape)


def reduce(b: Builder, x: Tensor) -> Tensor:
    """Over one axis, dropped and put back, as JAX does."""
    axis = b.pick([1, 3])
    inputs: list[Tensor] = [x, b.integers(axis)]
    dropped = [dim for place, dim in enumerate(x.shape) if place != axis]
    lowered = b.node(b.pick(["ReduceMax", "ReduceMean"]), inputs, dropped, keepdims=0)
    kept = [1 if place == axis else dim for place, dim in enumerate(x.shape)]
    back = b.node("Unsqueeze", [lowered, b.integers(axis)], kept)
    return b.node("Add", [x, back], x.shape)


def softmax(b: Builder, x: Tensor) -> Tensor:
    axis, again = b.pick([1, 3]), b.pick([1, 3])
    one, other = ([1 if place == a else dim for place, dim in enumerate(x.shape)] for a in (axis, again))
    shifted = b.node("Sub", [x, b.node("ReduceMax", [x, b.integers(axis)], one)], x.shape)
    exponential = b.node("Exp", [shifted], x.shape)
    return b.node("Div", [exponential, b.node("ReduceSum", [exponential, b.integers(again)], other)], x.shape)


def conv(b: Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    kernel, pad, outputs = b.pick([1, 3]), b.pick([0, 1]), b.pick(CHANNELS)
    group = b.pick([1, channels] if outputs % channels == 0 else [1])
    size = side + 2 * pad - kernel + 1
    if size < 1:
        return None
    inputs: list[Tensor] = [x, b.weights(outputs, channels // group, kernel, kernel)]
    if b.flip():
        inputs.append(b.weights(outputs))
    return b.node("Conv", inputs, [batch, outputs, size, size], group=group, pads=[pad] * 4)


def conv_transpose(b: Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    group, outputs = b.pick([1, channels]), b.pick([1, 2])
    if side > 6:
        return None
    weights = b.weights(channels, outputs, 2, 2)
    return b.node("ConvTranspose", [x, weights], [batch, outputs * group, side + 1, side + 1], group=group)


def batchnorm(b: Builder, x: Tensor) -> Tensor:
    channels = x.shape[1]
    constants = [b.weights(channels), b.weights(channels), b.weights(channels), b.weights(channels, positive=True)]
    return b.node("BatchNormalization", [x, *constants], x.shape)


def pad(b: Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    top, bottom = b.pick([0, 1, 2]), b.pick([0, 1])
    if side > 8:
        return None
    inputs: list[Tensor] = [x, b.integers(0, 0, top, top, 0, 0, bottom, bottom)]
    if b.flip():
        inputs.append(b.model.constant("v", np.array(b.pick([0.0, 0.0, 1.0]), np.float32)))
    return b.node("Pad", inputs, [batch, channels, side + top + bottom, side + top + bottom])


def pool(b: Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    pad, op = b.pick([0, 1]), b.pick(["MaxPool", "AveragePool"])
    extra = {"count_include_pad": int(b.flip())} if op == "AveragePool" else {}
    size = side + 2 * pad - 2
    if size < 1:
        return None
    return b.node(op, [x], [batch, channels, size, size], kernel_shape=[3, 3], pads=[pad] * 4, **extra)


def matmul(b: Builder, x: Tensor) -> Tensor:
    """By constants, over the last axis; now and then with a bias behind it."""
    return product(b, x, x.shape[-1])


def matmuls(b: Builder, x: Tensor) -> Tensor:
    """Two in a row, with more or fewer columns between them."""
    return product(b, product(b, x, b.pick([1, 2, 8])), x.shape[-1])


def product(b: Builder, x: Tensor, columns: int) -> Tensor:
    shape = [*x.shape[:-1], columns]
    product = b.node("MatMul", [x, b.weights(x.shape[-1], columns)], shape)
    if b.flip():
        return product
    bias = b.weights(*b.pick([(columns,), (1, columns), ()]))
    return b.node("Add", [bias, product] if b.flip() else [product, bias], shape)


def gemm(b: Builder, x: Tensor) -> Tensor:
    """Between Reshapes, as exporters write a linear layer over the last axis."""
    features = columns = x.shape[-1]
    transposed = int(b.flip())
    rows = b.node("Reshape", [x, b.integers(-1, features)], ["R", features])
    inputs: list[Tensor] = [rows, b.weights(*((columns, features) if transposed else (features, columns)))]
    if b.flip():
        inputs.append(b.weights(*b.pick([(columns,), (1, columns), (1,)])))
    scales = {"alpha": b.pick([1.0, 0.5]), "beta": b.pick([1.0, 2.0])}
    product = b.node("Gemm", inputs, ["R", columns], transB=transposed, **scales)
    return b.node("Reshape", [product, b.integers(-1, *x.shape[1:-1], columns)], [*x.shape[:-1], columns])


def per_column(b: Builder, x: Tensor) -> Tensor:
    constant = b.weights(*b.pick([(x.shape[-1],), (1, x.shape[-1]), ()]))
    return b.node(b.pick(["Mul", "Div", "Add", "Sub"]), [x, constant], x.shape)


def normalize(b: Builder, x: Tensor) -> Tensor:
    """PyTorch's: over the channels, with an Expand that nothing needs; now and then something else reads it too."""
    batch, _, *rest = x.shape
    norm = b.node("ReduceL2", [x, b.integers(1)], [batch, 1, *rest])
    target = b.model.variable("shape", np.int64, [4])
    b.model.add("Shape", [x], [target])
    whole = b.node("Expand", [b.node("Add", [norm, scalar(b, 1.0)], norm.shape), target], x.shape)
    if b.pick([False] * 3 + [True]):
        b.tensors.append(whole)
    return b.node("Div", [x, whole], x.shape)


def scale(b: Builder, x: Tensor) -> Tensor:
    """By one number, then moved: what attention does to queries and keys."""
    scaled = b.node(b.pick(["Mul", "Div"]), [x, b.weights(*b.pick([(), (1,)]))], x.shape)
    return b.permuted(scaled, [0, 1, 3, 2]) if b.flip() else scaled


def binary_product(b: Builder, x: Tensor) -> Tensor | None:
    """By another square tensor, whose values are held below one: products of products would leave all bounds."""
    if x.shape[2] != x.shape[3]:
        return None
    other = b.pick([t for t in b.tensors if t.shape == x.shape])
    gate = b.node("Sigmoid", [other], other.shape)
    return b.node("MatMul", [gate, x] if b.flip() else [x, gate], x.shape)


def standardize(b: Builder, x: Tensor) -> Tensor | None:
    """Normalizations as exporters write them out; their epsilon is so large that little is left of what cancels."""
    if not all(isinstance(dim, int) for dim in x.shape[1:]):
        return None
    axes = b.pick([(3,), (2, 3), (1, 2, 3)])
    kept = [1 if axis in axes else dim for axis, dim in enumerate(x.shape)]
    centred = x
    if b.pick([True, True, False]):
        centred = b.node("Sub", [x, b.node("ReduceMean", [x, b.integers(*axes)], kept)], x.shape)
    power = [("Mul", centred), ("Pow", scalar(b, 2.0))]
    op, operand = b.pick(power)
    square = b.node(op, [centred, operand], x.shape)
    variance = b.node("ReduceMean", [square, b.integers(*axes)], kept)
    root = b.node("Sqrt", [b.node("Add", [variance, scalar(b, 100.0)], kept)], kept)
    if b.pick([False] * 7 + [True]):
        b.tensors.append(root)
    if b.flip():
        normal = b.node("Div", [centred, root], x.shape)
    else:
        normal = b.node("Mul", [centred, b.node("Reciprocal", [root], kept)], x.shape)
    shape = b.pick([tuple(x.shape[axis] for axis in axes), (x.shape[1], 1, 1), ()])
    scaled = b.node("Mul", [normal, b.weights(*shape)], x.shape)
    return b.node("Add", [scaled, b.weights(*shape)], x.shape)


def attend(b: Builder, x: Tensor) -> Tensor | None:
    """Scaled dot products with a mask and PyTorch's guard against rows of minus infinity, or without."""
    rows, features = x.shape[2:]
    if not isinstance(rows, int) or not isinstance(features, int):
        return None
    shape = [*x.shape[:2], rows, rows]
    gate = b.node("Sigmoid", [x], x.shape)
    scores = b.node("MatMul", [gate, b.permuted(gate, (0, 1, 3, 2))], shape)
    if b.flip():
        scores = b.node("Mul", [scores, scalar(b, 0.5)], shape)
    if b.flip():
        mask = np.triu(np.full((rows, rows), -np.inf, np.float32), b.pick([1, -1]))
        scores = b.node("Add", [scores, b.model.constant("mask", mask)], shape)
    weights = b.node("Softmax", [scores], shape, axis=-1)
    if b.flip():
        flag = b.model.variable("t", np.bool_, shape)
        b.model.add("IsNaN", [weights], [flag])
        weights = b.node("Where", [flag, scalar(b, 0.0), weights], shape)
    return b.node("MatMul", [weights, x], x.shape)
