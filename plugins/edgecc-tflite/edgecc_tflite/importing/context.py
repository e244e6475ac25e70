"""What an import rule reads and writes: one operator, and the nodes that become of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.importing.base import Refusal
from edgecc_tflite.importing.constants import onnx_type
from edgecc_tflite.importing.graph_import import MOST_VALUES, GraphImport, is_quantized
from edgecc_tflite.ir import Operator, Quantization, Shape, Tensor

INT64 = np.dtype(np.int64)


class Import:
    """One operator on its way to ONNX.

    Attributes:
        graph: that it is of.
        operator: in the IR.
        origin: how messages and reports call it.
    """

    def __init__(self, graph: GraphImport, operator: Operator) -> None:
        self.graph, self.operator = graph, operator
        self.origin = operator.origins[0] if operator.origins else operator.builtin
        self._first_node = len(graph.nodes)
        self._given: set[str] = set()

    # ------------------------------------------------------------------------------------------------------- reading

    def has(self, index: int) -> bool:
        """Whether there is an input."""
        return index < len(self.operator.inputs) and self.operator.inputs[index] is not None

    def tensor(self, index: int = 0) -> Tensor:
        """An input as the file describes it.

        Raises:
            Refusal: it is left out.
        """
        found = self.operator.inputs[index] if index < len(self.operator.inputs) else None
        if found is None:
            raise Refusal(f"input {index} is missing")
        return found

    def out(self, index: int = 0) -> Tensor:
        """An output as the file describes it."""
        if index >= len(self.operator.outputs):
            raise Refusal(f"output {index} is missing")
        return self.operator.outputs[index]

    def x(self, index: int = 0) -> str:
        """An input's real values."""
        return self.graph.real(self.tensor(index), self.origin)

    def xs(self) -> list[str]:
        """All inputs' real values."""
        return [self.x(index) for index in range(len(self.operator.inputs))]

    def stored(self, index: int = 0) -> str:
        """An input's values as the file stores them."""
        return self.graph.stored(self.tensor(index))

    def rank(self, index: int = 0) -> int:
        return self.tensor(index).rank

    def shape(self, index: int = 0) -> Shape:
        """-1 for an open dimension."""
        return self.tensor(index).shape

    def value(self, index: int) -> np.ndarray | None:
        """A constant input's stored values."""
        return self.tensor(index).data if self.has(index) else None

    def known(self, index: int, what: str) -> np.ndarray:
        """A constant input's values.

        Raises:
            Refusal: it is computed.
        """
        values = self.value(index)
        if values is None:
            raise Refusal(f"{what} are computed, and must be constants to be imported")
        return values

    def axes(self, index: int, rank: int) -> list[int]:
        """Constant axes, each once, none negative."""
        return sorted({self.axis(int(axis), rank) for axis in self.known(index, "its axes").reshape(-1)})

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            Refusal: there is no such axis.
        """
        if not -rank <= axis < rank:
            raise Refusal(f"it names axis {axis} of a tensor with {rank} axes")
        return axis % rank

    def positions(self, count: int) -> np.ndarray:
        """The numbers from 0 to below `count`.

        Raises:
            Refusal: there are too many to write out.
        """
        if not 0 <= count <= MOST_VALUES:
            raise Refusal(f"it comes to a constant of {count:,} values")
        return np.arange(count, dtype=np.int64)

    def option(self, name: str) -> Any:
        return self.operator.options.get(name, 0)

    def hint(self) -> str:
        """What to do about an operator without a rule."""
        if self.operator.builtin.startswith("CUSTOM Flex"):
            return "it is TensorFlow's own: convert the model again without SELECT_TF_OPS"
        from edgecc_tflite.importing.coverage import ABSENT

        return ABSENT.get(self.operator.builtin, "")

    def check_types(self) -> None:
        """Refuse tensors of types that ONNX does not have."""
        for tensor in (*self.operator.inputs, *self.operator.outputs):
            if tensor is not None and onnx_type(tensor.dtype) is None:
                name = "strings or resources" if tensor.dtype == object else tensor.dtype.name
                raise Refusal(f"{tensor.name!r} holds {name}, which cannot be imported")

    # ------------------------------------------------------------------------------------------------------- writing

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output; its name."""
        return self.many(op, inputs, 1, **attributes)[0]

    def many(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A node with several outputs; their names."""
        hint = self.operator.outputs[0].name if self.operator.outputs else self.origin
        names = [self.graph.shared.fresh(f"{hint}/{op}") for _ in range(count)]
        self.graph.add(op, inputs, names, self.origin, **attributes)
        return names

    def constant(self, values: np.ndarray | Sequence[int], hint: str = "constant") -> str:
        """A constant; whole numbers are int64 unless they have a type."""
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
        return self.graph.shared.constant(array, f"{self.operator.outputs[0].name}/{hint}")

    def scalar(self, value: float, dtype: np.dtype[Any] | type | None = None) -> str:
        """A constant without axes, of the first input's real type if none is given."""
        kind = self.real_type() if dtype is None else np.dtype(dtype)
        return self.constant(np.array(value, kind), "scalar")

    def real_type(self, index: int = 0) -> np.dtype[Any]:
        """The type of an input's real values."""
        tensor = self.tensor(index)
        return np.dtype(np.float32) if is_quantized(tensor) else tensor.dtype

    def cast(self, name: str, dtype: np.dtype[Any] | type) -> str:
        return self.add("Cast", [name], to=onnx_type(np.dtype(dtype)))

    def int64(self, index: int) -> str:
        """An input of whole numbers as int64, which ONNX wants for sizes, axes and positions."""
        tensor = self.tensor(index)
        if tensor.data is not None:
            return self.constant(tensor.data.astype(np.int64), "int64")
        name = self.stored(index)
        return name if tensor.dtype == INT64 else self.cast(name, INT64)

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", [name, self.constant(list(shape), "shape")])

    def transpose(self, name: str, perm: Sequence[int]) -> str:
        return name if list(perm) == sorted(perm) else self.add("Transpose", [name], perm=list(perm))

    def permuted(self, index: int, perm: Sequence[int]) -> str:
        """An input's real values with their axes permuted."""
        return self.graph.permuted(self.tensor(index), perm, self.origin)

    def give(self, name: str, index: int = 0) -> None:
        """A node's result is an output of the operator, quantized where the output's tensor is."""
        tensor = self.out(index)
        if is_quantized(tensor):
            self.give_stored(self.quantized(name, tensor), index)
            return
        self.give_stored(name, index)

    def give_stored(self, name: str, index: int = 0) -> None:
        """What the output's tensor stores is known by this name."""
        tensor = self.out(index)
        wanted = self.graph.name_of(tensor)
        if not self._rename(name, wanted):
            self.graph.add("Identity", [name], [wanted], self.origin)
        self._given.add(wanted)
        self.graph.bind(tensor, wanted)

    def give_active(self, name: str, index: int = 0) -> None:
        """Like `give`, behind the activation that the operator has fused."""
        self.give(self.active(name), index)

    def active(self, name: str) -> str:
        """The value behind the fused activation."""
        return activated(self, name, int(self.option("fusedActivationFunction")))

    def quantized(self, name: str, tensor: Tensor, quantization: Quantization | None = None) -> str:
        """A node's result in integers, by the tensor's parameters or others."""
        result = self.graph.shared.fresh(f"{tensor.name}/stored")
        self.graph.quantize(name, tensor, result, self.origin, quantization)
        return result

    def _rename(self, old: str, new: str) -> bool:
        """Let the node of this operator that writes the old name write the new one; whether there is one."""
        own = self.graph.nodes[self._first_node :]
        producer = next((node for node in own if old in node.output), None)
        lasting = self._given | self.graph.lasting | self.graph.shared.captured
        if producer is None or old in lasting:
            return False
        producer.output[list(producer.output).index(old)] = new
        for node in own:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new
        return True

    # --------------------------------------------------------------------------------------------- channels in front

    def first(self, index: int = 0) -> str:
        """A channels-last input with its channels behind the batch.

        A quantized tensor is moved in integers, so that DequantizeLinear stands right in front of its reader.
        """
        tensor = self.tensor(index)
        perm = channels_first(tensor.rank)
        if tensor.data is not None or not is_quantized(tensor):
            return self.permuted(index, perm)
        moved = self.transpose(self.stored(index), perm)
        return self.graph.dequantized(moved, tensor, self.origin, perm)

    def give_first(self, name: str, index: int = 0) -> None:
        """Like `give_active`, for a result whose channels are behind the batch."""
        tensor, active = self.out(index), self.active(name)
        perm = channels_last(tensor.rank)
        if is_quantized(tensor):
            active = self.quantized(active, tensor)
        self.give_stored(self.transpose(active, perm), index)


def channels_first(rank: int) -> list[int]:
    """The permutation that takes the last axis behind the first."""
    return [0, rank - 1, *range(1, rank - 1)]


def channels_last(rank: int) -> list[int]:
    """The permutation that takes the second axis to the end."""
    return [0, *range(2, rank), 1]


def activated(c: Import, name: str, function: int) -> str:
    """The value behind an `ActivationFunctionType`."""
    if function == Activation.NONE:
        return name
    emit = _ACTIVATIONS.get(function)
    if emit is None:
        raise Refusal(f"it has fused activation {function}, which is not known here")
    return emit(c, name)


def _clipped(low: float, high: float) -> Callable[[Import, str], str]:
    def emit(c: Import, name: str) -> str:
        dtype = np.float32 if is_quantized(c.out()) else c.out().dtype
        return c.add("Clip", [name, c.scalar(low, dtype), c.scalar(high, dtype)])

    return emit


_ACTIVATIONS: dict[int, Callable[[Import, str], str]] = {
    Activation.RELU: lambda c, name: c.add("Relu", [name]),
    Activation.RELU_N1_TO_1: _clipped(-1.0, 1.0),
    Activation.RELU6: _clipped(0.0, 6.0),
    4: lambda c, name: c.add("Tanh", [name]),
}
