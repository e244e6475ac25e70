"""What is in a model: operators, shapes, parameters, multiply-accumulates, bytes, and which targets can take it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.compiler import arrange
from edgecc.errors import EdgeccError, Unsupported
from edgecc.model import Model, Node, Signature
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline

if TYPE_CHECKING:
    from edgecc.backend import Backend, NodeSupport
    from edgecc.target import Target


@dataclass(frozen=True)
class Inspection:
    """Facts about a model.

    Attributes:
        signature: inputs and outputs.
        operators: how often each operator occurs.
        parameters: number of values in constants.
        parameter_bytes: their size.
        macs: multiply-accumulates of convolutions and matrix products; an open dimension counts as 1.
        uncounted: how many of those have shapes that are open or unknown, so that `macs` is too low.
    """

    signature: Signature
    operators: dict[str, int]
    parameters: int
    parameter_bytes: int
    macs: int
    uncounted: int


@dataclass(frozen=True)
class Support:
    """Whether a target can take a model.

    Attributes:
        target: its name.
        unsupported: nodes it cannot take; empty if it takes the model.
        problem: why this could not be found out, "" if it was.
        nodes: what becomes of each node after the backend's own passes.
    """

    target: str
    unsupported: tuple[Unsupported, ...] = ()
    problem: str = ""
    nodes: tuple[NodeSupport, ...] = ()


def inspect_model(model: Model) -> Inspection:
    """Count what is in the model, subgraphs included."""
    nodes = model.all_nodes()
    return Inspection(
        signature=model.signature,
        operators=dict(Counter(_qualified(node) for node in nodes).most_common()),
        parameters=model.parameter_count,
        parameter_bytes=sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in model.constants()),
        macs=sum(macs(node) for node in nodes),
        uncounted=sum(not _is_static(node) for node in nodes if node.op in _COUNTED),
    )


def find_support(model: Model, backend: Backend, target: Target, *, explain: bool = False) -> Support:
    """Whether the backend takes the model after the default preset and its own passes; the model is not changed.

    Args:
        model: to be asked about.
        backend: whom to ask.
        target: with its options.
        explain: whether to say of each node what takes it, too.
    """
    available = backend.can_compile()
    if not available:
        return Support(backend.name, problem=f"{available.reason}; {available.hint}")
    legal = model.clone()
    try:
        PassPipeline(arrange((), backend, target)).run(legal, PassContext(target, np.random.default_rng(0)))
        unsupported = backend.find_unsupported(legal, target)
        nodes = tuple(backend.explain(legal, unsupported)) if explain else ()
        return Support(backend.name, tuple(unsupported), nodes=nodes)
    except EdgeccError as error:
        return Support(backend.name, problem=str(error))


#: Operators that multiply and accumulate.
_COUNTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})


def macs(node: Node) -> int:
    """Multiply-accumulates of one node; 0 for operators other than convolutions and matrix products."""
    if node.op == "Conv":
        return _size(node.outputs[0].shape) * _size((node.inputs[1].shape or [0])[1:])
    if node.op == "ConvTranspose":
        return _size(node.inputs[0].shape) * _size((node.inputs[1].shape or [0])[1:])
    if node.op in ("MatMul", "Gemm"):
        shape = node.inputs[0].shape or [0]
        inner = shape[0] if node.attrs.get("transA", 0) else shape[-1]
        return _size(node.outputs[0].shape) * _size([inner])
    return 0


def _size(shape: Sequence[int | str] | None) -> int:
    if shape is None:
        return 0
    return math.prod(d if isinstance(d, int) else 1 for d in shape)


def _is_static(node: Node) -> bool:
    shapes = [tensor.shape for tensor in (*node.inputs[:2], node.outputs[0])]
    return all(shape is not None and all(isinstance(dim, int) for dim in shape) for shape in shapes)


def _qualified(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else str(node.op)
