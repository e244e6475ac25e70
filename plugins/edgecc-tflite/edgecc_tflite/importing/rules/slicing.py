"""Parts of tensors: slices, strided slices, and elements in another order."""

from __future__ import annotations

import math

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import INT64, Import

#: ONNX's way to say "up to the end", in either direction.
_END = np.iinfo(np.int64).max
_FRONT = np.iinfo(np.int64).min


def _slice(c: Import) -> None:
    """A size of -1 is all that is left."""
    begin, size = c.value(1), c.value(2)
    axes = c.constant(list(range(c.rank())), "axes")
    if begin is not None and size is not None:
        first, count = begin.reshape(-1).astype(np.int64), size.reshape(-1).astype(np.int64)
        ends = np.where(count < 0, _END, first + count)
        c.give(c.add("Slice", [c.x(), c.constant(first, "starts"), c.constant(ends, "ends"), axes]))
        return
    first_name, count_name = c.int64(1), c.int64(2)
    ends_name = c.add("Add", [first_name, count_name])
    if size is None or (size < 0).any():
        rest = c.add("Less", [count_name, c.scalar(0, np.int64)])
        ends_name = c.add("Where", [rest, c.scalar(_END, np.int64), ends_name])
    c.give(c.add("Slice", [c.x(), first_name, ends_name, axes]))


def _strided_slice(c: Import) -> None:
    """Python's x[a:b:c, ..., None, d]: masks say which bounds do not count, and which axes come and go."""
    spec = _Spec(c)
    x = c.x()
    if spec.axes:
        bounds = [spec.bound(1), spec.bound(2), c.constant(spec.axes, "axes"), spec.steps()]
        x = c.add("Slice", [x, *bounds])
    if spec.dropped:
        x = c.add("Squeeze", [x, c.constant(spec.dropped, "dropped")])
    if spec.added:
        x = c.add("Unsqueeze", [x, c.constant(spec.added, "added")])
    c.give(x)


class _Spec:
    """A strided slice read entry by entry.

    Attributes:
        axes: of the input, where something is cut.
        dropped: axes of the input that vanish.
        added: axes of the result that the input does not have.
    """

    def __init__(self, c: Import) -> None:
        self._c = c
        self._count = c.shape(3)[0] if c.rank(3) == 1 else -1
        if self._count < 0 or self._count > _MOST_ENTRIES:
            raise Refusal("the number of its bounds is open")
        strides = c.value(3)
        self._strides = None if strides is None else strides.astype(np.int64)
        if self._strides is not None and not self._strides.all():
            raise Refusal("a stride is 0")
        self._entries: list[int] = []
        self.axes: list[int] = []
        self.dropped: list[int] = []
        self.added: list[int] = []
        self._read()

    def _read(self) -> None:
        new, ellipsis = self._mask("newAxisMask"), self._mask("ellipsisMask")
        axis, rank = 0, self._c.rank()
        place = 0
        for entry in range(self._count):
            if ellipsis[entry]:
                skipped = rank - axis - int((~new[entry + 1 :]).sum())
                axis, place = axis + skipped, place + skipped
            elif new[entry]:
                self.added.append(place)
                place += 1
            else:
                self._cut(entry, axis)
                place += 0 if self._mask("shrinkAxisMask")[entry] else 1
                axis += 1
        if axis > rank:
            raise Refusal(f"it cuts {axis} axes of a tensor with {rank}")

    def _cut(self, entry: int, axis: int) -> None:
        shrinks = bool(self._mask("shrinkAxisMask")[entry])
        if shrinks:
            self.dropped.append(axis)
        is_open = bool(self._mask("beginMask")[entry] and self._mask("endMask")[entry]) and not shrinks
        if not is_open or self._strides is None or self._strides[entry] != 1:
            self._entries.append(entry)
            self.axes.append(axis)

    def _mask(self, name: str) -> np.ndarray:
        bits = int(self._c.option(name))
        return np.array([bool(bits >> entry & 1) for entry in range(self._count)], bool)

    def steps(self) -> str:
        """Strides; where one element is taken, 1."""
        c, shrinks = self._c, self._mask("shrinkAxisMask")[self._entries]
        if self._strides is not None:
            return c.constant(np.where(shrinks, 1, self._strides[self._entries]), "steps")
        strides = self._computed(3)
        return (
            c.add("Where", [c.constant(shrinks, "single"), c.scalar(1, INT64), strides]) if shrinks.any() else strides
        )

    def bound(self, index: int) -> str:
        """Begins (input 1) or ends (input 2) as Slice wants them."""
        c = self._c
        shrinks = self._mask("shrinkAxisMask")[self._entries]
        # An index is an index: its begin counts in any case.
        is_open = self._mask("beginMask" if index == 1 else "endMask")[self._entries] & ~shrinks
        begins, found = c.value(1), c.value(index)
        if found is None or begins is None or self._strides is None:
            return self._computed_bound(index, shrinks, is_open)
        begin = begins.reshape(-1).astype(np.int64)[self._entries]
        end = found.reshape(-1).astype(np.int64)[self._entries]
        far = np.where(self._strides[self._entries] > 0, *_FAR[index])
        if index == 1:
            return c.constant(np.where(is_open, far, begin), "starts")
        end = end + begin if c.option("offset") else end
        after = np.where(begin == -1, _END, begin + 1)
        return c.constant(np.where(shrinks, after, np.where(is_open, far, end)), "ends")

    def _computed(self, index: int) -> str:
        c = self._c
        entries = c.constant(np.array(self._entries, np.int64), "entries")
        return c.int64(index) if len(self._entries) == self._count else c.add("Gather", [c.int64(index), entries])

    def _computed_bound(self, index: int, shrinks: np.ndarray, is_open: np.ndarray) -> str:
        c, bounds = self._c, self._computed(index)
        if index == 2 and c.option("offset"):
            bounds = c.add("Add", [bounds, self._computed(1)])
        if index == 2 and shrinks.any():
            after = c.add("Add", [self._computed(1), c.scalar(1, INT64)])
            is_last = c.add("Equal", [after, c.scalar(0, INT64)])
            after = c.add("Where", [is_last, c.scalar(_END, INT64), after])
            bounds = c.add("Where", [c.constant(shrinks, "single"), after, bounds])
        if not is_open.any():
            return bounds
        is_forward = c.add("Greater", [self.steps(), c.scalar(0, INT64)])
        far = c.add("Where", [is_forward, *(c.scalar(value, INT64) for value in _FAR[index])])
        return c.add("Where", [c.constant(is_open, "open"), far, bounds])


