"""A `.tflite` file as the IR, checked as it is read: what comes out can be worked with without a second look."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecc.errors import InvalidModelError
from edgecc_tflite import schema
from edgecc_tflite.importing.flatbuffer import AGAIN, Table, fields
from edgecc_tflite.ir import Blocks, Graph, Operator, Quantization, Tensor

IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
#: A name in front of a custom operator's own, so that none passes for a builtin.
CUSTOM = "CUSTOM "
#: Subgraphs inside of each other; the deepest real models have four.
_DEEPEST = 32
#: Options that hold numbers of subgraphs, in the order of `Operator.subgraphs`.
_SUBGRAPHS = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CALL": ("subgraph",),
    "STABLEHLO_COMPOSITE": ("decompositionSubgraphIndex",),
}
#: Options that are vectors, by operator.
_VECTORS = {
    "BUCKETIZE": {"boundaries": "<f4"},
    "RESHAPE": {"newShape": "<i4"},
    "SQUEEZE": {"squeezeDims": "<i4"},
}


@dataclass(frozen=True)
class Signature:
    """A way to call the model: tensors by the names that users know."""

    key: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass
class ModelFile:
    """What a file holds.

    Attributes:
        graph: the first subgraph, those that its operators call inside of them.
        description: free text of who wrote it.
        signatures: those of the first subgraph.
        others: keys of signatures of other subgraphs.
        metadata: names of the entries, and their bytes.
        variables: tensors that keep their values between runs.
    """

    graph: Graph
    description: str = ""
    signatures: list[Signature] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    variables: set[Tensor] = field(default_factory=set)


def read_model(contents: memoryview) -> ModelFile:
    """Read a file; constants stay where they are.

    Raises:
        InvalidModelError: something in it is not as the schema says; the message says what and where.
    """
    if bytes(contents[4:8]) != IDENTIFIER:
        raise InvalidModelError("this is not a TFLite file", why="it does not say TFL3 at its fifth byte")
    model = Table.root(contents, "Model")
    version = model.value("version")
    if version != _SCHEMA_VERSION:
        hint = "convert it with a TFLite converter of 2018 or later"
        raise InvalidModelError(f"the TFLite file has schema version {version}, not {_SCHEMA_VERSION}", hint=hint)
    return _Reader(model, contents).read()


class _Reader:
    def __init__(self, model: Table, contents: memoryview) -> None:
        self._model, self._contents = model, contents
        self._codes = [_kind(code) for code in model.tables("operatorCodes", "OperatorCode", "operator code")]
        self._buffers = list(model.tables("buffers", "Buffer", "buffer"))
        self._subgraphs = list(model.tables("subgraphs", "SubGraph", "subgraph"))
        self._tensors: dict[int, list[Tensor]] = {}
        self._graphs: dict[int, Graph] = {}
        self._open: list[int] = []
        self._variables: set[Tensor] = set()

    def read(self) -> ModelFile:
        if not self._subgraphs:
            raise self._model.damaged("it holds no subgraph")
        file = ModelFile(self._graph(0), self._model.text("description"), variables=self._variables)
        for table in self._model.tables("signatureDefs", "SignatureDef", "signature"):
            if table.value("subgraphIndex") == 0:
                file.signatures.append(self._signature(table))
            else:
                file.others.append(table.text("signatureKey"))
        for table in self._model.tables("metadata", "Metadata", "metadata"):
            found = self._bytes(table.value("buffer"), table)
            table.count(0 if found is None else found.nbytes)
            file.metadata[table.text("name")] = b"" if found is None else bytes(found)
        return file

    def _signature(self, table: Table) -> Signature:
        sides = []
        for side in ("inputs", "outputs"):
            entries = table.tables(side, "TensorMap", side)
            sides.append({e.text("name"): _at(self._tensors[0], e.value("tensorIndex"), e) for e in entries})
        return Signature(table.text("signatureKey"), sides[0], sides[1])

    # ----------------------------------------------------------------------------------------------------- subgraphs

    def _graph(self, number: int) -> Graph:
        """A subgraph, read once; those that its operators call are read inside of it."""
        if number in self._graphs:
            return self._graphs[number]
        table = self._subgraphs[number]
        if len(self._open) > _DEEPEST:
            raise table.damaged(f"subgraphs call each other more than {_DEEPEST} deep")
        self._open.append(number)
        tensors = self._tensors[number] = self._read_tensors(table)
        graph = Graph(table.text("name") or f"subgraph_{number}")
        graph.inputs = self._listed(table, "inputs", tensors)
        graph.outputs = self._listed(table, "outputs", tensors)
        for operator in table.tables("operators", "Operator", "operator"):
            graph.operators.append(self._operator(operator, tensors))
        _check_order(graph, table, self._variables)
        self._open.pop()
        self._graphs[number] = graph
        return graph

    def _called(self, number: int, table: Table) -> Graph:
        if not 0 <= number < len(self._subgraphs):
            raise table.damaged(f"it calls subgraph {number}, and there are {len(self._subgraphs)}")
        if number in self._open:
            raise table.damaged(f"it calls subgraph {number}, which it is part of")
        return self._graph(number)

    def _listed(self, table: Table, name: str, tensors: list[Tensor]) -> list[Tensor]:
        numbers = table.copied(name, "<i4")
        return [] if numbers is None else [_at(tensors, int(n), table) for n in numbers]

    def _operator(self, table: Table, tensors: list[Tensor]) -> Operator:
        code = table.value("opcodeIndex")
        if code >= len(self._codes):
            raise table.damaged(f"it is of kind {code}, and the file lists {len(self._codes)}")
        builtin = self._codes[code]
        numbers = table.copied("inputs", "<i4")
        inputs = [_at(tensors, int(n), table) if n != -1 else None for n in ([] if numbers is None else numbers)]
        operator = Operator(builtin, list(inputs), self._listed(table, "outputs", tensors))
        if not operator.outputs and builtin not in _WITHOUT_OUTPUTS:
            raise table.damaged(f"{builtin} has no outputs")
        operator.options = _options(table, builtin)
        operator.origins = (_origin(builtin, operator),)
        calls = (operator.options[name] for name in _SUBGRAPHS.get(builtin, ()))
        operator.subgraphs = [self._called(number, table) for number in calls]
        return operator

    # ------------------------------------------------------------------------------------------------------- tensors

    def _read_tensors(self, subgraph: Table) -> list[Tensor]:
        tables = list(subgraph.tables("tensors", "Tensor", "tensor"))
        outs = [subgraph.copied("inputs", "<i4")]
        outs += [operator.copied("outputs", "<i4") for operator in subgraph.tables("operators", "Operator", "operator")]
        computed = {int(n) for numbers in outs if numbers is not None for n in numbers}
        tensors = [self._tensor(table, number in computed) for number, table in enumerate(tables)]
        for table, tensor in zip(tables, tensors, strict=True):
            self._quantize(table, tensor, tensors)
        return tensors

    def _tensor(self, table: Table, is_computed: bool) -> Tensor:
        shape = _shape(table)
        tensor = Tensor(table.text("name"), shape, schema.numpy_dtype(table.value("type")))
        if table.value("isVariable"):
            self._variables.add(tensor)
            return tensor
        if table.table("sparsity", "SparsityParameters") is not None:
            raise InvalidModelError(
                "the TFLite file has sparse weights, which edgecc does not read",
                where=f"{table.where} ({tensor.name!r})",
                hint="convert the model again without sparsity",
            )
        stored = self._bytes(table.value("buffer"), table)
        # An empty constant has no bytes, as if it were computed; then nothing would write it.
        if stored is None and not is_computed and 0 in shape and tensor.dtype != object:
            tensor.data = _empty(table, tensor)
        if stored is not None and not is_computed and tensor.dtype != object:
            tensor.data = _values(table, tensor, stored)
            tensor.shape = tensor.data.shape
        return tensor

    def _bytes(self, number: int, table: Table) -> np.ndarray | None:
        """The bytes of a buffer; None for one that holds none."""
        if number >= len(self._buffers):
            raise table.damaged(f"it refers to buffer {number}, and there are {len(self._buffers)}")
        buffer = self._buffers[number]
        offset, size = buffer.value("offset"), buffer.value("size")
        if offset <= 1:
            found = buffer.numbers("data", "u1")
            return None if found is None or found.size == 0 else found
        if offset + size > len(self._contents):
            why = f"bytes {offset:,} to {offset + size:,} of a file of {len(self._contents):,}"
            raise buffer.damaged(f"it lies outside of the file: {why}")
        return np.frombuffer(self._contents, "u1", size, offset)

    def _quantize(self, table: Table, tensor: Tensor, tensors: list[Tensor]) -> None:
        parameters = table.table("quantization", "QuantizationParameters")
        if parameters is None:
            return
        if parameters.value("detailsType") == schema.generated().QuantizationDetails.BlockwiseQuantization:
            details = parameters.table("details", "BlockwiseQuantization")
            if details is not None:
                tensor.blocks = _blocks(details, tensor, tensors)
            return
        tensor.quantization = _quantization(parameters, tensor)


_WITHOUT_OUTPUTS = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE_IMPORT", "WHILE", "IF", "CALL"})


def _kind(code: Table) -> str:
    """Name of an operator; old files have its number in a smaller field."""
    number = max(code.value("builtinCode"), code.value("deprecatedBuiltinCode"))
    name = builtin_names().get(number)
    if name is None:
        raise InvalidModelError(
            f"the TFLite file has operators of a kind that is not known here, number {number}",
            where=code.where,
            hint="pip install --upgrade ai-edge-litert",
        )
    return CUSTOM + code.text("customCode") if name == "CUSTOM" else name


@functools.cache
def builtin_names() -> dict[int, str]:
    """The schema's operators by their numbers."""
    found: dict[str, Any] = dict(vars(schema.generated().BuiltinOperator))
    return {value: name for name, value in found.items() if name.isupper() and isinstance(value, int)}


