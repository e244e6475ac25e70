"""Pass fuse-pad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, describe, has_operand, integers, is_op, scalar, text

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Operators whose results are never negative, so that a zero beside them never wins a maximum.
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt"})


class FusePad(NodePass):
    """Let Conv, AveragePool and MaxPool do the padding of the Pad in front of them.

    Before: p = Pad(x, pads)   y = Conv(p, w)          pads = [0, 0, 1, 1, 0, 0, 1, 1]
    After:  y = Conv<pads = [1, 1, 1, 1]>(x, w)

    Only where nothing changes: a Pad of constant zeros on spatial axes alone; an AveragePool that counts the padding;
    a MaxPool of values that are never negative, or a Pad of minus infinity. All readers of the Pad take the padding
    over, or none does. A runtime may sum in another order where it pads by itself, hence rounding.

    Attributes:
        ignore: patterns of node names (of the Pads) to leave alone.
    """

    name = "fuse-pad"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        # Last ones first: where Pads follow each other, the reader of the first is then the reader of the second.
        return model.nodes("Pad", ignore=self.ignore)[::-1]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        reason = fusable(node, model)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        extra = _spatial_pads(node)
        assert extra is not None, "fusable() has seen to it"
        readers = model.consumers(node.outputs[0])
        names = " and ".join(describe(reader) for reader in readers)
        ctx.done(node, f"its padding became part of {names}", [*reversed(readers), node])
        for reader in readers:
            _take_over(reader, node, extra, model)
        model.remove(node)
        return True


def fusable(node: Node, model: Model) -> str | None:
    """None if every reader of this Pad can take its padding over, otherwise the reason why one cannot."""
    if text(node, "mode", "constant") != "constant":
        return f"its mode is {text(node, 'mode', '')}"
    value = _fill_value(node)
    if value is None:
        return "the value it pads with is not constant"
    pads = _spatial_pads(node)
    if pads is None:
        return "its pads are not constants that enlarge spatial axes alone"
    padded = node.outputs[0]
    if model.is_output(padded):
        return f"its output {padded.name!r} is an output of the model"
    for reader in model.consumers(padded):
        reason = _refuses(reader, node, value, pads, model)
        if model.is_inner(reader):
            reason = "is in a subgraph"
        if reason is not None:
            return f"its reader {describe(reader)} {reason}"
    return None


def _refuses(reader: Node, node: Node, value: float, pads: list[int], model: Model) -> str | None:
    """Why this reader cannot take the padding over; None if it can."""
    if not is_op(reader, "Conv", "AveragePool", "MaxPool"):
        return "does not pad"
    if any(tensor is node.outputs[0] for tensor in reader.inputs[1:]):
        return "reads it as weights"
    if _own_pads(reader, len(pads)) is None:
        return f"has auto_pad={text(reader, 'auto_pad', '')}, and the size of {node.outputs[0].name!r} is not known"
    if reader.op == "Conv":
        return None if value == 0 else f"pads with zeros, not with {value:g}"
    if reader.attrs.get("ceil_mode", 0):
        return "has ceil_mode, which treats its own padding differently"
    if any(total >= size for total, size in zip(_sum(reader, pads), [*reader.attrs["kernel_shape"]] * 2, strict=True)):
        return "would have windows of padding alone"
    if reader.op == "AveragePool":
        return _average_refuses(reader, value)
    return _max_refuses(reader, node, value, model)


def _average_refuses(reader: Node, value: float) -> str | None:
    if value != 0:
        return f"pads with zeros, not with {value:g}"
    if any(_own_pads(reader, 0) or ()) and not reader.attrs.get("count_include_pad", 0):
        return "does not count its own padding"
    return None


def _max_refuses(reader: Node, node: Node, value: float, model: Model) -> str | None:
    if len(reader.outputs) > 1 and not reader.outputs[1].is_empty():
        return "gives the places of its maxima too"
    if any(step != 1 for step in reader.attrs.get("dilations", ())):
        return "is dilated, so that a window could see padding alone"
    if np.isneginf(value):
        return None
    if value != 0:
        return f"pads with minus infinity, not with {value:g}"
    producer = model.producer(node.inputs[0])
    if producer is None or not _never_negative(producer):
        return "pads with minus infinity, and its input may be negative"
    return None


def _never_negative(producer: Node) -> bool:
    if not is_op(producer, "Clip"):
        return is_op(producer, *_NEVER_NEGATIVE)
    low = constant(producer, 1)
    return low is not None and bool(low >= 0)


def _take_over(reader: Node, node: Node, extra: list[int], model: Model) -> None:
    from edgecc.model import merged_origins

    if reader.op == "AveragePool":
        # The zeros were elements of the input: the mean goes on counting them.
        reader.attrs["count_include_pad"] = 1
    reader.attrs["pads"] = _sum(reader, extra)
    reader.attrs.pop("auto_pad", None)
    reader.origins = merged_origins((node, reader))
    model.set_input(reader, 0, node.inputs[0])


def _sum(reader: Node, extra: list[int]) -> list[int]:
    own = _own_pads(reader, len(extra))
    assert own is not None, "_refuses() has seen to it"
    return [mine + more for mine, more in zip(own, extra, strict=True)]


def _own_pads(reader: Node, length: int) -> list[int] | None:
    """What the reader pads with by itself, all begins and then all ends; None if that depends on an open dimension."""
    kind = text(reader, "auto_pad", "NOTSET")
    if kind == "NOTSET":
        return list(reader.attrs.get("pads", [0] * length))
    shape, kernel = reader.inputs[0].shape, _kernel(reader)
    if kind == "VALID":
        return [0] * length
    if shape is None or kernel is None or not all(isinstance(size, int) for size in shape[2:]):
        return None
    ones = [1] * len(kernel)
    steps, gaps = reader.attrs.get("strides") or ones, reader.attrs.get("dilations") or ones
    begins, ends = [], []
    for size, width, step, gap in zip(shape[2:], kernel, steps, gaps, strict=True):
        places = -(-size // step)
        total = max((places - 1) * step + (width - 1) * gap + 1 - size, 0)
        smaller, larger = total // 2, total - total // 2
        begins.append(larger if kind == "SAME_LOWER" else smaller)
        ends.append(smaller if kind == "SAME_LOWER" else larger)
    return begins + ends


def _kernel(reader: Node) -> list[int] | None:
    if reader.op != "Conv":
        return list(reader.attrs["kernel_shape"])
    shape = reader.inputs[1].shape
    sizes = reader.attrs.get("kernel_shape") or (None if shape is None else shape[2:])
    return None if sizes is None or not all(isinstance(size, int) for size in sizes) else list(sizes)


def _fill_value(node: Node) -> float | None:
    return scalar(node.inputs[2]) if has_operand(node, 2) else 0.0


def _spatial_pads(node: Node) -> list[int] | None:
    """Pads of the spatial axes, all begins and then all ends, as Conv wants them; None if there are others."""
    pads, axes, shape = integers(node, 1), integers(node, 3), node.inputs[0].shape
    if pads is None or shape is None or (axes is None and has_operand(node, 3)):
        return None
    rank = len(shape)
    places = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    begins, ends = [0] * rank, [0] * rank
    for index, axis in enumerate(places):
        begins[axis], ends[axis] = pads[index], pads[index + len(places)]
    if any((*begins[:2], *ends[:2])) or min((*begins, *ends), default=0) < 0:
        return None
    return begins[2:] + ends[2:]
