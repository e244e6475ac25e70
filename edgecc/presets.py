"""Presets: named lists of passes that `-O NAME` runs before everything else, in rounds, until nothing changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: What is compiled with unless something else is asked for.
DEFAULT = "1"
#: The one that runs nothing.
NOTHING = "0"


class Preset(NamedTuple):
    """A list of passes under a name.

    A plugin whose preset has the name of another one adds its passes to that one.

    Attributes:
        name: after `-O`, such as `1` for `-O1`.
        passes: `NAME` or `NAME:key=value,...`, in the order in which they run.
        description: one sentence.
    """

    name: str
    passes: tuple[str, ...]
    description: str = ""


def merged(presets: Iterable[Preset]) -> dict[str, Preset]:
    """Presets by name; those of one name become one, each pass once."""
    found: dict[str, Preset] = {}
    for preset in presets:
        known = found.get(preset.name)
        if known is None:
            found[preset.name] = preset
            continue
        passes = tuple(dict.fromkeys((*known.passes, *preset.passes)))
        found[preset.name] = Preset(preset.name, passes, known.description or preset.description)
    return found


BUILTIN = (
    Preset(NOTHING, (), "nothing but what the target itself needs"),
    Preset(
        DEFAULT,
        (
            # What moves or repeats data, and does nothing else.
            "eliminate-identity",
            "eliminate-sequences",
            "eliminate-nan-guard",
            "eliminate-common-subexpressions",
            "eliminate-neutral-arithmetic",
            "merge-casts",
            "merge-transposes",
            "merge-reshapes",
            "merge-slices",
            "eliminate-slice-concat",
            "eliminate-expand",
            "eliminate-zero-states",
            "merge-keepdims",
            "eliminate-quantization-pairs",
            # What is written out and has an operator of its own.
            "fuse-clip",
            "fuse-sigmoid",
            "fuse-hard-sigmoid",
            "fuse-hard-swish",
            "fuse-softplus",
            "fuse-mish",
            "fuse-softmax",
            "fuse-gelu",
            "fuse-layer-normalization",
            "fuse-rms-normalization",
            "fuse-instance-normalization",
            "fuse-group-normalization",
            "fuse-attention",
            "fuse-global-average-pool",
            # What linear operators take in; behind the patterns, which need the constants that these take away.
            "fold-batchnorm",
            "fold-distant-scale",
            "fold-leading-affine",
            "merge-constant-arithmetic",
            "fuse-pad",
            "fuse-matmul-add",
            "fuse-reshape-gemm",
            "fuse-consecutive-linear",
        ),
        "everything that keeps values, exactly or up to rounding (the default)",
    ),
)
