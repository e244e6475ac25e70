"""Hypothesis strategies: small random models for property tests.

from hypothesis import given
from edgecc.testing import check_contract
from edgecc.testing.strategies import models

@given(models())
def test_on_random_models(model):
    check_contract(MyPass(), model)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.model import Constant, Model, Tensor
from edgecc.opset import INTERNAL_OPSET

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    Step = Callable[["_Builder", Tensor], Tensor | None]

#: Larger sizes find nothing more and take longer.
_CHANNELS, _SIDE = (1, 2, 4), (3, 6)


def models(max_nodes: int = 10) -> SearchStrategy[Model]:
    """Random graphs of convolutions, normalizations, pooling, padding, arithmetic, activations and shape operators.

    Tensors have several readers, constants are shared, inner tensors are outputs, and the batch may be open. Values
    stay within a few orders of magnitude and nothing cancels, so that a ROUNDING pass can be held to a tolerance.

    Args:
        max_nodes: nodes, not counting the Identity that an output may need.
    """
    # Imported here: only tests have Hypothesis.
    from hypothesis import strategies as st

    @st.composite
    def build(draw: DrawFn) -> Model:
        builder = _Builder(draw)
        for _ in range(draw(st.integers(1, max_nodes))):
            builder.grow()
        return builder.finish()

    return build()


class _Builder:
    """Adds one random node after the other; every tensor has four axes."""

    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw
        batch = self.pick([1, 2, "N"])
        side = self.pick(_SIDE)
        self.tensors: list[Tensor] = [gs.Variable("x", np.dtype(np.float32), [batch, self.pick(_CHANNELS), side, side])]
        self.model = Model(gs.Graph([], [self.tensors[0]], [], opset=INTERNAL_OPSET))
        self.constants: list[Constant] = []

    def pick(self, options: Any) -> Any:
        from hypothesis import strategies as st

        return self.draw(st.sampled_from(list(options)))

    def flip(self) -> bool:
        from hypothesis import strategies as st

        return self.draw(st.booleans())

    def grow(self) -> None:
        """One more node, if the drawn operator can read the drawn tensor."""
        # Late tensors more often: chains are what passes match.
        source = self.tensors[-1] if self.flip() or self.flip() else self.pick(self.tensors)
        result = self.pick(_STEPS)(self, source)
        if result is not None:
            self.tensors.append(result)

    def finish(self) -> Model:
        """Everything that nothing reads, and some of the rest, are the model's outputs."""
        outputs = [t for t in self.tensors[1:] if not t.outputs or self.pick([False] * 7 + [True])]
        for tensor in outputs or [self.tensors[0]]:
            if not tensor.inputs or self.pick([False, False, True]):
                tensor = self.node("Identity", [tensor], tensor.shape)
            self.model.graph.outputs.append(tensor)
        self.model.cleanup()
        return self.model

    def node(self, op: str, inputs: list[Tensor], shape: Any, **attributes: object) -> Tensor:
        output = self.model.variable("t", np.float32, shape)
        self.model.add(op, inputs, [output], attributes=attributes)
        return output

    def weights(self, *shape: int, positive: bool = False) -> Constant:
        """Values between 0.5 and 1 in size; now and then a constant that is there already."""
        old = [c for c in self.constants if c.shape == list(shape) and (not positive or c.name.startswith("positive"))]
        if old and self.flip():
            return old[0]
        rng = np.random.default_rng(len(self.constants))
        values = rng.uniform(0.5, 1, shape)
        if not positive:
            values *= rng.choice([-1, 1], shape)
        constant = self.model.constant("positive" if positive else "c", values.astype(np.float32))
        self.constants.append(constant)
        return constant

    def permuted(self, x: Tensor, perm: Any) -> Tensor:
        return self.node("Transpose", [x], [x.shape[axis] for axis in perm], perm=list(perm))

    def integers(self, *values: int) -> Constant:
        return self.model.constant("i", np.array(values, np.int64))


def _unary(b: _Builder, x: Tensor) -> Tensor:
    return b.node(b.pick(["Relu", "Sigmoid", "Tanh", "Abs", "Identity", "Dropout"]), [x], x.shape)


def _cast(b: _Builder, x: Tensor) -> Tensor:
    return b.node("Cast", [x], x.shape, to=1)


