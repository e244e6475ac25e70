"""The TensorRT backend."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from edgecc.backend import Availability, Backend, Compiled, TensorMatch
from edgecc.distributions import version_of
from edgecc.errors import Unsupported, UnsupportedError
from edgecc_tensorrt.target import TensorRTRuntime, TensorRTTarget

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from edgecc.model import Model
    from edgecc.passes.base import Pass
    from edgecc.target import RuntimeOptions, Target
    from edgecc_tensorrt.layers import Layer

#: Functions of ONNX that the parser has no layers for; TensorRT-RTX crashes on most forms of Attention.
_EXPANDED = (
    "AffineGrid",
    "Attention",
    "CenterCropPad",
    "NegativeLogLikelihoodLoss",
    "SoftmaxCrossEntropyLoss",
)


class TensorRTBackend(Backend):
    """Builds engines from typed ONNX; the same model always gives the same bytes with TensorRT-RTX."""

    target: ClassVar[type[Target]] = TensorRTTarget
    runtime: ClassVar[type[RuntimeOptions]] = TensorRTRuntime

    def passes(self, target: Target) -> Sequence[Pass]:
        from edgecc.passes.convert_float16 import ConvertFloat16
        from edgecc.passes.expand_functions import ExpandFunctions
        from edgecc.passes.expand_qoperators import ExpandQOperators
        from edgecc_tensorrt.expand_for_tensorrt import ExpandForTensorRT
        from edgecc_tensorrt.scale_resizes import ScaleResizes

        steps: list[Pass] = [
            *(ExpandQOperators(), ExpandForTensorRT()),
            *(ExpandFunctions(operators=_EXPANDED), ScaleResizes()),
        ]
        if cast("TensorRTTarget", target).precision == "float16":
            steps.append(ConvertFloat16())
        return steps

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        from edgecc_tensorrt.sdk import find_sdk
        from edgecc_tensorrt.support import find_unsupported

        return find_unsupported(find_sdk(), model, cast("TensorRTTarget", target))

    def compile(self, model: Model, target: Target) -> Compiled:
        from edgecc.model import origins
        from edgecc.model_metadata import without_place
        from edgecc_tensorrt.building import BuildError, build, parse
        from edgecc_tensorrt.layers import as_json, layers_of, memory_of
        from edgecc_tensorrt.log import warnings
        from edgecc_tensorrt.sdk import find_sdk
        from edgecc_tensorrt.sparse_layers import sparse_layers
        from edgecc_tensorrt.support import blame, float64_note
        from edgecc_tensorrt.typed_onnx import TypedOnnx

        sdk = find_sdk()
        typed = TypedOnnx.of(model)
        parsed = parse(sdk, typed)
        sparse = len(sparse_layers(model))
        try:
            options = cast("TensorRTTarget", target)
            engine = build(sdk, parsed, options, model.signature.inputs, sparse=sparse > 0)
        except BuildError as error:
            raise UnsupportedError(target.spec(), blame(model, error.why)) from error
        sources = {node.name: origins(node) for node in model.all_nodes()}
        layers = layers_of(parsed.log, sources)
        notes = [note for note in (float64_note(model), *warnings(parsed.log)) if note]
        if sparse:
            notes.append(f"{sparse} layers have 2:4 sparse weights: TensorRT may choose sparse kernels for them")
        memory = memory_of(parsed.log)
        del parsed  # the builder's copy of the weights goes before the file below is put together
        file = typed.to_bytes()
        if file is None:
            notes.append("the typed ONNX file is left out: protobuf holds no model over 2 GB")
        files: dict[str, Buffer] = {".engine": memoryview(engine)}
        if file is not None:
            files[".onnx"] = file
        details: dict[str, object] = {
            "sdk": f"{sdk.package} {sdk.version}",
            "layers": as_json(layers),
            "fusion": _summary(model, layers),
            "device_memory": memory,
        }
        lost = [f"{what}: an engine holds none" for what in without_place(model)]
        return Compiled(files, _correspondence(model), notes, details, lost)

    def can_compile(self) -> Availability:
        from edgecc_tensorrt.sdk import availability

        return availability()

    def can_run(self) -> Availability:
        from edgecc_tensorrt.session import Unavailable, check

        try:
            check()
        except Unavailable as error:
            reason, _, hint = str(error).partition("\n")
            return Availability(reason, hint)
        return Availability()

    def versions(self) -> dict[str, str]:
        names = ("edgecc-tensorrt", "tensorrt", "tensorrt-rtx")
        found = {}
        for name in names:
            try:
                found[name] = version_of(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    def session_file(self) -> Path:
        return Path(__file__).with_name("session.py")


def _summary(model: Model, layers: list[Layer]) -> dict[str, int]:
    """How many of the model's nodes run in how many layers."""
    named = {name for layer in layers for name in layer.nodes}
    return {"nodes": len(model.nodes()), "layers": len(layers), "nodes_in_layers": len(named)}


def _correspondence(model: Model) -> list[TensorMatch]:
    signature = model.signature
    return [TensorMatch(spec.name, spec.name) for spec in (*signature.inputs, *signature.outputs)]
