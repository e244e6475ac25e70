"""Normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule

if TYPE_CHECKING:
    from torch.fx import Proxy


def _batch_norm(n: NodeView) -> Proxy:
    if n.attribute("training_mode", 0):
        raise RefusalError("it normalizes with the statistics of the batch, as in training")
    n.refuse_outputs(1)
    eps = n.attribute("epsilon", 1e-5)
    return functional.batch_norm(n[0], n.buffer(3), n.buffer(4), n[1], n[2], False, 0.1, eps)


def _instance_norm(n: NodeView) -> Proxy:
    return functional.instance_norm(n[0], weight=n[1], bias=n[2], eps=n.attribute("epsilon", 1e-5))


def _group_norm(n: NodeView) -> Proxy:
    return functional.group_norm(n[0], n.attribute("num_groups"), n[1], n[2], n.attribute("epsilon", 1e-5))


def _normalized_shape(n: NodeView) -> list[int]:
    """Sizes of the axes that are normalized together, which the scale has too."""
    sizes = n.shape()[n.axis(-1) :]
    if any(isinstance(size, str) for size in sizes) or n.shape(1) != sizes:
        raise RefusalError("its scale does not have the sizes of the axes that are normalized")
    return [int(size) for size in sizes]


def _layer_norm(n: NodeView) -> Proxy:
    n.refuse_outputs(1)
    return functional.layer_norm(n[0], _normalized_shape(n), n[1], n.optional(2), n.attribute("epsilon", 1e-5))


def _rms_norm(n: NodeView) -> Proxy:
    return functional.rms_norm(n[0], _normalized_shape(n), n[1], n.attribute("epsilon", 1e-5))


def _lp_norm(n: NodeView) -> Proxy:
    return functional.normalize(n[0], p=float(n.attribute("p", 2)), dim=n.axis(-1))


def _local_response(n: NodeView) -> Proxy:
    if n.attribute("size") % 2 == 0:
        raise RefusalError("of an even number of channels PyTorch takes one more in front, and ONNX one more behind")
    alpha, beta, bias = n.attribute("alpha", 1e-4), n.attribute("beta", 0.75), n.attribute("bias", 1.0)
    return functional.local_response_norm(n[0], n.attribute("size"), alpha, beta, bias)


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "RMSNormalization": _rms_norm,
}
