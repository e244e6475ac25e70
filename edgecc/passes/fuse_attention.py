"""Pass fuse-attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import AnyOf, Op, Pattern, Scalar, Value, Weight
from edgecc.rewriting.reading import describe, rank, scalar
from edgecc.rewriting.rewrite import Preparation, Replacement, Rewrite, RewritePass

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

_Q, _K, _V, _MASK = Value(), Value(), Value(), Value()
_ALLOWED, _FORBIDDEN, _LOW = Weight(), Weight(), Scalar()
_FACTORS: list[Scalar] = []
_DIVISORS: list[Scalar] = []


def _scaled(pattern: Pattern) -> Pattern:
    """The pattern, perhaps times or over a constant."""
    factor, divisor = Scalar(), Scalar()
    _FACTORS.append(factor)
    _DIVISORS.append(divisor)
    return AnyOf(Op("Mul", pattern, factor), Op("Div", pattern, divisor), pattern)


_TURNED = Op("Transpose", _scaled(_K))
#: PyTorch turns a tensor of three axes, which needs two Reshapes; the first goes where K had three before.
_FLAT = Op("Transpose", Op("Reshape", _scaled(_K), Value()))
_UNFLAT = Op("Reshape", _FLAT, Value())
_APART = Op("Reshape", _TURNED, Value())


def _attention(keys: Pattern) -> Pattern:
    """MatMul(Softmax(product + mask), V)."""
    product = _scaled(Op("MatMul", _scaled(_Q), _scaled(keys)))
    masked = AnyOf(
        Op("Add", product, _MASK),
        Op("Where", _ALLOWED, product, _LOW),
        Op("Where", _FORBIDDEN, _LOW, product),
        product,
    )
    return Op("MatMul", Op("Softmax", masked), _V)


#: What a mask must subtract at least, so that nothing is left of what it forbids.
_LOWEST = -1e4


class _Attention(Rewrite):
    """Softmax(Q K^T scale + mask) V, with batch, heads, rows and features as axes."""

    pattern = _attention(AnyOf(_TURNED, _UNFLAT))
    anchor = "Softmax"

    def is_candidate(self, node: Node, model: Model) -> bool:
        return any(reader.op in ("MatMul", "Where") for reader in model.consumers(node.outputs[0]))

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        q, v = found.tensor(_Q), found.tensor(_V)
        if rank(q) != 4 or rank(v) != 4 or rank(found.output) != 4:
            return f"{q.name!r} does not have the axes batch, heads, rows and features"
        if q.dtype is None or np.dtype(q.dtype) not in (np.float16, np.float32):
            return f"runtimes have no Attention of {q.dtype}"
        softmax = found.root.inputs[0].inputs[0]
        if int(softmax.attrs.get("axis", -1)) not in (-1, 3):
            return f"{describe(softmax)} is not over the last axis"
        keys = self.keys(found, model)
        if isinstance(keys, str):
            return keys
        reason = _differs(q, keys, v)
        if reason is not None:
            return reason
        scale, mask = _scale(found), _mask(found, keys, model)
        if isinstance(mask, str):
            return mask
        if not 0 < scale < math.inf:
            return f"the scale {scale:g} is not positive"
        if not ctx.gains_from("Attention"):
            return "the target gains nothing from Attention"
        return Replacement("Attention", [q, keys, v, *mask], {"scale": scale})

    def keys(self, found: Match, model: Model) -> Tensor | Preparation | str:
        """K with the axes of q; what was turned with its heads in one Transpose needs one of its own."""
        k = found.tensor(_K)
        if k.shape is None or len(k.shape) != 4:
            return f"{k.name!r} does not have the axes batch, heads, rows and features"
        if found.has(_UNFLAT):
            return (
                k if _merges_heads(found, k) else f"the Reshapes behind {k.name!r} do more than merge batch and heads"
            )
        places = list(found.node(_TURNED).attrs.get("perm", (3, 2, 1, 0)))
        order = [places[0], places[1], places[3], places[2]]
        if order == [0, 1, 2, 3]:
            return k
        shape = [k.shape[axis] for axis in order]
        return Preparation("Transpose", [k], np.dtype(k.dtype), shape, {"perm": order})


class _MergedHeads(_Attention):
    """K comes with batch and heads in one axis."""

    pattern = _attention(_APART)
    anchor = ""

    def keys(self, found: Match, model: Model) -> Tensor | Preparation | str:
        k, turned, apart = found.tensor(_K), found.tensor(_TURNED), found.tensor(_APART)
        places, shape = list(found.node(_TURNED).attrs.get("perm", ())), apart.shape
        if k.shape is None or turned.shape is None or shape is None or len(places) != 3:
            return f"{k.name!r} does not have the axes batch and heads together, rows and features"
        if len(shape) != 4 or list(shape[2:]) != list(turned.shape[1:]) or not all(isinstance(d, int) for d in shape):
            return f"the shape of {apart.name!r} is not known to be batch, heads, features and rows"
        order, wanted, dtype = [places[0], places[2], places[1]], [shape[0], shape[1], shape[3], shape[2]], k.dtype
        rows = Preparation("Transpose", [k], np.dtype(dtype), [k.shape[axis] for axis in order], {"perm": order})
        target = model.constant(f"{k.name}/shape", np.array(wanted, np.int64))
        return Preparation("Reshape", [k if order == [0, 1, 2] else rows, target], np.dtype(dtype), wanted)


class FuseAttention(RewritePass):
    """Say Attention (Vaswani et al., arXiv 1706.03762) where exporters write scaled dot products out.

    Before: t = Transpose<perm = [0, 1, 3, 2]>(k)   p = MatMul(q, t)   a = Div(p, {8})   m = Add(a, mask)
            s = Softmax(m)   y = MatMul(s, v)
    After:  y = Attention<scale = 0.125>(q, k, v, mask)

    For tensors of (batch, heads, rows, features). The scale may be on q, k, the product or several of them; the mask is
    added, or a constant that chooses between the product and minus infinity. Only for targets that gain from it.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-attention"
    loss = Loss.ROUNDING
    # What is known of an open batch differs between the two forms.
    keeps_types = False
    rewrites = (_Attention(), _MergedHeads())


