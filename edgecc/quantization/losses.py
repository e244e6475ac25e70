"""Where a quantized model computes with integers, and how far each rounded tensor is from the float model's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from edgecc.measuring.metrics import FidelityMeter

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model, Node, Tensor
    from edgecc.passes.base import WorkProgress

#: Most calls that are measured.
MOST_SAMPLES = 64
#: Layers that are listed.
WORST = 10
_INTEGER = ("ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class LayerLoss:
    """How far a rounded tensor is from the float model's, with all that was lost before it.

    Attributes:
        tensor: its name in the source, or in the optimized graph.
        node: that computes it.
        op: its operator.
        sqnr_db: as in `Fidelity`.
    """

    tensor: str
    node: str
    op: str
    sqnr_db: float


@dataclass(frozen=True)
class QuantizationLosses:
    """Where a model computes with integers, and how exactly.

    Attributes:
        integer_macs: share of the multiply-accumulates that are computed with integers.
        float_bytes: of the weights before.
        worst: layers by SQNR, the worst first; none without samples.
    """

    integer_macs: float
    float_bytes: int
    worst: tuple[LayerLoss, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        worst = [{**asdict(layer), "sqnr_db": _json(layer.sqnr_db)} for layer in self.worst]
        return {**vars(self), "worst": worst}


def measure(before: Model, after: Model, data: CalibrationData | None, progress: WorkProgress) -> QuantizationLosses:
    """Count what is computed with integers, and compare rounded tensors on the samples.

    Args:
        before: the float model.
        after: the same, quantized.
        data: samples; None if there are none.
        progress: called after each.
    """
    rounded = _rounded_tensors(before, after)
    pairs = {name: pair for name, (pair, _) in rounded.items()}
    meters = {name: FidelityMeter() for name in pairs}
    count = 0
    if data is not None and pairs:
        first, second = _Session(before, list(pairs)), _Session(after, list(pairs.values()))
        for feeds in islice(data.samples(), MOST_SAMPLES):
            for name, expected, found in zip(pairs, first.run(feeds), second.run(feeds), strict=True):
                if expected.dtype.kind == "f":
                    meters[name].add(expected, found)
            count += 1
            progress("measuring layers", count, min(data.total, MOST_SAMPLES))
    losses = [
        LayerLoss(name, _name_of(node), node.op, meters[name].result().sqnr_db)
        for name, (_, node) in rounded.items()
        if count and node is not None
    ]
    worst = tuple(sorted(losses, key=lambda layer: (layer.sqnr_db, layer.tensor))[:WORST])
    return QuantizationLosses(*_shares(before, after), worst)


def _rounded_tensors(before: Model, after: Model) -> dict[str, tuple[str, Node | None]]:
    """By name in the float model: the name of the rounded tensor, and the node that computes it."""
    known: dict[str, Tensor] = {tensor.name: tensor for tensor in before.tensors()}
    found: dict[str, tuple[str, Node | None]] = {}
    for node in after.nodes("QuantizeLinear"):
        readers = after.consumers(node.outputs[0])
        if not readers or readers[0].op != "DequantizeLinear":
            continue
        out = readers[0].outputs[0].name
        name = out if out in known else node.inputs[0].name
        if name in known:
            found[name] = (out, before.producer(known[name]))
    return found or _products(before, after)


def _products(before: Model, after: Model) -> dict[str, tuple[str, Node | None]]:
    """The same for a model whose data is not rounded, or only at run time: what is computed with stored weights."""
    kept = {tensor.name for tensor in after.tensors()}
    nodes = before.nodes("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
    names = {node.outputs[0].name: node for node in nodes if node.outputs[0].dtype is not None}
    return {name: (name, node) for name, node in names.items() if name in kept and node.outputs[0].dtype.kind == "f"}


def _name_of(node: Node) -> str:
    from edgecc.model import display_name

    return display_name(node)


def _shares(before: Model, after: Model) -> tuple[float, int]:
    """The share of multiply-accumulates between integers, subgraphs included, and the bytes of the float weights."""
    from edgecc.inspection import counted_products

    counted = [(found.macs, found.node) for found in counted_products(after.graph.nodes)]
    total = sum(count for count, _ in counted)
    integers = sum(count for count, node in counted if _computes_with_integers(node))
    weights = sum(math.prod(t.shape) * t.dtype.itemsize for t in before.constants())
    return (integers / total if total else 0.0), weights


def _computes_with_integers(node: Node) -> bool:
    from edgecc.inspection import RECURRENT

    if node.op in _INTEGER or node.op in RECURRENT:
        return node.op in _INTEGER
    return all(_is_dequantized(tensor) for tensor in node.inputs[:2])


def _is_dequantized(tensor: Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "DequantizeLinear"


class _Session:
    """A model in ONNX Runtime that gives inner tensors too."""

    def __init__(self, model: Model, names: list[str]) -> None:
        import onnx

        from edgecc.reference_session import reference_session

        proto = model.to_proto()
        known = {info.name for info in proto.graph.output}
        fetched = [name for name in dict.fromkeys(names) if name not in {info.name for info in proto.graph.input}]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fetched if name not in known)
        self._inputs = {info.name for info in proto.graph.input}
        self._fetched, self._names = fetched, names
        self._session = reference_session(proto)

    def run(self, feeds: Feeds) -> Iterator[np.ndarray]:
        given = {name: values for name, values in feeds.items() if name in self._inputs}
        # Asked for nothing, it would give all outputs.
        values = self._session.run(self._fetched, given) if self._fetched else []
        found: Mapping[str, np.ndarray] = {**given, **dict(zip(self._fetched, values, strict=True))}
        return (found[name] for name in self._names)


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
