"""How each Property is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Property

if TYPE_CHECKING:
    from edgecc.model import Model


def _static_shapes(model: Model) -> bool:
    return all(spec.is_static for spec in model.signature.inputs)


def _no_batchnorm(model: Model) -> bool:
    from edgecc.passes.fold_batchnorm import foldable

    return not any(foldable(node, model) is None for node in model.nodes("BatchNormalization"))


def _float16(model: Model) -> bool:
    return any(t.dtype == np.float16 for t in model.tensors())


CHECKS: dict[Property, Callable[[Model], bool]] = {
    Property.STATIC_SHAPES: _static_shapes,
    Property.NO_BATCHNORM: _no_batchnorm,
    Property.FLOAT16: _float16,
}