def _options(table: Table, builtin: str) -> dict[str, Any]:
    """Every option by the schema's name; defaults where the file has no table, or another operator's."""
    if builtin.startswith(CUSTOM):
        found = table.copied("customOptions", "u1")
        return {"custom": b"" if found is None else bytes(found)}
    kind = schema.options_table(builtin)
    if kind is None:
        return {}
    name = kind.table.__name__.removesuffix("T")
    union = "builtinOptions2" if kind.second_union else "builtinOptions"
    options = table.table(union, name) if table.value(f"{union}Type") == kind.number else None
    if options is None:
        return {key: f.default for key, f in fields(name).items() if f.format}
    vectors = {key: options.numbers(key, dtype) for key, dtype in _VECTORS.get(builtin, {}).items()}
    return options.values() | vectors


def _origin(builtin: str, operator: Operator) -> str:
    """How messages and reports call the operator."""
    return operator.outputs[0].name or builtin if operator.outputs else builtin


def _at(tensors: Sequence[Tensor], number: int, table: Table) -> Tensor:
    if not 0 <= number < len(tensors):
        raise table.damaged(f"it refers to tensor {number}, and there are {len(tensors)}")
    return tensors[number]


def _shape(table: Table) -> tuple[int, ...]:
    """-1 where the file leaves a dimension open."""
    dims = table.numbers("shape", "<i4")
    signature = table.numbers("shapeSignature", "<i4")
    chosen = signature if signature is not None and signature.size else dims
    shape = () if chosen is None else tuple(int(dim) for dim in chosen)
    if any(dim < -1 for dim in shape):
        raise table.damaged(f"shape {list(shape)} has a negative dimension")
    if len(shape) > _MOST_AXES:
        raise table.damaged(f"it has {len(shape)} axes; {_MOST_AXES} are possible")
    return shape