def _binary(b: _Builder, x: Tensor) -> Tensor:
    other = b.pick([t for t in b.tensors if t.shape == x.shape])
    return b.node(b.pick(["Add", "Max", "Min"]), [x, other], x.shape)


def _per_channel(b: _Builder, x: Tensor) -> Tensor:
    constant = b.weights(*b.pick([(x.shape[1], 1, 1), (1, x.shape[1], 1, 1), (1,), ()]))
    op = b.pick(["Mul", "Div", "Add", "Sub"])
    return b.node(op, [constant, x] if op in ("Mul", "Add") and b.flip() else [x, constant], x.shape)


def _neutral(b: _Builder, x: Tensor) -> Tensor:
    op = b.pick(["Mul", "Div", "Sub", "Add", "Pow", "Neg"])
    if op == "Neg":
        return b.node(op, [b.node(op, [x], x.shape)], x.shape)
    values = np.full(b.pick([(), (1, 1, 1), (x.shape[1], 1, 1)]), op in ("Mul", "Div", "Pow"), np.float32)
    neutral = b.model.constant("n", values)
    return b.node(op, [neutral, x] if op in ("Mul", "Add") and b.flip() else [x, neutral], x.shape)


def _scalar(b: _Builder, value: float) -> Constant:
    return b.model.constant("s", np.array(value, np.float32))


def _limit(b: _Builder, x: Tensor) -> Tensor:
    op = b.pick(["Relu", "Max", "Min", "Clip"])
    if op == "Relu":
        return b.node(op, [x], x.shape)
    bound = _scalar(b, b.pick([0.0, 0.0, 0.5, 6.0]))
    if op == "Clip":
        bounds: list[Tensor] = b.pick([[bound], [bound, _scalar(b, 6.0)], [gs.Variable.empty(), bound]])
        return b.node(op, [x, *bounds], x.shape)
    return b.node(op, [x, bound] if b.flip() else [bound, x], x.shape)


def _hard_gate(b: _Builder, x: Tensor) -> Tensor:
    """HardSigmoid, HardSwish or nearly one of them."""
    shifted = b.node("Add", [x, _scalar(b, b.pick([3.0, 3.0, 3.0, 1.0]))], x.shape)
    gate = b.node("Clip", [shifted, _scalar(b, 0.0), _scalar(b, 6.0)], x.shape)
    if b.flip():
        gate = b.node("Mul", [gate, b.pick([x, x, x, shifted])], x.shape)
    result = b.node("Div", [gate, _scalar(b, 6.0)], x.shape)
    if b.pick([False] * 5 + [True]):
        b.tensors.append(gate)
    return result


def _logistic(b: _Builder, x: Tensor) -> Tensor:
    exponential = b.node("Exp", [b.node("Neg", [x], x.shape)], x.shape)
    divisor = b.node("Add", [exponential, _scalar(b, 1.0)], x.shape)
    return b.node("Div", [b.pick([x, _scalar(b, 1.0)]), divisor], x.shape)


def _mish(b: _Builder, x: Tensor) -> Tensor:
    soft = b.node("Softplus", [x], x.shape)
    threshold = b.pick([None, None, 20.0, 20.0, 1.0])
    if threshold is not None:
        above = b.model.variable("above", np.bool_, x.shape)
        b.model.add("Greater", [x, _scalar(b, threshold)], [above])
        soft = b.node("Where", [above, x, soft], x.shape)
    return b.node("Mul", [x, b.node("Tanh", [soft], x.shape)], x.shape) if b.flip() else soft


def _gelu(b: _Builder, x: Tensor) -> Tensor:
    error = b.node("Erf", [b.node("Div", [x, _scalar(b, 2**0.5)], x.shape)], x.shape)
    product = b.node("Mul", [x, b.node("Add", [error, _scalar(b, b.pick([1.0, 1.0, 2.0]))], x.shape)], x.shape)
    return b.node("Mul", [product, _scalar(b, 0.5)], x.shape)


