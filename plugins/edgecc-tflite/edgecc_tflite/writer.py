"""The IR as the bytes of a `.tflite` file.

The file has two parts. The head is an ordinary flatbuffer of tables, packed by the schema's object API. The tail holds
the constants' bytes, each once and 16-byte aligned, copied straight from the numpy arrays: the flatbuffers builder
knows no alignment beyond an element's own, copies twice, and stops at 2 GB. Offsets in a flatbuffer point forward, so a
`Buffer` in the head may refer to a vector anywhere behind it; its offset is filled in when the tail's layout is known.
A file that would pass 2 GB, where a flatbuffer ends, uses the schema's own way out: `Buffer.offset` and `Buffer.size`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgecc_tflite import runtimes, schema, sparse_weights, versions
from edgecc_tflite.constants import Constants, write_tail
from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.tables import OperatorTable, TensorTable, Written

#: A flatbuffer's offsets are signed in places, so that no reader takes a longer one.
FLATBUFFER_LIMIT = 2**31 - 1

_SCHEMA_VERSION = 3
_SIGNATURE = "serving_default"
_NO_TENSOR = -1
#: Older readers know the operator by a signed byte; the highest value tells them to look at the newer field.
_LARGEST_OLD_CODE = 127
#: Options that hold the numbers of an operator's subgraphs, in the order of `Operator.subgraphs`.
_SUBGRAPHS = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
}


def write(
    graph: Graph,
    *,
    description: str = "edgecc",
    metadata: Mapping[str, bytes] | None = None,
    flatbuffer_limit: int = FLATBUFFER_LIMIT,
) -> bytearray:
    """Serialize a graph; the same graph gives the same bytes.

    Args:
        graph: what to write. It is not changed.
        description: free text that viewers show.
        metadata: entries beside `min_runtime_version`, which is always written.
        flatbuffer_limit: above this many bytes the constants go behind the flatbuffer instead of into it.

    Returns:
        The file: the only copy of the constants made here.

    Raises:
        IllFormedGraphError: an operator, option or type that the schema does not have.
    """
    constants = Constants()
    model = _model(graph, constants, description, metadata or {})
    head = _pack(model)
    if constants.end_of_tail(len(head)) > flatbuffer_limit:
        constants.use_offsets()
        head = _pack(model)
    return write_tail(head, constants)


def _model(graph: Graph, constants: Constants, description: str, metadata: Mapping[str, bytes]) -> Any:
    """The whole file in the object API's classes."""
    generated = schema.generated()
    graphs = list(dict.fromkeys(graph.nested()))
    shared = _Shared({inner: number for number, inner in enumerate(graphs)})
    tables = [_subgraph(inner, constants, shared) for inner in graphs]

    model = generated.ModelT()
    model.version = _SCHEMA_VERSION
    model.description = description
    model.operatorCodes = shared.codes
    model.subgraphs = tables
    model.signatureDefs = [_signature(graph, {tensor: number for number, tensor in enumerate(_tensors(graph))})]
    oldest = {"min_runtime_version": shared.minimum_runtime().encode().ljust(16, b"\0")}
    model.metadata = [_metadata(name, data, constants) for name, data in {**oldest, **metadata}.items()]
    model.buffers = constants.buffers
    return model


def _subgraph(graph: Graph, constants: Constants, shared: _Shared) -> Any:
    """One graph; tensors are numbered, and named, within it."""
    index = {tensor: number for number, tensor in enumerate(_tensors(graph))}
    names = _unique_names(index)
    table = schema.generated().SubGraphT()
    table.name = graph.name
    table.tensors = [_tensor(tensor, names[tensor], index, constants, shared) for tensor in index]
    table.inputs = [index[tensor] for tensor in graph.inputs]
    table.outputs = [index[tensor] for tensor in graph.outputs]
    table.operators = [_operator(operator, index, shared) for operator in graph.operators]
    return table


def _pack(model: Any) -> bytearray:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return builder.Output()  # type: ignore[no-any-return]


def _tensors(graph: Graph) -> dict[Tensor, None]:
    """Every tensor once: inputs, then in the order of the operators that name them."""
    tensors = dict.fromkeys(graph.inputs)
    for operator in graph.operators:
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor is not None:
                tensors[tensor] = None
                if tensor.blocks is not None:
                    tensors[tensor.blocks.scales] = None
    tensors.update(dict.fromkeys(graph.outputs))
    return tensors


#: Most characters of a helper's name: exporters join the names of all that they fused, and every helper would repeat
#: them.
_LONGEST_NAME = 80


def _unique_names(tensors: Mapping[Tensor, int]) -> dict[Tensor, str]:
    """A name for each tensor; those that stand for a source tensor keep theirs, helpers make way."""
    names = {tensor: tensor.name for tensor in tensors if tensor.source}
    taken = set(names.values())
    counters: dict[str, int] = {}
    for tensor in tensors:
        if tensor in names:
            continue
        name = wanted = tensor.name[-_LONGEST_NAME:]
        while name in taken:
            counters[wanted] = counters.get(wanted, 0) + 1
            name = f"{wanted}_{counters[wanted]}"
        taken.add(name)
        names[tensor] = name
    return names


def _tensor(
    tensor: Tensor, name: str, index: Mapping[Tensor, int], constants: Constants, shared: _Shared
) -> TensorTable:
    quantization = None if tensor.quantization is None else shared.quantization(tensor.quantization)
    if tensor.blocks is not None:
        quantization = _blockwise(index[tensor.blocks.scales], tensor.blocks.size)
    return TensorTable(
        written=shared.written,
        name=name,
        type=schema.tensor_type(tensor.dtype),
        shape=tuple(1 if dim < 0 else dim for dim in tensor.shape),
        signature=tensor.shape if any(dim < 0 for dim in tensor.shape) else None,
        buffer=_buffer(tensor, constants),
        quantization=quantization,
        sparsity=sparse_weights.sparsity_table(tensor) if tensor.sparse else None,
    )


