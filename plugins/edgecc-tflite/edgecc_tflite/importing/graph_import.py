"""One ONNX graph in the making: its nodes, and what the file's tensors are called in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from edgecc.errors import InvalidModelError, Unsupported
from edgecc.serialization import METADATA_ORIGINS
from edgecc_tflite.importing.base import FollowingRefusal, ImportTable, Refusal
from edgecc_tflite.importing.constants import Shared, onnx_type
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor

#: Types that stand for real values where they have a scale. Wider ones are plain integers but for biases.
QUANTIZED = frozenset({"int8", "uint8", "int16", "int4", "uint4"})
#: Values of a constant that is not in the file: a state's, or one that is computed now.
MOST_VALUES = 1 << 26
#: Subgraphs of one model, each counted wherever it is called.
_MOST_CALLS = 1000


def is_quantized(tensor: Tensor) -> bool:
    """Whether the stored integers stand for real values."""
    has_scales = tensor.quantization is not None or tensor.blocks is not None
    return has_scales and tensor.dtype.name in QUANTIZED


class GraphImport:
    """One graph in the making: the main one or a subgraph.

    Attributes:
        shared: what all graphs of the model have in common.
        table: the rules.
        nodes: in order.
        problems: operators that no rule takes, of all graphs.
        lasting: names that later operators read, too.
    """

    def __init__(
        self,
        shared: Shared,
        table: ImportTable,
        problems: list[Unsupported],
        nodes: list[onnx.NodeProto] | None = None,
    ) -> None:
        self.shared, self.table, self.problems = shared, table, problems
        self.nodes: list[onnx.NodeProto] = [] if nodes is None else nodes
        self.lasting: set[str] = set()
        self._stored: dict[Tensor, str] = {}
        self._real: dict[Tensor, str] = {}
        self._reserved: dict[Tensor, str] = {}
        self._producers: dict[Tensor, Operator] = {}

    def bind(self, tensor: Tensor, name: str) -> None:
        """The tensor's values, as the file stores them, have this name."""
        self._stored[tensor] = name
        self.lasting.add(name)

    def called(self, inputs: Sequence[Tensor], names: Sequence[str], *, is_inline: bool = False) -> GraphImport:
        """A graph for a subgraph whose inputs have these names: one of its own, or this one's nodes go on."""
        self.shared.calls += 1
        if self.shared.calls > _MOST_CALLS:
            why = f"its subgraphs come to more than {_MOST_CALLS:,} where they are called"
            raise InvalidModelError(
                "a subgraph of the TFLite file cannot be written out: it calls others too often", why=why
            )
        inner = GraphImport(self.shared, self.table, self.problems, self.nodes if is_inline else None)
        if len(inputs) != len(names):
            raise Refusal(f"it hands {len(names)} values to a subgraph that takes {len(inputs)}")
        for tensor, name in zip(inputs, names, strict=True):
            inner.bind(tensor, name)
            self.shared.captured.add(name)
        return inner

    def reserve(self, outputs: Sequence[tuple[Tensor, str]]) -> None:
        """The names that the graph's outputs are to have; `settle` is called with the same ones at the end."""
        self._reserved = dict(outputs)

    def settle(self, outputs: Sequence[tuple[Tensor, str]]) -> None:
        """Copy what does not have the name that it is to have: inputs, constants, what is given twice."""
        written = {name for node in self.nodes for name in node.output}
        for tensor, wanted in outputs:
            if wanted not in written:
                self.add("Identity", [self.stored(tensor)], [wanted], "")

    def name_of(self, tensor: Tensor) -> str:
        """The name that the tensor's values are to have."""
        return self._reserved.pop(tensor, "") or self.shared.fresh(tensor.name)

    def run(self, graph: Graph) -> None:
        """Emit every operator of a graph, whose inputs are bound."""
        from edgecc_tflite.importing.context import Import

        for operator in graph.operators:
            self._producers.update((tensor, operator) for tensor in operator.outputs)
            rule = self.table.find(operator.builtin)
            context = Import(self, operator)
            try:
                if rule is None:
                    raise Refusal("no import rule for this operator", context.hint())
                context.check_types()
                rule.emit(context)
            except FollowingRefusal:
                continue
            except (ArithmeticError, LookupError, ValueError) as error:
                # Ranks and sizes that no runtime would take; rules check what real files may have.
                name, what = operator.builtin, f"{type(error).__name__}: {error}"
                where = f"operator {context.origin!r} ({name})"
                raise InvalidModelError("its operands do not fit an operator", where=where, why=what) from error
            except Refusal as refusal:
                name = ", ".join(operator.origins)
                op = operator.builtin.removeprefix("CUSTOM ")
                self.problems.append(Unsupported(name, op, refusal.reason, refusal.hint))

    def add(self, op: str, inputs: Sequence[str], outputs: Sequence[str], origin: str, **attributes: Any) -> None:
        """Append a node."""
        name = self.shared.fresh_node(f"{origin}/{op}")
        node = onnx.helper.make_node(op, inputs, outputs, name=name, **attributes)
        if origin:
            node.metadata_props.add(key=METADATA_ORIGINS, value=origin.replace("\n", " "))
        self.nodes.append(node)

    # ------------------------------------------------------------------------------------------------------- tensors

    def stored(self, tensor: Tensor) -> str:
        """The tensor's values as the file stores them."""
        if tensor not in self._stored:
            self.bind(tensor, self._constant(tensor))
        return self._stored[tensor]

    def _constant(self, tensor: Tensor) -> str:
        values = tensor.data
        if values is None:
            if tensor not in self.shared.variables:
                raise FollowingRefusal(f"it reads {tensor.name!r}, which is not there")
            values = _nothing(tensor)
            self.shared.states.append(tensor.name)
        if onnx_type(values.dtype) is None:
            raise Refusal(f"ONNX has no tensors of the type of {tensor.name!r}, {values.dtype.name}")
        return self.shared.constant(values, tensor.name)

    def real(self, tensor: Tensor, origin: str) -> str:
        """The tensor's values, dequantized where integers stand for them."""
        if not is_quantized(tensor):
            return self.stored(tensor)
        if tensor not in self._real:
            self._real[tensor] = self.dequantized(self.stored(tensor), tensor, origin)
            self.lasting.add(self._real[tensor])
        return self._real[tensor]

    def dequantized(
        self,
        name: str,
        tensor: Tensor,
        origin: str,
        perm: Sequence[int] | None = None,
        quantization: Quantization | None = None,
    ) -> str:
        """A DequantizeLinear with the tensor's or other parameters behind a stored value whose axes may be permuted."""
        result = self.shared.fresh(f"{tensor.name}/real")
        inputs, attributes = self._parameters(tensor, perm, quantization)
        self.add("DequantizeLinear", [name, *inputs], [result], origin, **attributes)
        return result

    def quantize(
        self, name: str, tensor: Tensor, result: str, origin: str, quantization: Quantization | None = None
    ) -> None:
        """A QuantizeLinear with the tensor's parameters or others."""
        inputs, attributes = self._parameters(tensor, None, quantization)
        self.add("QuantizeLinear", [name, *inputs], [result], origin, **attributes)

    def _parameters(
        self, tensor: Tensor, perm: Sequence[int] | None, quantization: Quantization | None = None
    ) -> tuple[list[str], dict[str, Any]]:
        """Scale and zero point, and the attributes that say where they apply; the tensor's if none are given."""
        if quantization is None and tensor.blocks is not None:
            scales = tensor.blocks.scales.data
            assert scales is not None
            axis = tensor.rank - 1
            scales = scales.astype(np.float32)
            if perm is not None:
                axis, scales = list(perm).index(axis), np.ascontiguousarray(scales.transpose(perm))
            name = self.shared.constant(scales, f"{tensor.name}/scale")
            return [name], {"axis": axis, "block_size": tensor.blocks.size}
        quantization = quantization or tensor.quantization
        assert quantization is not None
        inputs = self.shared.scales(quantization, tensor.dtype, tensor.name)
        if quantization.scale.size == 1:
            return inputs, {}
        axis = quantization.axis if perm is None else list(perm).index(quantization.axis)
        return inputs, {"axis": axis}

    def unpacked(self, tensor: Tensor) -> Tensor | None:
        """The constant behind a tensor that is one, or that DEQUANTIZE makes of one."""
        if tensor.data is not None:
            return tensor
        producer = self._producers.get(tensor)
        if producer is None or producer.builtin not in ("DEQUANTIZE", "QUANTIZE"):
            return None
        source = producer.inputs[0]
        is_unpacked = producer.builtin == "DEQUANTIZE" and source is not None and source.data is not None
        return source if is_unpacked else None

    def numbers(self, tensor: Tensor) -> list[int | None]:
        """The whole numbers of a tensor with one axis, None for each that is computed; none at all if nothing is known.

        Converters write sizes behind an open batch as PACK of the batch and constants.
        """
        if tensor.data is not None:
            return [int(value) for value in tensor.data.reshape(-1)]
        producer = self._producers.get(tensor)
        if producer is None or producer.builtin != "PACK":
            return []
        parts = [None if part is None else part.data for part in producer.inputs]
        return [None if part is None or part.ndim else int(part) for part in parts]

    def permuted(self, tensor: Tensor, perm: Sequence[int], origin: str) -> str:
        """The real values with their axes permuted; a constant's are permuted now and stay as small as they are."""
        constant = self.unpacked(tensor)
        if constant is None or constant.rank != len(perm):
            return self._transposed(self.real(tensor, origin), perm, origin)
        assert constant.data is not None
        values = constant.data if list(perm) == sorted(perm) else np.ascontiguousarray(constant.data.transpose(perm))
        if onnx_type(values.dtype) is None:
            raise Refusal(f"ONNX has no tensors of the type of {tensor.name!r}, {values.dtype.name}")
        name = self.shared.constant(values, constant.name)
        if is_quantized(constant):
            return self.dequantized(name, constant, origin, perm)
        if constant.dtype == tensor.dtype:
            return name
        result = self.shared.fresh(f"{tensor.name}/real")
        self.add("Cast", [name], [result], origin, to=onnx_type(tensor.dtype))
        return result

    def _transposed(self, name: str, perm: Sequence[int], origin: str) -> str:
        if list(perm) == sorted(perm):
            return name
        result = self.shared.fresh(f"{name}/transposed")
        self.add("Transpose", [name], [result], origin, perm=list(perm))
        return result


def _nothing(tensor: Tensor) -> np.ndarray:
    """The first values of a state."""
    if any(dim < 0 for dim in tensor.shape) or math.prod(tensor.shape) > MOST_VALUES:
        raise Refusal(f"state {tensor.name!r} has no size, or too large a one")
    zero = 0 if tensor.quantization is None else int(tensor.quantization.zero_point[0])
    return np.full(tensor.shape, zero, tensor.dtype)
