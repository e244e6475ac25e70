"""From an exported program to a Model, through PyTorch's own ONNX exporter."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgecc.errors import InvalidModelError, Unsupported, UnsupportedError
from edgecc.importers.onnx import OnnxImporter
from edgecc_torch.quiet import quiet, require_torch
from edgecc_torch.stored_weights import has_stored_weights, keep_integers, translations

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgecc.model import Model

#: What the exporter has its own rules for; edgecc's importer brings it to the internal operator set.
OPSET = 20
_MAX_PROTO_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class Names:
    """Names of a program's tensors, in order.

    Attributes:
        inputs, outputs: of the model.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def import_program(
    program: ExportedProgram,
    names: Names | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    source: str = "the module",
    dimensions: Mapping[str, str] | None = None,
) -> Model:
    """The Model of an exported program.

    Args:
        program: of torch.export.
        names: of inputs and outputs; the program's own if None.
        shapes: static shapes for named inputs.
        source: what users call it.
        dimensions: names for the program's symbols, such as {"s31": "batch"}.

    Raises:
        InvalidModelError: it takes or gives what is no tensor, or cannot be exported.
        UnsupportedError: ONNX has nothing for one of its operators.
    """
    require_torch("onnxscript")
    _check_inputs(program, source)
    wanted = names or names_of(program)
    import torch

    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                input_names=wanted.inputs,
                output_names=wanted.outputs,
                opset_version=OPSET,
                dynamo=True,
                # Its optimizer computes with stored weights now; edgecc's own leaves them stored.
                optimize=not has_stored_weights(program),
                custom_translation_table=translations(program),
                verbose=False,
            )
    except Exception as error:  # the exporter's errors wrap whatever its rules raise
        raise _explained(error, source) from error
    assert exported is not None
    nbytes = sum(tensor.nbytes for tensor in program.state_dict.values())
    if nbytes >= _MAX_PROTO_BYTES:
        with tempfile.TemporaryDirectory(prefix="edgecc-") as folder, quiet():
            path = Path(folder) / "model.onnx"
            exported.save(str(path), external_data=True)
            return OnnxImporter().load(path, shapes or {})
    proto = exported.model_proto
    _rename_dimensions(proto.graph, dimensions or {})
    keep_integers(proto.graph)
    return OnnxImporter().from_proto(proto, shapes=shapes)


def names_of(program: ExportedProgram) -> Names:
    """What the program's author calls its tensors: arguments of `forward`, keys of a dictionary of outputs."""
    signature = program.module_call_graph[0].signature
    inputs = [str(name) for name in program.graph_signature.user_inputs]
    if signature is not None and len(signature.forward_arg_names or ()) == len(inputs):
        inputs = list(signature.forward_arg_names or ())
    outputs = [str(name) for name in program.graph_signature.user_outputs]
    tree = signature.out_spec if signature is not None else None
    if tree is not None and _is_mapping(tree, len(outputs)):
        outputs = [str(key) for key in tree.context]
    taken = set(inputs)
    unique = []
    for name in outputs:
        free = name
        count = 1
        while free in taken:
            count += 1
            free = f"{name}_{count}"
        taken.add(free)
        unique.append(free)
    return Names(tuple(inputs), tuple(unique))


def _is_mapping(tree: Any, count: int) -> bool:
    """Whether that many outputs are the values of a dictionary, or of a class like one (Transformers' ModelOutput)."""
    is_dict = isinstance(tree.type, type) and issubclass(tree.type, dict)
    keys = tree.context if isinstance(tree.context, list) else []
    return is_dict and len(keys) == count and all(isinstance(key, str) for key in keys)


def _check_inputs(program: ExportedProgram, source: str) -> None:
    from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

    changed = _changed_inputs(program)
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, TensorArgument):
            what = f"{source} takes {spec.arg.name or spec.arg!r}, which is no tensor"
            raise InvalidModelError(
                what, hint="export it with that argument fixed: functools.partial, or a wrapper module"
            )
        if spec.kind is InputKind.CUSTOM_OBJ:
            raise InvalidModelError(f"{source} uses a custom object", where=str(spec.target), why="it is no tensor")
        if spec.arg.name in changed:
            raise InvalidModelError(
                f"{source} changes {spec.target or spec.arg.name!r} while it runs",
                why="a compiled model keeps nothing between runs",
                hint="export it in evaluation mode (module.eval()), and pass state as inputs and outputs",
            )
    for output in program.graph_signature.output_specs:
        if output.kind is OutputKind.USER_OUTPUT and not isinstance(output.arg, TensorArgument):
            raise InvalidModelError(f"{source} gives {output.arg!r}, which is no tensor", hint="return tensors only")


def _changed_inputs(program: ExportedProgram) -> set[str]:
    """Names of the graph's inputs, buffers among them, that it writes to."""
    from torch.export.graph_signature import OutputKind

    kinds = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)
    buffers = {target: name for name, target in program.graph_signature.inputs_to_buffers.items()}
    outputs = [spec for spec in program.graph_signature.output_specs if spec.kind in kinds]
    found = {buffers.get(str(spec.target), str(spec.target)) for spec in outputs}
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and getattr(value, "op", "") == "placeholder":
                found.add(value.name)
    return found


_MISSING = re.compile(r"No (?:ONNX function|decompositions?)[^<]*<OpOverload\(op='([^']+)', overload='([^']+)'\)>")


def _explained(error: BaseException, source: str) -> InvalidModelError | UnsupportedError:
    """What the exporter means: the last cause in its chain says it."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(str(cause) for cause in causes)
    if missing := _MISSING.search(text):
        op = f"{missing[1].replace('::', '.')}.{missing[2]}"
        node = re.search(r"when translating node %?(\S+)", text)
        reason = "PyTorch's exporter has no ONNX operators for it"
        hint = "write it with other operators, or export with a decomposition: program.run_decompositions(...)"
        return UnsupportedError("ONNX", [Unsupported(node[1] if node else op, op, reason, hint)])
    last = causes[-1]
    return InvalidModelError(
        f"{source} cannot be exported to ONNX",
        why=f"{type(last).__name__}: {first_lines(str(last))}",
        hint="torch.onnx.export(program, report=True) writes all that is known about it",
    )


def first_lines(text: str, limit: int = 400) -> str:
    """The beginning of a message of PyTorch's, in one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.sub(r"\s+", " ", plain).strip()[:limit]


def _rename_dimensions(graph: onnx.GraphProto, dimensions: Mapping[str, str]) -> None:
    if not dimensions:
        return
    symbols = re.compile(r"\b(?:" + "|".join(map(re.escape, dimensions)) + r")\b")
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = symbols.sub(lambda found: dimensions[found[0]], dim.dim_param)


def symbols_of(program: ExportedProgram) -> list[list[Any]]:
    """The shapes of a program's inputs, in order: numbers, and torch.SymInt for open dimensions."""
    wanted = list(program.graph_signature.user_inputs)
    found = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return [list(found[str(name)].shape) for name in wanted]
