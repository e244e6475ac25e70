"""Retype: give chosen nodes float16 tensors, with one Cast per tensor and direction between them and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc.model import Constant, Model, Node, Tensor
from edgecc.precision.slots import OUTPUT_TYPE_ATTRIBUTE, Slots, is_float32
from edgecc.serialization import subgraphs_of

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)


@dataclass
class Retyper:
    """Rewrites a model's types.

    Attributes:
        model: rewritten in place.
        slots: of every node, by `id(node)`.
        half: ids of the nodes that compute in float16.
        keep_io: inputs and outputs of the model stay float32.
    """

    model: Model
    slots: Mapping[int, Slots]
    half: set[int]
    keep_io: bool
    #: Every type in which a tensor's values exist, by `id` of the source's tensor.
    _versions: dict[int, dict[np.dtype[Any], Tensor]] = field(default_factory=dict)

    def run(self) -> None:
        nodes = self.model.nodes()
        tensors = [t for t in self.model.tensors() if is_float32(t) and not isinstance(t, gs.Constant)]
        stored = {id(t): self._stored_type(t) for t in tensors}
        readers = {id(t): self.model.consumers(t) for t in tensors}
        for tensor in tensors:
            self._store(tensor, stored[id(tensor)])
        for node in nodes:
            if id(node) in self.half:
                _retype_attribute(node)
        for node in nodes:
            self._connect(node)
        self._connect_subgraphs(readers, tensors)

    def _stored_type(self, tensor: Tensor) -> np.dtype[Any]:
        producer = self.model.producer(tensor)
        if producer is None:
            return FLOAT32 if self.keep_io else FLOAT16
        position = next(i for i, t in enumerate(producer.outputs) if t is tensor)
        return FLOAT16 if id(producer) in self.half and position in self.slots[id(producer)].outputs else FLOAT32

    def _store(self, tensor: Tensor, dtype: np.dtype[Any]) -> None:
        """Let the producer write `dtype`; an output of the model keeps its name and its own type."""
        outside = FLOAT32 if self.keep_io else FLOAT16
        producer = self.model.producer(tensor)
        if not self.model.is_output(tensor) or dtype == outside or producer is None:
            tensor.dtype = dtype
            self._versions[id(tensor)] = {dtype: tensor}
            return
        inner = self.model.variable(f"{tensor.name}/{dtype.name}", dtype, tensor.shape)
        position = next(i for i, t in enumerate(producer.outputs) if t is tensor)
        self.model.set_output(producer, position, inner)
        tensor.dtype = outside
        self._versions[id(tensor)] = {dtype: inner, outside: tensor}
        self._add_cast(inner, tensor)

    def _connect(self, node: Node) -> None:
        own, half = self.slots[id(node)], id(node) in self.half
        for position in own.any_inputs:
            tensor = node.inputs[position]
            versions = self._versions.get(id(tensor), {})
            if versions:  # an output's inner version needs no Cast before it
                self.model.set_input(node, position, next(iter(versions.values())))
        for position in own.inputs:
            self._read(node, position, FLOAT16 if half else FLOAT32)
        for position in own.fixed_inputs:
            self._read(node, position, FLOAT32)

    def _read(self, node: Node, position: int, dtype: np.dtype[Any]) -> None:
        tensor = node.inputs[position]
        wanted = self._constant(tensor, dtype) if isinstance(tensor, gs.Constant) else self._variable(tensor, dtype)
        if wanted is not tensor:
            self.model.set_input(node, position, wanted)

    def _constant(self, tensor: Constant, dtype: np.dtype[Any]) -> Tensor:
        """A constant used in both types exists twice."""
        if dtype == FLOAT32:
            return tensor
        versions = self._versions.setdefault(id(tensor), {})
        if dtype not in versions:
            with np.errstate(over="ignore"):  # only bounds of a Clip overflow: see policy.saturates
                versions[dtype] = self.model.constant(f"{tensor.name}/{dtype.name}", tensor.values.astype(dtype))
            versions[FLOAT32] = tensor  # also keeps the id taken
        return versions[dtype]

    def _variable(self, tensor: Tensor, dtype: np.dtype[Any]) -> Tensor:
        versions = self._versions.get(id(tensor))
        if versions is None:  # made here, or not float32 in the source
            return tensor
        if dtype not in versions:
            source = next(iter(versions.values()))
            cast = self.model.variable(f"{source.name}/{dtype.name}", dtype, source.shape)
            self._add_cast(_before_cast(self.model, source), cast)
            versions[dtype] = cast
        return versions[dtype]

    def _add_cast(self, source: Tensor, result: Tensor) -> None:
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(result.dtype))
        self.model.add("Cast", [source], [result], attributes={"to": int(to)}, name=f"{result.name}/Cast")

    def _connect_subgraphs(self, readers: Mapping[int, list[Node]], tensors: list[Tensor]) -> None:
        """Nodes of subgraphs stay float32 and read a float32 version of what they take from outside."""
        outer = {id(node) for node in self.model.graph.nodes}
        for tensor in tensors:
            for node in readers[id(tensor)]:
                if id(node) in outer:
                    continue
                for position, read in enumerate(node.inputs):
                    if read is tensor:
                        self.model.set_input(node, position, self._variable(tensor, FLOAT32))
        by_id = {id(t): t for t in tensors}
        for node in self.model.all_nodes():
            for subgraph in subgraphs_of(node):
                for position, output in enumerate(subgraph.outputs):
                    if id(output) in by_id:
                        subgraph.outputs[position] = self._variable(output, FLOAT32)


def _before_cast(model: Model, tensor: Tensor) -> Tensor:
    """What a Cast of the source model reads, so that no Cast follows a Cast from an integer."""
    producer = model.producer(tensor)
    if producer is None or producer.op != "Cast":
        return tensor
    source = producer.inputs[0]
    return source if source.dtype is not None and np.dtype(source.dtype).kind in "iub" else tensor


def _retype_attribute(node: Node) -> None:
    name = OUTPUT_TYPE_ATTRIBUTE.get(node.op)
    if name is not None and node.attrs.get(name) == onnx.TensorProto.FLOAT:
        node.attrs[name] = int(onnx.TensorProto.FLOAT16)


def drop_idle_casts(model: Model) -> None:
    """Remove Casts that change nothing any more."""
    for node in model.nodes("Cast"):
        if node.inputs[0].dtype is not None and node.inputs[0].dtype == node.outputs[0].dtype:
            model.bypass(node)
