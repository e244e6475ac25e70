"""A module whose weights are a `.safetensors` file and whose code the user names."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from edgecc.data.calibration import import_function
from edgecc.data.names import is_function
from edgecc.errors import InvalidModelError, OptionError
from edgecc_torch.quiet import require_torch

if TYPE_CHECKING:
    import torch

_WHERE = "--importer factory=..."


def module_of(path: Path, factory: str) -> torch.nn.Module:
    """The module that the factory returns, in evaluation mode, with the weights of the file.

    Args:
        path: a `.safetensors` file.
        factory: `package.module:callable`, found like an import is, from the current folder too.

    Raises:
        OptionError: no factory is named, or it gives no module.
        InvalidModelError: the file is damaged, or its weights are another module's.
    """
    if not factory:
        raise OptionError(
            f"{path} holds weights and not what is computed with them",
            hint="name what makes the module: --importer factory=package.module:callable --shape x=1,3,224,224",
        )
    require_torch("safetensors")
    import safetensors
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InvalidModelError(
            f"{path} is truncated or damaged", why=str(error), hint="save or download it again"
        ) from error
    module = _made(factory)
    missing, unexpected = module.load_state_dict(weights, strict=False) if _fits(module, weights, path) else ([], [])
    # What is shared between layers is stored once.
    shared = _shared_names(module)
    missing = [name for name in missing if not shared.get(name, set()) & weights.keys()]
    if missing or unexpected:
        told = [f"missing {', '.join(missing[:5])}"] * bool(missing)
        told += [f"unknown {', '.join(unexpected[:5])}"] * bool(unexpected)
        raise InvalidModelError(
            f"{path} holds the weights of another module than {factory} makes",
            why=f"{'; '.join(told)} ({len(missing)} missing, {len(unexpected)} unknown)",
            hint="check the factory",
        )
    return module.eval()


def _made(factory: str) -> torch.nn.Module:
    import torch

    if not is_function(factory):
        raise OptionError(f"cannot read factory {factory!r}", where=_WHERE, hint="write package.module:callable")
    function = import_function(factory, f"factory {factory}")
    try:
        made = function()
    except Exception as error:  # the user's own code
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise OptionError(
            f"factory {factory!r} does not work: {type(error).__name__}: {error}",
            where=f"{frame.filename}:{frame.lineno}",
            hint="it is called without arguments and returns the module",
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise OptionError(f"factory {factory!r} gives {type(made).__name__}, no torch.nn.Module", where=_WHERE)
    return made


def _fits(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> bool:
    own = module.state_dict()
    for name, values in weights.items():
        if name in own and own[name].shape != values.shape:
            raise InvalidModelError(
                f"{path} does not fit the module",
                where=name,
                why=f"it has shape {list(values.shape)} in the file and {list(own[name].shape)} in the module",
                hint="check the factory",
            )
    return True


def _shared_names(module: torch.nn.Module) -> dict[str, set[str]]:
    """Every name of a tensor to all names that it has."""
    names: dict[int, set[str]] = {}
    for name, values in module.state_dict(keep_vars=True).items():
        names.setdefault(values.data_ptr() if values.numel() else id(values), set()).add(name)
    return {name: group for group in names.values() for name in group}
