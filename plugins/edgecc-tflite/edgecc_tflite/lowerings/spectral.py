"""Fourier transforms of a known length as products with matrices, and the windows in front of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, constant, ranked, typed
from edgecc_tflite.lowerings.late import count_up, late, now

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: The longest transform: its matrix has up to four times the square of it as elements.
_LONGEST = 2048


def transform(size: int, length: int, parts: int, *, inverse: bool = False, onesided: bool = False) -> np.ndarray:
    """The matrix of a discrete Fourier transform over interleaved real and imaginary parts.

    Args:
        size: elements that there are; missing ones are zero, those beyond `length` are left out.
        length: of the transform.
        parts: 1 for real elements, 2 for complex ones.
        inverse: transform back, scaled by 1 / length.
        onesided: without the half of the spectrum that the other half repeats; inverse ones give real results.

    Returns:
        float32 of shape (outputs * parts of an output, size * parts).
    """
    is_half = inverse and onesided
    outputs = length // 2 + 1 if onesided and not inverse else length
    taken = min(size, length // 2 + 1 if is_half else length)
    turn = np.outer(np.arange(outputs), np.arange(taken)) * (2 * np.pi / length)
    waves = np.exp((1j if inverse else -1j) * turn) / (length if inverse else 1)
    if is_half:
        # Every wave but the constant and the fastest one stands for its mirror image too.
        twice = (np.arange(taken) > 0) & (2 * np.arange(taken) != length)
        waves = waves * np.where(twice, 2, 1)
    matrix = np.zeros((outputs, 1 if is_half else 2, size, parts))
    for part in range(parts):
        values = waves * (1j if part else 1)
        matrix[:, 0, :taken, part] = values.real
        if not is_half:
            matrix[:, 1, :taken, part] = values.imag
    return matrix.reshape(outputs * matrix.shape[1], size * parts).astype(np.float32)


def _dft(c: Lowering) -> None:
    axes = _candidates(c.node)
    if len(axes) == 1:
        _dft_along(c, axes[0], c.out())
        return
    # Which axis it is comes at run time: each is transformed.
    axis = c.binary("FLOOR_MOD", c.cast(c.x(2), np.int32), c.ints(c.x().rank))
    result = _dft_along(c, axes[0])
    for number, candidate in enumerate(axes[1:], 2):
        is_it = c.binary("EQUAL", axis, c.ints(candidate), dtype=bool)
        other, out = _dft_along(c, candidate), c.out() if number == len(axes) else None
        result = c.emit("SELECT_V2", [is_it, other, result], out, shape=result.shape, dtype=result.dtype)


def _dft_along(c: Lowering, axis: int, out: Tensor | None = None) -> Tensor:
    x, inverse, onesided = c.x(), bool(c.node.integer("inverse", 0)), bool(c.node.integer("onesided", 0))
    parts, size = x.shape[-1], x.shape[axis]
    matrix = transform(size, _length(c.node, axis), parts, inverse=inverse, onesided=onesided)
    perm = [a for a in range(x.rank - 1) if a != axis] + [axis, x.rank - 1]
    moved = c.transpose(x, perm)
    flat = c.reshape(moved, (*moved.shape[:-2], size * parts))
    inputs = [flat, c.constant(matrix, "waves"), None]
    product = c.emit("FULLY_CONNECTED", inputs, shape=(*flat.shape[:-1], matrix.shape[0]), keepNumDims=flat.rank != 2)
    out_parts = 1 if inverse and onesided else 2
    spectrum = c.reshape(product, (*flat.shape[:-1], matrix.shape[0] // out_parts, out_parts))
    back = [perm.index(a) for a in range(x.rank)]
    if out is not None and back == list(range(x.rank)):
        return c.reshape(product, spectrum.shape, out)
    return c.transpose(spectrum, back, out)


def _length(node: NodeView, axis: int) -> int:
    given, shape = node.value(1), node.shape()
    assert shape is not None
    if given is not None:
        return int(given.reshape(()))
    is_half = node.integer("inverse", 0) and node.integer("onesided", 0)
    return 2 * (shape[axis] - 1) if is_half else shape[axis]


def _candidates(node: NodeView) -> list[int]:
    """The axes that it may be, as far as the shapes tell."""
    axis, shape, out = node.value(2), node.shape(), node.out_shape()
    assert shape is not None
    assert out is not None
    if not node.has(2) or axis is not None:
        return [(-2 if axis is None else int(axis.reshape(()))) % len(shape)]
    inverse, onesided = node.integer("inverse", 0), node.integer("onesided", 0)
    fitting = []
    for candidate in range(len(shape) - 1):
        length = _length(node, candidate)
        outputs = length // 2 + 1 if onesided and not inverse else length
        wanted = tuple(outputs if a == candidate else d for a, d in enumerate(shape[:-1]))
        if shape[candidate] >= 0 and out[:-1] == wanted:
            fitting.append(candidate)
    return fitting


def _known_length(node: NodeView) -> str | None:
    shape, out = node.shape(), node.out_shape()
    if shape is None or out is None or (node.has(1) and node.value(1) is None):
        return None
    axes = _candidates(node)
    if not axes:
        return "the axis is computed at run time and the shapes do not tell which it may be"
    for axis in axes:
        if shape[axis] < 0:
            return "a transform whose length is not known"
        if _length(node, axis) > _LONGEST:
            return f"a transform of {_length(node, axis)} elements; up to {_LONGEST} can be lowered"
    return None


def _stft(c: Lowering) -> None:
    x, out, length = c.x(), c.out(), _frame_length(c.node)
    assert length is not None
    parts = x.shape[2] if x.rank == 3 else 1
    signal = c.reshape(x, (*x.shape[:2], parts))
    frames = out.shape[1]
    order = c.ints(np.arange(length).reshape(1, -1))
    step, first = c.node.value(1), c.ints(np.arange(frames).reshape(-1, 1))
    if step is not None:
        order = c.ints(np.arange(frames).reshape(-1, 1) * int(step.reshape(())) + np.arange(length))
    else:
        order = c.binary("ADD", c.binary("MUL", first, c.cast(c.x(1), np.int32)), order)
    pieces = c.emit("GATHER", [signal, order], shape=(x.shape[0], frames, length, parts), axis=1)
    window = c.optional(2)
    if window is not None:
        pieces = c.binary("MUL", pieces, c.reshape(window, (1, 1, length, 1)))
    matrix = transform(length, length, parts, onesided=bool(c.node.integer("onesided", 1)))
    flat = c.reshape(pieces, (x.shape[0], frames, length * parts))
    inputs = [flat, c.constant(matrix, "waves"), None]
    product = c.emit("FULLY_CONNECTED", inputs, shape=(*flat.shape[:2], matrix.shape[0]), keepNumDims=True)
    c.reshape(product, out.shape, out)


def _frame_length(node: NodeView) -> int | None:
    length, window = node.value(3), node.shape(2) if node.has(2) else None
    if length is not None:
        return int(length.reshape(()))
    return None if window is None or window[0] < 0 else window[0]


def _known_frames(node: NodeView) -> str | None:
    out, length = node.out_shape(), _frame_length(node)
    if length is None:
        return "frame_length is computed at run time"
    if out is None or out[1] < 0:
        return "the number of frames is not known"
    bins = length // 2 + 1 if node.integer("onesided", 1) else length
    if out[2] != bins:
        # Without the attribute, onnx takes `onesided` for 0.
        return f"the result has {bins} bins and is declared with {out[2]}; write the attribute onesided into the model"
    return f"frames of {length} elements; up to {_LONGEST} can be lowered" if length > _LONGEST else None


def _window(op: str, *factors: float) -> LoweringRule:
    """A sum of cosines: factor 0 - factor 1 cos(turn) + factor 2 cos(2 turn) ..."""

    def lower(c: Lowering) -> None:
        size = late(c, c.x()) if c.out().shape[0] < 0 else now(c, c.out().shape[0])
        span = size if c.node.integer("periodic", 1) else size - 1
        turn = count_up(c, size) * (2 * math.pi / span)
        if turn.is_known:
            waves = [(-1) ** n * factor * np.cos(n * turn.known) for n, factor in enumerate(factors)]
            c.define(0, np.sum(waves, axis=0).astype(np.float32))
            return
        total = turn * 0.0 + factors[0]
        for n, factor in enumerate(factors[1:], 1):
            wave = late(c, c.unary("COS", (turn * float(n)).tensor))
            total = total + wave * ((-1) ** n * factor)
        c.copy(total.tensor, c.out())

    return LoweringRule(op, lower, ("CAST", "RANGE", "DIV", "COS", "MUL", "ADD"), (_float_window,), since=17)


def _float_window(node: NodeView) -> str | None:
    return None if node.integer("output_datatype", 1) == 1 else "an output_datatype other than float32"


RULES = (
    LoweringRule(
        "DFT",
        _dft,
        ("FULLY_CONNECTED", "TRANSPOSE", "RESHAPE", "EQUAL", "SELECT_V2"),
        (typed(FLOAT), ranked(2, 6), constant(1, "dft_length"), _known_length),
        since=20,
        note="As a product with a matrix of waves.",
    ),
    LoweringRule(
        "STFT",
        _stft,
        ("GATHER", "MUL", "ADD", "FULLY_CONNECTED", "RESHAPE"),
        (typed(FLOAT), _known_frames),
        since=17,
        note="Frames of a known length; the step may be computed at run time.",
    ),
    _window("HannWindow", 0.5, 0.5),
    _window("HammingWindow", 25 / 46, 21 / 46),
    _window("BlackmanWindow", 0.42, 0.5, 0.08),
)