def _merges_heads(found: Match, k: Tensor) -> bool:
    """Whether (batch, heads, rows, features) became (batch * heads, rows, features), was turned, and came back."""
    assert k.shape is not None
    flat, back = found.node(_FLAT), found.tensor(_UNFLAT).shape
    between = flat.inputs[0].shape
    if between is None or back is None or list(flat.attrs.get("perm", ())) != [0, 2, 1]:
        return False
    _, heads, rows, features = k.shape
    return list(between[-2:]) == [rows, features] and list(back[1:]) == [heads, features, rows]


def _differs(q: Tensor, k: Tensor | Preparation, v: Tensor) -> str | None:
    """Why the shapes are not those of one attention: nothing is broadcast."""
    assert q.shape is not None
    assert k.shape is not None
    assert v.shape is not None
    if not list(q.shape[:2]) == list(k.shape[:2]) == list(v.shape[:2]):
        return f"batch and heads of {q.name!r}, the keys and {v.name!r} are not known to be the same"
    if q.shape[3] != k.shape[3] or k.shape[2] != v.shape[2]:
        return f"the sizes of {q.name!r}, the keys and {v.name!r} are not known to fit"
    return None


def _scale(found: Match) -> float:
    factors = [scalar(found.tensor(part)) for part in _FACTORS if found.has(part)]
    divisors = [scalar(found.tensor(part)) for part in _DIVISORS if found.has(part)]
    product = math.prod(value for value in factors if value is not None)
    divided = math.prod(value for value in divisors if value is not None)
    return product / divided if divided else math.inf


_WHOLE_ROW = "the mask forbids a whole row, which Attention leaves open"


def _mask(found: Match, k: Tensor | Preparation, model: Model) -> list[Tensor] | str:
    """The mask as the operand that Attention has for it, if there is one."""
    from edgecc.model import value_of

    q = found.tensor(_Q)
    assert q.shape is not None
    assert k.shape is not None
    rows = [q.shape[2], k.shape[2]]
    if found.has(_MASK):
        mask = found.tensor(_MASK)
        if mask.shape is None or not 2 <= len(mask.shape) <= 4 or list(mask.shape[-2:]) != rows:
            return f"the mask {mask.name!r} does not have one value per row of q and k: kernels do not broadcast it"
        if any(dim not in (1, full) for dim, full in zip(mask.shape[-3::-1], q.shape[1::-1], strict=False)):
            return f"the mask {mask.name!r} is not known to fit batch and heads"
        values = value_of(mask)
        if values is not None and not (values > -np.inf).any(axis=-1).all():
            return _WHOLE_ROW
        return [mask]
    if not found.has(_LOW):
        return []
    allowed = found.constant(_ALLOWED) if found.has(_ALLOWED) else ~found.constant(_FORBIDDEN)
    if not (scalar(found.tensor(_LOW)) or 0.0) <= _LOWEST:
        return f"{found.tensor(_LOW).name!r} does not forbid what the mask excludes"
    if allowed.ndim == 0 or allowed.ndim > 4 or not allowed.any(axis=-1).all():
        return _WHOLE_ROW
    name = found.tensor(_ALLOWED if found.has(_ALLOWED) else _FORBIDDEN).name
    if not all(isinstance(dim, int) for dim in rows):
        return "the sizes of the mask are not known"
    scores = [*q.shape[:2], *rows]
    if any(dim not in (1, full) for dim, full in zip(allowed.shape[::-1], scores[::-1], strict=False)):
        return f"the mask {name!r} broadcasts the scores to another shape"
    shape = (*allowed.shape[:-2], *(int(dim) for dim in rows))
    return [model.constant(name, np.ascontiguousarray(np.broadcast_to(allowed, shape)))]
