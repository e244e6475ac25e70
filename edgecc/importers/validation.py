"""Whether a detached model is valid ONNX."""

from __future__ import annotations

import re

import onnx

from edgecc.errors import InvalidModelError
from edgecc.importers import proto_graphs
from edgecc.opset import INTERNAL_IR_VERSION
from edgecc.reference_session import reference_session

_INVALID = "the model is not valid ONNX"


def check(proto: onnx.ModelProto) -> None:
    """Raise InvalidModelError for what onnx's checker refuses, and for types and shapes that contradict each other."""
    proto.ir_version = INTERNAL_IR_VERSION
    checkable = proto_graphs.checkable(proto)
    try:
        onnx.checker.check_model(checkable)
    except (onnx.checker.ValidationError, ValueError) as error:  # ValueError: onnx's C++ cannot read it at all
        raise InvalidModelError(_INVALID, where=_place(str(error)), why=_first_line(error)) from error
    outputs = [info.name for info in proto.graph.output]
    if twice := sorted({name for name in outputs if outputs.count(name) > 1}):
        raise InvalidModelError(_INVALID, where=f"output {twice[0]!r}", why="two outputs have this name")
    if not _types_agree(checkable):
        _forget_output_shapes(proto.graph)


def _types_agree(proto: onnx.ModelProto) -> bool:
    """Ask onnx's strict shape inference, and where it objects, ONNX Runtime too.

    Strict inference alone refuses models that work, such as one whose declared output shape is out of date: then the
    answer is False.

    Raises:
        InvalidModelError: both object.
    """
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:  # ValueError: types that C++ cannot read
        if _runtime_objects(proto):
            message = re.sub(r"\s+", " ", str(error)).strip()
            raise InvalidModelError(_INVALID, where=_place(message), why=_objection(message)) from error
        return False
    return True


def _forget_output_shapes(graph: onnx.GraphProto) -> None:
    """What the model says of its outputs' shapes is not so; inference finds them."""
    for info in graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")


def _runtime_objects(proto: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime finds the types or shapes wrong; what it merely has no kernel for is not invalid."""
    try:
        reference_session(proto)
    except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
        return re.search(r"InferenceError|Type Error|INVALID_GRAPH", str(error)) is not None
    return False


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _place(message: str) -> str:
    found = re.search(r"Name: (?P<name>\S+) OpType: (?P<op>\S+)", message)
    found = found or re.search(r"\(op_type:(?P<op>[^,]+), node name: (?P<name>[^)]*)\)", message)
    return f"node {found['name']!r} ({found['op']})" if found else ""


def _objection(message: str) -> str:
    """What shape inference says of the node, without where it says so."""
    return re.sub(r"^.*node name: [^)]*\): (\[\w+\] )?", "", message)
