"""From a module to the bytes of a `.pt2` archive."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import torch

from edgecc.errors import InvalidModelError
from edgecc_torch.archive import NAMES_FILE
from edgecc_torch.quiet import quiet
from edgecc_torch.rules.base import torch_type
from edgecc_torch.to_onnx import first_lines

if TYPE_CHECKING:
    from edgecc.model import Model

#: Sizes tried for open dimensions, of the first axis and of others: a network may need some to have anything left.
_TRIED = ((2, 64), (3, 128), (2, 224), (2, 17), (2, 512))


def write_program(module: torch.fx.GraphModule, model: Model) -> bytes:
    """The archive; the same bytes for the same model.

    Args:
        module: of `to_module`.
        model: that it was made from: names, types and shapes.

    Raises:
        InvalidModelError: torch.export cannot trace it, or an open dimension is fixed by what the model does.
    """
    program = _exported(module, model)
    for graph_module in program.graph_module.modules():
        for node in getattr(getattr(graph_module, "graph", None), "nodes", ()):
            # Where this file lies on this machine is nobody's business.
            node.meta.pop("stack_trace", None)
    names = {
        "inputs": [t.name for t in model.inputs],
        "outputs": [t.name for t in model.outputs],
        "name": model.graph.name,
        "doc_string": model.graph.doc_string or "",
        "metadata": model.metadata,
    }
    contents = io.BytesIO()
    with quiet():
        torch.export.save(program, contents, extra_files={NAMES_FILE: json.dumps(names)})
    return contents.getvalue()


def _exported(module: torch.fx.GraphModule, model: Model) -> Any:
    error: Exception | None = None
    is_open = any(not isinstance(dim, int) for spec in model.signature.inputs for dim in spec.shape)
    for sizes in _TRIED if is_open else _TRIED[:1]:
        arguments, shapes = _arguments(model, *sizes)
        try:
            with quiet():
                program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
        except Exception as raised:  # of tracing: PyTorch raises nearly everything
            error = error or raised
            continue
        _check_open(program, model)
        return program
    why = f"{type(error).__name__}: {first_lines(str(error))}"
    hint = "fix its open dimensions with --shape" if is_open else ""
    raise InvalidModelError("torch.export cannot trace the module made of this model", why=why, hint=hint) from error


def _arguments(model: Model, first: int, other: int) -> tuple[tuple[torch.Tensor, ...], tuple[dict[int, Any], ...]]:
    """Example inputs, and which of their dimensions stay open; one symbol has one size, two have two."""
    sizes: dict[str, int] = {}
    arguments, shapes = [], []
    for tensor, spec in zip(model.inputs, model.signature.inputs, strict=True):
        dims = [
            dim if isinstance(dim, int) else _size(dim, axis, sizes, first, other)
            for axis, dim in enumerate(spec.shape)
        ]
        arguments.append(torch.zeros(dims, dtype=torch_type(tensor.dtype)))
        open_axes = (axis for axis, dim in enumerate(spec.shape) if not isinstance(dim, int))
        shapes.append(dict.fromkeys(open_axes, torch.export.Dim.AUTO))
    return tuple(arguments), tuple(shapes)


def _size(dim: str, axis: int, sizes: dict[str, int], first: int, other: int) -> int:
    if dim not in sizes:
        base = first if axis == 0 else other
        taken = set(sizes.values())
        sizes[dim] = next(size for size in range(base, base + 1000) if size not in taken)
    return sizes[dim]


def _check_open(program: Any, model: Model) -> None:
    """PyTorch fixes a dimension without a word where the module asks for that."""
    from edgecc_torch.to_onnx import symbols_of

    for spec, shape in zip(model.signature.inputs, symbols_of(program), strict=True):
        for axis, (dim, found) in enumerate(zip(spec.shape, shape, strict=True)):
            if not isinstance(dim, int) and not re.search(r"[a-z]", str(found)):
                raise InvalidModelError(
                    f"dimension {axis} of input {spec.name!r} cannot stay open in PyTorch",
                    why=f"what the model computes fixes it to {found}",
                    hint=f"--shape {spec.name}={','.join(str(d) if isinstance(d, int) else '1' for d in spec.shape)}",
                )
