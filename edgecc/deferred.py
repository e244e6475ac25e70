"""What plugins' lists name and is imported when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

from edgecc.errors import PluginError


def imported(what: str, where: str) -> Any:
    """The object at `module:name`.

    Args:
        what: it is, for the error.
        where: it is.

    Raises:
        PluginError: it is not there.
    """
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{what} cannot be imported from {where}", why=str(error)) from error
