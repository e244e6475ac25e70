"""How the inputs and outputs of an artifact correspond to those of its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecc.errors import OptionError
from edgecc.signature import Signature, TensorSpec


@dataclass(frozen=True)
class Link:
    """One input or output on both sides.

    Attributes:
        source, target: the specs.
        layout: permutation of the source's axes that gives the target's; None if they are the same.
        scale, zero_point: of a target that is quantized where the source is not.
    """

    source: TensorSpec
    target: TensorSpec
    layout: tuple[int, ...] | None = None
    scale: float | None = None
    zero_point: int = 0

    def to_target(self, values: np.ndarray) -> np.ndarray:
        """The source's values as the artifact takes them."""
        if self.layout is not None:
            values = values.transpose(self.layout)
        if not self._is_quantized:
            return np.ascontiguousarray(values)
        limits = np.iinfo(self.target.dtype)
        stored = np.rint(values.astype(np.float64) / self._scale) + self.zero_point
        clipped: np.ndarray = np.clip(stored, limits.min, limits.max)
        return clipped.astype(self.target.dtype)

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """The artifact's values as the source gives them."""
        if self._is_quantized:
            values = ((values.astype(np.float64) - self.zero_point) * self._scale).astype(self.source.dtype)
        return values if self.layout is None else values.transpose(np.argsort(self.layout))

    @property
    def source_shape(self) -> tuple[int | str, ...]:
        """The target's shape in the source's order of axes."""
        if self.layout is None:
            return self.target.shape
        return tuple(self.target.shape[self.layout.index(axis)] for axis in range(len(self.layout)))

    @property
    def _is_quantized(self) -> bool:
        is_integer = self.target.dtype.startswith(("int", "uint"))
        return self.scale is not None and is_integer and self.source.dtype.startswith("float")

    @property
    def _scale(self) -> float:
        return self.scale or 1.0


@dataclass(frozen=True)
class Boundary:
    """All inputs and outputs; `notes` says where names did not decide."""

    input_links: tuple[Link, ...] = ()
    output_links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def between(cls, source: Signature, target: Signature, matches: Iterable[Mapping[str, Any]]) -> Boundary:
        """Match by the report's correspondence, by name, and last by order.

        Raises:
            OptionError: the number of inputs or outputs differs.
        """
        recorded = {str(match["source"]): match for match in matches}
        notes: list[str] = []
        inputs = _link("input", source.inputs, target.inputs, recorded, notes)
        outputs = _link("output", source.outputs, target.outputs, recorded, notes)
        return cls(inputs, outputs, tuple(notes))

    def inputs(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The source's feeds for the artifact."""
        return {link.target.name: link.to_target(feeds[link.source.name]) for link in self.input_links}

    def outputs(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The artifact's outputs by the source's names, in the source's order, layout and unit."""
        return {link.source.name: link.to_source(values[link.target.name]) for link in self.output_links}

    def source_shape(self, name: str) -> tuple[int | str, ...]:
        """Shape of an input of the source as the artifact has it."""
        return next(link.source_shape for link in self.input_links if link.source.name == name)


def _link(
    kind: str,
    source: Sequence[TensorSpec],
    target: Sequence[TensorSpec],
    recorded: Mapping[str, Mapping[str, Any]],
    notes: list[str],
) -> tuple[Link, ...]:
    if len(source) != len(target):
        raise OptionError(
            f"the artifact has {len(target)} {kind}s, the source has {len(source)}",
            hint="was it compiled from another source? name its own with --source",
        )
    by_name = {spec.name: spec for spec in target}
    names = [str(recorded.get(spec.name, {}).get("target", spec.name)) for spec in source]
    if not all(name in by_name for name in names):
        names = [spec.name for spec in target]
        pairs = ", ".join(f"{a.name} = {b.name}" for a, b in zip(source, target, strict=True))
        notes.append(f"{kind}s are matched by order: {pairs}")
    pairs_of = zip(source, names, strict=True)
    return tuple(_linked(spec, by_name[name], recorded.get(spec.name, {})) for spec, name in pairs_of)


def _linked(source: TensorSpec, target: TensorSpec, match: Mapping[str, Any]) -> Link:
    layout = match.get("layout")
    zero_point = match.get("zero_point")
    return Link(source, target, tuple(layout) if layout is not None else None, match.get("scale"), int(zero_point or 0))
