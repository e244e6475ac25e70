"""Which results need not be rounded, and which 8 bits hold so badly that they should not be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecc.quantization.plan import clamp_behind, drop_islands
from edgecc.quantization.rounding_error import Grids, RoundingError
from edgecc.quantization.scheme import Role

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.quantization.grids import Grid
    from edgecc.quantization.plan import Plan
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import HistogramStatistic

_UNREAD = "only float operators read its result, which rounding would make coarser for nothing"
_POOR = "8 bits hold {name!r} with {sqnr:.0f} dB only: few values are much larger than the others"


def rounding_sqnr(statistic: HistogramStatistic, grid: Grid) -> float:
    """Power of a tensor's values over that of the error of rounding them to a grid, in dB; infinite without error."""
    density = statistic.density
    if not density.counts.size:
        return float("inf")
    limits = np.iinfo(grid.dtype)
    lowest, highest = (np.array([end - grid.zero_point]) for end in (limits.min, limits.max))
    error = float(RoundingError(density).of(Grids(np.array([grid.scale]), lowest, highest))[0])
    # The mean of x² over a bin in which values lie evenly.
    squares = (density.low**2 + density.low * density.high + density.high**2) / 3
    power = float(squares @ density.counts) / max(1, int(density.counts.sum()) + density.zeros)
    return float(10 * np.log10(power / error)) if error > 0 and power > 0 else float("inf")


@dataclass
class FloatResults:
    """Takes out of a plan what had better stay float.

    Attributes:
        model: not changed.
        plan: edited in place.
        scheme: of the target.
        poor: signal-to-noise ratio in dB of the tensors that are held badly, by their keys in the plan.
        dynamic: ids of the operators with weights that left the plan for their results' sake alone.
    """

    model: Model
    plan: Plan
    scheme: QuantizationScheme
    poor: Mapping[str, float]
    dynamic: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Until nothing changes: what stays float may leave others without a reader on integers."""
        while self._visit_all():
            drop_islands(self.plan, self.model, self.scheme)
        read = {key for key, tensor in self.plan.tensors.items() if self._is_read(tensor)}
        written = {key for key, t in self.plan.tensors.items() if id(self.model.producer(t)) in self.plan.rules}
        self.plan.tensors = {key: t for key, t in self.plan.tensors.items() if key in read | written}
        kept = {node.name for node in self.model.nodes() if id(node) in self.plan.rules}
        self.plan.edges = [edge for edge in self.plan.edges if edge.node in kept]

    def _visit_all(self) -> bool:
        changed = False
        for node in reversed(self.model.nodes(*self.scheme.operators)):
            changed |= self._visit(node)
        return changed

    def _visit(self, node: Node) -> bool:
        """Let the node compute in float, or write float; whether that is new."""
        rule = self.plan.rules.get(id(node))
        if rule is None or rule.role is Role.CLAMP or any(map(self._is_clamped, node.outputs)):
            return False
        data = [node.inputs[place] for place in rule.positions(node)] if rule.role is not Role.WEIGHTED else []
        poor = self._poor(data, node)
        if poor:
            return self._drop(node, poor)
        if not self.scheme.rounds_results:
            return False
        results = [out for out in node.outputs if self.plan.key(out, node) in self.plan.tensors]
        unread = [out for out in results if not self._is_read(out)]
        poor = self._poor(unread if rule.role is Role.WEIGHTED else results, node)
        if poor:
            return self._free(node, poor)
        useless = bool(results) and len(unread) == len(node.outputs) and not any(map(self.model.is_output, results))
        if useless and (rule.role is not Role.WEIGHTED or node.op in self.scheme.float_results):
            return self._free(node, _UNREAD)
        return False

    def _poor(self, tensors: Iterable[Tensor], node: Node) -> str:
        for tensor in tensors:
            key = self.plan.key(tensor, node)
            if key in self.poor and key in self.plan.tensors:
                return _POOR.format(name=tensor.name, sqnr=self.poor[key])
        return ""

    def _free(self, node: Node, reason: str) -> bool:
        """Let the node write float, if the target has a kernel for that; otherwise it computes in float."""
        if node.op not in self.scheme.float_results:
            return self._drop(node, reason)
        for out in node.outputs:
            self.plan.tensors.pop(self.plan.key(out, node), None)
        return True

    def _drop(self, node: Node, reason: str) -> bool:
        rule = self.plan.rules.pop(id(node))
        self.plan.reasons[id(node)] = reason
        if rule.role is Role.WEIGHTED:
            self.dynamic.add(id(node))
        return True

    def _is_read(self, tensor: Tensor) -> bool:
        """Whether an operator on integers reads the tensor as data."""
        for reader in self.model.consumers(tensor):
            rule = self.plan.rules.get(id(reader))
            if rule is not None and any(reader.inputs[place] is tensor for place in rule.positions(reader)):
                return True
        return False

    def _is_clamped(self, tensor: Tensor) -> bool:
        clamp = clamp_behind(tensor, self.model)
        return clamp is not None and id(clamp) in self.plan.rules
