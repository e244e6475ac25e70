"""An ONNX node as rules and constraints see it: typed access, no graphsurgeon at import time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edgecc_tflite.ir import Shape

if TYPE_CHECKING:
    from edgecc.model import Node
    from edgecc.model import Tensor as SourceTensor


class NodeView:
    """Reads a node. Inputs and outputs are numbered as in the ONNX specification."""

    def __init__(self, node: Node, model_outputs: frozenset[str] = frozenset()) -> None:
        self.node = node
        self.model_outputs = model_outputs
        self.op: str = node.op
        self.inputs: list[SourceTensor | None] = [t if t.name else None for t in node.inputs]
        self.outputs: list[SourceTensor | None] = [t if t.name else None for t in node.outputs]

    def has(self, index: int) -> bool:
        """Whether the optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def has_output(self, index: int) -> bool:
        """Whether the optional output is there and somebody needs it."""
        tensor = self.outputs[index] if index < len(self.outputs) else None
        return tensor is not None and bool(tensor.outputs or tensor.name in self.model_outputs)

    def input(self, index: int) -> SourceTensor:
        tensor = self.inputs[index]
        assert tensor is not None
        return tensor

    def shape(self, index: int = 0) -> Shape | None:
        """Shape of an input, -1 for open dimensions; None if even its rank is unknown."""
        return shape_of(self.input(index))

    def out_shape(self, index: int = 0) -> Shape | None:
        tensor = self.outputs[index]
        return None if tensor is None else shape_of(tensor)

    def rank(self, index: int = 0) -> int:
        """Rank of an input; -1 if unknown."""
        shape = self.shape(index)
        return -1 if shape is None else len(shape)

    def dtype(self, index: int = 0) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.input(index).dtype)
        return dtype

    def value(self, index: int) -> np.ndarray | None:
        """Values of a constant input; None if the input is missing or computed. One without elements is known."""
        if not self.has(index):
            return None
        shape = self.shape(index)
        if shape is not None and 0 in shape and -1 not in shape:
            return np.zeros(shape, self.dtype(index))
        return cast("np.ndarray | None", getattr(self.input(index), "values", None))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def ints(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        value = self.node.attrs.get(name)
        return tuple(default if value is None else (int(v) for v in value))

    def number(self, name: str, default: float) -> float:
        return float(self.node.attrs.get(name, default))

    def integer(self, name: str, default: int) -> int:
        return int(self.node.attrs.get(name, default))

    def text(self, name: str, default: str) -> str:
        value = self.node.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def axis(self, default: int, name: str = "axis", rank: int | None = None) -> int:
        """The attribute as a non-negative axis of the first input."""
        axis = self.integer(name, default)
        size = self.rank() if rank is None else rank
        return axis + size if axis < 0 else axis

    def listed(self, index: int, attribute: str) -> tuple[int, ...] | None:
        """Integers that are an input in newer opsets and were an attribute before; None if absent or computed."""
        value = self.value(index)
        if value is not None:
            return tuple(int(v) for v in np.ravel(value))
        found = self.node.attrs.get(attribute)
        return None if found is None else tuple(int(v) for v in found)


def shape_of(tensor: SourceTensor) -> Shape | None:
    """The shape of a graphsurgeon tensor in the IR's terms."""
    if tensor.shape is None:
        return None
    return tuple(d if isinstance(d, int) and d >= 0 else -1 for d in tensor.shape)
