"""Pass expand-qoperators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor, Variable

_MICROSOFT = "com.microsoft"


class ExpandQOperators(NodePass):
    """Write operators on quantized tensors as the float operator between DequantizeLinear and QuantizeLinear.

    Before: y = QLinearMatMul(a, as, az, b, bs, bz, ys, yz)
    After:  fa = DequantizeLinear(a, as, az)   fb = DequantizeLinear(b, bs, bz)
            f = MatMul(fa, fb)   y = QuantizeLinear(f, ys, yz)

    One form of quantization is left for what comes after: backends fuse it again. QLinearConv, QLinearMatMul,
    ConvInteger, MatMulInteger, DynamicQuantizeLinear, and of com.microsoft QLinearAdd, Mul, Concat, AveragePool,
    GlobalAveragePool, ReduceMean, Sigmoid, LeakyRelu, Softmax and Where, QGemm, MatMulIntegerToFloat, QuantizeLinear
    and DequantizeLinear. Operators that move quantized values (MaxPool, Reshape ...) are put between the two as well.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "expand-qoperators"
    loss = Loss.ROUNDING
    # What folds or fuses float operators finds them only now.
    before = ("eliminate-identity", "fold-batchnorm", "fuse-pad", "convert-float16")

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        domain = "" if node.domain in (None, "ai.onnx") else node.domain
        expansion = _EXPANSIONS.get((domain, node.op))
        if expansion is not None:
            if node.op == "DynamicQuantizeLinear" and _is_taken_in(node, model, ctx):
                ctx.skip(node, "the target's kernels take it in")
                return False
            reason = expansion(_Expansion(node, model))
            if reason is not None:
                ctx.skip(node, reason)
            return reason is None
        return domain == "" and node.op in _MOVES and _between(node, model)


def _is_taken_in(node: Node, model: Model, ctx: PassContext) -> bool:
    """Whether the target rounds data at run time by itself where this node says so."""
    from edgecc.quantization.dynamic import reads_are_dynamic

    scheme = ctx.target.quantization_scheme() if ctx.target is not None else None
    return scheme is not None and scheme.dynamic == "pairs" and reads_are_dynamic(node, model)


class _Expansion:
    """One node on its way to Q/DQ form."""

    def __init__(self, node: Node, model: Model) -> None:
        from edgecc.model import origins

        self.node = node
        self.model = model
        self._origins = origins(node)
        self._label = node.outputs[0].name

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and not self.node.inputs[index].is_empty()

    def rank(self, index: int) -> int | None:
        shape = self.node.inputs[index].shape
        return None if shape is None else len(shape)

    def add(self, op: str, inputs: list[Tensor], out: Tensor | None = None, **attributes: object) -> Tensor:
        import onnx_graphsurgeon as gs

        out = gs.Variable(self.model.fresh_name(f"{self._label}/{op}"), np.dtype(np.float32)) if out is None else out
        self.model.add(op, inputs, [out], attributes=attributes, origins=self._origins)
        return out

    def floats(self, index: int, scale: int, zero_point: int, axis: int | None = None) -> Tensor:
        """An input's real values; `axis` is where it may have one scale per slice."""
        return self.dequantized(self.node.inputs[index], self._parameter(scale), self._zero_point(zero_point), axis)

    def dequantized(self, x: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None = None) -> Tensor:
        from edgecc.model import value_of

        values = value_of(scale)
        per_slice = axis is not None and (scale.shape is None or len(scale.shape) == 1)
        attributes: dict[str, object] = {"axis": axis} if per_slice and (values is None or values.size > 1) else {}
        return self.add("DequantizeLinear", [x, scale, *([] if zero_point is None else [zero_point])], **attributes)

    def _parameter(self, index: int) -> Tensor:
        """A scale or zero point; one value of shape (1,) is a scalar."""
        from edgecc.model import value_of

        tensor = self.node.inputs[index]
        values = value_of(tensor)
        if values is None or values.size != 1 or values.shape == ():
            return tensor
        return self.model.constant(tensor.name, values.reshape(()))

    def _zero_point(self, index: int) -> Tensor | None:
        return self._parameter(index) if self.has(index) else None

    def finish(self, value: Tensor, scale: int, zero_point: int) -> None:
        """Quantize the value to the node's output, and drop the node."""
        parameters = [self._parameter(scale)]
        zero = self._zero_point(zero_point)
        self.replace("QuantizeLinear", [value, *parameters, *([] if zero is None else [zero])])

    def replace(self, op: str, inputs: list[Tensor], **attributes: object) -> None:
        """Let an operator write the node's output instead of the node."""
        out = self.node.outputs[0]
        self.model.remove(self.node)
        self.add(op, inputs, out, **attributes)

    def attributes(self, *dropped: str) -> dict[str, object]:
        return {name: value for name, value in self.node.attrs.items() if name not in dropped}


