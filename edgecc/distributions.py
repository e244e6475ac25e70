"""Names and versions of installed distributions.

`importlib.metadata` reads everything a distribution says of itself, its README included, as an e-mail to find either;
over the plugins and what they are built on that takes as long as importing a large module does.
"""

from __future__ import annotations

import importlib.metadata
import re

_FIELD = re.compile(r"^(Name|Version): *(\S+)", re.MULTILINE)


def version_of(name: str) -> str:
    """The version of an installed distribution.

    Raises:
        importlib.metadata.PackageNotFoundError: it is not installed.
    """
    return name_and_version(importlib.metadata.distribution(name))[1]


def name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """What a distribution calls itself, and its version."""
    # The header comes first (core metadata specification, "Metadata-Version 2.x"), the README behind it.
    found = dict(reversed(_FIELD.findall(distribution.read_text("METADATA") or "")))
    if len(found) == 2:
        return found["Name"], found["Version"]
    return distribution.name, distribution.version  # an egg, or whatever else the standard library knows