def _reduce(b: _Builder, x: Tensor) -> Tensor:
    """Over one axis, dropped and put back, as JAX does."""
    axis = b.pick([1, 3])
    inputs: list[Tensor] = [x, b.integers(axis)]
    dropped = [dim for place, dim in enumerate(x.shape) if place != axis]
    lowered = b.node(b.pick(["ReduceMax", "ReduceMean"]), inputs, dropped, keepdims=0)
    kept = [1 if place == axis else dim for place, dim in enumerate(x.shape)]
    back = b.node("Unsqueeze", [lowered, b.integers(axis)], kept)
    return b.node("Add", [x, back], x.shape)


def _softmax(b: _Builder, x: Tensor) -> Tensor:
    axis, again = b.pick([1, 3]), b.pick([1, 3])
    one, other = ([1 if place == a else dim for place, dim in enumerate(x.shape)] for a in (axis, again))
    shifted = b.node("Sub", [x, b.node("ReduceMax", [x, b.integers(axis)], one)], x.shape)
    exponential = b.node("Exp", [shifted], x.shape)
    return b.node("Div", [exponential, b.node("ReduceSum", [exponential, b.integers(again)], other)], x.shape)


def _conv(b: _Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    kernel, pad, outputs = b.pick([1, 3]), b.pick([0, 1]), b.pick(_CHANNELS)
    group = b.pick([1, channels] if outputs % channels == 0 else [1])
    size = side + 2 * pad - kernel + 1
    if size < 1:
        return None
    inputs: list[Tensor] = [x, b.weights(outputs, channels // group, kernel, kernel)]
    if b.flip():
        inputs.append(b.weights(outputs))
    return b.node("Conv", inputs, [batch, outputs, size, size], group=group, pads=[pad] * 4)


def _conv_transpose(b: _Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    group, outputs = b.pick([1, channels]), b.pick([1, 2])
    if side > 6:
        return None
    weights = b.weights(channels, outputs, 2, 2)
    return b.node("ConvTranspose", [x, weights], [batch, outputs * group, side + 1, side + 1], group=group)


def _batchnorm(b: _Builder, x: Tensor) -> Tensor:
    channels = x.shape[1]
    constants = [b.weights(channels), b.weights(channels), b.weights(channels), b.weights(channels, positive=True)]
    return b.node("BatchNormalization", [x, *constants], x.shape)


def _pad(b: _Builder, x: Tensor) -> Tensor | None:
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


def _pool(b: _Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    pad, op = b.pick([0, 1]), b.pick(["MaxPool", "AveragePool"])
    extra = {"count_include_pad": int(b.flip())} if op == "AveragePool" else {}
    size = side + 2 * pad - 2
    if size < 1:
        return None
    return b.node(op, [x], [batch, channels, size, size], kernel_shape=[3, 3], pads=[pad] * 4, **extra)


def _concat(b: _Builder, x: Tensor) -> Tensor | None:
    others = [t for t in b.tensors if t.shape[0] == x.shape[0] and t.shape[2:] == x.shape[2:]]
    parts = [x, *(b.pick(others) for _ in range(b.pick([0, 1, 1])))]
    channels = sum(t.shape[1] for t in parts)
    return b.node("Concat", parts, [x.shape[0], channels, *x.shape[2:]], axis=1) if channels <= 8 else None


def _reshape(b: _Builder, x: Tensor) -> Tensor | None:
    batch, channels, side, other = x.shape
    if side != other:
        return None
    if b.flip():
        return b.node("Reshape", [x, b.integers(0, -1, side, side)], x.shape)
    flat = b.node("Reshape", [x, b.integers(0, 0, -1)], [batch, channels, side * side])
    return b.node("Reshape", [flat, b.integers(0, channels, side, side)], x.shape)


def _transpose(b: _Builder, x: Tensor) -> Tensor:
    return b.permuted(x, b.pick([[0, 1, 2, 3], [0, 1, 3, 2]]))


def _slice(b: _Builder, x: Tensor) -> Tensor:
    start = b.pick([0, 0, 1]) if x.shape[1] > 1 else 0
    inputs: list[Tensor] = [x, b.integers(start), b.integers(b.pick([x.shape[1], 2**31 - 1])), b.integers(1)]
    return b.node("Slice", inputs, [x.shape[0], x.shape[1] - start, *x.shape[2:]])


def _matmul(b: _Builder, x: Tensor) -> Tensor:
    """By constants, over the last axis; now and then with a bias behind it."""
    return _product(b, x, x.shape[-1])


def _matmuls(b: _Builder, x: Tensor) -> Tensor:
    """Two in a row, with more or fewer columns between them."""
    return _product(b, _product(b, x, b.pick([1, 2, 8])), x.shape[-1])


def _product(b: _Builder, x: Tensor, columns: int) -> Tensor:
    shape = [*x.shape[:-1], columns]
    product = b.node("MatMul", [x, b.weights(x.shape[-1], columns)], shape)
    if b.flip():
        return product
    bias = b.weights(*b.pick([(columns,), (1, columns), ()]))
    return b.node("Add", [bias, product] if b.flip() else [product, bias], shape)


def _gemm(b: _Builder, x: Tensor) -> Tensor:
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


def _per_column(b: _Builder, x: Tensor) -> Tensor:
    constant = b.weights(*b.pick([(x.shape[-1],), (1, x.shape[-1]), ()]))
    return b.node(b.pick(["Mul", "Div", "Add", "Sub"]), [x, constant], x.shape)


def _normalize(b: _Builder, x: Tensor) -> Tensor:
    """PyTorch's: over the channels, with an Expand that nothing needs; now and then something else reads it too."""
    batch, _, *rest = x.shape
    norm = b.node("ReduceL2", [x, b.integers(1)], [batch, 1, *rest])
    target = b.model.variable("shape", np.int64, [4])
    b.model.add("Shape", [x], [target])
    whole = b.node("Expand", [b.node("Add", [norm, _scalar(b, 1.0)], norm.shape), target], x.shape)
    if b.pick([False] * 3 + [True]):
        b.tensors.append(whole)
    return b.node("Div", [x, whole], x.shape)


def _scale(b: _Builder, x: Tensor) -> Tensor:
    """By one number, then moved: what attention does to queries and keys."""
    scaled = b.node(b.pick(["Mul", "Div"]), [x, b.weights(*b.pick([(), (1,)]))], x.shape)
    return b.permuted(scaled, [0, 1, 3, 2]) if b.flip() else scaled


def _binary_product(b: _Builder, x: Tensor) -> Tensor | None:
    """By another square tensor, whose values are held below one: products of products would leave all bounds."""
    if x.shape[2] != x.shape[3]:
        return None
    other = b.pick([t for t in b.tensors if t.shape == x.shape])
    gate = b.node("Sigmoid", [other], other.shape)
    return b.node("MatMul", [gate, x] if b.flip() else [x, gate], x.shape)


def _standardize(b: _Builder, x: Tensor) -> Tensor | None:
    """Normalizations as exporters write them out; their epsilon is so large that little is left of what cancels."""
    if not all(isinstance(dim, int) for dim in x.shape[1:]):
        return None
    axes = b.pick([(3,), (2, 3), (1, 2, 3)])
    kept = [1 if axis in axes else dim for axis, dim in enumerate(x.shape)]
    centred = x
    if b.pick([True, True, False]):
        centred = b.node("Sub", [x, b.node("ReduceMean", [x, b.integers(*axes)], kept)], x.shape)
    power = [("Mul", centred), ("Pow", _scalar(b, 2.0))]
    op, operand = b.pick(power)
    square = b.node(op, [centred, operand], x.shape)
    variance = b.node("ReduceMean", [square, b.integers(*axes)], kept)
    root = b.node("Sqrt", [b.node("Add", [variance, _scalar(b, 100.0)], kept)], kept)
    if b.pick([False] * 7 + [True]):
        b.tensors.append(root)
    if b.flip():
        normal = b.node("Div", [centred, root], x.shape)
    else:
        normal = b.node("Mul", [centred, b.node("Reciprocal", [root], kept)], x.shape)
    shape = b.pick([tuple(x.shape[axis] for axis in axes), (x.shape[1], 1, 1), ()])
    scaled = b.node("Mul", [normal, b.weights(*shape)], x.shape)
    return b.node("Add", [scaled, b.weights(*shape)], x.shape)


def _attend(b: _Builder, x: Tensor) -> Tensor | None:
    """Scaled dot products with a mask and PyTorch's guard against rows of minus infinity, or without."""
    rows, features = x.shape[2:]
    if not isinstance(rows, int) or not isinstance(features, int):
        return None
    shape = [*x.shape[:2], rows, rows]
    gate = b.node("Sigmoid", [x], x.shape)
    scores = b.node("MatMul", [gate, b.permuted(gate, (0, 1, 3, 2))], shape)
    if b.flip():
        scores = b.node("Mul", [scores, _scalar(b, 0.5)], shape)
    if b.flip():
        mask = np.triu(np.full((rows, rows), -np.inf, np.float32), b.pick([1, -1]))
        scores = b.node("Add", [scores, b.model.constant("mask", mask)], shape)
    weights = b.node("Softmax", [scores], shape, axis=-1)
    if b.flip():
        flag = b.model.variable("t", np.bool_, shape)
        b.model.add("IsNaN", [weights], [flag])
        weights = b.node("Where", [flag, _scalar(b, 0.0), weights], shape)
    return b.node("MatMul", [weights, x], x.shape)


# ------------------------------------------------------------------------------------------------- data movement


def _permute(b: _Builder, x: Tensor) -> Tensor:
    """Any order, the batch in its place: what follows reads as channels what was a side."""
    return b.permuted(x, b.pick([[0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1], [0, 2, 1, 3], [0, 1, 3, 2]]))


def _back_and_forth(b: _Builder, x: Tensor) -> Tensor:
    """Elementwise operators in another layout, as exporters of NHWC frameworks write them."""
    perm = b.pick([[0, 2, 3, 1], [0, 1, 3, 2]])
    t = b.permuted(x, perm)
    for _ in range(b.pick([1, 2])):
        t = b.pick([_unary, _per_last, _with_another, _split_and_join])(b, t)
    return b.permuted(t, [perm.index(axis) for axis in range(4)])


def _per_last(b: _Builder, x: Tensor) -> Tensor:
    if not isinstance(x.shape[-1], int):
        return _unary(b, x)
    return b.node(b.pick(["Mul", "Add"]), [x, b.weights(*b.pick([(x.shape[-1],), (1, 1, 1)]))], x.shape)


def _with_another(b: _Builder, x: Tensor) -> Tensor:
    """An operand of the same shape, which may be in any layout."""
    others = [t for t in b.tensors if t.shape is not None and sorted(map(str, t.shape)) == sorted(map(str, x.shape))]
    other = b.pick(others) if others else x
    if other.shape != x.shape:
        perm = next((p for p in _orders(4) if [other.shape[axis] for axis in p] == list(x.shape)), None)
        other = b.permuted(other, perm) if perm else x
    return b.node(b.pick(["Add", "Max"]), b.pick([[x, other], [other, x]]), x.shape)


def _split_and_join(b: _Builder, x: Tensor) -> Tensor:
    """Cut along an axis and put together again, the pieces in any order."""
    axis = b.pick([a for a in range(1, 4) if isinstance(x.shape[a], int)])
    size = x.shape[axis]
    if size < 2:
        return x
    at = b.pick([1, size - 1])
    shapes = [[*x.shape[:axis], part, *x.shape[axis + 1 :]] for part in (at, size - at)]
    if b.flip():
        parts = [b.model.variable("t", np.float32, shape) for shape in shapes]
        b.model.add("Split", [x, b.integers(at, size - at)], parts, attributes={"axis": axis})
    else:
        bounds = [(0, at), (at, b.pick([size, 2**31 - 1]))]
        parts = [
            b.node("Slice", [x, b.integers(start), b.integers(end), b.integers(axis)], shape)
            for (start, end), shape in zip(bounds, shapes, strict=True)
        ]
    if b.flip():
        parts[0] = _unary(b, parts[0])
    parts = b.pick([parts, parts[::-1]])
    return b.node("Concat", list(parts), x.shape, axis=b.pick([axis, axis - 4]))


def _other_shape(b: _Builder, x: Tensor) -> Tensor:
    """Through a shape of three or five axes and back, with something in between."""
    t = b.pick([_as_rows, _with_a_one, _without_ones, _halved_channels])(b, x)
    for _ in range(b.pick([0, 1, 1, 2])):
        t = b.pick([_unary, _per_last, _rows])(b, t)
    if len(t.shape) > 3 and b.flip():
        t = b.permuted(t, [0, *b.pick(_orders(len(t.shape) - 1, 1))])
    numbers = [dim for dim in t.shape if isinstance(dim, int)]
    count = int(np.prod(numbers[1:] if numbers[:1] == list(t.shape[:1]) else numbers))
    shapes = [(1, 1), (count, 1), (1, count), *((k, count // k) for k in (2, 3) if count % k == 0)]
    first, second = b.pick(shapes)
    rest = count // (first * second)
    batch = t.shape[0]
    return b.node("Reshape", [t, b.integers(b.pick([0, -1]), first, second, rest)], [batch, first, second, rest])


def _as_rows(b: _Builder, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    return b.node("Reshape", [x, b.integers(0, channels * height, -1)], [batch, channels * height, width])


def _with_a_one(b: _Builder, x: Tensor) -> Tensor:
    axis = b.pick([1, 2, 4])
    return b.node("Unsqueeze", [x, b.integers(axis)], [*x.shape[:axis], 1, *x.shape[axis:]])


def _without_ones(b: _Builder, x: Tensor) -> Tensor:
    ones = [axis for axis in range(1, 4) if x.shape[axis] == 1][:1]
    if not ones:
        return _with_a_one(b, x)
    return b.node("Squeeze", [x, b.integers(*ones)], [dim for axis, dim in enumerate(x.shape) if axis not in ones])


def _halved_channels(b: _Builder, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    if channels % 2:
        return _with_a_one(b, x)
    shape = [2, channels // 2, height, width]
    return b.node("Reshape", [x, b.integers(0, *shape)], [batch, *shape])


def _rows(b: _Builder, x: Tensor) -> Tensor:
    size = x.shape[-1]
    if not isinstance(size, int) or size > 8:
        return _unary(b, x)
    if b.flip():
        return b.node("Softmax", [x], x.shape, axis=b.pick([-1, len(x.shape) - 1]))
    return b.node("MatMul", [x, b.weights(size, 2)], [*x.shape[:-1], 2])


def _twice(b: _Builder, x: Tensor) -> Tensor:
    """The same computed by two nodes."""
    op = b.pick(["Relu", "Tanh"])
    first, second = b.node(op, [x], x.shape), b.node(op, [x], x.shape)
    return b.node("Add", [first, _unary(b, second)], x.shape)


def _orders(count: int, start: int = 0) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(start, start + count)))


def _in_a_row(*steps: Step) -> Step:
    """What passes look for: several nodes, each of which reads the one before."""

    def together(b: _Builder, x: Tensor) -> Tensor | None:
        last: Tensor | None = x
        for step in steps:
            last = step(b, last) if last is not None else None
        return last

    return together


_STEPS: tuple[Step, ...] = (
    *(_unary, _cast, _binary, _per_channel, _neutral, _conv, _conv_transpose, _batchnorm, _pad),
    *(_pool, _concat, _reshape, _transpose, _slice),
    *(_in_a_row(_conv, _batchnorm), _in_a_row(_conv_transpose, _batchnorm), _in_a_row(_conv, _per_channel)),
    *(_limit, _in_a_row(_limit, _limit), _hard_gate, _logistic, _mish, _gelu, _softmax, _normalize),
    *(_standardize, _in_a_row(_standardize, _per_channel), _attend),
    *(_limit, _in_a_row(_limit, _limit), _hard_gate, _logistic, _mish, _gelu, _softmax, _reduce, _normalize),
    *(_in_a_row(_pad, _conv), _in_a_row(_unary, _pad, _pool), _in_a_row(_pad, _conv, _batchnorm)),
    *(_in_a_row(_batchnorm, _conv), _in_a_row(_per_channel, _conv_transpose), _in_a_row(_per_channel, _per_channel)),
    *(_in_a_row(_per_column, _matmul, _per_column), _matmuls, _in_a_row(_conv, _conv)),
    *(_gemm, _in_a_row(_gemm, _per_column), _in_a_row(_matmul, _transpose, _per_channel)),
    *(_in_a_row(_matmul, _transpose, _scale), _in_a_row(_scale, _binary_product), _in_a_row(_binary_product, _scale)),
    *(_permute, _back_and_forth, _split_and_join, _twice),
    *(_permute, _back_and_forth, _split_and_join, _twice, _other_shape),
    *(_in_a_row(_permute, _permute), _in_a_row(_permute, _with_another, _permute)),
    *(_in_a_row(_other_shape, _other_shape), _in_a_row(_permute, _other_shape), _in_a_row(_other_shape, _permute)),
)
