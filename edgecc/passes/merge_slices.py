"""Pass merge-slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import is_op
from edgecc.rewriting.shapes import RESHAPES, as_integers, axes_of, reshape_target
from edgecc.rewriting.slices import TO_THE_END, Cut, become_slice, cuts_of, picked, slice_piece

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class MergeSlices(NodePass):
    """Cut a tensor with as few nodes as possible.

    Before: a = Slice(x, {0}, {3}, {1})   y = Slice(a, {1}, {9}, {2})   u = Slice(x, {3}, {8}, {1})
    After:  y = Slice(x, {0, 1}, {3, 9}, {1, 2})   u = Slice(x, {3}, {8}, {1})

    A Slice of a Slice becomes one Slice, and axes of which it takes all are not mentioned. A Gather of one place whose
    axis is put back is a Slice. Slices that cut all of a tensor along one axis become one Split; so do Gathers of all
    places one by one if each is reshaped anyway.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "merge-slices"
    loss = Loss.EXACT

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = super().run(model, ctx)
        by_source: dict[int, list[Node]] = {}
        for node in self.candidates(model):
            by_source.setdefault(id(node.inputs[0]), []).append(node)
        for nodes in by_source.values():
            changed |= len(nodes) > 1 and _split(nodes, model, ctx)
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Slice", "Gather", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if node.op == "Gather":
            return self._put_back(node, model, ctx)
        cuts = cuts_of(node)
        if cuts is None:
            return False
        return self._merge(node, cuts, model, ctx) or _shorten(node, cuts, model, ctx)

    def _merge(self, node: Node, cuts: dict[int, Cut], model: Model, ctx: PassContext) -> bool:
        """Cut what the Slice in front cuts, if that one is of no use then."""
        from edgecc.model import is_standard, matches_any, merged_origins

        first = model.producer(node.inputs[0])
        if first is None or first.op != "Slice" or not is_standard(first) or matches_any(first, self.ignore):
            return False
        outer = cuts_of(first)
        if outer is None:
            ctx.skip(node, f"what {first.name} takes is computed")
            return False
        result = first.outputs[0]
        if model.is_output(result) or not all(_is_constant_slice(r, model, self) for r in model.consumers(result)):
            ctx.skip(node, f"others read {result.name!r}, too, so that {first.name} would stay")
            return False
        merged = _composed(outer, cuts, first.inputs[0])
        if merged is None:
            ctx.skip(node, f"it and {first.name} cut the same axis, and cannot be said as one Slice")
            return False
        ctx.done(node, "two Slices became one", [node, first])
        become_slice(node, first.inputs[0], merged, model, merged_origins((first, node)))
        if not result.outputs:
            model.remove(first)
        return True

    def _put_back(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """A Gather whose axis is added again."""
        from edgecc.model import is_standard, matches_any, merged_origins

        place = picked(node)
        reader = model.single_consumer(node.outputs[0])
        if place is None or reader is None or reader.op != "Unsqueeze" or model.is_inner(reader):
            return False
        axis, index = place
        result = reader.outputs[0].shape
        added = axes_of(reader, 1, len(result)) if result is not None else None
        if not is_standard(reader) or matches_any(reader, self.ignore) or added != [axis]:
            return False
        ctx.done(reader, "Gather + Unsqueeze became Slice", [reader, node])
        stop = index + 1 if index != -1 else TO_THE_END
        become_slice(reader, node.inputs[0], {axis: Cut(index, stop, 1)}, model, merged_origins((node, reader)))
        model.remove(node)
        return True


def _is_constant_slice(node: Node, model: Model, step: MergeSlices) -> bool:
    from edgecc.model import is_standard, matches_any

    if node.op != "Slice" or not is_standard(node) or model.is_inner(node) or matches_any(node, step.ignore):
        return False
    return cuts_of(node) is not None


def _shorten(node: Node, cuts: dict[int, Cut], model: Model, ctx: PassContext) -> bool:
    """Leave out axes of which it takes all; at least one stays, which eliminate-identity may take."""
    shape = node.inputs[0].shape
    kept = {axis: cut for axis, cut in cuts.items() if not _takes_all(cut, shape[axis])}
    if len(kept) == len(cuts) or not kept:
        return False
    ctx.done(node, f"takes all of {len(cuts) - len(kept)} axes, which it does not mention any more")
    become_slice(node, node.inputs[0], kept, model, ())
    return True


def _takes_all(cut: Cut, size: int | str) -> bool:
    if isinstance(size, int):
        return cut.of(size) == range(size)
    return cut.start == 0 and cut.step == 1 and cut.stop >= TO_THE_END


def _composed(first: dict[int, Cut], second: dict[int, Cut], source: Tensor) -> dict[int, Cut] | None:
    merged = dict(first)
    for axis, cut in second.items():
        size = source.shape[axis]
        if axis not in first:
            merged[axis] = cut
        elif isinstance(size, int):
            places = first[axis].of(size)[cut.start : cut.stop : cut.step]
            if places.step < 0 or not places:
                return None
            merged[axis] = Cut(places.start, places.stop, places.step)
        else:
            joined = _joined(first[axis], cut)
            if joined is None:
                return None
            merged[axis] = joined
    kept = {axis: cut for axis, cut in merged.items() if not _takes_all(cut, source.shape[axis])}
    return kept or merged


def _joined(first: Cut, second: Cut) -> Cut | None:
    """Of an axis of unknown size: only what counts from its start."""
    if (first.step, second.step) != (1, 1) or min(first.start, first.stop, second.start, second.stop) < 0:
        return None
    stop = first.start + second.stop if second.stop < TO_THE_END else first.stop
    return Cut(first.start + second.start, min(first.stop, stop), 1)


# ---------------------------------------------------------------------------------------------------------- Splits


def _split(nodes: list[Node], model: Model, ctx: PassContext) -> bool:
    """Cut a tensor once for all of its pieces."""
    changed = False
    slices: dict[int, list[tuple[int, int, Node]]] = {}
    for node in nodes:
        piece = slice_piece(node) if node.op == "Slice" else None
        if piece is not None:
            slices.setdefault(piece.axis, []).append((piece.start, piece.stop, node))
    gathers: dict[int, list[tuple[int, int, Node]]] = {}
    for node in nodes:
        place = picked(node) if node.op == "Gather" else None
        size = node.inputs[0].shape[place[0]] if place is not None else None
        if place is not None and isinstance(size, int):
            gathers.setdefault(place[0], []).append((place[1] % size, place[1] % size + 1, node))
    for axis, pieces in slices.items():
        if all(node.outputs for _, _, node in pieces) and _covers(pieces, axis):
            _become_split(sorted(pieces, key=lambda piece: piece[0]), axis, model, ctx)
            changed = True
    for axis, pieces in gathers.items():
        if _covers(pieces, axis) and _unpick(pieces, axis, model, ctx):
            changed = True
    return changed


def _covers(pieces: list[tuple[int, int, Node]], axis: int) -> bool:
    """Whether the pieces, at least two, are all of the axis, each part once."""
    size = pieces[0][2].inputs[0].shape[axis]
    ordered = sorted((start, stop) for start, stop, _ in pieces)
    bounds = [0, *(stop for _, stop in ordered)]
    return len(ordered) > 1 and bounds[-1] == size and [start for start, _ in ordered] == bounds[:-1]


def _become_split(pieces: list[tuple[int, int, Node]], axis: int, model: Model, ctx: PassContext) -> None:
    from edgecc.model import merged_origins

    nodes = [node for _, _, node in pieces]
    first, source = nodes[0], nodes[0].inputs[0]
    ctx.done(first, f"{len(nodes)} nodes became Split", nodes[::-1])
    outputs, origins = [node.outputs[0] for node in nodes], merged_origins(nodes)
    sizes = model.constant(f"{outputs[0].name}_sizes", as_integers([stop - start for start, stop, _ in pieces]))
    for node in nodes:
        model.remove(node)
    split = model.add("Split", [source, sizes], outputs, attributes={"axis": axis}, origins=origins)
    split.name = first.name


def _unpick(pieces: list[tuple[int, int, Node]], axis: int, model: Model, ctx: PassContext) -> bool:
    """Gathers that drop the axis, each of which is reshaped: the Reshapes can drop it."""
    plans = []
    for start, stop, node in sorted(pieces, key=lambda piece: piece[0]):
        old = node.outputs[0]
        shape = [*old.shape[:axis], 1, *old.shape[axis:]] if old.shape is not None else None
        piece = model.variable(f"{old.name}_piece", old.dtype, shape)
        readers = model.consumers(old)
        targets = [reshape_target(piece, r.outputs[0]) if is_op(r, *RESHAPES) and r.outputs else None for r in readers]
        if model.is_output(old) or not readers or shape is None or any(target is None for target in targets):
            ctx.skip(node, f"Split could take all of {node.inputs[0].name!r}, but {old.name!r} is not just reshaped")
            return False
        if any(model.is_inner(reader) for reader in readers):
            return False
        plans.append((start, stop, node, piece, list(zip(readers, targets, strict=True))))
    for _, _, node, piece, readers_of_it in plans:
        for reader, target in readers_of_it:
            assert target is not None
            shape_of_it = model.constant(f"{reader.outputs[0].name}_shape", as_integers(target))
            model.replace(reader, "Reshape", [piece, shape_of_it])
        model.set_output(node, 0, piece)
    _become_split([(start, stop, node) for start, stop, node, _, _ in plans], axis, model, ctx)
    return True
