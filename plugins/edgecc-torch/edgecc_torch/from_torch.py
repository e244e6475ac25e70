"""`edgecc.from_torch`: a module in memory becomes a Model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgecc.errors import InvalidModelError, OptionError
from edgecc_torch.quiet import quiet, require_torch
from edgecc_torch.to_onnx import first_lines, import_program, symbols_of

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from edgecc.model import Model


def from_torch(
    module: torch.nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor = (),
    dynamic_shapes: Any = None,
) -> Model:
    """See `edgecc.from_torch`."""
    require_torch("onnxscript")
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        return import_program(module)
    if not isinstance(module, torch.nn.Module):
        what = f"from_torch takes a torch.nn.Module or an ExportedProgram, not {type(module).__name__}"
        raise OptionError(what, hint="edgecc.load reads files")
    named = dict(example_inputs) if isinstance(example_inputs, Mapping) else {}
    several = () if named else example_inputs
    arguments = (several,) if isinstance(several, torch.Tensor) else tuple(several)
    if not arguments and not named:
        raise OptionError(
            "from_torch needs example inputs", hint="edgecc.from_torch(module, (torch.randn(1, 3, 224, 224),))"
        )
    source = type(module).__name__
    try:
        with _evaluating(module), torch.no_grad(), quiet():
            program = torch.export.export(module, arguments, named, dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:  # of tracing, and whatever the module's own code raises
        raise _explained(error, source) from error
    return import_program(program, source=source, dimensions=_dimension_names(program, dynamic_shapes))


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for as long as the module is traced; exported graphs have no modes."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _dimension_names(program: ExportedProgram, dynamic_shapes: Any) -> dict[str, str]:
    """The program's symbols to the names that the user gave: "batch" of `Dim("batch")` or of the text itself."""
    names: dict[str, str] = {}
    entries = list(dynamic_shapes.values()) if isinstance(dynamic_shapes, Mapping) else list(dynamic_shapes or ())
    for entry, shape in zip(entries, symbols_of(program), strict=False):
        axes = entry.items() if isinstance(entry, Mapping) else enumerate(entry or ())
        for axis, dim in axes:
            name = dim if isinstance(dim, str) else getattr(dim, "__name__", "")
            if isinstance(axis, int) and axis < len(shape) and name.isidentifier():
                names.setdefault(str(shape[axis]), name)
    return {symbol: name for symbol, name in names.items() if symbol.isidentifier()}


#: A part of PyTorch's message and what to do about it.
_HINTS = (
    (
        r"data-dependent|GuardOnDataDependent",
        "a branch, a size or an index depends on values: write it with torch.where or torch.cond, or leave it out",
    ),
    (r"Constraints violated|specializ|not a constant", "change dynamic_shapes as the message says, or leave it out"),
    (r"dynamic_shapes", "dynamic_shapes has one entry for each input, such as [{0: torch.export.Dim('batch')}]"),
)


def _explained(error: Exception, source: str) -> InvalidModelError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text + type(error).__name__)), "")
    code = re.findall(r'File "([^"]+)", line (\d+), in (?:forward|\w+)', text)
    mine = [place for place in code if "/torch/" not in place[0]]
    return InvalidModelError(
        f"torch.export cannot trace {source}",
        where=f"{mine[-1][0]}:{mine[-1][1]}" if mine else "",
        why=f"{type(error).__name__}: {first_lines(text)}",
        hint=hint or "torch.export.export(module, example_inputs) must work first",
    )
