"""Give tensors between RESHAPEs the finer axes that the RESHAPEs merge away.

A one-dimensional convolution is CONV_2D between two RESHAPEs; what lies between two such convolutions may as well keep
the axis of size 1. Attention merges batch and heads into one axis and splits it again behind the matrix products; they
work on both axes just as well. In either case a *region* of operators that do not care, between RESHAPEs that do, works
on finer axes: RESHAPEs at its ends vanish, and orders of axes pass that the merged axis would hold up.

A region starts at a RESHAPE's output, whose axes are divided as its input's are, and spreads through operators that
know what becomes of each axis. Others at its ends get a RESHAPE of their own. It is taken if that leaves fewer of them,
or as many and a TRANSPOSE that can then be solved with the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Shape, Tensor
from edgecc_tflite.layout.behaviours import BatchMatMul, Elementwise, Reduction, behaviour_of, operands, permutation_of

#: Per axis of a tensor the sizes of the finer axes it stands for.
Parts = tuple[tuple[int, ...], ...]

#: Kernels that broadcast or reduce are fast up to this rank.
MOST_AXES = 4
#: Stands for an open dimension in products: no dimension has this factor.
_OPEN = (1 << 61) - 1


def refine(graph: Graph) -> None:
    """Rewrite every region that is worth it."""
    readers, producers = graph.consumers(), graph.producers()
    seen: set[Tensor] = set()
    for op in list(graph.operators):
        if op.builtin != "RESHAPE" or op.outputs[0] in seen:
            continue
        for parts in _choices(op):
            region = _Region(graph, producers, readers)
            is_whole = region.spread(op.outputs[0], parts)
            seen |= region.parts.keys()
            if is_whole and region.is_worth_it():
                region.rewrite()
                readers, producers = graph.consumers(), graph.producers()
                break


def _choices(op: Operator) -> list[Parts]:
    """Every axis divided that can be, or one of them."""
    parts = _parts_behind(op)
    if parts is None:
        return []
    whole: Parts = tuple((d,) for d in op.outputs[0].shape)
    divided_axes = [axis for axis, part in enumerate(parts) if len(part) > 1]
    single = [(*whole[:axis], parts[axis], *whole[axis + 1 :]) for axis in divided_axes]
    return [parts, *(single if len(single) > 1 else [])]


def _parts_behind(op: Operator) -> Parts | None:
    """How a RESHAPE's output is divided if its input's axes stay apart; None if no axis is."""
    data, out = op.inputs[0], op.outputs[0]
    if data is None or data.is_constant or data.shape.count(-1) > 1 or out.shape.count(-1) > 1:
        return None
    parts = divided(data.shape, out.shape)
    if parts is None or all(len(part) == 1 for part in parts) or sum(map(len, parts)) > MOST_AXES:
        return None
    return parts if _shape(parts).count(-1) <= 1 else None


def divided(shape: Shape, into: Shape) -> Parts | None:
    """The axes of `into`, each as the finest axes that it has in common with `shape`."""
    if 0 in shape or 0 in into:
        return None
    whole, other = _closed(shape), _closed(into)
    known, wanted = (int(np.prod([d for d in dims if d != _OPEN], dtype=object)) for dims in (whole, other))
    if _OPEN in whole:
        # The open dimensions of both differ by the factor that makes the products equal.
        if known % wanted == 0:
            other = [d * (known // wanted) if d == _OPEN else d for d in other]
        elif wanted % known == 0:
            whole = [d * (wanted // known) if d == _OPEN else d for d in whole]
        else:
            return None
    pending = deque(whole)
    parts: list[tuple[int, ...]] = []
    for size in other:
        part: list[int] = []
        left = size
        while left != 1 or (not part and pending and pending[0] == 1):
            if not pending:
                return None
            first = pending.popleft()
            taken = first if left % first == 0 else left
            if first % taken:
                return None
            if first != taken:
                pending.appendleft(first // taken)
            part.append(taken)
            left //= taken
        parts.append(tuple(part) or (1,))
    if parts and all(d == 1 for d in pending):
        parts[-1] += tuple(pending)
        pending.clear()
    return None if pending else _opened(parts)


def _closed(shape: Shape) -> list[int]:
    return [_OPEN if d < 0 else d for d in shape]


def _opened(parts: list[tuple[int, ...]]) -> Parts | None:
    flat = list(chain.from_iterable(parts))
    if any(d > _OPEN for d in flat):
        return None
    return tuple(tuple(-1 if d == _OPEN else d for d in part) for part in parts)


@dataclass
class _Region:
    """Tensors that get finer axes.

    Attributes:
        parts: how each is divided; constants are not in it.
        inside: the operators that follow, with the division of every operand (None for indices and scalars).
    """

    graph: Graph
    producers: dict[Tensor, Operator]
    readers: dict[Tensor, list[Operator]]
    parts: dict[Tensor, Parts] = field(default_factory=dict)
    inside: dict[Operator, list[Parts | None]] = field(default_factory=dict)

    def spread(self, start: Tensor, parts: Parts) -> bool:
        """Go as far as operators follow; False if two ways lead to different divisions."""
        self.parts[start] = parts
        queue = deque([start])
        while queue:
            tensor = queue.popleft()
            for op in self._neighbours(tensor):
                if op in self.inside or op.builtin == "RESHAPE":
                    continue
                divisions = _divisions(op, tensor, self.parts[tensor])
                if divisions is None:
                    continue
                self.inside[op] = divisions
                for other, division in zip(operands(op), divisions, strict=True):
                    if other is None or division is None or other.is_constant:
                        continue
                    if self.parts.setdefault(other, division) != division:
                        return False
                    if other is not tensor:
                        queue.append(other)
            if any(_shape(division).count(-1) > 1 for division in (self.parts[tensor],)):
                return False
        return True

    def _neighbours(self, tensor: Tensor) -> list[Operator]:
        writer = self.producers.get(tensor)
        return [*([writer] if writer else []), *self.readers.get(tensor, ())]

    def is_worth_it(self) -> bool:
        """Whether RESHAPEs become fewer, or not more and a TRANSPOSE gets finer axes to move."""
        gone = new = 0
        for tensor, parts in self.parts.items():
            if all(len(part) == 1 for part in parts):
                continue
            shape = _shape(parts)
            writer = self.producers.get(tensor)
            if writer is None or (writer not in self.inside and writer.builtin != "RESHAPE"):
                new += 1
            elif writer.builtin == "RESHAPE":
                data = writer.inputs[0]
                gone += data is not None and self._final(data) == shape
            outside = [op for op in self.readers.get(tensor, ()) if op not in self.inside]
            for op in outside:
                gone += op.builtin == "RESHAPE" and op.outputs[0] not in self.parts and op.outputs[0].shape == shape
            new += tensor in self.graph.outputs or any(op.builtin != "RESHAPE" for op in outside)
        return gone > new or (gone == new and any(op.builtin == "TRANSPOSE" for op in self.inside))

    def _final(self, tensor: Tensor) -> Shape:
        return _shape(self.parts[tensor]) if tensor in self.parts else tensor.shape

    def rewrite(self) -> None:
        before = {tensor: tensor.shape for tensor in self.parts}
        for op, divisions in self.inside.items():
            _rewrite(op, divisions)
        for tensor, parts in self.parts.items():
            tensor.shape = _shape(parts)
        # Those that operators outside know by another shape.
        shapes = {tensor: shape for tensor, shape in before.items() if tensor.shape != shape}
        operators: list[Operator] = []
        for tensor in self.graph.inputs:
            if tensor in shapes:
                self._enter(tensor, shapes[tensor], operators)
        coarse: dict[Tensor, Tensor] = {}
        for op in self.graph.operators:
            if op.builtin == "RESHAPE" and op.outputs[0] in shapes:
                op.inputs[1] = _ints(f"{op.outputs[0].name}/shape", op.outputs[0].shape)
            if op in self.inside or op.builtin == "RESHAPE":
                operators.append(op)
                continue
            op.inputs = [
                self._left(t, shapes[t], coarse, operators) if t is not None and t in shapes else t for t in op.inputs
            ]
            operators.append(op)
            op.outputs = [self._enter(t, shapes[t], operators) if t in shapes else t for t in op.outputs]
        self.graph.outputs = [
            self._left(t, shapes[t], coarse, operators) if t in shapes else t for t in self.graph.outputs
        ]
        self.graph.operators = operators

    def _enter(self, tensor: Tensor, shape: Shape, operators: list[Operator]) -> Tensor:
        """Something outside writes the tensor as declared."""
        outer = Tensor(tensor.name, shape, tensor.dtype, None, tensor.quantization, tensor.source, tensor.layout)
        tensor.name, tensor.source = f"{tensor.name}/finer", ""
        operators.append(Operator("RESHAPE", [outer, _ints(f"{tensor.name}/shape", tensor.shape)], [tensor]))
        self.graph.inputs = [outer if t is tensor else t for t in self.graph.inputs]
        return outer

    def _left(self, tensor: Tensor, shape: Shape, coarse: dict[Tensor, Tensor], operators: list[Operator]) -> Tensor:
        """Something outside reads the tensor as declared."""
        if tensor not in coarse:
            result = Tensor(tensor.name, shape, tensor.dtype, None, tensor.quantization, tensor.source)
            tensor.name, tensor.source = f"{tensor.name}/finer", ""
            operators.append(Operator("RESHAPE", [tensor, _ints(f"{result.name}/shape", shape)], [result]))
            coarse[tensor] = result
        return coarse[tensor]


def _shape(parts: Parts) -> Shape:
    return tuple(chain.from_iterable(parts))


def _ints(name: str, values: Shape | list[int]) -> Tensor:
    data = np.array(values, np.int32)
    return Tensor(name, data.shape, data.dtype, data=data)


# ---------------------------------------------------------------------------------------- what becomes of the operands


def _divisions(op: Operator, tensor: Tensor, parts: Parts) -> list[Parts | None] | None:
    """How every operand is divided if this one is so; None if the operator does not follow."""
    behaviour = behaviour_of(op.builtin)
    tensors = operands(op)
    if any(t is not None and t.quantization is not None and t.quantization.scale.size > 1 for t in tensors):
        return None
    if isinstance(behaviour, Elementwise):
        return _broadcast(tensors, parts)
    if isinstance(behaviour, BatchMatMul):
        return _broadcast(tensors, parts, kept=2) if all(len(part) == 1 for part in parts[-2:]) else None
    if op.builtin in ("SOFTMAX", "LOG_SOFTMAX") and len(parts[-1]) == 1:
        return [parts, parts]
    if op.builtin == "FULLY_CONNECTED":
        return _multiplied(op, tensor, parts)
    if op.builtin == "TRANSPOSE" and (perm := permutation_of(op)) is not None:
        if tensor is op.inputs[0]:
            return [parts, None, tuple(parts[axis] for axis in perm)]
        return [tuple(parts[perm.index(axis)] for axis in range(len(perm))), None, parts]
    if isinstance(behaviour, Reduction) and not op.builtin.startswith("ARG") and tensor is op.inputs[0]:
        return _reduced(op, parts)
    return None


def _broadcast(tensors: list[Tensor | None], parts: Parts, kept: int = 0) -> list[Parts | None] | None:
    """The same division for all; an axis of size 1 becomes several. The last `kept` axes are no matter of this."""
    rank = len(parts)
    sizes = [max(int(np.prod(part)), -1) for part in parts[: rank - kept]]
    result: list[Parts | None] = []
    for tensor in tensors:
        if tensor is None or tensor.rank == 0:
            result.append(None)
            continue
        if tensor.rank != rank:
            return None
        division: list[tuple[int, ...]] = []
        for axis, dim in enumerate(tensor.shape):
            count = 1 if axis >= rank - kept else len(parts[axis])
            if count == 1:
                division.append((dim,))
            elif dim == 1:
                division.append((1,) * count)
            elif dim == sizes[axis]:
                division.append(parts[axis])
            else:
                return None
        result.append(tuple(division))
    return result


def _multiplied(op: Operator, tensor: Tensor, parts: Parts) -> list[Parts | None] | None:
    """A matrix product with constant weights keeps all axes but the last."""
    data, weights, out = op.inputs[0], op.inputs[1], op.outputs[0]
    assert data is not None
    if tensor not in (data, out) or data.rank != out.rank or weights is None or weights.data is None:
        return None
    if len(parts[-1]) != 1 or data.shape[-1] != weights.shape[1]:
        return None
    leading, nothing = parts[:-1], [None] * (len(op.inputs) - 1)
    return [(*leading, data.shape[-1:]), *nothing, (*leading, out.shape[-1:])]


def _reduced(op: Operator, parts: Parts) -> list[Parts | None] | None:
    named = op.inputs[1]
    if named is None or named.data is None:
        return None
    axes = {int(axis) % len(parts) for axis in np.ravel(named.data)}
    if op.options.get("keepDims", False):
        out = tuple((1,) * len(part) if axis in axes else part for axis, part in enumerate(parts))
    else:
        out = tuple(part for axis, part in enumerate(parts) if axis not in axes)
    return [parts, None, out]


def _rewrite(op: Operator, divisions: list[Parts | None]) -> None:
    """Indices and constants for the finer axes."""
    first = next((division for division in divisions if division is not None), None)
    if first is None:
        return  # scalars alone have no axes
    places = np.cumsum([0, *(len(part) for part in first)]).tolist()

    def finer(axes: list[int]) -> list[int]:
        return [place for axis in axes for place in range(places[axis], places[axis + 1])]

    index = op.inputs[1] if len(op.inputs) > 1 else None
    if op.builtin == "TRANSPOSE":
        perm = permutation_of(op)
        assert perm is not None
        op.inputs[1] = _ints(f"{op.outputs[0].name}/perm", finer(list(perm)))
        return
    if isinstance(behaviour_of(op.builtin), Reduction):
        assert index is not None
        assert index.data is not None
        axes = sorted(int(axis) % len(first) for axis in np.ravel(index.data))
        op.inputs[1] = _ints(f"{op.outputs[0].name}/axes", finer(axes))
        return
    if op.builtin == "FULLY_CONNECTED":
        op.options["keepNumDims"] = True
    for number, (tensor, division) in enumerate(zip(op.inputs, divisions, strict=False)):
        if tensor is not None and tensor.data is not None and division is not None:
            data = tensor.data.reshape(_shape(division))
            op.inputs[number] = Tensor(tensor.name, data.shape, data.dtype, data, tensor.quantization)
