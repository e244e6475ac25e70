"""Taking the weights out of a ModelProto, so that what remains is small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from edgecc.errors import InvalidModelError
from edgecc.importers.external_data import Folder
from edgecc.serialization import INLINE_BYTES

_COPIED = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")


def detach(proto: onnx.ModelProto, folder: Folder) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A copy of the model without its large tensors, and those by name.

    In the copy they are typed inputs of the main graph. Large tensors of Constant nodes and of subgraphs move there
    too. Sparse tensors become dense, external ones are read, and an initializer that is also listed as an input (as up
    to IR version 3 all were) is an initializer only.

    Raises:
        InvalidModelError: a tensor's data is missing, has the wrong size, or lies outside of the model's folder.
    """
    light = onnx.ModelProto()
    for name in _COPIED:
        if getattr(proto, name):
            setattr(light, name, getattr(proto, name))
    light.opset_import.extend(proto.opset_import)
    light.metadata_props.extend(proto.metadata_props)
    light.functions.extend(proto.functions)
    names = {value.name for part in _graphs(proto.graph) for value in _names(part)}
    mover = _Mover(light.graph, folder, names)
    mover.copy_main(proto.graph)
    return light, mover.weights


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _names(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto | onnx.ValueInfoProto]:
    yield from graph.initializer
    yield from graph.input


@dataclass
class _Mover:
    target: onnx.GraphProto
    folder: Folder
    names: set[str]
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def copy_main(self, source: onnx.GraphProto) -> None:
        target = self.target
        target.name, target.doc_string = source.name or "graph", source.doc_string
        initialized = {t.name for t in source.initializer} | {t.values.name for t in source.sparse_initializer}
        target.input.extend(value for value in source.input if value.name not in initialized)
        target.output.extend(source.output)
        target.value_info.extend(source.value_info)
        kept = {value.name for value in source.output}
        for tensor in source.initializer:
            if not self.take(tensor.name, tensor):
                target.initializer.append(self.inline(tensor))
        for sparse in source.sparse_initializer:
            target.initializer.append(_tensor(sparse.values.name, densify(sparse)))
        for node in source.node:
            constant = _large_constant(node, kept)
            if constant is not None and self.take(node.output[0], constant):
                continue
            copied = target.node.add()
            copied.CopyFrom(node)
            self.settle(copied)

    def take(self, name: str, tensor: onnx.TensorProto) -> bool:
        """Move a large tensor to the weights; small ones and strings stay."""
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if tensor.data_type == onnx.TensorProto.STRING or (not external and _nbytes(tensor) <= INLINE_BYTES):
            return False
        values = self.values(tensor)
        self.weights[name] = values
        self.target.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(values.shape)))
        return True

    def values(self, tensor: onnx.TensorProto) -> np.ndarray:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return self.folder.read(tensor)
        return to_array(tensor)

    def inline(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        return tensor

    def settle(self, node: onnx.NodeProto) -> None:
        """Make a copied node's tensors stand alone, in its subgraphs too."""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                self.settle_subgraph(attribute.g)
            elif attribute.type == onnx.AttributeProto.SPARSE_TENSOR and node.op_type == "Constant":
                dense = _tensor("", densify(attribute.sparse_tensor))
                attribute.Clear()
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(dense)
            elif attribute.HasField("t") and attribute.t.data_location == onnx.TensorProto.EXTERNAL:
                attribute.t.CopyFrom(_tensor(attribute.t.name, self.folder.read(attribute.t)))
            elif attribute.type in _DROPPED:
                kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
                raise InvalidModelError(
                    f"attribute {attribute.name!r} is of kind {kind}, which edgecc cannot keep",
                    where=f"node {node.name or node.output[0]!r} ({node.op_type})",
                )

    def settle_subgraph(self, graph: onnx.GraphProto) -> None:
        renamed: dict[str, str] = {}
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_tensor(sparse.values.name, densify(sparse)))
        del graph.sparse_initializer[:]
        outputs = {value.name for value in graph.output}
        small = []
        for tensor in graph.initializer:
            name = self.fresh(tensor.name)
            if tensor.name not in outputs and self.take(name, tensor):
                renamed[tensor.name] = name
            elif tensor.data_location == onnx.TensorProto.EXTERNAL:
                small.append(_tensor(tensor.name, self.folder.read(tensor)))
            else:
                small.append(tensor)
        if renamed:
            copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in small]
            del graph.initializer[:]
            graph.initializer.extend(copies)
            rename_reads(graph, renamed)
        for node in graph.node:
            self.settle(node)

    def fresh(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self.weights:
            count += 1
            candidate = f"{name}_{count}"
        return candidate


_DROPPED = frozenset(
    getattr(onnx.AttributeProto, name)
    for name in ("SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS", "TENSORS", "GRAPHS")
)


def rename_reads(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Let the nodes of a graph, and of its subgraphs, read tensors under new names."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename_reads(attribute.g, renamed)


def _large_constant(node: onnx.NodeProto, kept: set[str]) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.output[0] in kept:
        return None
    value = next((a for a in node.attribute if a.name == "value"), None)
    return value.t if value is not None and value.type == onnx.AttributeProto.TENSOR else None


def _nbytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) or tensor.ByteSize()


def _tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(values, name)


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a tensor whose data is in the proto.

    Raises:
        InvalidModelError: its data does not fit its type and shape.
    """
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidModelError(f"the data of tensor {tensor.name!r} does not fit its type and shape", why=str(error)) from error


def densify(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """The dense array of a sparse tensor: values at linear or per-axis indices, zero elsewhere."""
    values, indices, shape = to_array(sparse.values), to_array(sparse.indices), tuple(sparse.dims)
    dense = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise InvalidModelError(f"sparse tensor {sparse.values.name!r} has indices outside of its shape") from error
    return dense
