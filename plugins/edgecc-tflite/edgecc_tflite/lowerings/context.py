"""What a lowering function works with: its node, the tensors it reads, and verbs that emit operators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.ir import Graph, Operator, Shape, Tensor
from edgecc_tflite.lowerings.node_view import NodeView, shape_of

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.model import Tensor as SourceTensor

#: Operators that can apply an activation to their own result (`fusedActivationFunction`).
FUSING = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
)
#: Operators that pass values on unchanged, so that an activation may move in front of them.
_TRANSPARENT = frozenset({"TRANSPOSE", "RESHAPE"})


class GraphBuilder:
    """The IR graph under construction, and which IR tensor holds each source tensor."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self.producer: dict[Tensor, Operator] = {}
        self.reader_count: dict[Tensor, int] = {}
        #: Tensors that hold more than one source tensor.
        self.aliased: set[Tensor] = set()
        #: Lowers nodes into a graph that then has these outputs; for rules of nodes that hold graphs themselves.
        self.lower_part: Callable[[GraphBuilder, Sequence[Node], Sequence[SourceTensor]], None] | None = None
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[tuple[str, Shape, bytes], Tensor] = {}

    def tensor(self, source: SourceTensor) -> Tensor:
        """The IR tensor of a source tensor, made on first use."""
        known = self._tensors.get(source.name)
        if known is not None:
            return known
        values = getattr(source, "values", None)
        if values is not None:
            made = Tensor(source.name, values.shape, values.dtype, data=values, source=source.name)
        else:
            made = Tensor(source.name, shape_of(source) or (), np.dtype(source.dtype), source=source.name)
        self._tensors[source.name] = made
        return made

    def alias(self, source: SourceTensor, tensor: Tensor) -> None:
        """Let a source tensor be held by the IR tensor of another one."""
        self._tensors[source.name] = tensor
        self.aliased.add(tensor)

    def constant(self, values: np.ndarray, hint: str) -> Tensor:
        """A constant; small equal ones are one tensor."""
        if values.nbytes > 256:
            return Tensor(hint, values.shape, values.dtype, data=values)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = Tensor(hint, values.shape, values.dtype, data=values)
        return self._constants[key]

    def append(self, operator: Operator) -> None:
        self.graph.operators.append(operator)
        for tensor in operator.outputs:
            self.producer[tensor] = operator
        for read in operator.inputs:
            if read is not None:
                self.reader_count[read] = self.reader_count.get(read, 0) + 1


