"""How each TFLite operator relates to the memory order of its tensors.

A behaviour answers two questions. `propose`: if one operand lay in this order, in which orders would the others have to
lie? `rewrite`: which options and index constants change when the operands lie so? An operator without a behaviour, such
as CONV_2D, works only as declared: it is a barrier, and what the layout solver starts from.

Operands are numbered through: inputs first, then outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from edgecc_tflite.ir import Operator, Tensor
from edgecc_tflite.layout.orders import Order, identity, inverse, reordered, through_reshape, through_transpose

#: One order per operand; None for operands that have no layout (axes, sizes, constants of rank 0).
Config = tuple[Order | None, ...]


def operands(op: Operator) -> list[Tensor | None]:
    return [*op.inputs, *op.outputs]


def as_declared(op: Operator) -> Config:
    """Every operand in the order that the lowering declared; that always works."""
    if op.builtin == "TRANSPOSE":
        data, perm = op.inputs[0], permutation_of(op)
        assert data is not None
        if perm is not None:
            return identity(data.rank), None, inverse(perm)
    return tuple(None if t is None else identity(t.rank) for t in operands(op))


def permutation_of(op: Operator) -> Order | None:
    """The constant permutation of a TRANSPOSE."""
    perm = op.inputs[1]
    return None if perm is None or perm.data is None else tuple(int(p) for p in perm.data)


class Behaviour:
    """Works only as declared.

    Args:
        label: what the documentation says of it.
    """

    def __init__(self, label: str = "as declared") -> None:
        self.label = label

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        """Orders of all operands if one lies in `order`; None if the operator cannot work so."""
        return None

    def rewrite(self, op: Operator, config: Config) -> None:
        """Adapt options and index constants to the orders; data constants are permuted by the caller."""


#: What is said of an operator that takes every order.
_ANY = "any"
_BARRIER = Behaviour()
_CHANNELS_LAST = Behaviour("channels-last")


class Elementwise(Behaviour):
    """All operands lie in the same order; those of rank 0 in none."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        tensors = operands(op)
        if any(t is not None and t.rank not in (0, len(order)) for t in tensors):
            return None
        return tuple(order if t is not None and t.rank else None for t in tensors)


class Alike(Behaviour):
    """Data operands lie in the same order; the other inputs are indices that `rewrite` adapts.

    Args:
        label: what the documentation says of it.
        data: the inputs that are data; None for all.
        vectors: inputs that are constants with one entry per axis.
        axes: inputs that are constants naming axes.
        axis_option: an option that names an axis.
        masks: options with one bit per axis.
        last: the last axis must stay last.
    """

    def __init__(
        self,
        label: str = _ANY,
        *,
        data: tuple[int, ...] | None = (0,),
        vectors: tuple[int, ...] = (),
        axes: tuple[int, ...] = (),
        axis_option: str = "",
        masks: tuple[str, ...] = (),
        last: bool = False,
    ) -> None:
        super().__init__(label)
        self.data, self.vectors, self.axes = data, vectors, axes
        self.axis_option, self.masks, self.last = axis_option, masks, last

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        if self.last and order[-1] != len(order) - 1:
            return None
        for index in (*self.vectors, *self.axes):
            if not _is_constant(op, index):
                return None
        chosen = range(len(op.inputs)) if self.data is None else self.data
        data = [op.inputs[i] for i in chosen] + [*op.outputs]
        if any(t is None or t.rank != len(order) for t in data):
            return None
        inputs = [order if i in chosen else None for i in range(len(op.inputs))]
        return (*inputs, *(order for _ in op.outputs))

    def rewrite(self, op: Operator, config: Config) -> None:
        order = next(o for o in config if o is not None)
        places = inverse(order)
        for index in self.vectors:
            _replace(op, index, lambda values: values[list(order)])
        for index in self.axes:
            _replace(op, index, lambda values: _remapped(values, places))
        if self.axis_option:
            op.options[self.axis_option] = places[op.options[self.axis_option]]
        for mask in self.masks:
            bits = op.options.get(mask, 0)
            op.options[mask] = sum(1 << place for place, axis in enumerate(order) if bits >> axis & 1)


