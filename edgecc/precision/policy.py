"""Which nodes stay float32, and why.

A rule looks at one node and gives a reason, or "" if it has no objection to float16. Rules see the model, and what is
known of its values where there is calibration data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.model import Model, Node, is_standard, value_of
from edgecc.precision.slots import Slots, slots_of

if TYPE_CHECKING:
    from edgecc.statistics.table import StatisticTable

Rule = Callable[[Node, Slots], str]

HALF_MAX = 65504.0
#: Below this a float16 loses digits with every halving; a constant whose largest magnitude is there is an epsilon.
HALF_SMALLEST_NORMAL = 2.0**-14

#: Operators that move, select or compare values, so that either type is as good as the other.
NEUTRAL = frozenset(
    {
        *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool"),
        *("Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
        *("Transpose", "Trilu", "Unsqueeze", "Where"),
    }
)
#: Arithmetic on sizes and positions, which must be exact: 2049 is not a float16.
_INDEX_ARITHMETIC = frozenset(
    {
        *("Abs", "Add", "Ceil", "Clip", "Concat", "Div", "Expand", "Flatten", "Floor", "Gather", "Identity", "Max"),
        *("Min", "Mod", "Mul", "Neg", "Reshape", "Round", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    }
)
_STASHING = frozenset({"LayerNormalization", "GroupNormalization", "RMSNormalization"})
_LARGE_INTEGERS = frozenset({np.dtype(t) for t in ("int16", "uint16", "int32", "uint32", "int64", "uint64")})


def reasons(model: Model, slots: Mapping[int, Slots], rules: Sequence[Rule]) -> dict[int, str]:
    """Why nodes stay float32, by `id(node)`; the first rule that objects decides."""
    found: dict[int, str] = {}
    for node in model.nodes():
        own = slots[id(node)]
        reason = own.problem or next((text for rule in rules if (text := rule(node, own))), "")
        if reason and (own.concerned or own.fixed_inputs):
            found[id(node)] = reason
    return found


def listed(ops: Iterable[str]) -> Rule:
    """Operators that lose too much in float16, by name."""
    names = frozenset(ops)

    def rule(node: Node, slots: Slots) -> str:
        del slots
        if node.op not in names or not is_standard(node):
            return ""
        return f"{node.op} is precision-critical (option keep_float32_ops)"

    return rule


def unsafe_constants(node: Node, slots: Slots) -> str:
    """Constants whose magnitudes float16 does not have."""
    for position in slots.inputs:
        values = value_of(node.inputs[position])
        if values is None or values.size == 0:
            continue
        problem = "" if saturates(node, position) else range_problem(values)
        if problem:
            return f"constant {node.inputs[position].name} {problem}"
    return ""


def measured(statistics: StatisticTable, headroom: float) -> Rule:
    """Values that come near the ends of float16's range on real data, masks and infinities among them.

    Args:
        statistics: answers to `Range`; a tensor without one is no reason.
        headroom: values have to stay this much below the largest float16: others than those measured may be larger,
            and kernels sum up before they write.
    """
    from edgecc.statistics.answers import Excluded
    from edgecc.statistics.requests import Range

    def problem(name: str) -> str:
        if not statistics.answers or Range(name) not in statistics:
            return ""
        found = statistics.range(name)
        largest = max(float(found.high), -float(found.low))
        if largest > HALF_MAX / headroom:
            return f"{name} reached {largest:.4g}, over 65504 / {headroom:g} (option headroom)"
        if 0 < largest < HALF_SMALLEST_NORMAL:
            return f"{name} was at most {largest:.4g}, under float16's smallest normal value 6.1e-05"
        return f"{name} has infinities or masks among its values" if found.excluded != Excluded() else ""

    def rule(node: Node, slots: Slots) -> str:
        tensors = [node.inputs[i] for i in slots.inputs] + [node.outputs[i] for i in slots.outputs]
        return next((text for tensor in tensors if (text := problem(tensor.name))), "")

    return rule


def saturates(node: Node, position: int) -> bool:
    """Bounds of a Clip may become infinite: no float16 is beyond 65504, so clipping there does nothing."""
    return node.op == "Clip" and position > 0


def range_problem(values: np.ndarray) -> str:
    """Why float16 cannot hold the values; "" if it can. Infinities stay what they are."""
    finite = values[np.isfinite(values)] if not np.isfinite(values.sum(dtype=np.float64)) else values
    if finite.size == 0:
        return ""
    largest = max(float(finite.max()), -float(finite.min()))
    if largest > HALF_MAX:
        return f"reaches {largest:.4g}, over float16's largest value 65504"
    if 0.0 < largest < HALF_SMALLEST_NORMAL:
        return f"is at most {largest:.4g}, under float16's smallest normal value 6.1e-05"
    return ""


def low_precision_statistics(node: Node, slots: Slots) -> str:
    """Normalizations that do not ask for float32 statistics inside (`stash_type`)."""
    del slots
    if node.op in _STASHING and node.attrs.get("stash_type", 1) != 1:
        return f"{node.op} computes its statistics in the type of its input (stash_type is not 1)"
    return ""


def index_arithmetic(model: Model) -> Rule:
    """Values that come from integers, or become some, through plain arithmetic only."""
    marked: dict[int, str] = {}
    for node in model.nodes():  # in topological order
        if _from_large_integer(node) or _all_inputs_marked(node, marked):
            marked[id(node)] = "its values are integers in floating point, not exact in float16 above 2048"
    backward: dict[int, str] = {}
    for node in reversed(model.nodes()):
        feeds = (reader for t in node.outputs for reader in t.outputs)
        if node.op in _INDEX_ARITHMETIC and any(_becomes_integer(r) or id(r) in backward for r in feeds):
            backward[id(node)] = "its values become integers, not exact in float16 above 2048"
    marked = {**backward, **marked}

    def rule(node: Node, slots: Slots) -> str:
        del slots
        return marked.get(id(node), "")

    return rule


def _from_large_integer(node: gs.Node) -> bool:
    if node.op != "Cast" or node.inputs[0].dtype is None:
        return False
    return np.dtype(node.inputs[0].dtype) in _LARGE_INTEGERS and node.outputs[0].dtype == np.float32


def _all_inputs_marked(node: gs.Node, marked: Mapping[int, str]) -> bool:
    if node.op not in _INDEX_ARITHMETIC or not is_standard(node):
        return False
    floats = [t for t in node.inputs if not isinstance(t, gs.Constant) and t.dtype == np.float32]
    return bool(floats) and all(t.inputs and id(t.inputs[0]) in marked for t in floats)


def _becomes_integer(node: gs.Node) -> bool:
    if node.op != "Cast" or node.outputs[0].dtype is None:
        return False
    return np.dtype(node.outputs[0].dtype) in _LARGE_INTEGERS and node.inputs[0].dtype == np.float32


def all_slots(model: Model) -> dict[int, Slots]:
    return {id(node): slots_of(node) for node in model.nodes()}
