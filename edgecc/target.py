"""Target: a value that says what to compile for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from edgecc.options import spec_of

if TYPE_CHECKING:
    from edgecc.quantization.scheme import QuantizationScheme


class Target(BaseModel):
    """What to compile for. The fields of a subclass are its options (`--target NAME:key=value`).

    Class attributes:
        name: on the command line and in recipes.
        suffixes: of the files this target's users know; the first one is the default.
        fused: ONNX operators that could be written with more elementary ones and that this target runs at least as
            fast whole: fusions make these and no others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    fused: ClassVar[frozenset[str]] = frozenset()

    def for_suffix(self, suffix: str) -> Target:
        """This target for an output file of that suffix (one of `suffixes`); most targets write one kind only."""
        del suffix
        return self

    def quantization_scheme(self) -> QuantizationScheme | None:
        """What this target's integer kernels want; None for what runs nearly everywhere (`scheme.PORTABLE`)."""
        return None

    def spec(self) -> str:
        """The target as written on the command line."""
        return spec_of(self.name, self)


class RuntimeOptions(BaseModel):
    """Options of the runtime that runs artifacts (`--runtime KEY=VALUE`): the fields of a backend's subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
