"""Sdk: which TensorRT is here, and what its version needs.

`tensorrt` builds for the GPU of this machine and needs one; `tensorrt-rtx` builds anywhere. Both have the same Python
interface apart from what this module hides. Precision is in the model: no version is ever given a precision flag.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from edgecc.backend import Availability

PACKAGES = ("tensorrt", "tensorrt_rtx")
_INSTALL = "pip install tensorrt-rtx (x86-64 Linux and Windows), or NVIDIA's tensorrt package on a machine with a GPU"


@dataclass(frozen=True)
class Sdk:
    """One of the two packages.

    Attributes:
        module: the imported package.
        package: its name.
    """

    module: Any
    package: str

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        return self.package == "tensorrt_rtx"

    def network_flags(self) -> int:
        """Creation flags: explicit batch up to version 8, strong typing where it is not the only way."""
        known = self.module.NetworkDefinitionCreationFlag
        flags = 0
        if hasattr(known, "EXPLICIT_BATCH") and int(self.version.split(".")[0]) < 10 and not self.is_rtx:
            flags |= 1 << int(known.EXPLICIT_BATCH)
        if hasattr(known, "STRONGLY_TYPED"):
            flags |= 1 << int(known.STRONGLY_TYPED)
        return flags

    def compute_capabilities(self) -> list[str]:
        """Compute capabilities that an engine can be built for, such as "8.6"; empty where there is no choice."""
        known = getattr(self.module, "ComputeCapability", None)
        names = [re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(known)] if known is not None else []
        found = [(int(m[1]), int(m[2])) for m in names if m]
        return [f"{major}.{minor}" for major, minor in sorted(found)]


def availability() -> Availability:
    """Whether a model can be compiled here."""
    installed = [package for package in PACKAGES if importlib.util.find_spec(package)]
    if not installed:
        return Availability("neither tensorrt nor tensorrt-rtx is installed", _INSTALL)
    if installed == ["tensorrt"] and not has_gpu():
        return Availability("tensorrt builds engines on a GPU only, and there is none here", _INSTALL)
    try:
        find_sdk()
    except ImportError as error:
        return Availability(str(error), _INSTALL)
    return Availability()


def find_sdk() -> Sdk:
    """`tensorrt` on a machine with a GPU, `tensorrt_rtx` otherwise.

    Raises:
        ImportError: neither is usable; see `availability`.
    """
    reasons = []
    for package in PACKAGES:
        usable = importlib.util.find_spec(package) and (package != "tensorrt" or has_gpu())
        if not usable:
            continue
        try:
            return Sdk(importlib.import_module(package), package)
        except (ImportError, OSError) as error:  # OSError: a missing library of CUDA
            reasons.append(f"{package} cannot be imported: {error}")
    raise ImportError("; ".join(reasons) or "no usable TensorRT")


def has_gpu() -> bool:
    """Whether the NVIDIA driver finds a device."""
    from edgecc_tensorrt.session import Driver, Unavailable

    try:
        Driver()
    except Unavailable:
        return False
    return True
