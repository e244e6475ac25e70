"""A file's bytes as a Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx

from edgecc.errors import InvalidModelError, Unsupported, UnsupportedError
from edgecc.opset import INTERNAL_IR_VERSION, INTERNAL_OPSET
from edgecc_tflite.importing.constants import Shared, onnx_type
from edgecc_tflite.importing.graph_import import GraphImport
from edgecc_tflite.importing.model_file import ModelFile, Signature, read_model
from edgecc_tflite.importing.rules import builtin_rules
from edgecc_tflite.ir import Tensor

if TYPE_CHECKING:
    from edgecc.model import Model

#: Keys of the Model's metadata.
DESCRIPTION, SIGNATURE, NOTES = "tflite.description", "tflite.signature", "tflite.not_carried"


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

    proto = to_proto(read_model(contents), name)
    return OnnxImporter().from_proto(proto, shapes=shapes)


def to_proto(file: ModelFile, name: str) -> onnx.ModelProto:
    """The file's first subgraph in ONNX."""
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
    for key, text in _metadata(file, signature, shared).items():
        proto.metadata_props.add(key=key, value=text)
    return proto


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


def _metadata(file: ModelFile, signature: Signature | None, shared: Shared) -> dict[str, str]:
    """What the file says beside its graph, and what of it has no place in a Model."""
    found = {DESCRIPTION: file.description, SIGNATURE: signature.key if signature else ""}
    notes = [f"signature {s.key!r}: a Model has one" for s in file.signatures[1:]]
    notes += [f"signature {key!r} of another subgraph" for key in file.others]
    notes += [f"metadata {name!r}" for name in file.metadata if name != "min_runtime_version"]
    notes += [f"state {name!r}: every run begins with zeros" for name in dict.fromkeys(shared.states)]
    found[NOTES] = "\n".join(notes)
    return {key: text for key, text in found.items() if text}
