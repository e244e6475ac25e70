"""The TFLite backend: support check, lowering, layout, verification, writing."""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from edgecc.backend import Availability, Backend, Compiled, TensorMatch
from edgecc.distributions import version_of
from edgecc.errors import UnknownNameError, Unsupported, VerificationError
from edgecc.target import RuntimeOptions, Target
from edgecc_tflite.target import TFLiteRuntime, TFLiteTarget

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.passes.base import Pass
    from edgecc_tflite.ir import Graph, Operator, Tensor
    from edgecc_tflite.lowerings.base import RuleTable


class TFLiteBackend(Backend):
    """Writes `.tflite` files directly: no TensorFlow, no other converter."""

    target: ClassVar[type[Target]] = TFLiteTarget
    runtime: ClassVar[type[RuntimeOptions]] = TFLiteRuntime

    def passes(self, target: Target) -> Sequence[Pass]:
        from edgecc.passes.expand_qoperators import ExpandQOperators
        from edgecc_tflite.compute_float32 import ComputeFloat32
        from edgecc_tflite.expand_for_tflite import ExpandForTFLite

        return (
            ExpandQOperators(),
            ExpandForTFLite().with_rules(self.rules()),
            ComputeFloat32(),
        )

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        from edgecc_tflite.lower import find_unsupported

        return find_unsupported(model, self.rules())

    def takes(self, node: Node) -> str:
        from edgecc.model import is_standard
        from edgecc.opset import INTERNAL_OPSET

        rule = self.rules().find(node.op, "" if is_standard(node) else node.domain, INTERNAL_OPSET)
        return f"rule {rule.op} of {rule.owner}" if rule is not None else self.name

    def compile(self, model: Model, target: Target) -> Compiled:
        from edgecc_tflite import layout, verify, writer
        from edgecc_tflite.fast_kernels import use_fast_kernels
        from edgecc_tflite.lower import lower
        from edgecc_tflite.metadata_writer import file_metadata
        from edgecc_tflite.quantization import store_weights, stored_by_origin
        from edgecc_tflite.sparse_weights import store_sparse

        options = cast(TFLiteTarget, target)
        graph = lower(model, self.rules())
        layout.solve(graph, options.io_layout, _known(options.layout_by_name(), graph))
        if options.kernels == "xnnpack":
            use_fast_kernels(graph)
        store_weights(graph, stored_by_origin(model), options.weights)
        if options.sparse:
            store_sparse(graph)
        violations = verify.verify(graph)
        if violations:
            raise VerificationError(
                "the TFLite graph breaks rules that the runtime does not check; nothing was written",
                where="\n         ".join(str(violation) for violation in violations),
                hint="this is a bug in a lowering rule: report it with the model",
            )
        metadata, archive = file_metadata(model)
        contents = writer.write(graph, description=model.graph.name or "edgecc", metadata=metadata)
        if archive:
            contents += archive
        details = {**_details(graph), "narrowed": _narrowed(graph, model)}
        return Compiled({".tflite": contents}, _correspondence(graph), details=details)

    def rules(self) -> RuleTable:
        """Every lowering rule there is, those of other plugins included."""
        return self._rules

    @functools.cached_property
    def _rules(self) -> RuleTable:
        from edgecc_tflite.lowerings import builtin_rules

        return builtin_rules().extended(self.plugin_lowerings())

    def can_compile(self) -> Availability:
        return _installed(("ai_edge_litert",))

    def can_run(self) -> Availability:
        return _installed(("ai_edge_litert", "tflite_runtime"))

    def versions(self) -> dict[str, str]:
        return {name: version_of(name) for name in ("edgecc-tflite", "ai-edge-litert", "flatbuffers")}

    def session_file(self) -> Path:
        return Path(__file__).with_name("session.py")


def _known(layouts: dict[str, str], graph: Graph) -> dict[str, str]:
    """The layouts again, all of inputs and outputs that there are."""
    names = [tensor.source for tensor in (*graph.inputs, *graph.outputs)]
    for name in layouts:
        if name not in names:
            raise UnknownNameError("input or output", name, names, where="option 'io_layouts' of target 'tflite'")
    return layouts


def _installed(modules: tuple[str, ...]) -> Availability:
    if any(importlib.util.find_spec(module) for module in modules):
        return Availability()
    return Availability("no TFLite runtime is installed", "pip install ai-edge-litert")


def _correspondence(graph: Graph) -> list[TensorMatch]:
    written = (tensor for operator in graph.operators for tensor in operator.outputs)
    tensors = dict.fromkeys(t for t in (*graph.inputs, *written) if t.source)
    return [_match(tensor) for tensor in tensors]


def _match(tensor: Tensor) -> TensorMatch:
    quantization = tensor.quantization
    if quantization is None or quantization.scale.size != 1:
        return TensorMatch(tensor.source, tensor.name, tensor.layout)
    scale, zero_point = float(quantization.scale.item()), int(quantization.zero_point.item())
    return TensorMatch(tensor.source, tensor.name, tensor.layout, scale, zero_point)


def _details(graph: Graph) -> dict[str, object]:
    counts = Counter(operator.builtin for operator in graph.operators)
    return {"operators": dict(sorted(counts.items())), "operator_count": len(graph.operators)}


def _narrowed(graph: Graph, model: Model) -> list[str]:
    """Nodes whose int64 positions and sizes are int32 in TFLite: what they count has less than 2^31 elements."""
    from edgecc.model import origins

    casts = {name for node in model.all_nodes() if node.op == "Cast" for name in origins(node)}
    found = {
        name
        for part in graph.nested()
        for operator in part.operators
        if operator.builtin == "CAST" and _is_narrowing(operator)
        for name in operator.origins
    }
    return sorted(found - casts)


def _is_narrowing(operator: Operator) -> bool:
    source = operator.inputs[0]
    return source is not None and source.dtype == np.int64 and operator.outputs[0].dtype == np.int32
