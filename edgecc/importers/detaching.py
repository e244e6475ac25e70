"""Taking the weights out of a ModelProto, so that what remains is small and what is large is numpy arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from edgecc.deserialization import to_array
from edgecc.errors import InvalidModelError
from edgecc.importers.external_data import Folder, nbytes_of
from edgecc.importers.proto_graphs import every_graph, subgraphs
from edgecc.serialization import INLINE_BYTES

_COPIED = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")
#: Kinds of attributes that a graph cannot keep. Sparse values of Constant nodes are made dense.
_REFUSED = frozenset(
    getattr(onnx.AttributeProto, name)
    for name in ("SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS", "TENSORS", "GRAPHS")
)
#: Strings have no size in bytes; what has no type is for the checker to name.
_NEVER_MOVED = frozenset({onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED})


def detach(proto: onnx.ModelProto, folder: Folder) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A copy of the model without its large tensors, and those by name.

    In the copy they are typed inputs of the main graph. Large tensors of Constant nodes and of subgraphs move there
    too. Sparse tensors become dense, external ones are read, and an initializer that is also listed as an input (as up
    to IR version 3 all were) is an initializer only.

    Raises:
        InvalidModelError: a tensor's data is missing, has the wrong size, or lies outside of the model's folder; or
            the model takes or gives something else than tensors.
    """
    light = onnx.ModelProto()
    for name in _COPIED:
        if getattr(proto, name):
            setattr(light, name, getattr(proto, name))
    light.opset_import.extend(proto.opset_import)
    light.metadata_props.extend(proto.metadata_props)
    light.functions.extend(proto.functions)
    detacher = _Detacher(proto.graph, light.graph, folder)
    detacher.main_graph()
    for function in light.functions:
        for node in function.node:
            detacher.node(node)
    return light, detacher.weights


@dataclass
class _Detacher:
    source: onnx.GraphProto
    target: onnx.GraphProto
    folder: Folder
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def main_graph(self) -> None:
        source, target = self.source, self.target
        target.name, target.doc_string = source.name or "graph", source.doc_string
        initialized = {t.name for t in source.initializer} | {t.values.name for t in source.sparse_initializer}
        target.input.extend(value for value in source.input if value.name not in initialized)
        target.output.extend(source.output)
        _open_negative_dimensions((*target.input, *target.output))
        _refuse_other_than_tensors("input", target.input)
        _refuse_other_than_tensors("output", target.output)
        target.value_info.extend(value for value in source.value_info if value.type.HasField("tensor_type"))
        outputs = {value.name for value in source.output}
        for tensor in source.initializer:
            if not self.move(tensor.name, tensor):
                target.initializer.append(self.inline(tensor))
        for sparse in source.sparse_initializer:
            target.initializer.append(onnx.numpy_helper.from_array(densify(sparse), sparse.values.name))
        for node in source.node:
            constant = _value_of_constant(node, outputs)
            if constant is None or not self.move(node.output[0], constant):
                copied = target.node.add()
                copied.CopyFrom(node)
                self.node(copied)

    def move(self, name: str, tensor: onnx.TensorProto) -> bool:
        """Take a large tensor out; small ones and strings stay."""
        if tensor.data_type in _NEVER_MOVED or (not _is_external(tensor) and nbytes_of(tensor) <= INLINE_BYTES):
            return False
        values = self.weights[name] = self.folder.read(tensor) if _is_external(tensor) else to_array(tensor)
        self.target.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(values.shape)))
        return True

    def inline(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its data in the proto."""
        if not _is_external(tensor):
            return tensor
        return onnx.numpy_helper.from_array(self.folder.read(tensor), tensor.name)

    def node(self, node: onnx.NodeProto) -> None:
        """Settle the tensors of a copied node, those of its subgraphs too."""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR and node.op_type == "Constant":
                dense = densify(attribute.sparse_tensor)
                attribute.Clear()
                attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(dense)))
            elif attribute.type in _REFUSED:
                kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
                raise InvalidModelError(
                    f"attribute {attribute.name!r} is of kind {kind}, which edgecc cannot keep",
                    where=f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})",
                )
            elif attribute.type == onnx.AttributeProto.TENSOR and _is_external(attribute.t):
                attribute.t.CopyFrom(self.inline(attribute.t))
        for subgraph in subgraphs(node):
            self.subgraph(subgraph)

    def subgraph(self, graph: onnx.GraphProto) -> None:
        _forget_other_than_tensors(graph)
        for sparse in graph.sparse_initializer:
            graph.initializer.append(onnx.numpy_helper.from_array(densify(sparse), sparse.values.name))
        del graph.sparse_initializer[:]
        outputs = {value.name for value in graph.output}
        renamed: dict[str, str] = {}
        kept: list[onnx.TensorProto] = []
        for tensor in graph.initializer:
            name = tensor.name if self._definitions[tensor.name] <= 1 else self._fresh(tensor.name)
            if tensor.name not in outputs and self.move(name, tensor):
                renamed[tensor.name] = name
            else:
                kept.append(self.inline(tensor))
        if renamed:
            copies = onnx.GraphProto(initializer=kept).initializer
            del graph.initializer[:]
            graph.initializer.extend(copies)
            _rename_reads(graph, renamed)
        for node in graph.node:
            self.node(node)

    @cached_property
    def _definitions(self) -> Counter[str]:
        """How many tensors have each name."""
        names: Counter[str] = Counter()
        for graph in every_graph(self.source):
            names.update({v.name for v in (*graph.input, *graph.initializer)})
            names.update(name for node in graph.node for name in node.output)
        return names

    def _fresh(self, name: str) -> str:
        count = 2
        while f"{name}_{count}" in self._definitions:
            count += 1
        self._definitions[f"{name}_{count}"] += 1
        return f"{name}_{count}"


def _refuse_other_than_tensors(role: str, values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        kind = value.type.WhichOneof("value") or "tensor_type"
        if kind not in ("tensor_type", "sequence_type"):
            raise InvalidModelError(
                f"{role} {value.name!r} is of kind {kind.removesuffix('_type')}",
                why="edgecc's models take and give tensors",
                hint="cut the model before it, for example with onnx.utils.extract_model",
            )


def _open_negative_dimensions(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Some exporters write -1 for a dimension that is open."""
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if dim.dim_value < 0:
            dim.ClearField("dim_value")


def _forget_other_than_tensors(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.WhichOneof("value") not in (None, "tensor_type", "sequence_type"):
            value.ClearField("type")


def _rename_reads(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Let the nodes of a graph and of its subgraphs read tensors under new names."""
    for part in every_graph(graph):
        for node in part.node:
            for index, name in enumerate(node.input):
                if name in renamed:
                    node.input[index] = renamed[name]


def _value_of_constant(node: onnx.NodeProto, outputs: set[str]) -> onnx.TensorProto | None:
    """The tensor of a Constant node that can become an initializer."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.output[0] in outputs:
        return None
    return next((a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR), None)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


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