@dataclass(frozen=True)
class _Row:
    """A float operator with quantized operands.

    Attributes:
        op: the float operator.
        operands: where each operand's values, scale and zero point stand.
        out: where the result's scale and zero point stand.
        plain: inputs in front of the operands that are not quantized.
    """

    op: str
    operands: tuple[tuple[int, int, int], ...]
    out: tuple[int, int]
    plain: tuple[int, ...] = ()

    def __call__(self, e: _Expansion) -> str | None:
        if e.node.attrs.get("channels_last", 0):
            return "it is channels-last, as ONNX Runtime's own optimizations write it"
        if self.op == "Softmax" and not _is_last_axis(e):
            return "its axis is not the last one, and it means all axes from there on"
        inputs = [e.node.inputs[index] for index in self.plain] + [e.floats(*places) for places in self.operands]
        value = e.add(self.op, inputs, **e.attributes("channels_last", "opset"))
        e.finish(value, *self.out)
        return None


def _is_last_axis(e: _Expansion) -> bool:
    """Softmax before opset 13 flattened the axes from `axis` on."""
    if int(str(e.node.attrs.get("opset", 13))) >= 13:
        return True
    axis, rank = int(str(e.node.attrs.get("axis", 1))), e.rank(0)
    return axis == -1 or (rank is not None and axis == rank - 1)


def _concat(e: _Expansion) -> None:
    starts = range(2, len(e.node.inputs), 3)
    value = e.add("Concat", [e.floats(s, s + 1, s + 2) for s in starts], **e.attributes())
    e.finish(value, 0, 1)


def _conv(e: _Expansion) -> None:
    operands = [e.floats(0, 1, 2), e.floats(3, 4, 5, axis=0)]
    if e.has(8):
        operands.append(e.dequantized(e.node.inputs[8], _product(e, 1, 4), None, axis=0))
    e.finish(e.add("Conv", operands, **e.attributes()), 6, 7)


def _product(e: _Expansion, left: int, right: int, factor: float = 1.0) -> Tensor:
    """The product of two scales, per channel where one of them is."""
    from edgecc.model import value_of

    a, b = value_of(e.node.inputs[left]), value_of(e.node.inputs[right])
    if a is None or b is None:
        return e.add("Mul", [e.node.inputs[left], e.node.inputs[right]])
    product = np.float32(factor) * (a * b)
    return e.model.constant(f"{e.node.outputs[0].name}/scale", product.reshape(() if product.size == 1 else -1))


def _matmul(e: _Expansion) -> str | None:
    operands = _factors(e, (0, 1, 2), (3, 4, 5))
    if operands is None:
        return "it has scales per row or column, and a factor whose rank is not known"
    e.finish(e.add("MatMul", operands), 6, 7)
    return None


def _factors(e: _Expansion, a: tuple[int, int, int], b: tuple[int, int, int]) -> list[Tensor] | None:
    """The factors of a matrix product: the left one may have a scale per row, the right one per column."""
    from edgecc.model import value_of

    operands = []
    for (index, scale, zero_point), from_end in ((a, 2), (b, 1)):
        values, rank = value_of(e.node.inputs[scale]), e.rank(index)
        single = values is not None and values.size == 1
        if (rank is None and not single) or (values is not None and values.size > 1 and values.ndim > 1):
            return None
        operands.append(e.floats(index, scale, zero_point, axis=None if rank is None else max(rank - from_end, 0)))
    return operands


