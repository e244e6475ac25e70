"""Units go, and the layers behind are fitted to what they computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.removal import remove_units
from edgecc.pruning.repair import Site, repair, site_of, targets_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.groups import Coupling, Unit
    from edgecc.pruning.removal import Kept


def remove_with_repair(
    model: Model,
    coupling: Coupling,
    units: Sequence[Unit],
    data: CalibrationData | None,
    sweeps: int,
    progress: WorkProgress,
) -> None:
    """Take units out of a model and fit the layers behind the first of them.

    Args:
        model: that the coupling was found in; changed.
        coupling: its groups.
        units: that go.
        data: samples; None if nothing is to be fitted.
        sweeps: most times that they are read for fitting.
        progress: called after each run.
    """
    original = model.clone()
    kept = remove_units(model, coupling, units)
    model.infer_shapes()
    if data is None:
        return
    targets = targets_of(original, _sites(original, model, coupling, kept), data, progress)
    size = -(-len(targets) // sweeps)
    for start in range(0, len(targets), size):
        repair(model, targets[start : start + size], data, progress)


def _sites(original: Model, model: Model, coupling: Coupling, kept: Kept) -> list[Site]:
    """The first layer that reads less than it did, and all behind it, in order."""
    before = {node.name: node for node in original.nodes()}
    found: list[Site] = []
    for layer in coupling.tracker.layers:
        reads = layer.reads is not None and bool(np.isin(coupling.root_of(layer.reads), kept.gone).any())
        if layer.node.op not in ("Conv", "Gemm", "MatMul") or not (found or reads):
            continue
        mask = ~np.isin(coupling.root_of(layer.writes), kept.gone)
        site = site_of(before[layer.node.name], layer.node, mask, model)
        if site is not None:
            found.append(site)
    return found
