"""`--shape input=1,3,224,224`: fixing dimensions that the source leaves open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx

from edgecc.errors import OptionError, UnknownNameError
from edgecc.importers.proto_graphs import every_graph

if TYPE_CHECKING:
    from edgecc.model import Model

Shape = list[int | str | None]


def apply(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]], weights: Iterable[str]) -> dict[str, Shape]:
    """Write the wanted shapes into the graph's inputs; a symbol fixed in one place is fixed wherever it appears.

    Args:
        graph: a detached graph.
        shapes: by input name.
        weights: names of the inputs that are detached weights.

    Returns:
        The declared shapes of the outputs, which were taken away so that they are inferred afresh: see `restore`.
    """
    if not shapes:
        return {}
    hidden = set(weights)
    inputs = {value.name: value for value in graph.input if value.name not in hidden}
    symbols: dict[str, int] = {}
    for name, wanted in shapes.items():
        if name not in inputs:
            raise UnknownNameError("input", name, inputs, where=f"shape {name}={_text(wanted)}")
        _fix(inputs[name], wanted, symbols)
    for part in every_graph(graph):
        for value in (*part.input, *part.output, *part.value_info):
            _substitute(value, symbols)
    declared: dict[str, Shape] = {}
    for output in graph.output:
        kind = output.type.tensor_type
        if output.type.HasField("tensor_type") and kind.HasField("shape"):
            declared[output.name] = _shape(output)
            kind.ClearField("shape")
    return declared


def restore(model: Model, declared: Mapping[str, Shape]) -> None:
    """Give outputs the declared dimensions where nothing could infer them."""
    for tensor in model.outputs:
        said = declared.get(tensor.name)
        if said is None:
            continue
        known = tensor.shape if tensor.shape is not None else [None] * len(said)
        if len(known) == len(said):
            tensor.shape = [k if isinstance(k, int) else s or k for k, s in zip(known, said, strict=True)]


def _fix(value: onnx.ValueInfoProto, wanted: Sequence[int], symbols: dict[str, int]) -> None:
    kind = value.type.tensor_type
    where = f"shape {value.name}={_text(wanted)}"
    if any(not isinstance(d, int) or d < 1 for d in wanted):
        raise OptionError("every dimension must be a positive whole number", where=where)
    if not kind.HasField("shape"):
        kind.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=d) for d in wanted)
        return
    has = f"the model has {value.name}: [{_text('?' if d is None else d for d in _shape(value))}]"
    if len(kind.shape.dim) != len(wanted):
        what = f"input {value.name!r} has {len(kind.shape.dim)} dimensions, not {len(wanted)}"
        raise OptionError(what, where=where, why=has)
    for dim, size in zip(kind.shape.dim, wanted, strict=True):
        if dim.HasField("dim_value") and dim.dim_value not in (size, 0, -1):
            what = f"dimension {dim.dim_value} of input {value.name!r} is fixed, it cannot become {size}"
            raise OptionError(what, where=where, why=has)
        if dim.dim_param and symbols.setdefault(dim.dim_param, size) != size:
            what = f"dimension {dim.dim_param!r} cannot be {symbols[dim.dim_param]} and {size} at once"
            raise OptionError(what, where=where, why=has)
        dim.dim_value = size


def _substitute(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> None:
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]


def _shape(value: onnx.ValueInfoProto) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") else d.dim_param or None for d in dims]


def _text(dims: Iterable[object]) -> str:
    return ",".join(str(d) for d in dims)