class Reduction(Behaviour):
    """Axes vanish, or become 1; the second input names them."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        data, out = op.inputs[0], op.outputs[0]
        assert data is not None
        if not _is_constant(op, 1):
            return None
        if operand == 0:
            gone = set() if out.rank == data.rank else _axes(op, 1, data.rank)
            return order, None, _without(order, gone)
        return (order, None, order) if out.rank == data.rank else None

    def rewrite(self, op: Operator, config: Config) -> None:
        order = config[0]
        assert order is not None
        _replace(op, 1, lambda values: _remapped(values, inverse(order)))


class Gather(Behaviour):
    """The gathered axis becomes the axes of the indices."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        data, indices = op.inputs[0], op.inputs[1]
        assert data is not None
        assert indices is not None
        if op.options.get("batchDims", 0):
            return None
        if operand == 2 and indices.rank != 1:
            return None
        if operand == 1:
            return None
        axis = op.options.get("axis", 0)
        index_order = identity(indices.rank)
        return order, index_order, _replaced_axis(order, axis, indices.rank)

    def rewrite(self, op: Operator, config: Config) -> None:
        order = config[0]
        assert order is not None
        op.options["axis"] = inverse(order)[op.options.get("axis", 0)]


class Transpose(Behaviour):
    """Moves nothing itself: it says how the axes of its input and its output are called."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        perm = permutation_of(op)
        if perm is None:
            return None
        if operand == 0:
            return order, None, through_transpose(order, perm)
        return tuple(perm[axis] for axis in order), None, order


class Reshape(Behaviour):
    """Splits and merges axes in blocks; takes every order that moves blocks as wholes."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        data, out = op.inputs[0], op.outputs[0]
        assert data is not None
        if not _is_constant(op, 1) or out.shape.count(-1) > 1:
            return None
        if operand == 0:
            other = through_reshape(data.shape, order, out.shape)
            return None if other is None else (order, None, other)
        other = through_reshape(out.shape, order, data.shape)
        return None if other is None else (other, None, order)

    def rewrite(self, op: Operator, config: Config) -> None:
        order = config[-1]
        assert order is not None
        shape = reordered(op.outputs[0].shape, order)
        _replace(op, 1, lambda _: np.array(shape, np.int32))


class FullyConnected(Behaviour):
    """Multiplies the last axis, or all but the first if the input was never flattened (see `problem`)."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        data = op.inputs[0]
        assert data is not None
        nothing = (None,) * (len(op.inputs) - 1)
        if is_flattening(op):
            return (order, *nothing, (0, 1)) if operand == 0 and order[0] == 0 else None
        if order[-1] != len(order) - 1 or data.rank != op.outputs[0].rank:
            return None
        return (order, *nothing, order)

    def rewrite(self, op: Operator, config: Config) -> None:
        """Permute the columns of the weights as the flattened axes lie in memory."""
        data, order = op.inputs[0], config[0]
        if not is_flattening(op) or order == identity(len(order or ())):
            return
        assert data is not None
        shape = data.shape[1:]
        _replace(op, 1, lambda values: values.reshape(-1, *shape).transpose(order).reshape(values.shape))


def is_flattening(op: Operator) -> bool:
    """Whether a FULLY_CONNECTED reads a tensor that would have to be flattened first."""
    data = op.inputs[0]
    return data is not None and data.rank > 2 and not op.options.get("keepNumDims", False)


class BatchMatMul(Behaviour):
    """Takes any order of the batch axes; a factor whose last two axes are swapped is multiplied as transposed."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        rank = len(order)
        if any(t is None or t.rank != rank for t in operands(op)):
            return None
        batch, matrix = order[:-2], order[-2:]
        straight = (rank - 2, rank - 1)
        if set(matrix) != set(straight) or (operand == 2 and matrix != straight):
            return None
        result: list[Order | None] = [(*batch, *straight)] * 3
        result[operand] = order
        return tuple(result)

    def rewrite(self, op: Operator, config: Config) -> None:
        for option, order in zip(("adjX", "adjY"), config, strict=False):
            assert order is not None
            if order[-2] > order[-1]:
                op.options[option] = not op.options.get(option, False)


class ShapeOf(Behaviour):
    """Speaks of the declared axes; `apply` puts the sizes back into their order."""

    def propose(self, op: Operator, operand: int, order: Order) -> Config | None:
        return (order, (0,)) if operand == 0 else None


def _is_constant(op: Operator, index: int) -> bool:
    tensor = op.inputs[index]
    return tensor is not None and tensor.data is not None


