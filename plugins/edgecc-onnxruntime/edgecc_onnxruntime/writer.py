"""From a Model to the bytes of `.onnx` and `.ort` files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_graphsurgeon as gs

from edgecc.errors import OptionError
from edgecc.opset import INTERNAL_IR_VERSION
from edgecc_onnxruntime.opset_label import oldest_opset
from edgecc_onnxruntime.ort_file import UnknownLayoutError, canonical

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from edgecc.model import Model
    from edgecc_onnxruntime.target import OnnxRuntimeTarget

#: What one protobuf or flatbuffer holds, with room for the graph itself.
MAX_FILE_BYTES = 2**31 - 2**26
#: Suffix of the file with the weights, after the whole name of the model's file.
DATA_SUFFIX = ".data"
#: Weights under this size stay in the model's file.
_MIN_EXTERNAL_BYTES = 1024
#: Where a tensor starts in the weights' file: a page, so that the runtime can map it.
_ALIGNMENT = 4096


def opset_for(model: Model, target: OnnxRuntimeTarget) -> int:
    """The operator set to write: the wanted one, or the oldest that says the same."""
    return target.opset or oldest_opset(model)


def weight_bytes(model: Model) -> int:
    """Bytes of all constants of the main graph."""
    return sum(t._values.nbytes for t in model.tensors() if isinstance(t, gs.Constant) and hasattr(t._values, "nbytes"))


def labelled(model: Model, opset: int, *, detach: bool = False) -> onnx.ModelProto:
    """The model as a proto that says `opset`, which must be one that the nodes fit."""
    proto = model.to_proto(detach=detach)
    versions = {entry.domain: entry.version for entry in proto.opset_import} | {"": opset}
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))
    needed = onnx.helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True)
    proto.ir_version = min(INTERNAL_IR_VERSION, max(needed, _ir_of_types(proto)))
    return proto


def _ir_of_types(proto: onnx.ModelProto) -> int:
    """The format version that brought the newest type among the weights."""
    kinds = {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in proto.graph.initializer}
    if any(kind.startswith(("FLOAT4", "INT2", "UINT2", "FLOAT8E8M0")) for kind in kinds):
        return INTERNAL_IR_VERSION
    if kinds & {"INT4", "UINT4"}:
        return 10
    return 9 if any(kind.startswith("FLOAT8") for kind in kinds) else 7


def write(model: Model, opset: int, optimize: str) -> dict[str, Buffer]:
    """The `.onnx` file and, where the weights do not fit into it, the file beside it."""
    proto = labelled(model, opset)
    if weight_bytes(model) >= MAX_FILE_BYTES:
        if optimize != "none":
            raise _too_large("option 'optimize'", "leave the option out")
        data = _move_weights(proto)
        return {".onnx": proto.SerializeToString(deterministic=True), DATA_SUFFIX: data}
    contents = proto.SerializeToString(deterministic=True)
    del proto
    return {".onnx": contents if optimize == "none" else _through_runtime(contents, optimize, "ONNX")}


def ort_bytes(model: Model, opset: int, optimize: str) -> tuple[bytes, list[str]]:
    """The `.ort` file, written by ONNX Runtime, and notes for the report."""
    if weight_bytes(model) >= MAX_FILE_BYTES:
        raise _too_large("an .ort file", "write an .onnx file instead")
    contents = _through_runtime(labelled(model, opset).SerializeToString(deterministic=True), optimize, "ORT")
    try:
        return canonical(contents), []
    except UnknownLayoutError as error:
        return contents, [f"two runs may write different bytes: this ONNX Runtime's .ort files are newer ({error})"]


def _too_large(what: str, hint: str) -> OptionError:
    return OptionError(f"{what} cannot be had for a model past 2 GB", where="target onnxruntime", hint=hint)


def _through_runtime(contents: bytes, optimize: str, file_format: str) -> bytes:
    import onnxruntime as ort

    from edgecc_onnxruntime.session import _LEVELS

    with tempfile.TemporaryDirectory(prefix="edgecc-") as folder:
        path = Path(folder) / f"model.{file_format.lower()}"
        settings = ort.SessionOptions()
        settings.graph_optimization_level = _LEVELS[optimize]
        settings.optimized_model_filepath = str(path)
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.save_model_format", file_format)
        ort.InferenceSession(contents, settings, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _move_weights(proto: onnx.ModelProto) -> bytearray:
    """Take large weights out of the proto; `name_data` tells it in which file they are."""
    data = bytearray()
    for tensor in proto.graph.initializer:
        size = len(tensor.raw_data)
        if size < _MIN_EXTERNAL_BYTES:
            continue
        data += bytes(-len(data) % _ALIGNMENT)
        place = {"location": DATA_SUFFIX, "offset": str(len(data)), "length": str(size)}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
    return data


def name_data(contents: bytes, name: str) -> bytes:
    """The model's file, with the weights in a file of that name."""
    proto = onnx.ModelProto.FromString(contents)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    return bytes(proto.SerializeToString(deterministic=True))
