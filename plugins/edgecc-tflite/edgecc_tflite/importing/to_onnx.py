"""A file's bytes as a Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx

from edgecc.errors import InvalidModelError, Unsupported, UnsupportedError
from edgecc.opset import INTERNAL_IR_VERSION, INTERNAL_OPSET
from edgecc_tflite.importing.constants import Shared, onnx_type
from edgecc_tflite.importing.graph_import import GraphImport
from edgecc_tflite.importing.metadata import described
from edgecc_tflite.importing.model_file import ModelFile, Signature, read_model
from edgecc_tflite.importing.rules import builtin_rules
from edgecc_tflite.ir import Tensor

if TYPE_CHECKING:
    from edgecc.model import Model

#: What the writer calls a file's one signature.
_SIGNATURE = "serving_default"


def import_file(contents: memoryview, name: str, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """Import a `.tflite` file.

    Args:
        contents: the whole file.
        name: what messages call it.
        shapes: static shapes for named inputs.

    Raises:
        InvalidModelError: the file is damaged, or its graph is not valid.
        UnsupportedError: operators that cannot be imported, each with its reason.
    """
    from edgecc.importers.onnx import OnnxImporter

    file = read_model(contents)
    proto, lost = to_proto(file, name)
    model = OnnxImporter().from_proto(proto, shapes=shapes)
    inputs, outputs = ([tensor.name for tensor in side] for side in (model.inputs, model.outputs))
    found = described(file, contents, inputs, outputs)
    model.graph.name, model.graph.doc_string = found.name or model.graph.name, found.description
    model.metadata = found.metadata
    model.not_carried = (*lost, *found.lost)
    return model


def to_proto(file: ModelFile, name: str) -> tuple[onnx.ModelProto, list[str]]:
    """The file's first subgraph in ONNX, and what of the file is not in it, a line for each."""
    problems: list[Unsupported] = []
    shared = Shared(file.variables)
    main = GraphImport(shared, builtin_rules(), problems)
    signature = file.signatures[0] if file.signatures else None
    inputs = [_declare_input(main, tensor, _called(tensor, signature, "inputs")) for tensor in file.graph.inputs]
    outputs = [(tensor, shared.fresh(_called(tensor, signature, "outputs"))) for tensor in file.graph.outputs]
    main.reserve(outputs)
    main.run(file.graph)
    if problems:
        raise UnsupportedError(name, problems, done="imported from")
    main.settle(outputs)
    proto = onnx.ModelProto(ir_version=INTERNAL_IR_VERSION, producer_name="edgecc")
    proto.opset_import.add(domain="", version=INTERNAL_OPSET)
    graph = proto.graph
    graph.name = file.graph.name or "main"
    graph.input.extend(inputs)
    graph.output.extend(_value(tensor, wanted, "") for tensor, wanted in outputs)
    graph.node.extend(main.nodes)
    graph.initializer.extend(shared.initializers)
    return proto, _left_out(file, signature, shared)


def _called(tensor: Tensor, signature: Signature | None, side: str) -> str:
    """The name that users know an input or output by."""
    entries: Mapping[str, Tensor] = {} if signature is None else getattr(signature, side)
    return next((name for name, entry in entries.items() if entry is tensor), tensor.name)


def _declare_input(main: GraphImport, tensor: Tensor, wanted: str) -> onnx.ValueInfoProto:
    name = main.shared.fresh(wanted)
    main.bind(tensor, name)
    return _value(tensor, name, name)


def _value(tensor: Tensor, name: str, symbols: str) -> onnx.ValueInfoProto:
    """An input or output; open dimensions are called after `symbols`, or left to inference where that is ""."""
    kind = onnx_type(tensor.dtype)
    if kind is None:
        what = "strings or resources" if tensor.dtype == object else tensor.dtype.name
        raise InvalidModelError(f"{name!r} holds {what}, which edgecc cannot take or give")
    shape = [(f"{symbols}_{axis}" if symbols else None) if d < 0 else d for axis, d in enumerate(tensor.shape)]
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _left_out(file: ModelFile, signature: Signature | None, shared: Shared) -> list[str]:
    """What of the file's graphs has no place in a Model."""
    lost = [f"signature {s.key!r}: a model has one" for s in file.signatures[1:]]
    lost += [f"signature {key!r} of another subgraph" for key in file.others]
    if signature is not None and signature.key not in ("", _SIGNATURE):
        lost.append(f"the name {signature.key!r} of the signature: it becomes {_SIGNATURE!r}")
    return lost + [f"state {name!r}: every run begins with zeros" for name in dict.fromkeys(shared.states)]
