"""Pass fuse-softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Pattern, Value, Weight
from edgecc.rewriting.reading import integers, is_floating, rank, same_shape
from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

_X, _MAX_AXES, _SUM_AXES = Value(), Weight(), Weight()
_MAX = Op("ReduceMax", _X, _MAX_AXES)
_SHIFTED = Op("Sub", _X, _MAX)
_EXP = Op("Exp", _SHIFTED)
_PLAIN_SUM = Op("ReduceSum", _EXP, _SUM_AXES)
#: PyTorch's newer exporter sums float16 in float32.
_WIDE_SUM = Op("ReduceSum", Op("Cast", _EXP), _SUM_AXES)
_SUM = AnyOf(_PLAIN_SUM, Op("Cast", _WIDE_SUM))
#: The same without the shift, to say why it stays.
_BARE_EXP = Op("Exp", _X)
_BARE_SUM = Op("ReduceSum", _BARE_EXP, _SUM_AXES)


class _OfSum(Rewrite):
    """What an Exp whose results are summed is a candidate for."""

    anchor = "Exp"

    def is_candidate(self, node: Node, model: Model) -> bool:
        readers = model.consumers(node.outputs[0])
        readers += [reader for cast in readers if cast.op == "Cast" for reader in model.consumers(cast.outputs[0])]
        return any(reader.op == "ReduceSum" for reader in readers)


class _OverAxis(_OfSum):
    """What reduces over one axis."""

    op = "Softmax"
    reductions: tuple[Pattern, ...] = (_MAX, _PLAIN_SUM, _WIDE_SUM)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        x = found.tensor(_X)
        if not is_floating(x.dtype) or not same_shape(x, found.output):
            return f"{x.name!r} and {found.output.name!r} do not have the same known shape"
        axes = [_axis(found.node(reduction), x) for reduction in self.reductions if found.has(reduction)]
        for axis in axes:
            if isinstance(axis, str):
                return axis
        if len(set(axes)) > 1:
            return "the maximum and the sum are over different axes"
        axis = axes[0]
        assert isinstance(axis, int)
        if not _is_last(axis, x) and not ctx.gains_from("Softmax"):
            return f"the target gains nothing from {self.op} along axis {axis}, which is not the last one"
        if self.op == "LogSoftmax" and not ctx.gains_from("LogSoftmax"):
            return "the target gains nothing from LogSoftmax"
        return Replacement(self.op, [x], {"axis": axis if axis < len(x.shape) - 1 else -1})


class _Softmax(_OverAxis):
    pattern = AnyOf(Op("Div", _EXP, _SUM), Op("Mul", _EXP, Op("Reciprocal", _SUM)))


class _LogSoftmax(_OverAxis):
    pattern = Op("Sub", _SHIFTED, Op("Log", _SUM))
    op = "LogSoftmax"


_LOG_SUM_EXP = Op("ReduceLogSumExp", _X, _SUM_AXES)


class _LessLogSumExp(_OverAxis):
    pattern = Op("Sub", _X, _LOG_SUM_EXP)
    anchor = "ReduceLogSumExp"
    op = "LogSoftmax"
    reductions = (_LOG_SUM_EXP,)

    def is_candidate(self, node: Node, model: Model) -> bool:
        return any(reader.op == "Sub" for reader in model.consumers(node.outputs[0]))


class _WithoutMaximum(_OfSum):
    """Never replaced."""

    pattern = AnyOf(
        Op("Div", _BARE_EXP, _BARE_SUM),
        Op("Mul", _BARE_EXP, Op("Reciprocal", _BARE_SUM)),
        Op("Sub", _X, Op("Log", _BARE_SUM)),
    )

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        return f"no maximum is subtracted from {found.tensor(_X).name!r}: large values overflow, and Softmax's do not"


_OF_SOFTMAX = Op("Softmax", _X)


class _LogOfSoftmax(Rewrite):
    pattern = Op("Log", _OF_SOFTMAX)
    anchor = "Log"

    def is_candidate(self, node: Node, model: Model) -> bool:
        producer = model.producer(node.inputs[0])
        return producer is not None and producer.op == "Softmax"

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        if not ctx.gains_from("LogSoftmax"):
            return "the target gains nothing from LogSoftmax"
        return Replacement("LogSoftmax", [found.tensor(_X)], {"axis": found.node(_OF_SOFTMAX).attrs.get("axis", -1)})


def _axis(node: Node, x: Tensor) -> int | str:
    """The only axis of a reduction that keeps it, counted from the front; or what is different."""
    if not node.attrs.get("keepdims", 1):
        return f"{node.name} ({node.op}) drops the axis, and is then broadcast along another one"
    axes, count = integers(node, 1), rank(x)
    if axes is None or count is None or len(axes) != 1:
        return f"{node.name} ({node.op}) reduces over more than one axis, and Softmax is along one"
    return axes[0] % count


def _is_last(axis: int, x: Tensor) -> bool:
    """Whether the axis is the last one that has more than one element."""
    return all(dim == 1 for dim in x.shape[axis + 1 :])


class FuseSoftmax(RewritePass):
    """Say Softmax where a model writes e^(x - max) / sum e^(x - max) out, and LogSoftmax for its logarithm.

    Before: m = ReduceMax(x, {-1})   d = Sub(x, m)   e = Exp(d)   s = ReduceSum(e, {-1})   y = Div(e, s)
    After:  y = Softmax<axis = -1>(x)

    LogSoftmax for Log(Softmax(x)), which ONNX defines to be the same and which is minus infinity where a probability is
    too small for its type; for (x - max) - Log(sum e^(x - max)), and for x - ReduceLogSumExp(x). What subtracts no
    maximum stays: e^x overflows where Softmax does not.

    Softmax along the last axis is for every target, LogSoftmax for those that gain: TFLite's kernel takes twice as long
    as what it is made of. Other axes are for targets that gain from Softmax there too: ONNX Runtime and TFLite
    transpose, which takes up to four times as long as the elementary operators.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-softmax"
    loss = Loss.ROUNDING
    rewrites = (_Softmax(), _LogSoftmax(), _LessLogSumExp(), _LogOfSoftmax(), _WithoutMaximum())
