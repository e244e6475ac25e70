"""Compiles a model for ONNX Runtime."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from edgecc.backend import Availability, Backend, Compiled, TensorMatch
from edgecc.distributions import version_of
from edgecc_onnxruntime.target import OnnxRuntimeOptions, OnnxRuntimeTarget

if TYPE_CHECKING:
    from edgecc.errors import Unsupported
    from edgecc.model import Model
    from edgecc.passes.base import Pass
    from edgecc.target import RuntimeOptions, Target

_INSTALL = "pip install onnxruntime"
_PORTABLE = (
    "the .ort file runs on every processor; convolutions on x86 are faster from an .onnx file, or with option "
    "optimize=all, which ties the file to the kind of processor that compiles"
)


class OnnxRuntimeBackend(Backend):
    """Writes `.onnx` and `.ort` files."""

    target: ClassVar[type[Target]] = OnnxRuntimeTarget
    runtime: ClassVar[type[RuntimeOptions]] = OnnxRuntimeOptions

    def passes(self, target: Target) -> Sequence[Pass]:
        from edgecc_onnxruntime.separate_bias import SeparateBias
        from edgecc_onnxruntime.store_unsigned import StoreUnsigned

        takes_unsigned = cast(OnnxRuntimeTarget, target).quantization_scheme().unsigned
        return (SeparateBias(), StoreUnsigned()) if takes_unsigned else (SeparateBias(),)

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        """Nodes without a kernel, and nodes that the wanted operator set does not have."""
        from edgecc_onnxruntime.support import find_unsupported

        return find_unsupported(model, cast(OnnxRuntimeTarget, target))

    def compile(self, model: Model, target: Target) -> Compiled:
        """The file's bytes; weights past protobuf's limit are a file of their own beside it."""
        from edgecc_onnxruntime.writer import opset_for, ort_bytes, write

        options = cast(OnnxRuntimeTarget, target)
        opset = opset_for(model, options)
        details: dict[str, object] = {
            "opset": opset,
            "operators": dict(sorted(Counter(node.op for node in model.all_nodes()).items())),
        }
        matches = [TensorMatch(name, name) for name in self._kept_names(model, options)]
        if options.format == "ort":
            contents, notes = ort_bytes(model, opset, options.optimize or "extended")
            if options.optimize is None and model.nodes("Conv"):
                notes.append(_PORTABLE)
            return Compiled({".ort": contents}, matches, notes, details)
        return Compiled(write(model, opset, options.optimize or "none"), matches, [], details)

    def name_files(self, compiled: Compiled, name: str) -> Compiled:
        """Tell the model's file what the weights' file is called."""
        from edgecc_onnxruntime.writer import DATA_SUFFIX, name_data

        if DATA_SUFFIX not in compiled.files:
            return compiled
        main = name_data(bytes(compiled.files[".onnx"]), name + DATA_SUFFIX)
        return dataclasses.replace(compiled, files={**compiled.files, ".onnx": main})

    def _kept_names(self, model: Model, options: OnnxRuntimeTarget) -> list[str]:
        """Tensors that the file has under their own name: ONNX Runtime's optimizations keep the model's boundary."""
        if options.format == "onnx" and options.optimize in (None, "none"):
            return [t.name for t in model.tensors() if t.inputs or any(t is i for i in model.inputs)]
        return [t.name for t in (*model.inputs, *model.outputs)]

    def can_compile(self) -> Availability:
        return self.can_run()

    def can_run(self) -> Availability:
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability("onnxruntime is not installed", _INSTALL)
        return Availability()

    def is_for_this_machine(self, target: Target) -> bool:
        """Where the processor computes, and no small build of another device does."""
        options = cast(OnnxRuntimeTarget, target)
        return options.provider == "cpu" and options.format == "onnx"

    def versions(self) -> dict[str, str]:
        import onnxruntime

        # Its own word: the module may come from onnxruntime-gpu or another distribution.
        ours = version_of("edgecc-onnxruntime")
        return {"edgecc-onnxruntime": ours, "onnxruntime": onnxruntime.__version__}

    def session_file(self) -> Path:
        return Path(__file__).with_name("session.py")
