"""What is in a model: operators, shapes, parameters, multiply-accumulates, bytes, and which targets can take it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.compiler import arrange, preset_passes, resolve_pass, resolve_target
from edgecc.errors import EdgeccError, Unsupported
from edgecc.loop_shapes import iterations_of
from edgecc.model import Model, Node, Signature, is_standard
from edgecc.passes.base import Change, Loss, PassContext, Skip, no_progress
from edgecc.passes.pipeline import PassPipeline, Rounds
from edgecc.presets import DEFAULT
from edgecc.registry import Registry, default_registry
from edgecc.rewriting.reading import has_operand
from edgecc.serialization import subgraphs_of

if TYPE_CHECKING:
    from onnx_graphsurgeon import Constant

    from edgecc.backend import Backend, NodeSupport
    from edgecc.data.calibration import Calibration
    from edgecc.passes.base import WorkProgress
    from edgecc.target import Target


@dataclass(frozen=True)
class Inspection:
    """Facts about a model.

    Attributes:
        signature: inputs and outputs.
        operators: how often each operator occurs.
        parameters: number of values in constants.
        parameter_bytes: their size.
        macs: multiply-accumulates of convolutions, matrix products, attentions and recurrent layers. An open dimension
            counts as 1; what is in a body of Loop or Scan counts as often as it runs; of an If the larger branch.
        uncounted: how many of those have shapes that are open or unknown, so that `macs` is too low.
        unrepeated: how many others are in loops whose number of iterations is not known, and count once.
    """

    signature: Signature
    operators: dict[str, int]
    parameters: int
    parameter_bytes: int
    macs: int
    uncounted: int
    unrepeated: int


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
    nodes, products = model.all_nodes(), counted_products(model.graph.nodes)
    return Inspection(
        signature=model.signature,
        operators=dict(Counter(_qualified(node) for node in nodes).most_common()),
        parameters=model.parameter_count,
        parameter_bytes=sum(map(stored_bytes, model.constants())),
        macs=sum(product.macs for product in products),
        uncounted=sum(not product.is_static for product in products),
        unrepeated=sum(product.is_static and not product.is_repeated for product in products),
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
        notes: what it says of the model as a whole.
        changed: whether the model is another one; some passes do not say node by node how.
    """

    pass_name: str
    changes: tuple[Change, ...]
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]
    changed: bool


def explain_pass(
    model: Model,
    spec: str,
    target: str = "",
    *,
    calibration: Calibration | None = None,
    registry: Registry | None = None,
    progress: WorkProgress = no_progress,
) -> Explanation:
    """Run a pass as `-O1` would, among the others, or behind them if it is not one of them; the model is not changed.

    Args:
        model: to be looked at.
        spec: `NAME` or `NAME:key=value,...`.
        target: `NAME` or `NAME:key=value,...`: what the model is compiled for; "" for no target in particular.
        calibration: samples or statistics for a pass that needs them, as `compile` takes them; a lossy pass sees seven
            of eight samples, as there.
        registry: where names are looked up; everything installed if None.
        progress: called during long steps.

    Raises:
        DataError: the pass needs data and there is none, or it does not fit the model.
    """
    registry = registry or default_registry()
    step = resolve_pass(spec, registry)
    preset = preset_passes(DEFAULT, registry)
    # As `compile --pass` does: what is given options is the user's, and runs behind the others.
    own = step.spec() != step.name
    rounds = Rounds(tuple(other for other in preset if not own or other.name != step.name))
    within = any(other.name == step.name for other in rounds.passes)
    value = resolve_target(target, registry)[1] if target else None
    ctx = PassContext(value, 0, progress=progress)
    if calibration is not None:
        _give(ctx, calibration, model, lossy=step.loses() is Loss.LOSSY)
    result = PassPipeline([rounds] if within else [rounds, step]).run(model.clone(), ctx)
    changes = tuple(change for change in ctx.changes if change.pass_name == step.name)
    skips = tuple(skip for skip in ctx.skips if skip.pass_name == step.name)
    notes = tuple(note for note in ctx.notes if note.startswith(f"{step.name}:"))
    changed = any(record.changed for record in result.records if record.spec == step.spec())
    return Explanation(step.name, changes, skips, notes, changed)


