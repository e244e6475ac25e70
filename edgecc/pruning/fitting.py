"""Layers in order, each with what it reads by now and what it should compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.cleanup import sort
from edgecc.pruning.features import Matrix, constant_layer, linear_of, set_linear
from edgecc.pruning.repair import Gathering, Site, Target, added_to, fit, site_of
from edgecc.pruning.rows import bytes_of, rows_wanted
from edgecc.pruning.staged_samples import StagedSamples, names_behind
from edgecc.rewriting.linear import linear_of as constant_linear

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.rows import RowTable


#: Rows of layers that are fitted at once take at most so many bytes.
_MEMORY = 256 << 20


def fit_layers(
    original: Model,
    model: Model,
    names: Sequence[str],
    data: CalibrationData,
    progress: WorkProgress,
    *,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> list[Site]:
    """Fit layers of a model, in order, to what they compute in the original.

    Args:
        original: not changed.
        model: with the same layers, by name; changed.
        names: of layers of one group with constant weights, in order.
        data: samples.
        progress: called after each run.
        outputs: masks of the outputs that are left to layers which lost some, by name.

    Returns:
        The layers.
    """
    found = []
    for target, rows, others in layers_in_order(original, model, names, data, progress, outputs=outputs):
        node = target.site.second
        store(model, node, best_weights(target, rows, others, biased=has_bias(model, node)))
        found.append(target.site)
    return found


def layers_in_order(
    original: Model,
    model: Model,
    names: Sequence[str],
    data: CalibrationData,
    progress: WorkProgress,
    *,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tuple[Target, RowTable, RowTable]]:
    """Each layer with the rows that it reads in the model as it is by now and what is added to its result.

    Whoever asks for the next one has given the layer its new weights: layers behind read what comes of them.

    Args:
        original: says what layers should compute; not changed.
        model: with the same layers, by name.
        names: of layers of one group with constant weights, in order.
        data: samples.
        progress: called after each run.
        outputs: masks of the outputs that are left to layers which lost some, by name.

    Yields:
        The target, rows [n, features + 1], each with a one appended, and what is added to the result [n, 1 or outputs].
    """
    before = {node.name: node for node in original.nodes("Conv", "Gemm", "MatMul")}
    nodes = {node.name: node for node in model.nodes("Conv", "Gemm", "MatMul")}
    reads = {name: _read_by(nodes[name], model) for name in names}
    samples = StagedSamples((original, model), data, progress)
    left = list(names)
    while left:
        stage = _first_stage(model, left, reads, nodes)
        parts = [Gathering(_site(before[name], nodes[name], model, (outputs or {}).get(name))) for name in stage]
        asked = {name for layer in left for name in reads[layer]}
        wanted = {name for layer in stage for name in reads[layer]}
        for first, second in samples.at(left, asked, wanted, "fitting layers"):
            for part in parts:
                part.add(first, second)
        while parts:
            yield parts.pop(0).taken()
        left = left[len(stage) :]
        # New nodes come last until they are sorted.
        sort(model.graph)


def _read_by(node: Node, model: Model) -> list[str]:
    """Names of the tensors that its fit depends on: what it reads, and what is added to its result."""
    other, _ = added_to(node, model)
    return [node.inputs[0].name, *([other] if other else [])]


def _first_stage(
    model: Model, left: Sequence[str], reads: Mapping[str, Sequence[str]], nodes: Mapping[str, Node]
) -> list[str]:
    """The first layers of those left that do not depend on one another, whose rows fit into the memory together."""
    found: list[str] = []
    filled = 0
    for name in left:
        linear = constant_layer(nodes[name])
        outputs = int(linear.weights.shape[0])
        # What it reads, what it should compute, and what is added to that.
        filled += bytes_of(linear) + 2 * 4 * outputs * rows_wanted(linear)
        if found and (filled > _MEMORY or not names_behind(model, found).isdisjoint(reads[name])):
            break
        found.append(name)
    return found


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


def fitted_layers(model: Model, ignored: Collection[str] = ()) -> list[str]:
    """Names of the layers of one group with constant weights, in order; those that share them stay as they are.

    Args:
        model: that they are in.
        ignored: names of layers to leave out.
    """
    nodes = [node for node in model.nodes("Conv", "Gemm", "MatMul") if len(node.inputs[1].outputs) == 1]
    return [node.name for node in nodes if node.name not in ignored and linear_of(node) is not None]


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
    if outputs is None:
        weights = linear_of(before)
        assert weights is not None, "it has constant weights"
        outputs = np.ones(len(weights.weights), bool)
    site = site_of(before, after, outputs, model)
    assert site is not None, "it has constant weights"
    return site
