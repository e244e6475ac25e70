"""Which nodes keep a model from being an ONNX Runtime file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.errors import Unsupported
from edgecc.model import origins
from edgecc_onnxruntime import kernels
from edgecc_onnxruntime.opset_label import oldest_for
from edgecc_onnxruntime.writer import MAX_FILE_BYTES, labelled, opset_for, weight_bytes

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc_onnxruntime.target import OnnxRuntimeTarget


def find_unsupported(model: Model, target: OnnxRuntimeTarget) -> list[Unsupported]:
    """Every node that stands in the way, with its reason; the model is not changed."""
    too_new = _newer_than(model, target.opset) if target.opset is not None else []
    if target.provider.lower().removesuffix("executionprovider") != "cpu":
        # That provider's kernels are not known here, and what it lacks goes to the CPU.
        return too_new
    opset = opset_for(model, target)
    found = too_new + kernels.find_missing(model, opset)
    return found or _refused(model, opset)


def _newer_than(model: Model, opset: int) -> list[Unsupported]:
    found = []
    for node in model.all_nodes():
        oldest = oldest_for(node)
        if oldest > opset:
            hint = f"leave option 'opset' out, or set it to {oldest} or more"
            reason = f"needs operator set {oldest}, and {opset} is asked for"
            found.append(Unsupported(", ".join(origins(node)), node.op, reason, hint))
    return found


def _refused(model: Model, opset: int) -> list[Unsupported]:
    """Loads the model without its weights first: what fails only there is asked again with them."""
    error = kernels.load_error(labelled(model, opset, detach=True).SerializeToString())
    if error and weight_bytes(model) < MAX_FILE_BYTES:
        error = kernels.load_error(labelled(model, opset).SerializeToString())
    return [kernels.refused_node(model, error)] if error else []
