"""Pass eliminate-sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, describe, has_operand, is_op, rank
from edgecc.rewriting.shapes import as_integers

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: What reads a sequence and can read its tensors instead.
_READERS = ("SequenceAt", "SequenceLength", "ConcatFromSequence")


class EliminateSequences(NodePass):
    """Read tensors instead of a sequence of them.

    Before: s = SplitToSequence<axis = 1>(x, {4})   a = SequenceAt(s, {0})   b = SequenceAt(s, {1})   (x has 7 there)
    After:  a, b = Split<axis = 1>(x, {4, 3})

    SplitToSequence becomes one Split, with a Squeeze of each piece where the pieces lose the axis. SequenceAt of a
    SequenceConstruct is what went in, ConcatFromSequence becomes Concat, with an Unsqueeze of each tensor where it
    stacks them, and SequenceLength a constant. A sequence that anything else reads stays: the model would hold its
    tensors twice.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-sequences"
    loss = Loss.EXACT

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("SequenceConstruct", "SplitToSequence", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        cut = _cut(node) if node.op == "SplitToSequence" else None
        count = len(cut.sizes) if isinstance(cut, _Cut) else len(node.inputs)
        reason = cut if isinstance(cut, str) else self._why_not(node, count, model)
        if reason is not None:
            ctx.skip(node, reason)
            return False
        readers = model.consumers(node.outputs[0])
        _end(node, readers, cut if isinstance(cut, _Cut) else None, model, ctx)
        return True

    def _why_not(self, node: Node, count: int, model: Model) -> str | None:
        """Why a sequence of that many tensors must stay."""
        from edgecc.model import matches_any

        sequence = node.outputs[0]
        if model.is_output(sequence):
            return f"the sequence {sequence.name!r} is an output of the model"
        for reader in model.consumers(sequence):
            if model.is_inner(reader):
                return f"{describe(reader)} reads the sequence in a subgraph"
            if not is_op(reader, *_READERS):
                return f"{describe(reader)} reads the sequence"
            if matches_any(reader, self.ignore):
                return f"{describe(reader)} is to be ignored"
            if reader.op == "SequenceAt":
                place = constant(reader, 1)
                if place is None:
                    return f"which tensor {describe(reader)} takes is computed"
                if not -count <= place.item() < count:
                    return f"{describe(reader)} takes number {place.item()} of {count} tensors"
            if reader.op == "ConcatFromSequence" and not _is_typed(node, reader.outputs[0]):
                return f"the shape of {reader.outputs[0].name!r} or of what it is made of is not known"
        return None


def _is_typed(node: Node, joined: Tensor) -> bool:
    """Whether types and shapes of what a sequence is made of are known, and the axes of what its tensors make."""
    parts = [tensor for tensor in node.inputs if not tensor.is_empty()]
    return bool(rank(joined)) and all(part.dtype is not None and part.shape is not None for part in parts)


@dataclass(frozen=True)
class _Cut:
    """How a SplitToSequence cuts.

    Attributes:
        axis: along which, not negative.
        sizes: of the pieces.
        squeezed: whether the pieces lose the axis.
    """

    axis: int
    sizes: list[int]
    squeezed: bool


def _cut(node: Node) -> _Cut | str:
    """What a SplitToSequence does, or why that is not known."""
    source = node.inputs[0]
    if not source.shape or source.dtype is None:
        return f"the axes of {source.name!r} are not known"
    axis = int(node.attrs.get("axis", 0)) % len(source.shape)
    size = source.shape[axis]
    given, squeezed = has_operand(node, 1), not node.attrs.get("keepdims", 1)
    if given and squeezed:
        return "keepdims = 0 beside sizes means nothing to ONNX, and another rank to ONNX Runtime"
    split = constant(node, 1) if given else np.array(1)
    if split is None:
        return f"the sizes {node.inputs[1].name!r} are computed"
    if split.ndim == 1:
        sizes = split.tolist()
        if min(sizes, default=-1) < 0 or (isinstance(size, int) and sum(sizes) != size):
            return f"pieces of {sizes} do not make axis {axis} of {source.name!r}, which has size {size}"
        return _Cut(axis, sizes, squeezed)
    chunk = int(split.item())
    if not isinstance(size, int):
        return f"axis {axis} of {source.name!r} is open: into how many pieces of {chunk} it is cut is not known"
    if chunk < 1 or size < 1:
        return f"axis {axis} of {source.name!r} has size {size} and is cut into pieces of {chunk}"
    return _Cut(axis, [min(chunk, size - start) for start in range(0, size, chunk)], squeezed)


def _end(node: Node, readers: Sequence[Node], cut: _Cut | None, model: Model, ctx: PassContext) -> None:
    """Let the readers of a sequence read its tensors, and remove what made it."""
    count = len(node.inputs) if cut is None else len(cut.sizes)
    pending = [reader for reader in readers if not _settle(reader, node, count, cut, model, ctx)]
    if cut is None or not pending:
        ctx.done(node, "what read the sequence reads its tensors", [node, *pending])
        tensors = list(node.inputs)
        model.remove(node)
    else:
        ctx.done(node, f"it became Split into {count} pieces", [node, *pending])
        tensors = _split(node, cut, pending, model)
    for reader in pending:
        if not reader.outputs:
            model.remove(reader)  # the Split writes its result
        elif reader.op == "SequenceAt":
            _take(reader, tensors[_place(reader, count)], cut, model)
        else:
            _concat(reader, tensors, cut, model)


def _settle(reader: Node, node: Node, count: int, cut: _Cut | None, model: Model, ctx: PassContext) -> bool:
    """Do without the tensors where the reader needs none of them; whether that is so."""
    if reader.op == "SequenceLength":
        ctx.done(reader, f"the sequence has {count} tensors")
        length = model.constant(f"{reader.outputs[0].name}_length", np.array(count, np.int64))
        _stand_for(reader, length, model)
        return True
    if cut is None or reader.op != "ConcatFromSequence" or _axis(reader) != cut.axis or _stacks(reader) != cut.squeezed:
        return False
    ctx.done(reader, f"it puts together what {describe(node)} cuts", [node, reader])
    _stand_for(reader, node.inputs[0], model)
    return True


def _split(node: Node, cut: _Cut, readers: Sequence[Node], model: Model) -> list[Tensor]:
    """Let the node be a Split; its pieces, which are the results of SequenceAt where they may be."""
    from edgecc.model import merged_origins

    source = node.inputs[0]
    shapes = [[*source.shape[: cut.axis], size, *source.shape[cut.axis + 1 :]] for size in cut.sizes]
    name = node.outputs[0].name
    pieces = [model.variable(f"{name}_{place}", source.dtype, shape) for place, shape in enumerate(shapes)]
    sizes = model.constant(f"{name}_sizes", as_integers(cut.sizes))
    attributes = {"axis": cut.axis}
    model.replace(node, "Split", [source, sizes], attributes=attributes, origins=merged_origins([node, *readers]))
    model.set_output(node, 0, pieces[0])
    node.outputs.extend(pieces[1:])
    named: set[int] = set()
    for reader in readers if not cut.squeezed else ():
        place = _place(reader, len(pieces)) if reader.op == "SequenceAt" else -1
        if place >= 0 and place not in named:
            named.add(place)
            pieces[place] = reader.outputs[0]
            model.set_output(node, place, pieces[place])
    return pieces


def _take(reader: Node, tensor: Tensor, cut: _Cut | None, model: Model) -> None:
    """Give what reads the SequenceAt the tensor, without its axis where the pieces lose it."""
    if cut is None or not cut.squeezed:
        _stand_for(reader, tensor, model)
        return
    axes = model.constant(f"{reader.outputs[0].name}_axes", as_integers([cut.axis]))
    model.replace(reader, "Squeeze", [tensor, axes])


def _concat(reader: Node, tensors: Sequence[Tensor], cut: _Cut | None, model: Model) -> None:
    """Let a ConcatFromSequence be a Concat."""
    from edgecc.model import merged_origins

    axis, parts, origins = _axis(reader), list(tensors), merged_origins([reader])
    if cut is not None and cut.squeezed:
        parts = [_reshaped("Squeeze", tensor, cut.axis, origins, model) for tensor in parts]
    if _stacks(reader):
        parts = [_reshaped("Unsqueeze", tensor, axis, origins, model) for tensor in parts]
    model.replace(reader, "Concat", parts, attributes={"axis": axis})


def _reshaped(op: str, tensor: Tensor, axis: int, origins: tuple[str, ...], model: Model) -> Tensor:
    """The tensor with one axis less or more."""
    axes = model.constant(f"{tensor.name}_axes", as_integers([axis]))
    shape = list(tensor.shape)
    shape[axis : axis + (op == "Squeeze")] = [] if op == "Squeeze" else [1]
    output = model.variable(f"{tensor.name}/{op}", tensor.dtype, shape)
    model.add(op, [tensor, axes], [output], origins=origins)
    return output


def _stand_for(reader: Node, tensor: Tensor, model: Model) -> None:
    """Let what reads the result of the node read the tensor."""
    if model.redirect(reader.outputs[0], tensor):
        model.remove(reader)
    else:
        model.replace(reader, "Identity", [tensor])


def _place(reader: Node, count: int) -> int:
    """Which tensor of so many a SequenceAt takes."""
    place = constant(reader, 1)
    assert place is not None, "_why_not has seen to it"
    return int(place.item()) % count


def _axis(reader: Node) -> int:
    """Of a ConcatFromSequence, in its result."""
    return int(reader.attrs["axis"]) % len(reader.outputs[0].shape)


def _stacks(reader: Node) -> bool:
    return bool(reader.attrs.get("new_axis", 0))
