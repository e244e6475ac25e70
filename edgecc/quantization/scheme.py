"""What a target's integer kernels want, as data: one `QuantizationScheme` per target."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edgecc.quantization.grids import Grid

if TYPE_CHECKING:
    from edgecc.model import Node


class Role(enum.Enum):
    """How the integers of an operator's result relate to those of its data."""

    WEIGHTED = "weighted"  #: computed with constant weights around 0 and a bias
    COMPUTE = "compute"  #: computed from any scales to any scale
    SAME = "same"  #: inputs and output share one scale
    CLAMP = "clamp"  #: taken in by the operator in front, whose result is not rounded by itself
    FIXED = "fixed"  #: computed from any scale, written at one that the kernel knows


#: Roles that do more than move or clamp values.
COMPUTING = (Role.WEIGHTED, Role.COMPUTE, Role.FIXED)


@dataclass(frozen=True)
class OperatorRule:
    """One operator's row.

    Attributes:
        role: see `Role`.
        data: positions of the inputs that hold data; None for all.
    """

    role: Role
    data: tuple[int, ...] | None = (0,)

    def positions(self, node: Node) -> list[int]:
        """The positions of the data among the inputs that the node has."""
        places = range(len(node.inputs)) if self.data is None else self.data
        return [place for place in places if place < len(node.inputs) and not node.inputs[place].is_empty()]


def rules(role: Role, names: str, data: tuple[int, ...] | None = (0,)) -> dict[str, OperatorRule]:
    """A row for each of the operators, whose names are separated by blanks."""
    return {name: OperatorRule(role, data) for name in names.split()}


#: Softmax and Sigmoid lie between 0 and 1, Tanh between -1 and 1.
UNIT = Grid("int8", 1 / 256, -128)
_FIXED = {("Softmax", "int8"): UNIT, ("Sigmoid", "int8"): UNIT, ("Tanh", "int8"): Grid("int8", 1 / 128, 0)}


@dataclass(frozen=True)
class QuantizationScheme:
    """What a target's integer kernels want.

    Attributes:
        operators: those that have integer kernels, by name; Relu and Clip are always Clamps.
        activations: types that data may have; the first one is the default.
        symmetric: whether data has zero point 0, as int16 always has.
        unsigned: whether 8-bit data is stored in uint8, which kernels may be faster with; the numbers are the same.
        rounds_results: whether results of operators are rounded where they are made, so that every tensor between two
            integer operators is one; otherwise only data is rounded, on its way into an operator.
        integer_bias: whether a bias is int32 in units of data scale times weight scale; otherwise float.
        per_channel: operators whose weights may have a scale for each output channel.
        channel_bytes: what the scale of one output channel takes in the file; matrices whose scales would take much
            beside the weights get one scale.
        fixed: grid of the result by operator and type of data.
        int8_only: operators without a kernel for int16.
        float_results: products of integers that can write float, for where rounding gains nothing or costs much.
        clamps_alone: whether a Clamp has an integer kernel of its own, for where no operator takes it in.
        needs_weights: whether integer operators that are connected to none with weights stay float: changing from
            float to integers and back takes longer than they gain.
        integer_rows: whether a Gather reads rows of a stored table and multiplies what it found; otherwise the whole
            table is dequantized in front of it.
        dynamic: how products whose data is rounded at run time are written: as operators on integers, as float ones
            behind pairs of DynamicQuantizeLinear and DequantizeLinear, or "" where there are no kernels.
        dynamic_operators: those that gain from it.
    """

    operators: Mapping[str, OperatorRule]
    activations: tuple[str, ...] = ("int8",)
    symmetric: bool = False
    unsigned: bool = False
    rounds_results: bool = True
    integer_bias: bool = True
    per_channel: frozenset[str] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
    channel_bytes: int = 0
    fixed: Mapping[tuple[str, str], Grid] = field(default_factory=lambda: dict(_FIXED))
    int8_only: frozenset[str] = frozenset()
    float_results: frozenset[str] = frozenset()
    clamps_alone: bool = False
    needs_weights: bool = False
    integer_rows: bool = True
    dynamic: Literal["integers", "pairs", ""] = "integers"
    dynamic_operators: frozenset[str] = frozenset({"Gemm", "MatMul"})

    def is_symmetric(self, dtype: str) -> bool:
        """Whether data of that type has zero point 0."""
        return self.symmetric or dtype == "int16"


MOVING = "Transpose Reshape Flatten Squeeze Unsqueeze Identity Slice Gather Expand Tile"

#: For a target that declares none of its own, and for a pass that runs alone: what is an integer kernel anywhere.
PORTABLE = QuantizationScheme(
    {
        **rules(Role.WEIGHTED, "Conv Gemm MatMul"),
        **rules(Role.COMPUTE, "Add Mul", (0, 1)),
        **rules(Role.COMPUTE, "GlobalAveragePool AveragePool"),
        **rules(Role.SAME, f"{MOVING} MaxPool"),
        **rules(Role.SAME, "Concat", None),
        **rules(Role.CLAMP, "Relu Clip"),
        **rules(Role.FIXED, "Softmax Sigmoid"),
    }
)

#: Operators that take in the Clamp behind them.
CLAMPING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"})
CLAMPS = ("Relu", "Clip")

#: Operators that some target has a kernel for: their data is what calibration measures, whatever the target, so that
#: saved statistics serve all of them.
MEASURED = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Concat", "Where", "Split", "Pad"),
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean", "ReduceSum", "ReduceMax"),
        *("ReduceMin", "Resize", "LeakyRelu", "PRelu", "Relu", "Clip", "HardSwish", "Gelu", "Elu", "Exp", "Tanh"),
        *("Softmax", "LogSoftmax", "Sigmoid", "Max", "Min", "SpaceToDepth", "DepthToSpace", *MOVING.split()),
    }
)