def _give(ctx: PassContext, calibration: Calibration, model: Model, *, lossy: bool) -> None:
    """Let a pass have the data as `compile` would."""
    from edgecc.data.calibration import open_calibration
    from edgecc.data.split import Part
    from edgecc.statistics.table import StatisticTable

    data = open_calibration(calibration, model.signature)
    if isinstance(data, StatisticTable):
        ctx.statistics = data
    else:
        ctx.calibration = Part(data, held_out=False) if lossy else data


#: Layers that multiply a state of theirs by weights, step by step.
RECURRENT = ("LSTM", "GRU", "RNN")
#: Operators that multiply and accumulate.
_COUNTED = frozenset(
    {"Attention", "Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", *RECURRENT}
)


class Product(NamedTuple):
    """A node that multiplies and accumulates.

    Attributes:
        node: in the main graph or in a subgraph.
        macs: of all of its runs; 0 in the branch of an If that has less than the other one.
        is_static: whether its shapes are known, so that they are all counted.
        is_repeated: whether it is known how often it runs.
    """

    node: Node
    macs: int
    is_static: bool
    is_repeated: bool


def counted_products(nodes: Iterable[Node]) -> list[Product]:
    """What multiplies among the nodes of a graph, and in their subgraphs.

    A body of Loop or Scan counts as often as it runs, once if that depends on what is computed. Which branch of an If
    runs is not known either: the one that has more counts, so that the sum is the most that a run can take.
    """
    found = []
    for node in nodes:
        if node.op in _COUNTED and node.outputs and is_standard(node):
            found.append(Product(node, macs(node), _is_static(node), is_repeated=True))
        parts = [counted_products(body.nodes) for body in subgraphs_of(node)]
        if node.op == "If":
            found += _of_branches(parts)
            continue
        times = iterations_of(node) if parts else None
        for product in (product for part in parts for product in part):
            repeated = product.is_repeated and times is not None
            found.append(product._replace(macs=product.macs * (1 if times is None else times), is_repeated=repeated))
    return found


def _of_branches(parts: Sequence[list[Product]]) -> list[Product]:
    """Those of all branches, of which the one with most counts."""
    most = max(range(len(parts)), key=lambda index: sum(product.macs for product in parts[index]), default=0)
    return [
        product if index == most else product._replace(macs=0) for index, part in enumerate(parts) for product in part
    ]


def total_macs(nodes: Iterable[Node]) -> int:
    """Multiply-accumulates of nodes of a graph, with what is in their subgraphs."""
    return sum(product.macs for product in counted_products(nodes))


def macs(node: Node) -> int:
    """Multiply-accumulates of one run of a node; 0 for operators that are none of those counted."""
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
    return sum(attention_macs(node))


def attention_macs(node: Node) -> tuple[int, int]:
    """Of an Attention: queries times keys, and weights times values, masked or not; 0 for other operators.

    Heads are an axis of [batch, heads, length, size], or parts of the last one of [batch, length, heads * size]. Each
    query is multiplied by every key, the past ones included, whichever of the heads of keys it shares.
    """
    if node.op != "Attention" or not is_standard(node):
        return 0, 0
    keys = [node.inputs[1], *([node.inputs[4]] if has_operand(node, 4) else [])]
    length = sum(_size((tensor.shape or [0, 0])[-2:-1]) for tensor in keys)
    return _size(node.inputs[0].shape) * length, _size(node.outputs[0].shape) * length


def _size(shape: Sequence[int | str] | None) -> int:
    if shape is None:
        return 0
    return math.prod(d if isinstance(d, int) else 1 for d in shape)


def _is_static(node: Node) -> bool:
    past = node.inputs[4:5] if node.op == "Attention" and has_operand(node, 4) else []
    shapes = [tensor.shape for tensor in (*node.inputs[:2], *past, node.outputs[0])]
    return all(shape is not None and all(isinstance(dim, int) for dim in shape) for shape in shapes)


def _qualified(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else str(node.op)
