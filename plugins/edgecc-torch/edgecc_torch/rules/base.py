"""What rules see of a node, and how they say that they cannot take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import torch

from edgecc.model import value_of

if TYPE_CHECKING:
    from torch.fx import Proxy

    from edgecc.model import Node, Tensor
    from edgecc_torch.module_builder import ModuleBuilder

#: A number, or one that is known when the module runs.
Size: TypeAlias = "int | Proxy"


class RefusalError(Exception):
    """A node that a rule cannot take, with the reason and what to do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def is_number(size: Size, number: int) -> bool:
    """Whether a size is that one; of one that is not known until the module runs, nothing is asked."""
    return isinstance(size, int) and size == number


@dataclass(frozen=True)
class Sizes:
    """A tensor of sizes, kept as Python numbers: PyTorch takes shapes as numbers, never as tensors.

    Attributes:
        values: each of them.
        scalar: it has no axes, and one value.
    """

    values: tuple[Size, ...]
    scalar: bool = False


Result: TypeAlias = "Proxy | Sizes | Sequence[Proxy | Sizes | None]"
Rule: TypeAlias = "Callable[[NodeView], Result]"


class NodeView:
    """One ONNX node, with its inputs as PyTorch values; indices are those of its inputs."""

    def __init__(self, node: Node, builder: ModuleBuilder) -> None:
        self.node = node
        self.op = str(node.op)
        self._builder = builder

    def __getitem__(self, index: int) -> Proxy:
        """An input as a tensor; a constant with several floating-point values is a parameter."""
        return self._builder.tensor(self._input(index), trainable=True)

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and not self.node.inputs[index].is_empty()

    @property
    def inputs(self) -> list[Proxy]:
        """Every input as a tensor."""
        return [self[index] for index in range(len(self.node.inputs))]

    def optional(self, index: int) -> Proxy | None:
        return self[index] if self.has(index) else None

    def buffer(self, index: int) -> Proxy:
        """An input that training leaves as it is."""
        return self._builder.tensor(self._input(index), trainable=False)

    def stored(self, hint: str, values: np.ndarray, *, trainable: bool = False) -> Proxy:
        """A new tensor of the module, such as weights in another order."""
        return self._builder.attribute(hint, values, trainable=trainable)

    def renewed(self, index: int, change: Callable[[np.ndarray], np.ndarray]) -> Proxy:
        """A constant input with its values laid out in another way, as a parameter under its own name."""
        tensor = self._input(index)
        return self._builder.attribute(str(tensor.name), change(self.value(index)), trainable=True)

    def operand(self, index: int) -> Any:
        """An input of arithmetic: a plain number where the constant is one and no axis comes from it."""
        values = value_of(self._input(index))
        sizes = self._builder.sizes_of(self._input(index)) if values is None else None
        if sizes is not None and sizes.scalar:
            return sizes.values[0]
        if values is None or values.size != 1 or not self._has_wider_neighbour(index, values.ndim):
            return self[index]
        return values.reshape(()).item() if values.dtype.kind in "fiub" else self[index]

    def _has_wider_neighbour(self, index: int, rank: int) -> bool:
        others = [tensor for place, tensor in enumerate(self.node.inputs) if place != index]
        return any(
            value_of(tensor) is None and tensor.shape is not None and len(tensor.shape) >= rank for tensor in others
        )

    def is_constant(self, index: int) -> bool:
        return value_of(self._input(index)) is not None

    def value(self, index: int) -> np.ndarray:
        """The values of an input that must be constant."""
        values = value_of(self._input(index))
        if values is None:
            raise RefusalError(f"its input {index} ({self._input(index).name}) is computed, and must be constant")
        return values

    def numbers(self, index: int) -> list[int]:
        return [int(value) for value in self.value(index).reshape(-1)]

    def sizes(self, index: int) -> list[Size]:
        """An input that holds sizes: constant, or made from shapes."""
        found = self._builder.sizes_of(self._input(index))
        if found is None:
            raise RefusalError(
                f"its input {index} ({self._input(index).name}) is computed from values, not from shapes"
            )
        return list(found.values)

    def known_sizes(self, index: int) -> Sizes | None:
        """The same; None if it is an ordinary tensor."""
        return self._builder.sizes_of(self._input(index))

    def shape(self, index: int = 0) -> list[int | str]:
        shape = self._input(index).shape
        if shape is None:
            raise RefusalError(f"the rank of its input {index} is not known", "run edgecc with --shape for every input")
        return list(shape)

    def rank(self, index: int = 0) -> int:
        return len(self.shape(index))

    def output_shape(self, index: int = 0) -> list[int | str] | None:
        shape = self.node.outputs[index].shape
        return None if shape is None else list(shape)

    def dtype(self, index: int = 0) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._input(index).dtype)
        return dtype

    def output_dtype(self, index: int = 0) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.node.outputs[index].dtype)
        return dtype

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def axis(self, default: int = 0, *, rank: int | None = None, name: str = "axis") -> int:
        """An attribute that counts axes, from 0 on."""
        axis = int(self.attribute(name, default))
        return axis if axis >= 0 else axis + (self.rank() if rank is None else rank)

    def call(
        self, function: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] = MappingProxyType({})
    ) -> Proxy:
        """A call of a function that does not look for stand-ins of tensors by itself; `options` go by keyword."""
        return self._builder.call(function, arguments, options)

    def uses(self, output: int) -> bool:
        """Whether anything reads that output."""
        return output < len(self.node.outputs) and self._builder.is_read(self.node.outputs[output])

    def refuse_outputs(self, first: int) -> None:
        """Raise where an output from that one on is read."""
        if any(self.uses(index) for index in range(first, len(self.node.outputs))):
            raise RefusalError(f"more than its first {first} output{'s' if first > 1 else ''} are read")

    def _input(self, index: int) -> Tensor:
        if not self.has(index):
            raise RefusalError(f"its input {index} is missing")
        return self.node.inputs[index]


#: numpy's types by name to PyTorch's.
_TORCH_TYPES = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}


def torch_type(dtype: np.dtype[Any] | type) -> torch.dtype:
    """PyTorch's type of that name."""
    name = np.dtype(dtype).name
    if name not in _TORCH_TYPES:
        raise RefusalError(f"PyTorch computes with no {name}")
    return _TORCH_TYPES[name]


def numpy_type(number: int) -> np.dtype[Any]:
    """The type that an ONNX attribute names."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
