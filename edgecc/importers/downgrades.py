"""What is newer than the internal opset, has no function body, and can be said in the internal opset all the same.

Each function turns one node into nodes of the internal opset, or returns False where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from edgecc.importers.upgrade_site import Site


def _mod(site: Site) -> bool:
    """Mod of floats that rounds the quotient down; before opset 28 there is only the one that truncates it.

    The result has the divisor's sign, zeros too: it is found for a positive divisor, and gets the sign at the end (by a
    product: ONNX Runtime's Where does not keep the sign of zeros).
    """
    x, y, out = site.input(0), site.input(1), site.node.output[0]
    zero, one, minus_one = (site.scalar_like(value, y) for value in (0.0, 1.0, -1.0))
    sign = site.before("Where", [site.before("Less", [y, zero]), minus_one, one])
    rest = site.before("Mul", [site.before("Mod", [x, y], fmod=1), sign])
    above = site.before("Add", [rest, site.before("Abs", [y])])
    positive = site.before("Where", [site.before("Less", [rest, zero]), above, site.before("Abs", [rest])])
    site.after("Mul", [positive, sign], out)
    site.drop_node()
    return True


def _cumulative_product(site: Site) -> bool:
    """The products of a matrix: row i holds the elements that output i is made of, and ones."""
    x, out = site.input(0), site.node.output[0]
    shape, axis_value = site.facts.shape(x), site.facts.values(site.input(1))
    if shape is None or axis_value is None:
        return False
    rank = len(shape)
    axis = int(axis_value.item()) % rank
    exclusive, reverse = int(site.get("exclusive", 0)), int(site.get("reverse", 0))
    size = site.before("Shape", [x], start=axis, end=axis + 1)
    square = site.before("Expand", [site.ints([1]), site.before("Concat", [size, size], axis=0)])
    diagonal = site.constant(np.array(exclusive if reverse else -exclusive, np.int64))
    triangle = site.before("Trilu", [square, diagonal], upper=reverse)
    mask = site.before("Cast", [triangle], to=onnx.TensorProto.BOOL)
    behind = list(range(2, rank - axis + 1))
    if behind:
        mask = site.before("Unsqueeze", [mask, site.ints(behind)])
    rows = site.before("Unsqueeze", [x, site.ints([axis])])
    factors = site.before("Where", [mask, rows, site.scalar_like(1, x)])
    site.after("ReduceProd", [factors, site.ints([axis + 1])], out, keepdims=0)
    site.drop_node()
    return True


def _tensor_scatter(site: Site) -> bool:
    """Positions along the axis, the same for all elements of a sample."""
    cache, update, starts, out = site.input(0), site.input(1), site.input(2), site.node.output[0]
    shape = site.facts.shape(cache)
    if shape is None:
        return False
    rank = len(shape)
    axis = int(site.get("axis", -2)) % rank
    length = site.before("Squeeze", [site.before("Shape", [update], start=axis, end=axis + 1)])
    zero, one = (site.constant(np.array(value, np.int64)) for value in (0, 1))
    places = site.before("Range", [zero, length, one])
    absent = [dim for dim in range(rank) if dim != axis]
    if starts:
        places = site.before("Add", [site.before("Unsqueeze", [starts, site.ints([1])]), places])
        absent.remove(0)
    if site.get("mode", b"linear") == b"circular":
        places = site.before("Mod", [places, site.before("Shape", [cache], start=axis, end=axis + 1)])
    if absent:
        places = site.before("Unsqueeze", [places, site.ints(absent)])
    places = site.before("Expand", [places, site.before("Shape", [update])])
    site.after("ScatterElements", [cache, places, update], out, axis=axis)
    site.drop_node()
    return True


def _through_float32(site: Site) -> bool:
    """An operator that took no bfloat16 before, and that moves its values, or may as well sum them more exactly."""
    node, facts = site.node, site.facts
    if not any(facts.dtype(name) == onnx.TensorProto.BFLOAT16 for name in node.input):
        return False
    for index, name in enumerate(node.output):
        if name and facts.dtype(name) == onnx.TensorProto.BFLOAT16:
            site.after("Cast", [site.divert_output(index)], name, to=onnx.TensorProto.BFLOAT16)
    for index, name in enumerate(node.input):
        if facts.dtype(name) == onnx.TensorProto.BFLOAT16:
            site.set_input(index, site.before("Cast", [name], to=onnx.TensorProto.FLOAT))
    return True


#: By operator; asked only for nodes that the internal opset's own operator of that name cannot express.
TABLE: dict[str, Callable[[Site], bool]] = {
    "Compress": _through_float32,
    "CumProd": _cumulative_product,
    "Einsum": _through_float32,
    "Mod": _mod,
    "OneHot": _through_float32,
    "ReverseSequence": _through_float32,
    "TensorScatter": _tensor_scatter,
    "Unique": _through_float32,
}
