"""Lowering the graphs that a node holds: they may read from around them, TFLite's subgraphs may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.context import GraphBuilder, Lowering

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from edgecc.model import Tensor as SourceTensor


class InnerBuilder(GraphBuilder):
    """A subgraph under construction. What it reads from around it becomes one more input.

    Attributes:
        captured: tensors of the graph around it, and the inputs that stand for them.
    """

    def __init__(self, name: str, outer: GraphBuilder, source: gs.Graph) -> None:
        super().__init__(name)
        self.lower_part = outer.lower_part
        self.captured: dict[Tensor, Tensor] = {}
        self._outer = outer
        self._source = source
        self._own = {id(t) for t in (*source.inputs, *(t for node in source.nodes for t in node.outputs))}

    def tensor(self, source: SourceTensor) -> Tensor:
        is_own = id(source) in self._own or getattr(source, "values", None) is not None
        if is_own or source.name in self._tensors:
            return super().tensor(source)
        around = self._outer.tensor(source)
        inside = Tensor(source.name, around.shape, around.dtype, data=around.data)
        if not around.is_constant:
            # Two source tensors may be held by the same tensor around.
            inside = self.captured.get(around, inside)
            self.take(around, inside)
        self._tensors[source.name] = inside
        return inside

    def declare(self, source: SourceTensor, like: Tensor) -> Tensor:
        """An input of the subgraph that stands for one of the source's inputs."""
        made = Tensor(source.name, like.shape, like.dtype)
        self._tensors[source.name] = made
        self.graph.inputs.append(made)
        return made

    def take(self, around: Tensor, inside: Tensor | None = None) -> Tensor:
        """An input of the subgraph that stands for a tensor around it; the same one each time."""
        if around not in self.captured:
            self.captured[around] = inside or Tensor(around.name, around.shape, around.dtype)
            self.graph.inputs.append(self.captured[around])
        return self.captured[around]

    def lower(self) -> None:
        """Emit the source's nodes; its outputs become the graph's."""
        assert self.lower_part is not None
        self.lower_part(self, [node for node in self._source.nodes if node.outputs], self._source.outputs)


def inner_builder(c: Lowering, attribute: str) -> tuple[InnerBuilder, gs.Graph]:
    """A builder for the graph that an attribute of the node holds."""
    source = c.node.attribute(attribute)
    return InnerBuilder(f"{c.node.node.name or c.node.op}/{attribute}", c.builder, source), source
