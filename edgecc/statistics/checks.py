"""Whether requests are about tensors that can be measured."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from edgecc.errors import PassContractError
from edgecc.statistics.requests import ChannelAbsMax, Gram, Moments, Patches, Range, Request

if TYPE_CHECKING:
    from edgecc.model import Model, Tensor

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def check_requests(requests: Iterable[Request], model: Model) -> None:
    """Raise PassContractError for a request that no sweep can answer: a pass asks for what is not there."""
    tensors = {tensor.name: tensor for tensor in model.tensors()}
    for request in requests:
        tensor = tensors.get(request.tensor)
        if tensor is None:
            near = difflib.get_close_matches(request.tensor, tensors, n=1)
            raise PassContractError(
                f"statistics are asked of tensor {request.tensor!r}, which the model does not have",
                where=str(request),
                hint=f"did you mean {near[0]!r}?" if near else "tensors of subgraphs cannot be measured",
            )
        _check_type(request, tensor)
        _check_shape(request, tensor)


def _check_type(request: Request, tensor: Tensor) -> None:
    if getattr(tensor, "values", None) is not None:
        raise PassContractError(
            f"statistics are asked of {tensor.name!r}, which is a constant",
            where=str(request),
            hint="read its values: edgecc.model.value_of(tensor)",
        )
    kind = "unknown" if tensor.dtype is None else np.dtype(tensor.dtype).name
    if kind not in _FLOATS:
        raise PassContractError(
            f"statistics are asked of {tensor.name!r}, whose type is {kind}",
            where=str(request),
            why="only floating point tensors are measured",
        )


def _check_shape(request: Request, tensor: Tensor) -> None:
    if tensor.shape is None:
        return
    rank = len(tensor.shape)
    if isinstance(request, Range | Moments | ChannelAbsMax) and request.axis is not None:
        axis = request.axis
    elif isinstance(request, Gram) and not isinstance(request.layout, Patches):
        axis = request.layout.axis
    elif isinstance(request, Gram) and isinstance(request.layout, Patches):
        axis = len(request.layout.kernel) + 1
        rank = min(rank, axis + 1)
    else:
        return
    if not -rank <= axis < rank:
        raise PassContractError(
            f"statistics are asked along axis {axis} of {tensor.name!r}, which has {rank} axes", where=str(request)
        )
