"""Support: every node that TensorRT cannot take, all at once.

The parser checks every node against its static rules in one sweep, but stops at the first one that it fails to
translate. So nodes with errors are cut out, what they fed becomes an input, and the rest is parsed again, until
nothing objects. That costs one parse (no build, no copy of the weights) per round.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgecc.errors import Unsupported
from edgecc.model import Node, origins, value_of
from edgecc.serialization import subgraphs_of, value_info
from edgecc_tensorrt.building import Parsed, open_dimensions, parse
from edgecc_tensorrt.sdk import Sdk
from edgecc_tensorrt.target import TensorRTTarget
from edgecc_tensorrt.typed_onnx import TypedOnnx

if TYPE_CHECKING:
    from edgecc.model import Model, Tensor

#: What a tensor of an engine can be. float64 inside a model is computed in float32; see `float64_note`.
_TYPES = frozenset(
    {"float32", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool", "float64"}
    | {"float8_e4m3fn", "float4_e2m1fn", "int4"}
)
_MOVES_UINT8 = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear", "Constant", "Identity"})
_ASSERTION = re.compile(r'&& "(?P<text>[^"]+)"')
_PLUGIN = re.compile(r"(?P<name>\w+) plugin creator .*not found in plugin registry")
_USAGE = re.compile(r"Error Code \d+: [\w ]+ \((?P<text>.*?)[. ]*In \w+ at /_src")
_INTERNAL = re.compile(r"^\[checkMacros|^\[\w+\.cpp")


def find_unsupported(sdk: Sdk, model: Model, target: TensorRTTarget) -> list[Unsupported]:
    """Every node that cannot be compiled, in the order of the graph; the model is not changed."""
    reasons = {id(node): found for node in model.nodes() if (found := _own_reason(node, model))}
    entries = _open_inputs(model, target)
    typed = TypedOnnx.of(model)
    _ask_parser(sdk, model, typed, reasons)
    return entries + [_entry(node, *reasons[id(node)]) for node in model.nodes() if id(node) in reasons]


def _entry(node: Node, reason: str, hint: str) -> Unsupported:
    return Unsupported(", ".join(origins(node)) or node.name, node.op, reason, hint)


def _open_inputs(model: Model, target: TensorRTTarget) -> list[Unsupported]:
    """Open dimensions without a range; the node named is the one that reads the input."""
    entries = []
    by_name = {t.name: t for t in model.inputs}
    for spec, size in open_dimensions(model.signature.inputs, target):
        readers = model.consumers(by_name[spec.name])
        shape = ",".join(str(d) if isinstance(d, int) else "1" for d in spec.shape)
        option = "batch=[1,8,32]" if spec.shape.index(size) == 0 else f"dims=[{size}:1:64:512]"
        entries.append(
            Unsupported(
                ", ".join(origins(readers[0])) if readers else spec.name,
                readers[0].op if readers else "Input",
                f"dimension {size!r} of input {spec.name!r} is open",
                f"fix it with --shape {spec.name}={shape}, or give its range: --target tensorrt:{option}",
            )
        )
    return entries


def _own_reason(node: Node, model: Model) -> tuple[str, str] | None:
    """Reason and hint, where TensorRT's parser crashes, is wrong without a word, or is unclear."""
    types = {_type_name(t) for t in (*node.inputs, *node.outputs) if not t.is_empty() and t.dtype is not None}
    unknown = sorted(types - _TYPES)
    if unknown:
        return f"TensorRT has no type {unknown[0]}", "cast to int32 or float32 in the source model"
    boundary = [t for t in (*node.inputs, *node.outputs) if _at_boundary(t, model) and _type_name(t) == "float64"]
    if boundary:
        return f"{boundary[0].name!r} is float64, which TensorRT does not have", "make it float32 in the source model"
    if "uint8" in types and node.op not in _MOVES_UINT8:
        return "TensorRT computes nothing in uint8", "Cast to float32 or int32 before it"
    if node.op == "Attention":
        return "TensorRT-RTX crashes on most forms of Attention", "add --pass expand-functions:operators=[Attention]"
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return _quantization_reason(node)
    return None


def _quantization_reason(node: Node) -> tuple[str, str] | None:
    zero_point = value_of(node.inputs[2]) if len(node.inputs) > 2 else None
    hint = "quantize symmetrically to int8, with zero points of 0"
    if zero_point is None:
        return None
    if np.any(zero_point != 0):
        return "TensorRT has symmetric quantization only: a zero point is not 0", hint
    if zero_point.dtype == np.uint8:
        return "TensorRT would take uint8 values for int8 ones", hint
    return None


def _type_name(tensor: Tensor) -> str:
    if tensor.dtype is None:
        return ""
    name = np.dtype(tensor.dtype).name
    return "string" if name == "object" else str(name)


def _at_boundary(tensor: Tensor, model: Model) -> bool:
    return model.is_output(tensor) or any(tensor is t for t in model.inputs)