def _gemm(e: _Expansion) -> str | None:
    transposed = bool(e.node.attrs.get("transB", 0))
    operands = [e.floats(0, 1, 2), e.floats(3, 4, 5, axis=0 if transposed else 1)]
    alpha = float(str(e.node.attrs.get("alpha", 1.0)))
    if e.has(6):
        last = max((e.rank(6) or 1) - 1, 0)
        operands.append(e.dequantized(e.node.inputs[6], _product(e, 1, 4, alpha), None, axis=last))
    if not e.has(7):
        e.replace("Gemm", operands, **e.attributes())
        return None
    e.finish(e.add("Gemm", operands, **e.attributes()), 7, 8)
    return None


def _integer_product(op: str) -> Callable[[_Expansion], str | None]:
    """Sums of products of integers: exact in float32 below 2**24, and rounded to 24 bits beyond."""

    def expand(e: _Expansion) -> str | None:
        axis = 0 if op == "Conv" else (e.rank(1) or 0) - 1
        one = e.model.constant(f"{e.node.outputs[0].name}/one", np.ones((), np.float32))
        operands = []
        for index, place in ((0, None), (1, axis)):
            zero_point = e.node.inputs[2 + index] if e.has(2 + index) else None
            many = zero_point is not None and zero_point.shape is not None and np.prod(zero_point.shape) > 1
            if many and (place is None or place < 0):
                return "it has a zero point per row"
            scale = one
            if many and zero_point is not None:
                scale = e.model.constant(f"{e.node.outputs[0].name}/ones", np.ones(zero_point.shape, np.float32))
            elif zero_point is not None:
                zero_point = e._parameter(2 + index)
            operands.append(e.dequantized(e.node.inputs[index], scale, zero_point, axis=place if many else None))
        e.replace("Cast", [e.add(op, operands, **e.attributes())], to=6)
        return None

    return expand


def _integer_product_to_float(e: _Expansion) -> str | None:
    operands = _factors(e, (0, 2, 4), (1, 3, 5))
    if operands is None:
        return "it has scales per row or column, and a factor whose rank is not known"
    if e.has(6):
        e.replace("Add", [e.add("MatMul", operands), e.node.inputs[6]])
    else:
        e.replace("MatMul", operands)
    return None


def _dynamic(e: _Expansion) -> str | None:
    """DynamicQuantizeLinear: the range of the values, 0 included, on 256 steps; a scale of 1 where all are 0."""
    model, node = e.model, e.node
    zero = model.constant("zero", np.zeros((), np.float32))
    x = node.inputs[0]
    highest = e.add("Max", [e.add("ReduceMax", [x], keepdims=0), zero])
    lowest = e.add("Min", [e.add("ReduceMin", [x], keepdims=0), zero])
    steps = model.constant("steps", np.full((), 255, np.float32))
    width = e.add("Div", [e.add("Sub", [highest, lowest]), steps])
    flat = model.variable("flat", np.bool_, ())
    model.add("Equal", [width, zero], [flat], origins=node.origins if hasattr(node, "origins") else ())
    outs = list(node.outputs)
    model.remove(node)
    scale = outs[1] if len(outs) > 1 else None
    scale = e.add("Where", [flat, model.constant("one", np.ones((), np.float32)), width], scale)
    shifted = e.add("Round", [e.add("Div", [e.add("Sub", [zero, lowest]), scale])])
    bounded = e.add("Min", [e.add("Max", [shifted, zero]), steps])
    zero_point = outs[2] if len(outs) > 2 else model.variable("zero_point", np.uint8, ())
    e.add("Cast", [bounded], zero_point, to=2)
    e.add("QuantizeLinear", [x, scale, zero_point], outs[0])
    return None


def _standard(e: _Expansion) -> None:
    """The same operator of ONNX itself."""
    inputs = list(e.node.inputs)
    for index in (1, 2):
        if e.has(index):
            inputs[index] = e._parameter(index)
    attributes = e.attributes()
    e.replace(e.node.op, inputs, **attributes)


_ONE = ((0, 1, 2),)
_TWO = ((0, 1, 2), (3, 4, 5))