def _buffer(tensor: Tensor, constants: Constants) -> int:
    """Number of the buffer that holds its values; 0 if it has none."""
    if tensor.data is None:
        return 0
    return constants.add(sparse_weights.nonzero_values(tensor) if tensor.sparse else tensor.data)


def _blockwise(scales: int, size: int) -> Any:
    generated = schema.generated()
    details = generated.BlockwiseQuantizationT()
    details.scales, details.zeroPoints, details.blockSize = scales, _NO_TENSOR, size
    table = generated.QuantizationParametersT()
    table.detailsType, table.details = generated.QuantizationDetails.BlockwiseQuantization, details
    return table


def _operator(operator: Operator, index: Mapping[Tensor, int], shared: _Shared) -> OperatorTable:
    second_union, number, options = shared.options(operator)
    return OperatorTable(
        written=shared.written,
        code=shared.code(operator),
        inputs=[_NO_TENSOR if tensor is None else index[tensor] for tensor in operator.inputs],
        outputs=[index[tensor] for tensor in operator.outputs],
        options_type=number,
        options=options,
        second_union=second_union,
    )


def _signature(graph: Graph, index: Mapping[Tensor, int]) -> Any:
    generated = schema.generated()

    def entry(tensor: Tensor) -> Any:
        table = generated.TensorMapT()
        table.name = tensor.source or tensor.name
        table.tensorIndex = index[tensor]
        return table

    signature = generated.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.inputs = [entry(tensor) for tensor in graph.inputs]
    signature.outputs = [entry(tensor) for tensor in graph.outputs]
    return signature


def _metadata(name: str, data: bytes, constants: Constants) -> Any:
    table = schema.generated().MetadataT()
    table.name = name
    table.buffer = constants.add(np.frombuffer(data, np.uint8))
    return table


class _Shared:
    """The tables that many operators and tensors have in common.

    Attributes:
        codes: the model's table of operator kinds: one entry for each builtin and version in use.
        written: what the builder already holds.
    """

    def __init__(self, graphs: Mapping[Graph, int]) -> None:
        self._graphs = graphs
        self.codes: list[Any] = []
        self.written = Written()
        self._codes: dict[tuple[str, int], int] = {}
        self._options: dict[Hashable, tuple[bool, int, Any]] = {}
        self._quantizations: dict[tuple[bytes, bytes, int], Any] = {}

    def code(self, operator: Operator) -> int:
        """Where an operator's kind stands in `codes`; entered if it is new."""
        key = operator.builtin, versions.operator_version(operator)
        known = self._codes.get(key)
        if known is not None:
            return known
        code = schema.builtin_code(operator.builtin)
        table = schema.generated().OperatorCodeT()
        table.builtinCode = code
        table.deprecatedBuiltinCode = min(code, _LARGEST_OLD_CODE)
        table.version = key[1]
        self.codes.append(table)
        self._codes[key] = len(self._codes)
        return self._codes[key]

    def options(self, operator: Operator) -> tuple[bool, int, Any]:
        """Whether the options go to the second union, their number in it, and their table; None for none."""
        if operator.subgraphs:
            numbers = [self._graphs[subgraph] for subgraph in operator.subgraphs]
            return _options(replace(operator, options=dict(zip(_SUBGRAPHS[operator.builtin], numbers, strict=True))))
        values = (tuple(value) if isinstance(value, list) else value for value in operator.options.values())
        key = operator.builtin, *operator.options, *values
        try:
            known = self._options.get(key)
        except TypeError:  # an array among the values: rare, and not worth comparing
            return _options(operator)
        if known is None:
            known = self._options[key] = _options(operator)
        return known

    def quantization(self, quantization: Quantization) -> Any:
        """The table of a quantization."""
        scale = np.atleast_1d(quantization.scale).astype("<f4")
        zero_point = np.atleast_1d(quantization.zero_point).astype("<i8")
        key = scale.tobytes(), zero_point.tobytes(), quantization.axis
        if key not in self._quantizations:
            table = schema.generated().QuantizationParametersT()
            table.scale, table.zeroPoint, table.quantizedDimension = scale, zero_point, quantization.axis
            self._quantizations[key] = table
        return self._quantizations[key]

    def minimum_runtime(self) -> str:
        """The oldest runtime that has every operator in use."""
        needed = [runtimes.minimum_runtime(builtin, version) for builtin, version in self._codes]
        return max(needed, key=runtimes.as_numbers, default=runtimes.OLDEST_RUNTIME)


def _options(operator: Operator) -> tuple[bool, int, Any]:
    """An operator's options table; the runtime wants it even where every field has its default."""
    found = schema.options_table(operator.builtin)
    known: frozenset[str] = frozenset() if found is None else found.attributes
    unknown = sorted(operator.options.keys() - known)
    if unknown:
        raise schema.IllFormedGraphError(
            f"{operator.builtin} has no option {unknown[0]!r} in the TFLite schema",
            where=f"the operator that writes {operator.outputs[0].name!r}, made from {', '.join(operator.origins)}",
            why="its lowering set that option",
            hint=f"it has: {', '.join(sorted(known)) or 'none'}",
        )
    if found is None:
        return False, 0, None
    table = found.table()
    for name, value in operator.options.items():
        setattr(table, name, value)
    return found.second_union, found.number, table