def _axes(op: Operator, index: int, rank: int) -> set[int]:
    tensor = op.inputs[index]
    assert tensor is not None
    assert tensor.data is not None
    return {int(a) % rank for a in np.ravel(tensor.data)}


def _remapped(values: np.ndarray, places: Order) -> np.ndarray:
    mapped = [places[int(axis) % len(places)] for axis in np.ravel(values)]
    return np.array(sorted(mapped), np.int32).reshape(values.shape)


def _without(order: Order, gone: set[int]) -> Order:
    """The order of the axes that are left, numbered anew."""
    left = [axis for axis in order if axis not in gone]
    number = {axis: n for n, axis in enumerate(sorted(left))}
    return tuple(number[axis] for axis in left)


def _replaced_axis(order: Order, axis: int, count: int) -> Order:
    """The order when one axis becomes `count` axes in its place."""
    result: list[int] = []
    for a in order:
        if a == axis:
            result.extend(range(axis, axis + count))
        else:
            result.append(a if a < axis else a + count - 1)
    return tuple(result)


def _replace(op: Operator, index: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Give the operator another constant; the old one may have other readers."""
    old = op.inputs[index]
    assert old is not None
    assert old.data is not None
    data = change(old.data)
    op.inputs[index] = Tensor(old.name, data.shape, data.dtype, data=data, quantization=old.quantization)


def _table() -> dict[str, Behaviour]:
    elementwise = (
        "ABS ADD ADD_N CAST CEIL COS DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD GELU GREATER GREATER_EQUAL"
        " HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MINIMUM MUL NEG"
        " NOT_EQUAL POW PRELU QUANTIZE RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 ROUND RSQRT SELECT SELECT_V2 SIGN SIN SQRT"
        " SQUARE SQUARED_DIFFERENCE SUB TANH BITCAST BITWISE_XOR RIGHT_SHIFT ATAN2 ZEROS_LIKE STABLEHLO_AND"
        " STABLEHLO_MAXIMUM STABLEHLO_MINIMUM"
    )
    table: dict[str, Behaviour] = dict.fromkeys(elementwise.split(), Elementwise(_ANY))
    reductions = "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL ARG_MAX ARG_MIN"
    table |= dict.fromkeys(reductions.split(), Reduction(_ANY))
    table |= dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"), Alike("last axis last", last=True))
    images = (
        "CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV CONV_3D CONV_3D_TRANSPOSE AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D"
        " RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR DEPTH_TO_SPACE SPACE_TO_DEPTH LOCAL_RESPONSE_NORMALIZATION"
    )
    table |= dict.fromkeys(images.split(), _CHANNELS_LAST)
    table |= {
        "BATCH_MATMUL": BatchMatMul("any order of batch axes"),
        "BROADCAST_TO": Alike(vectors=(1,)),
        "CONCATENATION": Alike(data=None, axis_option="axis"),
        "CUMSUM": Alike(axes=(1,)),
        "FULLY_CONNECTED": FullyConnected("last axis last"),
        "GATHER": Gather(_ANY),
        "MIRROR_PAD": Alike(vectors=(1,)),
        "PAD": Alike(vectors=(1,)),
        "PADV2": Alike(vectors=(1,)),
        "RESHAPE": Reshape(_ANY),
        "REVERSE_V2": Alike(axes=(1,)),
        "SHAPE": ShapeOf(_ANY),
        "SLICE": Alike(vectors=(1, 2)),
        "SPLIT": Alike(data=(1,), axes=(0,)),
        "SPLIT_V": Alike(axes=(2,)),
        "STRIDED_SLICE": Alike(vectors=(1, 2, 3), masks=("beginMask", "endMask")),
        "TILE": Alike(vectors=(1,)),
        "TRANSPOSE": Transpose(_ANY),
    }
    return table


_BEHAVIOURS = _table()


def behaviour_of(builtin: str) -> Behaviour:
    return _BEHAVIOURS.get(builtin, _BARRIER)


def is_rigid(builtin: str) -> bool:
    """Whether the operator works only as declared."""
    return type(behaviour_of(builtin)) is Behaviour


def describe(builtins: Iterable[str]) -> str:
    """What the operators that a lowering rule emits say about layout, for the documentation."""
    labels = dict.fromkeys(behaviour_of(b).label for b in builtins if b not in {"TRANSPOSE", "RESHAPE"})
    strict = [label for label in labels if label != _ANY]
    return ", ".join(strict) or _ANY
