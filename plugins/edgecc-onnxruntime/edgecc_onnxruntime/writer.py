"""From a Model to the bytes of `.onnx` and `.ort` files."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecc.errors import OptionError, OutputError
from edgecc.opset import INTERNAL_IR_VERSION
from edgecc_onnxruntime.opset_label import drop_newer_attributes, oldest_opset
from edgecc_onnxruntime.ort_file import UnknownLayoutError, canonical

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from edgecc.model import Model
    from edgecc_onnxruntime.target import OnnxRuntimeTarget

#: What one protobuf or flatbuffer holds, with room for the graph itself.
MAX_FILE_BYTES = 2**31 - 2**26
#: Suffix of the file with the weights, after the whole name of the model's file.
DATA_SUFFIX = ".data"
#: Where a tensor starts in the weights' file: a page, so that the runtime can map it.
_ALIGNMENT = 4096


def opset_for(model: Model, target: OnnxRuntimeTarget) -> int:
    """The operator set to write: the wanted one, or the oldest that says the same."""
    return target.opset or oldest_opset(model)


def weight_bytes(model: Model) -> int:
    """Bytes of all constants."""
    return sum(int(tensor.values.nbytes) for tensor in model.constants())


def labelled(model: Model, opset: int, *, detach: bool = False) -> onnx.ModelProto:
    """The model as a proto that says `opset`, which must be one that the nodes fit."""
    proto = model.to_proto(detach=detach)
    versions = {entry.domain: entry.version for entry in proto.opset_import} | {"": opset}
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))
    drop_newer_attributes(proto.graph, opset)
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
    if weight_bytes(model) >= MAX_FILE_BYTES:
        if optimize != "none":
            raise _too_large("option 'optimize'", "leave the option out")
        return _apart(model, opset)
    contents = labelled(model, opset).SerializeToString(deterministic=True)
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
        try:
            ort.InferenceSession(contents, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
            if "Save" not in str(error):
                raise
            raise OutputError(
                f"ONNX Runtime cannot write its file in {folder}",
                why=str(error).splitlines()[0],
                hint="free space there, or name another folder with TMPDIR=...",
            ) from error
        return path.read_bytes()


def _apart(model: Model, opset: int) -> dict[str, Buffer]:
    """The file without large weights, and the weights; `name_data` tells the first what the second is called.

    Weights are copied once, from their arrays: no proto ever holds them.
    """
    proto = labelled(model, opset, detach=True)
    own = {tensor.name for tensor in model.inputs}
    detached = [info for info in proto.graph.input if info.name not in own]
    weights = {tensor.name: tensor.values for tensor in model.constants()}
    contents = [_stored(weights[info.name]) for info in detached]
    data = np.zeros(sum(_padded(raw.nbytes) for raw in contents), np.uint8)
    offset = 0
    for info, raw in zip(detached, contents, strict=True):
        proto.graph.input.remove(info)
        dims = weights[info.name].shape
        stored = proto.graph.initializer.add(name=info.name, data_type=info.type.tensor_type.elem_type, dims=dims)
        stored.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", DATA_SUFFIX), ("offset", offset), ("length", raw.nbytes)):
            stored.external_data.add(key=key, value=str(value))
        data[offset : offset + raw.nbytes] = raw
        offset += _padded(raw.nbytes)
    return {".onnx": proto.SerializeToString(deterministic=True), DATA_SUFFIX: data.data}


def _stored(values: np.ndarray) -> np.ndarray:
    """The bytes that a weight has in a file; not a copy where memory looks the same."""
    if values.dtype.kind in "biufc" and sys.byteorder == "little":
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return np.frombuffer(onnx.numpy_helper.from_array(values).raw_data, np.uint8)


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


def name_data(contents: bytes, name: str) -> bytes:
    """The model's file, with the weights in a file of that name."""
    proto = onnx.ModelProto.FromString(contents)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    return bytes(proto.SerializeToString(deterministic=True))
