"""What is in a model: operators, shapes, parameters, multiply-accumulates, bytes, and which targets can take it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.compiler import arrange, preset_passes, resolve_pass, resolve_target
from edgecc.errors import EdgeccError, Unsupported
from edgecc.model import Model, Node, Signature
from edgecc.passes.base import Change, PassContext, Skip
from edgecc.passes.pipeline import PassPipeline, Rounds
from edgecc.presets import DEFAULT
from edgecc.registry import Registry, default_registry

if TYPE_CHECKING:
    from onnx_graphsurgeon import Constant

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
        macs: multiply-accumulates of convolutions, matrix products and recurrent layers; an open dimension counts as 1.
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
        parameter_bytes=sum(map(stored_bytes, model.constants())),
        macs=sum(macs(node) for node in nodes),
        uncounted=sum(not _is_static(node) for node in nodes if node.op in _COUNTED),
    )


def stored_bytes(tensor: Constant) -> int:
    """What a constant takes in a file: types of less than a byte are packed."""
    dtype = np.dtype(tensor.dtype)
    count = int(math.prod(tensor.shape))
    bits = _PACKED.get(dtype.name, 8 * dtype.itemsize)
    return -(-count * int(bits) // 8)


#: Bits of types for which numpy has a byte.
_PACKED = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}


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
        PassPipeline(arrange((), backend, target)).run(legal, PassContext(target, 0))
        unsupported = backend.find_unsupported(legal, target)
        nodes = tuple(backend.explain(legal, unsupported)) if explain else ()
        return Support(backend.name, tuple(unsupported), nodes=nodes)
    except EdgeccError as error:
        return Support(backend.name, problem=str(error))


@dataclass(frozen=True)
class Explanation:
    """What a pass did with each of its candidates.

    Attributes:
        pass_name: its name.
        changes: what it changed.
        skips: what it left alone, with reasons.
    """

    pass_name: str
    changes: tuple[Change, ...]
    skips: tuple[Skip, ...]


def explain_pass(model: Model, spec: str, target: str = "", *, registry: Registry | None = None) -> Explanation:
    """Run a pass as `-O1` would, among the others, or behind them if it is not one of them; the model is not changed.

    Args:
        model: to be looked at.
        spec: `NAME` or `NAME:key=value,...`.
        target: `NAME` or `NAME:key=value,...`: what the model is compiled for; "" for no target in particular.
        registry: where names are looked up; everything installed if None.
    """
    registry = registry or default_registry()
    step = resolve_pass(spec, registry)
    preset = preset_passes(DEFAULT, registry)
    # As `compile --pass` does: what is given options is the user's, and runs behind the others.
    own = step.spec() != step.name
    rounds = Rounds(tuple(other for other in preset if not own or other.name != step.name))
    within = any(other.name == step.name for other in rounds.passes)
    value = resolve_target(target, registry)[1] if target else None
    ctx = PassContext(value, 0)
    PassPipeline([rounds] if within else [rounds, step]).run(model.clone(), ctx)
    changes = tuple(change for change in ctx.changes if change.pass_name == step.name)
    return Explanation(step.name, changes, tuple(skip for skip in ctx.skips if skip.pass_name == step.name))


#: Layers that multiply a state of theirs by weights, step by step.
RECURRENT = ("LSTM", "GRU", "RNN")
#: Operators that multiply and accumulate.
_COUNTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", *RECURRENT})


def macs(node: Node) -> int:
    """Multiply-accumulates of one node; 0 for operators other than convolutions, matrix and recurrent products."""
    if node.op in ("Conv", "ConvInteger"):
        return _size(node.outputs[0].shape) * _size((node.inputs[1].shape or [0])[1:])
    if node.op == "ConvTranspose":
        return _size(node.inputs[0].shape) * _size((node.inputs[1].shape or [0])[1:])
    if node.op in ("MatMul", "MatMulInteger", "Gemm"):
        shape = node.inputs[0].shape or [0]
        inner = shape[0] if node.attrs.get("transA", 0) else shape[-1]
        return _size(node.outputs[0].shape) * _size([inner])
    if node.op in RECURRENT:
        # At each step of each sequence, all weights of data and state once; either layout has these two axes in front.
        return _size((node.inputs[0].shape or [0])[:2]) * sum(_size(tensor.shape) for tensor in node.inputs[1:3])
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
