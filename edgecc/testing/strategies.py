"""Hypothesis strategies: small random models for property tests.

from hypothesis import given
from edgecc.testing import check_contract
from edgecc.testing.strategies import models

@given(models())
def test_on_random_models(model):
    check_contract(MyPass(), model)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.testing import random_movement as m
from edgecc.testing import random_steps as c
from edgecc.testing.random_branches import branch
from edgecc.testing.random_builder import Builder

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from edgecc.model import Model, Tensor
    from edgecc.testing.random_builder import Step


def models(max_nodes: int = 10, *, branches: bool = False) -> SearchStrategy[Model]:
    """Random graphs of convolutions, normalizations, pooling, padding, arithmetic, activations and shape operators.

    Tensors have several readers, constants are shared, inner tensors are outputs, and the batch may be open. Values
    stay within a few orders of magnitude and nothing cancels, so that a ROUNDING pass can be held to a tolerance.

    Args:
        max_nodes: nodes, not counting the Identity that an output may need.
        branches: with one to three If whose branches read what the main graph computes, halfway through a pattern too.
    """
    # Imported here: only tests have Hypothesis.
    from hypothesis import strategies as st

    @st.composite
    def build(draw: DrawFn) -> Model:
        builder = Builder(draw)
        # ONNX Runtime 1.32 itself loses a Cast in front of which another one is, if only a branch reads it.
        steps = tuple(step for step in _STEPS if not branches or step is not m.cast)
        for _ in range(draw(st.integers(1, max_nodes))):
            builder.grow(steps)
        for _ in range(draw(st.integers(1, 3)) if branches else 0):
            branch(builder, steps)
        return builder.finish()

    return build()


def in_a_row(*steps: Step) -> Step:
    """What passes look for: several nodes, each of which reads the one before."""

    def together(b: Builder, x: Tensor) -> Tensor | None:
        last: Tensor | None = x
        for step in steps:
            last = step(b, last) if last is not None else None
        return last

    return together


_ALONE: tuple[Step, ...] = (
    *(c.unary, c.binary, c.per_channel, c.neutral, c.conv, c.conv_transpose, c.batchnorm, c.pad, c.pool),
    *(c.gemm, c.matmuls, c.limit, c.hard_gate, c.logistic, c.mish, c.gelu, c.softmax, c.reduce, c.normalize),
    *(c.standardize, c.attend),
    *(m.cast, m.concat, m.reshape, m.transpose, m.slice, m.permute, m.back_and_forth, m.split_and_join, m.twice),
    m.other_shape,
)
#: What passes look for.
_ROWS: tuple[tuple[Step, ...], ...] = (
    *((c.conv, c.batchnorm), (c.conv_transpose, c.batchnorm), (c.conv, c.per_channel), (c.conv, c.conv)),
    *((c.batchnorm, c.conv), (c.per_channel, c.conv_transpose), (c.per_channel, c.per_channel)),
    *((c.pad, c.conv), (c.unary, c.pad, c.pool), (c.pad, c.conv, c.batchnorm)),
    *((c.per_column, c.matmul, c.per_column), (c.gemm, c.per_column), (c.matmul, m.transpose, c.per_channel)),
    *((c.matmul, m.transpose, c.scale), (c.scale, c.binary_product), (c.binary_product, c.scale)),
    *((c.limit, c.limit), (c.standardize, c.per_channel)),
    *((m.permute, m.permute), (m.permute, m.with_another, m.permute)),
    *((m.other_shape, m.other_shape), (m.permute, m.other_shape), (m.other_shape, m.permute)),
)
_STEPS = (*_ALONE, *(in_a_row(*steps) for steps in _ROWS))