class Lowering:
    """One node being lowered.

    Attributes:
        node: the ONNX node.
        builder: the graph so far.
        origins: names of the source nodes.
        readers: how often each source tensor is read.
    """

    def __init__(
        self, builder: GraphBuilder, node: NodeView, origins: tuple[str, ...], readers: Mapping[str, int]
    ) -> None:
        self.builder = builder
        self.node = node
        self.origins = origins
        self.readers = readers
        self._label = next((t.name for t in node.outputs if t is not None), node.node.name)

    # ------------------------------------------------------------------------------------------ the node's tensors

    def x(self, index: int = 0) -> Tensor:
        """The IR tensor of an input that is there."""
        return self.builder.tensor(self.node.input(index))

    def values(self, index: int) -> np.ndarray:
        """Values of an input that a constraint says is constant."""
        values = self.node.value(index)
        assert values is not None
        return values

    def optional(self, index: int) -> Tensor | None:
        return self.x(index) if self.node.has(index) else None

    def out(self, index: int = 0) -> Tensor:
        """The IR tensor of an output."""
        source = self.node.outputs[index]
        assert source is not None
        return self.builder.tensor(source)

    @property
    def inputs(self) -> list[Tensor]:
        return [self.builder.tensor(t) for t in self.node.inputs if t is not None]

    # ------------------------------------------------------------------------------------------------------ emitting

    def constant(self, values: np.ndarray, hint: str = "constant") -> Tensor:
        return self.builder.constant(values, f"{self._label}/{hint}")

    def scalar(self, value: float, dtype: np.dtype[Any] | None = None) -> Tensor:
        """A rank 0 constant of the first input's type, or another."""
        return self.constant(np.array(value, dtype or self.x().dtype), "scalar")

    def ints(self, values: Sequence[int] | np.ndarray | int, hint: str = "indices") -> Tensor:
        """An int32 constant, as TFLite wants axes, shapes and paddings."""
        return self.constant(np.array(values, np.int32), hint)

    def temporary(self, shape: Shape, dtype: np.dtype[Any], hint: str = "") -> Tensor:
        return Tensor(f"{self._label}/{hint}" if hint else self._label, shape, dtype)

    def emit(
        self,
        builtin: str,
        inputs: Sequence[Tensor | None],
        out: Tensor | None = None,
        *,
        shape: Shape | None = None,
        dtype: np.dtype[Any] | None = None,
        **options: Any,
    ) -> Tensor:
        """Append an operator with one output.

        Args:
            builtin: name in the schema's `BuiltinOperator`.
            inputs: tensors in the schema's order.
            out: where the result goes; a helper tensor if None.
            shape: the helper's shape; the first input's if None.
            dtype: the helper's type; the first input's if None.
            options: fields of the operator's options table.
        """
        first = inputs[0]
        assert first is not None
        if out is None:
            out = self.temporary(first.shape if shape is None else shape, dtype or first.dtype, builtin.lower())
        self.emit_many(builtin, inputs, [out], **options)
        return out

    def emit_many(self, builtin: str, inputs: Sequence[Tensor | None], outs: list[Tensor], **options: Any) -> None:
        """Append an operator with several outputs."""
        self.builder.append(Operator(builtin, list(inputs), outs, options, self.origins))

    # ------------------------------------------------------------------------------------------------------- phrases

    def binary(self, builtin: str, a: Tensor, b: Tensor, out: Tensor | None = None, *, dtype: Any = None) -> Tensor:
        """An elementwise operator of two tensors, with their ranks made equal."""
        a, b = self.same_rank([a, b])
        shape = broadcast(a.shape, b.shape)
        return self.emit(builtin, [a, b], out, shape=shape, dtype=None if dtype is None else np.dtype(dtype))

    def unary(self, builtin: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        return self.emit(builtin, [x], out)

    def same_rank(self, tensors: list[Tensor]) -> list[Tensor]:
        """Prepend axes of size 1, as broadcasting means them, so that axes of all tensors line up."""
        rank = max(t.rank for t in tensors)
        return [self._with_rank(t, rank) for t in tensors]

    def _with_rank(self, tensor: Tensor, rank: int) -> Tensor:
        if tensor.rank == rank or (tensor.is_constant and tensor.rank == 0):
            return tensor
        return self.reshape(tensor, (1,) * (rank - tensor.rank) + tensor.shape)

    def broadcast_all(self, tensors: list[Tensor]) -> list[Tensor]:
        """Repeat values until all tensors have one shape, for kernels that do not broadcast."""
        tensors = self.same_rank(tensors)
        shape = functools.reduce(broadcast, (t.shape for t in tensors))
        if -1 not in shape:
            return [self.broadcast_to(t, shape) for t in tensors]
        vector, int32 = (len(shape),), np.dtype(np.int32)
        sizes = [self.emit("SHAPE", [t], shape=vector, dtype=int32, outType=2) for t in tensors]
        common = functools.reduce(lambda a, b: self.emit("BROADCAST_ARGS", [a, b], shape=vector), sizes)
        return [self.emit("BROADCAST_TO", [t, common], shape=shape) for t in tensors]

    def broadcast_to(self, x: Tensor, shape: Shape, out: Tensor | None = None) -> Tensor:
        """BROADCAST_TO a known shape of the same rank; a constant is repeated here and now."""
        if out is None and x.shape == shape:
            return x
        if out is None and x.data is not None:
            return self.constant(np.broadcast_to(x.data, shape), "broadcast")
        return self.emit("BROADCAST_TO", [x, self.ints(shape, "shape")], out, shape=shape)

    def reshape(self, x: Tensor, shape: Shape, out: Tensor | None = None) -> Tensor:
        """RESHAPE to a shape with at most one open dimension; a constant is reshaped here and now."""
        if x.data is not None and out is None:
            return self.constant(x.data.reshape(shape), "reshaped")
        if x.shape == shape and out is None:
            return x
        if shape.count(-1) > 1:
            return self._reshape_open(x, shape, out)
        return self.emit("RESHAPE", [x, self.ints(shape, "shape")], out, shape=shape)

    def _reshape_open(self, x: Tensor, shape: Shape, out: Tensor | None) -> Tensor:
        """RESHAPE that keeps several open dimensions of x, in order."""
        sizes = self.emit("SHAPE", [x], shape=(x.rank,), dtype=np.dtype(np.int32), outType=2)
        open_axes = [axis for axis, dim in enumerate(x.shape) if dim < 0]
        parts: list[Tensor] = []
        for dim in shape:
            if dim >= 0:
                parts.append(self.ints([dim], "dim"))
                continue
            axis = self.ints([open_axes.pop(0)], "axis")
            parts.append(self.emit("GATHER", [sizes, axis], shape=(1,), dtype=np.dtype(np.int32), axis=0))
        target = self.emit("CONCATENATION", parts, shape=(len(shape),), dtype=np.dtype(np.int32), axis=0)
        return self.emit("RESHAPE", [x, target], out, shape=shape)

    def transpose(self, x: Tensor, perm: Sequence[int], out: Tensor | None = None) -> Tensor:
        """TRANSPOSE; output axis i is input axis perm[i]. A constant is permuted here and now."""
        if x.data is not None and out is None:
            return self.constant(x.data.transpose(perm), "transposed")
        if list(perm) == list(range(x.rank)) and out is None:
            return x
        shape = tuple(x.shape[axis] for axis in perm)
        return self.emit("TRANSPOSE", [x, self.ints(perm, "perm")], out, shape=shape)

    def to_last(self, x: Tensor) -> Tensor:
        """From channels-first to channels-last order."""
        return self.transpose(x, (0, *range(2, x.rank), 1))

    def to_first(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """From channels-last to channels-first order."""
        return self.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1)), out)

    def cast(self, x: Tensor, dtype: Any, out: Tensor | None = None) -> Tensor:
        """CAST, unless the type is right already."""
        wanted = np.dtype(dtype)
        if x.dtype == wanted and out is None:
            return x
        if x.data is not None and out is None:
            return self.constant(x.data.astype(wanted), "cast")
        return self.emit("CAST", [x], out, dtype=wanted)

    def copy(self, x: Tensor, out: Tensor) -> None:
        """The output has the input's values: no operator."""
        source = next(t for t in self.node.outputs if t is not None and t.name == out.source)
        self.builder.alias(source, x)

    def define(self, index: int, values: np.ndarray) -> None:
        """The output is known now."""
        source = self.node.outputs[index]
        assert source is not None
        self.builder.alias(source, self.constant(values, "value"))

    # -------------------------------------------------------------------------------------------------------- fusion

    def sole_producer(self, index: int) -> Operator | None:
        """The operator that writes an input which only this node reads."""
        source = self.node.input(index)
        tensor = self.builder.tensor(source)
        if self.readers.get(source.name, 0) != 1 or tensor in self.builder.aliased:
            return None
        return self.builder.producer.get(tensor)

    def take_over(self, operator: Operator) -> None:
        """Let the operator write this node's output instead of its own."""
        del self.builder.producer[operator.outputs[0]]
        operator.outputs[0] = self.out()
        self.builder.producer[self.out()] = operator

    def fuse(self, activation: Activation) -> bool:
        """Let the operator that computes the first input apply the activation, if only this node reads it.

        The activation moves through transposes and reshapes, which every convolution has behind it at this point.
        """
        last = operator = self.sole_producer(0)
        while operator is not None and operator.builtin in _TRANSPARENT:
            before = operator.inputs[0]
            assert before is not None
            if before.source or self.builder.reader_count.get(before, 0) != 1:
                return False
            operator = self.builder.producer.get(before)
        if last is None or operator is None or not _can_fuse(operator):
            return False
        operator.options["fusedActivationFunction"] = activation
        self.take_over(last)
        return True


def _can_fuse(operator: Operator) -> bool:
    if operator.builtin not in FUSING or operator.options.get("fusedActivationFunction", Activation.NONE):
        return False
    return operator.outputs[0].dtype == np.float32


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise result; an open dimension wins over 1."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return tuple(y if x == 1 else (x if y == 1 else max(x, y)) for x, y in zip(a, b, strict=True))
