"""Modules of which only the shapes of their inputs are known: types are found by trying, then they are exported."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgecc.errors import InvalidModelError, OptionError, UnknownNameError
from edgecc_torch.quiet import quiet, require_torch
from edgecc_torch.to_onnx import first_lines

if TYPE_CHECKING:
    import torch

    from edgecc.model import Model

#: More inputs than this are not tried in every combination of types.
_MAX_INPUTS = 6


def export_by_shapes(module: torch.nn.Module, shapes: Mapping[str, Sequence[int]], source: str) -> Model:
    """The Model of a module in memory, for inputs of these shapes.

    Raises:
        OptionError, UnknownNameError: `shapes` does not name the module's inputs.
        InvalidModelError: no types of inputs make the module run, or it cannot be exported.
    """
    from edgecc_torch.from_torch import from_torch

    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in named if p.default is p.empty or p.name in shapes]
    check_shapes(names, shapes, source)
    return from_torch(module, example_inputs(module, names, shapes, source))


def check_shapes(names: Sequence[str], shapes: Mapping[str, Sequence[int]], source: str) -> None:
    """Whether every input has a shape, and no other thing has."""
    for name in shapes:
        if name not in names:
            raise UnknownNameError("input", name, names, where="--shape")
    missing = [name for name in names if name not in shapes]
    if missing:
        raise OptionError(
            f"{source} does not say what shape its inputs have",
            where=", ".join(missing),
            hint=" ".join(f"--shape {name}=1,3,224,224" for name in missing),
        )


def example_inputs(
    run: Callable[..., Any], names: Sequence[str], shapes: Mapping[str, Sequence[int]], source: str
) -> tuple[torch.Tensor, ...]:
    """Zeros of the first types, floats or integers, with which it runs.

    Raises:
        InvalidModelError: there are none.
    """
    require_torch()
    import torch

    failures = []
    for dtypes in _types(len(names)):
        example = tuple(torch.zeros(list(shapes[n]), dtype=d) for n, d in zip(names, dtypes, strict=True))
        try:
            with torch.no_grad(), quiet():
                run(*example)
        except Exception as error:  # whatever the module's own code raises
            failures.append(error)
            continue
        return example
    given = ", ".join(f"{name} {list(shapes[name])}" for name in names)
    raise InvalidModelError(
        f"{source} does not run with inputs of these shapes",
        where=given,
        why=f"{type(failures[0]).__name__}: {first_lines(_last_paragraph(str(failures[0])))}",
        hint="check the --shape flags",
    ) from failures[0]


def _last_paragraph(text: str) -> str:
    """TorchScript puts its own source lines before the message."""
    marker = "RuntimeError: "
    return text.rpartition(marker)[2] if marker in text else text


def _types(count: int) -> Iterator[tuple[torch.dtype, ...]]:
    """Combinations of types, the most likely first: all floats, all integers, then mixed."""
    import torch

    both = (torch.float32, torch.int64)
    yield from ((dtype,) * count for dtype in both)
    if 1 < count <= _MAX_INPUTS:
        yield from (mixed for mixed in itertools.product(both, repeat=count) if len(set(mixed)) > 1)
