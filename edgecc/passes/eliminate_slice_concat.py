"""Pass eliminate-slice-concat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.shapes import as_integers, is_free
from edgecc.rewriting.slices import Cut, Piece, become_slice, picked, piece_of, slice_piece

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class EliminateSliceConcat(NodePass):
    """Do not cut what is put together again, nor put together what is cut again.

    Before: a = Slice(x, {0}, {3}, {1})   b = Slice(x, {3}, {8}, {1})   y = Concat<axis = 1>(a, b)   (x has 8 there)
    After:  y = x

    Pieces of one tensor that lie beside each other in a Concat become one piece, or the tensor; a Concat in a Concat
    of the same axis goes into it. A Slice, Split or Gather of a Concat that takes just what went in reads that.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-slice-concat"
    loss = Loss.EXACT

    def run(self, model: Model, ctx: PassContext) -> bool:
        self._check_ignore(model)
        changed = False
        # The last ones first: one takes in all that lead to it at once, however many they are.
        for node in model.nodes("Concat", ignore=self.ignore)[::-1]:
            changed |= bool(node.outputs) and self._flatten(node, model, ctx)
        return super().run(model, ctx) or changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Concat", "Slice", "Split", "Gather", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if node.op == "Concat":
            changed = False
            # What pieces were put together may be a piece itself.
            while node.op == "Concat" and node.outputs and self._join(node, model, ctx):
                changed = True
            return changed
        concat = self._concat_before(node.inputs[0], model)
        if concat is None:
            return False
        if node.op == "Split":
            return _read_inputs(node, concat, model, ctx)
        return _pick(node, concat, model, ctx) if node.op == "Gather" else _slice(node, concat, model, ctx)

    def _concat_before(self, tensor: Tensor, model: Model) -> Node | None:
        from edgecc.model import is_standard, matches_any

        node = model.producer(tensor)
        if node is None or node.op != "Concat" or not is_standard(node) or matches_any(node, self.ignore):
            return None
        return None if _axis(node) is None else node

    def _flatten(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Take in the Concats of the same axis that it alone reads, and those that they alone read."""
        from edgecc.model import merged_origins

        inputs: list[Tensor] = []
        taken: dict[int, Node] = {}
        pending = list(node.inputs)[::-1]
        while pending:
            tensor = pending.pop()
            inner = self._concat_before(tensor, model)
            if inner is not None and is_free(tensor, model) and _axis(inner) == _axis(node):
                taken[id(inner)] = inner
                pending += list(inner.inputs)[::-1]
            else:
                inputs.append(tensor)
        if not taken or _axis(node) is None:
            return False
        ctx.done(node, f"took in {len(taken)} Concats", [node, *taken.values()])
        origins = merged_origins((*taken.values(), node))
        model.replace(node, "Concat", inputs, attributes={"axis": _axis(node)}, origins=origins)
        for inner in taken.values():
            model.remove(inner)
        return True

    def _join(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Make one of pieces that lie beside each other."""
        from edgecc.model import merged_origins

        axis = _axis(node)
        if axis is None or len(node.inputs) < 2:
            return False
        runs = _runs(node, axis, self.ignore)
        producers = [[node for tensor in run for node in tensor.inputs] for run in runs]
        joined = [self._joined(run, model, ctx, node) for run in runs]
        if all(tensor is None for tensor in joined):
            return False
        cutters = {id(n): n for nodes, new in zip(producers, joined, strict=True) if new is not None for n in nodes}
        ctx.done(node, "pieces of one tensor were put together", [node, *cutters.values()])
        inputs = [t for run, new in zip(runs, joined, strict=True) for t in ([new] if new is not None else run)]
        origins = merged_origins((*cutters.values(), node))
        if len(inputs) > 1:
            model.replace(node, "Concat", inputs, attributes={"axis": axis}, origins=origins)
        elif model.redirect(node.outputs[0], inputs[0]):
            model.remove(node)
        else:
            model.replace(node, "Identity", inputs, origins=origins)
        for cutter in cutters.values():
            if cutter.outputs and not any(t.outputs or model.is_output(t) for t in cutter.outputs):
                model.remove(cutter)
        return True

    def _joined(self, run: list[Tensor], model: Model, ctx: PassContext, node: Node) -> Tensor | None:
        """What stands for the tensors of a run; None to leave them."""
        first, last = piece_of(run[0]), piece_of(run[-1])
        if len(run) < 2 or first is None or last is None:
            return None
        source = first.source
        if first.start == 0 and last.stop == source.shape[first.axis]:
            return source
        if any(tensor.inputs[0].op != "Slice" or not is_free(tensor, model) for tensor in run):
            ctx.skip(node, f"a Slice for {len(run)} pieces of {source.name!r} would not replace what cuts them now")
            return None
        slice_node, output = run[0].inputs[0], run[0]
        wider = [*output.shape[: first.axis], last.stop - first.start, *output.shape[first.axis + 1 :]]
        piece = model.variable(f"{output.name}_joined", output.dtype, wider)
        model.set_output(slice_node, 0, piece)
        become_slice(slice_node, source, {first.axis: Cut(first.start, last.stop, 1)}, model, ())
        return piece


def _runs(node: Node, axis: int, ignore: tuple[str, ...]) -> list[list[Tensor]]:
    """The inputs, pieces that continue each other in one list."""
    from edgecc.model import matches_any

    runs: list[list[Tensor]] = []
    last: Piece | None = None
    for tensor in node.inputs:
        piece = piece_of(tensor)
        if piece is not None and (piece.axis != axis or matches_any(tensor.inputs[0], ignore)):
            piece = None
        if piece is not None and last is not None and piece.source is last.source and piece.start == last.stop:
            runs[-1].append(tensor)
        else:
            runs.append([tensor])
        last = piece
    return runs


def _axis(node: Node) -> int | None:
    shape = node.outputs[0].shape
    return None if shape is None else int(node.attrs["axis"]) % len(shape)


def _bounds(concat: Node) -> dict[tuple[int, int], Tensor] | None:
    """The inputs of a Concat by where they lie in it."""
    axis = _axis(concat)
    found, start = {}, 0
    for tensor in concat.inputs:
        size = tensor.shape[axis] if tensor.shape is not None and axis is not None else None
        if not isinstance(size, int):
            return None
        found[start, start + size] = tensor
        start += size
    return found


def _slice(node: Node, concat: Node, model: Model, ctx: PassContext) -> bool:
    piece, bounds = slice_piece(node), _bounds(concat)
    if piece is None or bounds is None or piece.axis != _axis(concat):
        return False
    part = bounds.get((piece.start, piece.stop))
    if part is None:
        ctx.skip(node, f"it takes {piece.start} to {piece.stop} of {concat.name}, which is not one of its inputs")
        return False
    return _read(node, part, f"it takes just {part.name!r}", model, ctx)


def _pick(node: Node, concat: Node, model: Model, ctx: PassContext) -> bool:
    place, bounds = picked(node), _bounds(concat)
    if place is None or bounds is None or place[0] != _axis(concat):
        return False
    axis, index = place
    size = max(stop for _, stop in bounds)
    start = index % size
    part = bounds.get((start, start + 1))
    if part is None:
        return False
    ctx.done(node, f"it takes just {part.name!r} and became Squeeze")
    axes = model.constant(f"{node.outputs[0].name}_axes", as_integers([axis]))
    model.replace(node, "Squeeze", [part, axes])
    return True


def _read_inputs(node: Node, concat: Node, model: Model, ctx: PassContext) -> bool:
    """Split of a Concat at the same places."""
    bounds = _bounds(concat)
    pieces = [piece_of(tensor) for tensor in node.outputs]
    if bounds is None or any(piece is None or piece.axis != _axis(concat) for piece in pieces):
        return False
    parts = [bounds.get((piece.start, piece.stop)) for piece in pieces if piece is not None]
    used = [bool(tensor.outputs) or model.is_output(tensor) for tensor in node.outputs]
    if any(wanted and part is None for part, wanted in zip(parts, used, strict=True)):
        ctx.skip(node, f"it cuts elsewhere than where {concat.name} put together")
        return False
    if any(model.is_output(tensor) for tensor in node.outputs):
        ctx.skip(node, "one of its pieces is an output of the model")
        return False
    ctx.done(node, f"it takes apart what {concat.name} put together")
    for tensor, part in zip(list(node.outputs), parts, strict=True):
        if part is not None:
            model.redirect(tensor, part)
    model.remove(node)
    return True


def _read(node: Node, part: Tensor, what: str, model: Model, ctx: PassContext) -> bool:
    ctx.done(node, what)
    if model.redirect(node.outputs[0], part):
        model.remove(node)
    else:
        model.replace(node, "Identity", [part])
    return True