def _ask_parser(sdk: Sdk, model: Model, typed: TypedOnnx, reasons: dict[int, tuple[str, str]]) -> None:
    """Add the parser's objections to `reasons`, by `id(node)`."""
    nodes = list(model.graph.nodes)
    blocked = {index for index, node in enumerate(nodes) if id(node) in reasons}
    while len(blocked) < len(nodes):
        remaining = _remaining(model, nodes, blocked)
        parsed = parse(sdk, _reduced(model, typed, nodes, remaining) if len(remaining) < len(nodes) else typed)
        if parsed.complete:
            _refuse_shape_inputs(model, parsed, reasons)
            return
        found = {remaining[e.position]: e.text for e in parsed.errors() if 0 <= e.position < len(remaining)}
        if not found:
            # An error of no node: nothing can be cut. It stands for the whole model.
            text = _readable(parsed.errors()[0].text) if parsed.errors() else "the parser gives no reason"
            first = nodes[remaining[0]] if remaining else nodes[0]
            reasons.setdefault(id(first), (f"the model cannot be parsed: {text}", ""))
            return
        for index, text in found.items():
            blocked.add(index)
            reasons.setdefault(id(nodes[index]), (_readable(text), _hint_elsewhere()))


def _refuse_shape_inputs(model: Model, parsed: Parsed, reasons: dict[int, tuple[str, str]]) -> None:
    """Inputs whose values decide shapes: an engine would need the range of those values."""
    by_name = {t.name: t for t in model.inputs}
    for position in range(parsed.network.num_inputs):
        tensor = parsed.network.get_input(position)
        if not tensor.is_shape_tensor or tensor.name not in by_name:
            continue
        for node in model.consumers(by_name[tensor.name])[:1]:
            reasons.setdefault(id(node), (f"the values of input {tensor.name!r} decide shapes", "make it a constant"))


def _remaining(model: Model, nodes: list[Node], blocked: set[int]) -> list[int]:
    """Positions of nodes that can be parsed without the blocked ones: their inputs have a known type and shape."""
    bad_inputs = {id(t) for t in model.inputs if _type_name(t) not in _TYPES}
    made = {id(t): index for index, node in enumerate(nodes) for t in node.outputs}
    dropped = set(blocked)
    for index, node in enumerate(nodes):
        lost = (t for t in (*node.inputs, *_captured(node)) if made.get(id(t)) in dropped or id(t) in bad_inputs)
        if index not in dropped and any(t.shape is None or _type_name(t) not in _TYPES - {"float64"} for t in lost):
            dropped.add(index)
    return [index for index in range(len(nodes)) if index not in dropped]


def _captured(node: Node) -> list[Any]:
    """Tensors of the outer graph that the node's subgraphs read."""
    return [t for graph in subgraphs_of(node) for inner in graph.nodes for t in (*inner.inputs, *_captured(inner))]


def _reduced(model: Model, typed: TypedOnnx, nodes: list[Node], remaining: list[int]) -> TypedOnnx:
    """The model without the other nodes: what those wrote is an input, what only they read is an output."""
    proto = onnx.ModelProto()
    proto.CopyFrom(typed.proto)
    graph = proto.graph
    kept = [typed.proto.graph.node[index] for index in remaining]
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(kept)
    inside = {id(t) for index in remaining for t in nodes[index].outputs}
    results = {id(t) for t in model.outputs}
    reads = {id(t): t for index in remaining for t in (*nodes[index].inputs, *_captured(nodes[index]))}
    outer = _outer(model)
    graph.input.extend(value_info(t) for key, t in reads.items() if key not in inside and key in outer)
    outputs = [t for index in remaining for t in nodes[index].outputs if id(t) not in reads or id(t) in results]
    graph.output.extend(value_info(t) for t in outputs if not t.is_empty() and t.dtype is not None)
    return TypedOnnx(proto, typed.weights)


def _outer(model: Model) -> set[int]:
    """What the main graph makes or takes as an input: no constants, nor what is a subgraph's own."""
    return {id(t) for t in model.inputs} | {id(t) for node in model.graph.nodes for t in node.outputs}


def _readable(text: str) -> str:
    """The sentence in the parser's message, without its source code."""
    plugin = _PLUGIN.search(text)
    if plugin:
        return f"it needs the plugin {plugin['name']}, which this TensorRT does not have"
    quoted = _ASSERTION.search(text) or _USAGE.search(text)
    if quoted:
        return quoted["text"].rstrip("!.")
    lines = [line for line in text.splitlines() if line.strip() and not _INTERNAL.match(line)]
    told = [line for line in lines if not line.startswith("Invalid Node")]
    if not told or told[0].strip() == "false" or "Plugin not found" in told[0]:
        return "TensorRT has no such operator"
    # "Assertion failed: condition: sentence"
    return told[0].strip().split(": ", 2)[-1] if told[0].startswith("Assertion failed") else told[0].strip()


def _hint_elsewhere() -> str:
    return "--target onnxruntime may run it"


def blame(model: Model, text: str) -> list[Unsupported]:
    """The nodes that a failed build names; the whole model if it names none."""
    named = [node for node in model.nodes() if node.name and re.search(rf"(?<!\w){re.escape(node.name)}(?!\w)", text)]
    if not named:
        return [Unsupported("the whole model", "build", _readable(text), _hint_elsewhere())]
    return [_entry(node, _readable(text), _hint_elsewhere()) for node in named]


def float64_note(model: Model) -> str:
    """What the report says of float64 values inside a model; "" if there are none."""
    found = [origins(n)[0] for n in model.nodes() if origins(n) and any(_type_name(t) == "float64" for t in n.outputs)]
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"float64 values are computed in float32, as TensorRT has no float64: {found[0]}{more}"
