"""Pass eliminate-common-subexpressions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators of two operands that may change places with every bit kept. A float Max or Min of 0 and -0 may not.
_COMMUTATIVE = frozenset({"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Mul", "Or", "Xor"})
#: Operators that give something else each time.
_RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
#: Precision is said per reader (docs/design.md section 6): a pair of them belongs to one operator.
_PRECISION = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
#: Bytes of a constant that are looked at before all of them are.
_SAMPLE = 64


class EliminateCommonSubexpressions(Pass):
    """Compute once what several nodes compute, and hold once what several constants hold.

    Before: a = Relu(x)   b = Relu(x)   y = Add(a, b)
    After:  a = Relu(x)   y = Add(a, a)

    Nodes of the same operator, attributes and inputs become one, the first of them; so do constants of the same type,
    shape and bytes. Left alone: random operators, custom ones, those with subgraphs or in them, QuantizeLinear and
    DequantizeLinear. Of a constant all bytes are read only if another one has the same type, shape and first, last and
    middle bytes.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-common-subexpressions"
    loss = Loss.EXACT
    keeps_types = True
    ignore: tuple[str, ...] = ()

    def run(self, model: Model, ctx: PassContext) -> bool:
        check_ignore(self, self.ignore, model)
        changed = _merge_constants(model)
        sweep = _Sweep(model, ctx)
        for node in model.nodes(ignore=self.ignore):
            changed |= sweep.visit(node)
        return changed


class _Sweep:
    """One walk over the nodes in order: what a node reads is merged before it is."""

    def __init__(self, model: Model, ctx: PassContext) -> None:
        self.model, self.ctx = model, ctx
        self.outputs = {id(tensor) for tensor in model.outputs}
        self.first: dict[object, Node] = {}
        #: Tensors that took the place of one that was seen before, and which.
        self.stands_for: dict[int, int] = {}

    def visit(self, node: Node) -> bool:
        key = _key(node, self.stands_for)
        if key is None:
            return False
        first = self.first.setdefault(key, node)
        if first is node:
            return False
        reason = self._refuses(first, node)
        if reason is not None:
            self.ctx.skip(node, reason)
            return False
        self._merge(first, node)
        return True

    def _refuses(self, first: Node, node: Node) -> str | None:
        same = f"it computes the same as {first.name}"
        if node.op in _RANDOM:
            return f"{same}, and both are random"
        if node.op in _PRECISION:
            return f"{same}, and precision is said for each reader"
        for old, new in zip(node.outputs, first.outputs, strict=True):
            if id(old) in self.outputs and id(new) in self.outputs:
                return f"{same}, and the outputs {new.name!r} and {old.name!r} must both keep their names"
        return None

    def _merge(self, first: Node, node: Node) -> None:
        from edgecc.model import merged_origins

        self.ctx.done(node, f"{first.name} computes it already", [node, first])
        for old, new in zip(list(node.outputs), list(first.outputs), strict=True):
            if not old.is_empty():
                self.model.redirect(old, new)
                if id(old) in self.outputs:
                    self.stands_for[id(old)] = self.stands_for.get(id(new), id(new))
        first.origins = merged_origins((first, node))
        self.model.remove(node)


def _key(node: Node, stands_for: dict[int, int]) -> object | None:
    """Equal for nodes that compute the same; None for those that are no candidates."""
    from edgecc.model import is_standard

    if not is_standard(node) or node.op == "Constant":
        return None
    attributes = [(name, _attribute(value)) for name, value in sorted(node.attrs.items())]
    if any(value is None for _, value in attributes):
        return None
    inputs = [0 if tensor.is_empty() else stands_for.get(id(tensor), id(tensor)) for tensor in node.inputs]
    if node.op in _COMMUTATIVE and len(inputs) == 2:
        inputs.sort()
    outputs = tuple(tensor.is_empty() for tensor in node.outputs)
    return (node.op, tuple(attributes), tuple(inputs), outputs)


def _attribute(value: object) -> object | None:
    """Something hashable that is equal for equal attributes; None for a subgraph or a type that is not known."""
    if isinstance(value, bool | int | float | str | bytes | np.generic):
        # 1 and 1.0 and True are equal in Python.
        return (type(value).__name__, repr(value))
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes()) if value.dtype != object else None
    if isinstance(value, list | tuple):
        items = [_attribute(item) for item in value]
        return None if any(item is None for item in items) else tuple(items)
    held = getattr(value, "values", None)
    return _attribute(held) if isinstance(held, np.ndarray) else None


# ------------------------------------------------------------------------------------------------------- constants


def _merge_constants(model: Model) -> bool:
    """Let the readers of equal constants read the first of them; those of subgraphs stay."""
    changed = False
    outputs = {id(tensor) for tensor in model.outputs}
    for alike in _alike(_constants(model), _label):
        for same in _alike(alike, _sample):
            for equal in _alike(same, _digest):
                # An output keeps its name: it is the one that stays.
                equal.sort(key=lambda tensor: id(tensor) not in outputs)
                for other in equal[1:]:
                    changed |= id(other) not in outputs and model.redirect(other, equal[0])
    return changed


def _constants(model: Model) -> list[Tensor]:
    from edgecc.model import value_of

    found = {id(tensor): tensor for node in model.nodes() for tensor in node.inputs}
    return [tensor for tensor in found.values() if value_of(tensor) is not None]


def _alike(tensors: Iterable[Tensor], key: Callable[[Tensor], object]) -> Iterator[list[Tensor]]:
    """Groups of at least two tensors with the same key."""
    groups: dict[object, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return (group for group in groups.values() if len(group) > 1)


def _label(tensor: Tensor) -> object:
    values = tensor.values
    # Texts and the like are objects: each is its own.
    return id(tensor) if values.dtype == object else (values.dtype, values.shape)


def _bytes(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.values).reshape(-1).view(np.uint8)


def _sample(tensor: Tensor) -> bytes:
    values = tensor.values.reshape(-1) if tensor.values.flags.c_contiguous else tensor.values.ravel()
    count = max(1, _SAMPLE // max(1, values.itemsize))
    middle = values.size // 2
    return b"".join(part.tobytes() for part in (values[:count], values[middle : middle + count], values[-count:]))


def _digest(tensor: Tensor) -> bytes:
    return hashlib.blake2b(_bytes(tensor).data).digest()
