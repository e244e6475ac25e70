"""How much the network's outputs suffer from one layer's precision, measured on samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.measuring.metrics import FidelityMeter
from edgecc.quantization.scheme import COMPUTING, Role
from edgecc.reference_session import reference_session
from edgecc.rewriting.reading import constant

if TYPE_CHECKING:
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.quantization.plan import Plan
    from edgecc.quantization.quantizer import Precision, Quantizer


@dataclass(frozen=True)
class Unit:
    """Nodes that get one precision: an operator with weights, and what follows until the next one.

    Attributes:
        nodes: their names; the first one stands for all.
        computing: those of them that do more than move or clamp values.
        deciding: those of `computing` that must have a kernel for a precision: with weights, if one of them has.
        macs: multiply-accumulates, or values computed where there are none.
        weights: number of weights.
    """

    nodes: tuple[str, ...]
    computing: tuple[str, ...]
    deciding: tuple[str, ...]
    macs: int
    weights: int


def units_of(model: Model, plan: Plan) -> list[Unit]:
    """What a precision is chosen for, in order.

    Args:
        model: float.
        plan: in which everything that can be is in integers.
    """
    from edgecc.inspection import macs

    members: list[list[int]] = []
    place: dict[int, int] = {}
    nodes = {id(node): node for node in model.nodes() if id(node) in plan.rules}
    for key, node in nodes.items():
        rule = plan.rules[key]
        writers = [id(model.producer(node.inputs[index])) for index in rule.positions(node)]
        joined = next((place[writer] for writer in writers if writer in place), None)
        if rule.role is Role.WEIGHTED or joined is None:
            joined = len(members)
            members.append([])
        place[key] = joined
        members[joined].append(key)
    found = []
    for keys in members:
        computing = tuple(nodes[key].name for key in keys if plan.rules[key].role in COMPUTING)
        if not computing:
            continue
        weighted = [key for key in keys if plan.rules[key].role is Role.WEIGHTED]
        weights = [constant(nodes[key], 1) for key in weighted]
        work = sum(macs(nodes[key]) for key in keys) or sum(_size(nodes[key].outputs[0].shape) for key in keys)
        size = sum(values.size for values in weights if values is not None)
        deciding = tuple(nodes[key].name for key in weighted) or computing
        found.append(Unit(tuple(nodes[key].name for key in keys), computing, deciding, max(1, work), size))
    return found


def _size(shape: Sequence[int | str] | None) -> int:
    return math.prod(dim if isinstance(dim, int) else 1 for dim in shape or (0,))


@dataclass(frozen=True)
class Outcome:
    """How far the outputs of a quantized model are from the float model's.

    Attributes:
        sqnr_db: of the worst output.
        noise: noise over signal, summed over the outputs.
        top1: least share of samples with the same top-1, over the outputs that are class scores; None if none is.
    """

    sqnr_db: float
    noise: float
    top1: float | None


@dataclass
class Trials:
    """Quantizes copies of a model and compares their outputs with its own.

    Attributes:
        model: float; not changed.
        quantizer: that writes a choice into a copy.
        feeds: samples.
    """

    model: Model
    quantizer: Quantizer
    feeds: Sequence[Feeds]
    _expected: list[list[np.ndarray]] = field(default_factory=list)
    _known: dict[frozenset[tuple[str, str]], Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = [tensor.name for tensor in self.model.outputs if np.dtype(tensor.dtype).kind == "f"]
        self._expected = list(self._outputs(self.model))

    def run(self, choice: Mapping[str, Precision]) -> Outcome:
        """What the choice, by names of nodes, costs."""
        key = frozenset(choice.items())
        if key not in self._known:
            self._known[key] = self._run(choice)
        return self._known[key]

    def _run(self, choice: Mapping[str, Precision]) -> Outcome:
        copy = self.model.clone()
        self.quantizer.quantize(copy, {id(n): choice[n.name] for n in copy.nodes() if n.name in choice})
        copy.cleanup()
        meters = [FidelityMeter() for _ in self._names]
        for expected, found in zip(self._expected, self._outputs(copy), strict=True):
            for meter, first, second in zip(meters, expected, found, strict=True):
                meter.add(first, second)
        results = [meter.result() for meter in meters]
        agreeing = [found.top1 for found in results if found.top1 is not None]
        noise = sum(10 ** (-found.sqnr_db / 10) for found in results)
        return Outcome(
            min((found.sqnr_db for found in results), default=math.inf), noise, min(agreeing) if agreeing else None
        )

    def _outputs(self, model: Model) -> Iterable[list[np.ndarray]]:
        session = reference_session(model.to_proto())
        taken = {info.name for info in session.get_inputs()}
        for feeds in self.feeds:
            given = {name: values for name, values in feeds.items() if name in taken}
            yield [np.asarray(values) for values in session.run(self._names, given)]
