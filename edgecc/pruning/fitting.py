"""Layers in order, each with what it reads by now and what it should compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.chunks import chunks
from edgecc.pruning.features import Matrix, linear_of, set_linear
from edgecc.pruning.repair import Site, Target, fit, gather_rows, site_of, targets_of
from edgecc.rewriting.linear import linear_of as constant_linear

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.rows import RowTable


def layers_in_order(
    original: Model,
    model: Model,
    names: Sequence[str],
    data: CalibrationData,
    sweeps: int,
    progress: WorkProgress,
    *,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tuple[Target, RowTable, RowTable]]:
    """Each layer with the rows that it reads in the model as it is by now and what is added to its result.

    Whoever asks for the next one has given the layer its new weights: layers further behind read what comes of them.

    Args:
        original: says what layers should compute; not changed.
        model: with the same layers, by name.
        names: of layers of one group with constant weights, in order.
        data: samples.
        sweeps: most times that they are read, unless that would take too much memory.
        progress: called after each run.
        outputs: masks of the outputs that are left to layers which lost some, by name.

    Yields:
        The target, rows [n, features + 1], each with a one appended, and what is added to the result [n, 1 or outputs].
    """
    before = {node.name: node for node in original.nodes("Conv", "Gemm", "MatMul")}
    linears = [linear for name in names if (linear := linear_of(before[name])) is not None]
    assert len(linears) == len(names), "they have constant weights"
    for part in chunks(names, linears, -(-len(names) // sweeps)):
        nodes = {node.name: node for node in model.nodes("Conv", "Gemm", "MatMul")}
        sites = [_site(before[name], nodes[name], model, (outputs or {}).get(name)) for name in part]
        targets = targets_of(original, sites, data, progress)
        for target, (rows, others) in zip(targets, gather_rows(model, targets, data, progress), strict=True):
            yield target, rows, others
        # New nodes come last until they are sorted.
        model.cleanup()


def best_weights(target: Target, rows: RowTable, others: RowTable, *, biased: bool) -> Matrix:
    """What a layer of that shape computes the target best with: [outputs, features + 1].

    Args:
        target: what it should compute.
        rows: that it reads by now, [n, features + 1].
        others: what is added to its result, [n, 1 or outputs].
        biased: whether there is a bias to be fitted.
    """
    start, rectified = target.site.after.weights, target.site.rectified
    if biased:
        return fit(start, rows, target.values, others, held=rows.shape[1] - 1, rectified=rectified)
    used = np.ascontiguousarray(rows[:, :-1])
    found = fit(start[:, :-1], used, target.values, others, held=used.shape[1], rectified=rectified)
    return np.concatenate([found, np.zeros((len(found), 1))], axis=1)


def fitted_layers(model: Model) -> list[str]:
    """Names of the layers of one group with constant weights, in order; those that share them stay as they are."""
    nodes = [node for node in model.nodes("Conv", "Gemm", "MatMul") if len(node.inputs[1].outputs) == 1]
    return [node.name for node in nodes if linear_of(node) is not None]


def has_bias(model: Model, node: Node) -> bool:
    """Whether a layer with constant weights has, or may be given, a bias."""
    linear = constant_linear(node, model)
    return node.op != "MatMul" or (not isinstance(linear, str) and linear.adder is not None)


def store(model: Model, node: Node, weights: Matrix) -> None:
    """Give a layer other weights, [outputs, features + 1]; what adds a bias to a MatMul adds the last column too."""
    set_linear(model, node, weights)
    if node.op != "MatMul" or not weights[:, -1].any():
        return
    linear = constant_linear(node, model)
    assert not isinstance(linear, str), "its weights are constant"
    bias = linear.bias()
    if linear.adder is not None and bias is not None:
        # A MatMul has no place for it: what reads it adds one already.
        linear.update(model, None, linear.rounded(bias + weights[:, -1]))


def _site(before: Node, after: Node, model: Model, outputs: np.ndarray | None) -> Site:
    weights = linear_of(before)
    assert weights is not None
    site = site_of(before, after, np.ones(len(weights.weights), bool) if outputs is None else outputs, model)
    assert site is not None, "it has constant weights"
    return site
