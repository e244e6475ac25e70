"""Targets made for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgecc.target import Target

if TYPE_CHECKING:
    from edgecc.quantization.scheme import QuantizationScheme


def target_of(scheme: QuantizationScheme) -> Target:
    """A target whose integer kernels want what the scheme says."""

    class Declared(Target):
        name: ClassVar[str] = "declared"
        suffixes: ClassVar[tuple[str, ...]] = (".declared",)

        def quantization_scheme(self) -> QuantizationScheme:
            return scheme

    return Declared()