#: Where an open bound lies with a positive and with a negative stride: begins (1) and ends (2).
_FAR = {1: (0, _END), 2: (_END, _FRONT)}
_MOST_ENTRIES = 32


def _reverse(c: Import) -> None:
    axes = c.axes(1, c.rank())
    count = len(axes)
    bounds = [c.constant([value] * count, hint) for value, hint in ((_END, "starts"), (_FRONT, "ends"))]
    c.give(c.add("Slice", [c.x(), *bounds, c.constant(axes, "axes"), c.constant([-1] * count, "steps")]))


def _reverse_sequence(c: Import) -> None:
    """ONNX has the batch and time axes first: other axes are moved there."""
    rank = c.rank()
    time, batch = c.axis(int(c.option("seqDim")), rank), c.axis(int(c.option("batchDim")), rank)
    if {time, batch} == {0, 1}:
        c.give(c.add("ReverseSequence", [c.x(), c.int64(1)], time_axis=time, batch_axis=batch))
        return
    perm = [time, batch, *(axis for axis in range(rank) if axis not in (time, batch))]
    moved = c.add("ReverseSequence", [c.transpose(c.x(), perm), c.int64(1)], time_axis=0, batch_axis=1)
    c.give(c.transpose(moved, [perm.index(axis) for axis in range(rank)]))


def _dynamic_update(c: Import) -> None:
    """The update at a computed place, moved inwards where it would reach beyond the end.

    What is as long as the whole begins at 0. Where that is so of all axes but one, whole slices are written.
    """
    sizes, whole = c.shape(1), c.shape()
    if len(sizes) != len(whole):
        raise Refusal(f"it updates {list(whole)} with {list(sizes)}")
    partial = [axis for axis, size in enumerate(sizes) if size != whole[axis]]
    if not partial:
        c.give(c.x(1))
    elif len(partial) == 1 and sizes[partial[0]] >= 0:
        _update_slices(c, partial[0])
    else:
        _update_elements(c)


def _update_slices(c: Import, axis: int) -> None:
    size, rank = c.shape(1)[axis], c.rank()
    perm = [axis, *(a for a in range(rank) if a != axis)]
    place = c.constant([axis], "axis")
    room = c.add("Sub", [c.add("Shape", [c.x(0)], start=axis, end=axis + 1), c.constant([size], "size")])
    start = _clamped(c, c.add("Gather", [c.int64(2), place], axis=0), room)
    rows = c.add("Add", [c.constant(c.positions(size)[:, None], "rows"), start])
    found = c.add("ScatterND", [c.permuted(0, perm), rows, c.permuted(1, perm)])
    c.give(c.transpose(found, [perm.index(a) for a in range(rank)]))


def _update_elements(c: Import) -> None:
    sizes, whole = c.shape(1), c.shape()
    if -1 in (*sizes, *whole):
        raise Refusal("it has an open dimension")
    c.positions(math.prod(sizes) * len(sizes))
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in sizes], indexing="ij"), -1).astype(np.int64)
    room = np.array([size - part for size, part in zip(whole, sizes, strict=True)], np.int64)
    start = _clamped(c, c.int64(2), c.constant(room, "room"))
    c.give(c.add("ScatterND", [c.x(0), c.add("Add", [c.constant(grid, "grid"), start]), c.x(1)]))


def _clamped(c: Import, start: str, room: str) -> str:
    return c.add("Min", [c.add("Max", [start, c.scalar(0, INT64)]), room])


RULES = (
    ImportRule("SLICE", _slice, ("Slice", "Add", "Less", "Where")),
    ImportRule(
        "STRIDED_SLICE",
        _strided_slice,
        ("Slice", "Squeeze", "Unsqueeze", "Gather", "Add", "Equal", "Greater", "Where"),
    ),
    ImportRule("REVERSE_V2", _reverse, ("Slice",)),
    ImportRule("REVERSE_SEQUENCE", _reverse_sequence, ("ReverseSequence", "Transpose")),
    ImportRule("DYNAMIC_UPDATE_SLICE", _dynamic_update, ("ScatterND", "Add", "Max", "Min", "Shape", "Sub")),
)
