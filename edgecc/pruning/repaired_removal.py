"""Units go, and the layers that read them are fitted to what they computed.

Layers further behind stay as they are: each fit adds what it learns from the samples alone, and along a deep network of
matrix products that comes to more than it mends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.fitting import fit_layers, fitted_layers
from edgecc.pruning.removal import remove_units

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.groups import Coupling, Unit


def remove_with_repair(
    model: Model,
    coupling: Coupling,
    units: Sequence[Unit],
    data: CalibrationData | None,
    ignored: Collection[str],
    progress: WorkProgress,
) -> None:
    """Take units out of a model and fit the layers that read them.

    Args:
        model: that the coupling was found in; changed.
        coupling: its groups.
        units: that go.
        data: samples; None if nothing is to be fitted.
        ignored: names of layers that are not to be fitted.
        progress: called after each run.
    """
    original = model.clone()
    kept = remove_units(model, coupling, units)
    model.infer_shapes()
    layers = {layer.node.name: layer for layer in coupling.tracker.layers}
    names = [name for name in fitted_layers(original, ignored) if name in layers]

    def reads_less(name: str) -> bool:
        reads = layers[name].reads
        return reads is not None and bool(np.isin(coupling.root_of(reads), kept.gone).any())

    names = [name for name in names if reads_less(name)]
    if data is None or not names:
        return
    outputs = {name: ~np.isin(coupling.root_of(layers[name].writes), kept.gone) for name in names}
    fit_layers(original, model, names, data, progress, outputs=outputs)
