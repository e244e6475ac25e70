"""Names of data that are not files."""

from __future__ import annotations

#: The word for random values.
RANDOM = "random"


def is_function(name: str) -> bool:
    """Whether it has the form `package.module:function`."""
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def is_named(name: str) -> bool:
    """Whether it is no path of a file."""
    return name == RANDOM or is_function(name)