#: numpy takes no more.
_MOST_AXES = 32


def _values(table: Table, tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """A constant's values: a view of the file, unless they are packed."""
    dims = table.numbers("shape", "<i4")
    shape = () if dims is None else tuple(int(dim) for dim in dims)
    if any(dim < 0 for dim in shape):
        raise table.damaged(f"constant {tensor.name!r} of shape {list(shape)} has an open dimension")
    count, bits = math.prod(shape), schema.PACKED_BITS.get(tensor.dtype.name)
    wanted = -(-count * bits // 8) if bits else count * tensor.dtype.itemsize
    if wanted != stored.size:
        what = f"{tensor.dtype.name}{list(shape)}"
        raise table.damaged(f"constant {tensor.name!r} is {what}, {wanted:,} bytes, and its buffer has {stored.size:,}")
    if bits:
        table.count(count)
        return _unpacked(stored, bits, tensor.dtype)[:count].reshape(shape)
    return stored.view(tensor.dtype.newbyteorder("<")).reshape(shape)


def _empty(table: Table, tensor: Tensor) -> np.ndarray:
    """A constant without values."""
    try:
        return np.zeros(tensor.shape, tensor.dtype)
    except ValueError as error:  # another dimension is open, or all others together are too large for numpy
        raise table.damaged(f"constant {tensor.name!r} has shape {list(tensor.shape)}") from error


def _unpacked(stored: np.ndarray, bits: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Values of less than a byte, the first one lowest in its byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((stored[:, None] >> shifts) & (2**bits - 1)).reshape(-1).astype(np.int8)
    if dtype.name.startswith("int"):
        values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values).astype(np.int8)
    unpacked: np.ndarray = values.astype(dtype)
    return unpacked


def _quantization(parameters: Table, tensor: Tensor) -> Quantization | None:
    """None where the file says nothing: no scale, or 0 as old converters write it."""
    scale, zero_point = parameters.numbers("scale", "<f4"), parameters.numbers("zeroPoint", "<i8")
    if scale is None or not scale.size or not scale.any():
        return None
    axis = int(parameters.value("quantizedDimension"))
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise parameters.damaged(f"{tensor.name!r} has a scale that is no positive number")
    if zero_point is None or zero_point.size == 0:
        zero_point = np.zeros(scale.size, np.int64)
    if zero_point.size != scale.size:
        zero_point = np.broadcast_to(zero_point[:1], scale.shape)
    if scale.size > 1 and not (0 <= axis < tensor.rank and tensor.shape[axis] in (scale.size, -1)):
        shape = list(tensor.shape)
        raise parameters.damaged(f"{tensor.name!r} of shape {shape} has {scale.size} scales along axis {axis}")
    if tensor.dtype.name in _STORED and not _fits(zero_point, tensor.dtype):
        raise parameters.damaged(f"{tensor.name!r} has a zero point that is no {tensor.dtype.name}")
    return Quantization(scale, zero_point, axis if scale.size > 1 else 0)


_STORED = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int4": (-8, 7)}


def _fits(zero_point: np.ndarray, dtype: np.dtype[Any]) -> bool:
    low, high = _STORED[dtype.name]
    return bool(zero_point.min() >= low and zero_point.max() <= high)


def _blocks(details: Table, tensor: Tensor, tensors: list[Tensor]) -> Blocks:
    scales, size = _at(tensors, details.value("scales"), details), int(details.value("blockSize"))
    runs = (*tensor.shape[:-1], tensor.shape[-1] // size) if size > 0 and tensor.rank else ()
    if scales.data is None or size <= 0 or scales.shape != runs or tensor.shape[-1] % size:
        raise details.damaged(f"{tensor.name!r} has scales of shape {list(scales.shape)} for runs of {size}")
    return Blocks(scales, size)


def _check_order(graph: Graph, table: Table, variables: set[Tensor]) -> None:
    """Every tensor has its value when an operator reads it, and gets it once: there are no cycles."""
    written = set(graph.inputs)
    for number, operator in enumerate(graph.operators):
        where = _within(table, f"operator {number} ({operator.builtin})")
        for tensor in operator.inputs:
            if tensor is not None and tensor not in written and tensor.data is None and tensor not in variables:
                raise InvalidModelError(
                    "the TFLite file is damaged",
                    where=where,
                    why=f"it reads {tensor.name!r}, which nothing has written; a cycle, or an operator is missing",
                    hint=AGAIN,
                )
        for tensor in operator.outputs:
            if tensor in written:
                why = f"it writes {tensor.name!r}, which has a value already"
                raise InvalidModelError("the TFLite file is damaged", where=where, why=why, hint=AGAIN)
            written.add(tensor)
    for tensor in graph.outputs:
        if tensor not in written and tensor.data is None and tensor not in variables:
            raise table.damaged(f"nothing writes its output {tensor.name!r}")


def _within(table: Table, place: str) -> str:
    """A place inside of a table, for an error."""
    return f"{table.where}, {place}"
