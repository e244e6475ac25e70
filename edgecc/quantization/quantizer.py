"""Quantizes a model with a precision for each node, whoever chose it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgecc.quantization.dynamic import DynamicRounding
from edgecc.quantization.float_results import FloatResults
from edgecc.quantization.grids import Grid, grid_for
from edgecc.quantization.groups import solve
from edgecc.quantization.placement import Placement
from edgecc.quantization.plan import Plan, make_plan
from edgecc.quantization.ranges import Interval
from edgecc.quantization.scheme import QuantizationScheme, Role
from edgecc.quantization.weight_places import LEAST_ELEMENTS, WeightStore, unfit, weight_place
from edgecc.rewriting.reading import constant

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: What a node may compute in. int8 and int16 are those of its data; weights are int8. float16 is that of its weights,
#: which are stored so; what it computes stays float32.
Precision: TypeAlias = Literal["int8", "int16", "float16", "float32"]

#: Range of a tensor by its name, for a number of levels, symmetric or not.
RangeOf: TypeAlias = Callable[[str, int, bool], Interval]

#: Smaller constants are not worth a Cast.
_LEAST_WEIGHTS = 64


@dataclass
class Quantizer:
    """What one way to quantize is made of, for any number of choices.

    Attributes:
        scheme: of the target.
        dtype: of data where nothing else is chosen: int8 or int16.
        per_channel: whether weights get a scale for each output channel where the target takes them.
        range_of: what integers stand for.
        unbounded: names of tensors with infinities or masks among their values.
        sqnr_of: power of a tensor's values over that of the error of rounding them to a grid, in dB.
        least_sqnr: int8 results below it stay float; 0 for none.
    """

    scheme: QuantizationScheme
    dtype: str
    per_channel: bool
    range_of: RangeOf
    unbounded: Collection[str]
    sqnr_of: Callable[[str, Grid], float]
    least_sqnr: float
    _known: dict[tuple[str, int, bool], Interval] = field(default_factory=dict)

    def plan(self, model: Model, choice: Mapping[int, Precision]) -> Plan:
        """What becomes integers of a model, which is not changed.

        Args:
            model: float.
            choice: precision by id of a node; `dtype` for those that are not in it.
        """
        kept = {key for key, precision in choice.items() if precision in ("float16", "float32")}
        types = {key: precision for key, precision in choice.items() if key not in kept}
        plan = make_plan(model, self.scheme, self.dtype, kept, self.unbounded, types)
        self._free_results(model, plan)
        return plan

    def _free_results(self, model: Model, plan: Plan) -> None:
        """Take out of the plan what had better stay float; name the products that round data at run time instead."""
        poor = {}
        for key, tensor in plan.tensors.items():
            if plan.dtypes[key] != "int8" or not self.least_sqnr:
                continue
            grid = grid_for(self._range(tensor, "int8"), "int8", symmetric=self.scheme.is_symmetric("int8"))
            sqnr = self.sqnr_of(tensor.name, grid)
            if sqnr < self.least_sqnr:
                poor[key] = sqnr
        found = FloatResults(model, plan, self.scheme, poor)
        found.run()
        if self.scheme.dynamic == "pairs":
            nodes = model.nodes(*self.scheme.dynamic_operators)
            plan.dynamic = {id(n) for n in nodes if id(n) in found.dynamic and weight_place(n) is not None}

    def quantize(self, model: Model, choice: Mapping[int, Precision], plan: Plan | None = None) -> bool:
        """Write it into the graph; whether there was anything to write.

        Args:
            model: edited in place.
            choice: as for `plan`.
            plan: that of this model and choice, if it is known.
        """
        plan = plan or self.plan(model, choice)
        halves = [node for node in model.nodes() if choice.get(id(node)) == "float16" and has_float_weights(node)]
        for node in halves:
            _store_halved(node, model)
        kept = {key for key, precision in choice.items() if precision in ("float16", "float32")}
        tables = [node for node in model.nodes("Gather") if id(node) not in kept]
        dynamic = [node for node in model.nodes() if id(node) in plan.dynamic]
        if plan.tensors:
            self._place(model, plan)
        rounding = DynamicRounding(model, WeightStore(model, 8))
        for node in dynamic:
            place = weight_place(node)
            assert place is not None, "only such nodes are chosen"
            rounding.as_pair(place, per_channel=self.per_channel)
        return self._store_tables(tables, model) or bool(plan.tensors or halves or dynamic)

    def _store_tables(self, nodes: Iterable[Node], model: Model) -> bool:
        """Store what Gather reads rows of; whether there is any."""
        store, found = WeightStore(model, 8), False
        for node in nodes:
            place = weight_place(node)
            if place is None or unfit(node, LEAST_ELEMENTS) or model.is_inner(node):
                continue
            store.store_table(place, self.scheme, per_channel=self.per_channel)
            found = True
        return found

    def _place(self, model: Model, plan: Plan) -> None:
        ranges = {key: self._range(tensor, plan.dtypes[key]) for key, tensor in plan.tensors.items()}
        fixed = {
            node.outputs[0].name: self.scheme.fixed[node.op, plan.types[id(node)]]
            for node in model.nodes()
            if id(node) in plan.rules and plan.rules[id(node)].role is Role.FIXED and self.scheme.rounds_results
        }
        # What is int16 is symmetric in any case; int8 layers beside it need not be.
        solution = solve(ranges, plan.edges, fixed, self.dtype, symmetric=self.scheme.symmetric, dtypes=plan.dtypes)
        Placement(model, plan, solution, self.scheme, self.per_channel).run()

    def _range(self, tensor: Tensor, dtype: str) -> Interval:
        key = tensor.name, 1 << (8 if dtype == "int8" else 16), self.scheme.is_symmetric(dtype)
        if key not in self._known:
            self._known[key] = self.range_of(*key)
        return self._known[key]


def has_float_weights(node: Node) -> bool:
    """Whether its second operand is large, constant and float32."""
    weights = constant(node, 1) if len(node.inputs) > 1 else None
    return weights is not None and weights.dtype == np.float32 and weights.size >= _LEAST_WEIGHTS


def _store_halved(node: Node, model: Model) -> None:
    """Store the weights in float16 in front of a Cast, unless one of them is too large for it."""
    import onnx

    from edgecc.model import origins

    weights = constant(node, 1)
    assert weights is not None, "its weights are constant"
    with np.errstate(over="ignore"):
        small = weights.astype(np.float16)
    if not np.isfinite(small).all():
        return
    old = node.inputs[1]
    stored = model.constant(f"{old.name}/float16", small)
    wide = model.variable(f"{old.name}/float32", np.dtype(np.float32), weights.shape)
    attributes = {"to": int(onnx.TensorProto.FLOAT)}
    model.add("Cast", [stored], [wide], attributes=attributes, origins=origins(node))
    model.set_input(node, 1, wide)
