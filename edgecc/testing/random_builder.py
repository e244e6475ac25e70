"""The builder of random models: adds one node after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.model import Constant, Model, Tensor
from edgecc.opset import INTERNAL_OPSET

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    Step = Callable[["Builder", Tensor], Tensor | None]

#: Larger sizes find nothing more and take longer.
CHANNELS, SIDE = (1, 2, 4), (3, 6)


class Builder:
    """Adds one random node after the other; every tensor has four axes."""

    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw
        batch = self.pick([1, 2, "N"])
        side = self.pick(SIDE)
        self.tensors: list[Tensor] = [gs.Variable("x", np.dtype(np.float32), [batch, self.pick(CHANNELS), side, side])]
        self.model = Model(gs.Graph([], [self.tensors[0]], [], opset=INTERNAL_OPSET))
        self.constants: list[Constant] = []

    def pick(self, options: Any) -> Any:
        from hypothesis import strategies as st

        return self.draw(st.sampled_from(list(options)))

    def flip(self) -> bool:
        from hypothesis import strategies as st

        return self.draw(st.booleans())

    def grow(self, steps: Sequence[Step]) -> None:
        """One more node, if the drawn step can read the drawn tensor."""
        # Late tensors more often: chains are what passes match.
        source = self.tensors[-1] if self.flip() or self.flip() else self.pick(self.tensors)
        result = self.pick(steps)(self, source)
        if result is not None:
            self.tensors.append(result)

    def finish(self) -> Model:
        """Everything that nothing reads, and some of the rest, are the model's outputs."""
        outputs = [t for t in self.tensors[1:] if not t.outputs or self.pick([False] * 7 + [True])]
        for tensor in outputs or [self.tensors[0]]:
            if not tensor.inputs or self.pick([False, False, True]):
                tensor = self.node("Identity", [tensor], tensor.shape)
            self.model.graph.outputs.append(tensor)
        self.model.cleanup()
        return self.model

    def node(self, op: str, inputs: list[Tensor], shape: Any, **attributes: object) -> Tensor:
        output = self.model.variable("t", np.float32, shape)
        self.model.add(op, inputs, [output], attributes=attributes)
        return output

    def weights(self, *shape: int, positive: bool = False) -> Constant:
        """Values between 0.5 and 1 in size; now and then a constant that is there already."""
        old = [c for c in self.constants if c.shape == list(shape) and (not positive or c.name.startswith("positive"))]
        if old and self.flip():
            return old[0]
        rng = np.random.default_rng(len(self.constants))
        values = rng.uniform(0.5, 1, shape)
        if not positive:
            values *= rng.choice([-1, 1], shape)
        constant = self.model.constant("positive" if positive else "c", values.astype(np.float32))
        self.constants.append(constant)
        return constant

    def permuted(self, x: Tensor, perm: Any) -> Tensor:
        return self.node("Transpose", [x], [x.shape[axis] for axis in perm], perm=list(perm))

    def integers(self, *values: int) -> Constant:
        return self.model.constant("i", np.array(values, np.int64))