_EXPANSIONS: dict[tuple[str, str], Callable[[_Expansion], str | None]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    ("", "ConvInteger"): _integer_product("Conv"),
    ("", "MatMulInteger"): _integer_product("MatMul"),
    ("", "DynamicQuantizeLinear"): _dynamic,
    (_MICROSOFT, "QLinearAdd"): _Row("Add", _TWO, (6, 7)),
    (_MICROSOFT, "QLinearMul"): _Row("Mul", _TWO, (6, 7)),
    (_MICROSOFT, "QLinearConcat"): _concat,
    (_MICROSOFT, "QLinearConv"): _conv,
    (_MICROSOFT, "QLinearAveragePool"): _Row("AveragePool", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _Row("GlobalAveragePool", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearReduceMean"): _Row("ReduceMean", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearSigmoid"): _Row("Sigmoid", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearLeakyRelu"): _Row("LeakyRelu", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearSoftmax"): _Row("Softmax", _ONE, (3, 4)),
    (_MICROSOFT, "QLinearWhere"): _Row("Where", ((1, 2, 3), (4, 5, 6)), (7, 8), plain=(0,)),
    (_MICROSOFT, "QGemm"): _gemm,
    (_MICROSOFT, "MatMulIntegerToFloat"): _integer_product_to_float,
    (_MICROSOFT, "QuantizeLinear"): _standard,
    (_MICROSOFT, "DequantizeLinear"): _standard,
}

#: Operators that move values or choose among them: on stored integers they do the same as on what these stand for.
_MOVES = frozenset(
    {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Resize", "Split", "Slice", "Gather", "Pad"}
    | {"Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Identity", "Concat", "Relu"}
)


def _between(node: Node, model: Model) -> bool:
    """Put a mover of quantized values between DequantizeLinear and QuantizeLinear with its input's scale."""
    data = list(node.inputs) if node.op == "Concat" else [node.inputs[0]]
    parameters = [_parameters(model, tensor) for tensor in data]
    first = parameters[0]
    if first is None or any(not _same(first, other) for other in parameters[1:]):
        return False
    if len(node.outputs) > 1 and node.op == "MaxPool":
        return False
    if node.op == "Relu" and len(first) > 1 and _is_unsigned(first[1]):
        # On unsigned integers it does nothing, and on what they stand for it may.
        return False
    places = [*range(len(data)), *([2] if node.op == "Pad" and len(node.inputs) > 2 else [])]
    for index in places:
        tensor = node.inputs[index]
        if not tensor.is_empty():
            model.set_input(node, index, _dequantize(model, tensor, first, node))
    for index, out in enumerate(list(node.outputs)):
        if out.is_empty():
            continue
        value = model.variable(f"{out.name}/float", np.float32, out.shape)
        model.set_output(node, index, value)
        model.add("QuantizeLinear", [value, *first], [out], origins=_origins(node))
    return True


def _parameters(model: Model, tensor: Tensor) -> list[Tensor] | None:
    """Scale and zero point of the QuantizeLinear that wrote the tensor; None for scales per channel."""
    from edgecc.model import value_of

    producer = model.producer(tensor)
    if producer is None or producer.op != "QuantizeLinear":
        return None
    scale = value_of(producer.inputs[1])
    return None if scale is None or scale.size != 1 else [t for t in producer.inputs[1:3] if not t.is_empty()]


def _same(left: list[Tensor], right: list[Tensor] | None) -> bool:
    from edgecc.model import value_of

    if right is None or len(left) != len(right):
        return False
    pairs = [(value_of(a), value_of(b)) for a, b in zip(left, right, strict=True)]
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)


def _is_unsigned(zero_point: Tensor) -> bool:
    return zero_point.dtype is not None and np.dtype(zero_point.dtype).kind == "u"


def _dequantize(model: Model, tensor: Tensor, parameters: list[Tensor], node: Node) -> Variable:
    value = model.variable(f"{tensor.name}/float", np.float32, tensor.shape)
    model.add("DequantizeLinear", [tensor, *parameters], [value], origins=_origins(node))
    return value


def _origins(node: Node) -> tuple[str, ...]:
    from edgecc.model import origins

    return origins(node)
