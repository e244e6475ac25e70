"""The TFLite backend's own graph: tensors, operators, and the graphs inside control flow.

Small on purpose: a lowering creates these objects, the layout solver moves TRANSPOSE operators between them, and the
writer turns them into a flatbuffer. Nothing here knows ONNX or flatbuffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

#: A static dimension, or -1 where the model leaves it open (`shape_signature` in the schema).
Shape = tuple[int, ...]


class Quantization(NamedTuple):
    """Affine quantization of a tensor: real = scale * (stored - zero_point).

    Attributes:
        scale: float32, one value, or one per slice along `axis`.
        zero_point: int64, as many values as `scale`.
        axis: the quantized dimension (`quantized_dimension` in the schema); 0 for one scale.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0


class Blocks(NamedTuple):
    """Quantization in short runs along the last axis: real = scale * stored.

    Attributes:
        scales: float16 constant, (rows, runs in a row). No operator reads it; the tensor refers to it.
        size: values of a run.
    """

    scales: Tensor
    size: int


@dataclass(eq=False)
class Tensor:
    """A value in the graph; `data` is set for constants. Compared by identity."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    #: Name of the ONNX tensor that this one holds, for the artifact's correspondence; "" for helpers.
    source: str = ""
    #: Which of the source tensor's axes lies at each place; None for the source's own order.
    layout: tuple[int, ...] | None = None
    #: Instead of `quantization`, for weights of FULLY_CONNECTED.
    blocks: Blocks | None = None
    #: Only what is not 0 is stored; for constants that DENSIFY alone reads.
    sparse: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor; an open dimension counts as 1."""
        return int(np.prod([max(d, 1) for d in self.shape], dtype=np.int64)) * self.dtype.itemsize


@dataclass(eq=False)
class Operator:
    """One TFLite operator. Compared by identity.

    Attributes:
        builtin: name in the schema's `BuiltinOperator`, such as "CONV_2D".
        inputs: tensors in the schema's order; None for an omitted optional one.
        options: fields of the builtin options table by the schema's Python attribute names (camelCase,
            such as {"strideH": 2}); the writer knows which table the operator takes. Empty for none.
        origins: names of the source nodes.
        subgraphs: of IF the branches (then, else), of WHILE the condition and the body. Their inputs are the
            operator's (without IF's condition) in order; they see nothing else of the graph around them.
    """

    builtin: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    origins: tuple[str, ...] = ()
    subgraphs: list[Graph] = field(default_factory=list)


@dataclass(eq=False)
class Graph:
    """A subgraph: operators in execution order."""

    name: str
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def nested(self) -> Iterator[Graph]:
        """This graph, then every graph inside its operators, at any depth."""
        yield self
        for operator in self.operators:
            for subgraph in operator.subgraphs:
                yield from subgraph.nested()

    def producers(self) -> dict[Tensor, Operator]:
        """The operator that writes each tensor."""
        return {tensor: operator for operator in self.operators for tensor in operator.outputs}

    def consumers(self) -> dict[Tensor, list[Operator]]:
        """The operators that read each tensor, each once, in execution order."""
        readers: dict[Tensor, list[Operator]] = {}
        for operator in self.operators:
            for tensor in dict.fromkeys(t for t in operator.inputs if t is not None):
                readers.setdefault(tensor, []).append(operator)
        return readers
