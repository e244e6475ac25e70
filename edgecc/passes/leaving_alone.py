"""What passes that make models smaller say of what they leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc.inspection import Product
    from edgecc.model import Model
    from edgecc.passes.base import Pass, PassContext

#: Reasons that a note names; the report has all of them.
_SHOWN = 3
#: Why a layer stays that the user names.
TO_BE_IGNORED = "it is to be ignored"
#: Why a layer stays that is part of another operator.
IN_SUBGRAPH = "it is in a subgraph of If, Loop or Scan"


def named_reasons(pairs: Sequence[tuple[str, str]]) -> str:
    """The first of several reasons, each with whose it is.

    Args:
        pairs: name and reason.
    """
    named = [f"{name!r}: {reason}" for name, reason in pairs[:_SHOWN]]
    more = [f"{len(pairs) - _SHOWN} more in the report"] if len(pairs) > _SHOWN else []
    return "; ".join([*named, *more])


def note_nothing(step: Pass, ctx: PassContext, what: str, none: str, hint: str) -> None:
    """Say that the pass has nothing to do, and why: what it skipped so far, or that there is nothing of the kind.

    Args:
        step: the pass.
        ctx: with its skips.
        what: is skipped, in the singular.
        none: what the model lacks if nothing was skipped.
        hint: what to try; "" for nothing.
    """
    pairs = [(skip.node, skip.reason) for skip in ctx.skips if skip.pass_name == step.name]
    stay = f"1 {what} stays" if len(pairs) == 1 else f"{len(pairs)} {what}s stay"
    why = f"{stay} as it is" if len(pairs) == 1 else f"{stay} as they are"
    reasons = f"{why} ({named_reasons(pairs)})" if pairs else f"the model has {none}"
    ctx.note(f"{step.name}: nothing to do: {reasons}{f'. Try: {hint}' if hint else ''}")


def leave_quantized(step: Pass, model: Model, ctx: PassContext) -> bool:
    """Report layers that came quantized, which no pass that makes models smaller can change.

    Args:
        step: the pass.
        model: that it is to run on.
        ctx: gets the skips and a note.

    Returns:
        Whether there are any.
    """
    from edgecc.quantization.quantized_layers import integer_layers

    found = integer_layers(model)
    for node in found:
        ctx.skip(node, "its weights are quantized already")
    if not found:
        return False
    count = "1 layer is" if len(found) == 1 else f"{len(found)} layers are"
    ctx.note(
        f"{step.name}: {count} quantized already and cannot be made smaller any more. Try: start from the model as it "
        f"was in float: edgecc compile FLOAT_MODEL --pass {step.spec()} --quantize int8 --calibration DATA.npz"
    )
    return True


def leave_inner(model: Model, ctx: PassContext, ignore: Sequence[str] = ()) -> int:
    """Report layers of subgraphs, of which no pass that makes models smaller changes any.

    Args:
        model: that the pass runs on.
        ctx: gets the skips.
        ignore: patterns of names of layers that are to stay anyway.

    Returns:
        How many there are.
    """
    from edgecc.model import matches_any
    from edgecc.pruning.works import weights_of

    found = [node for node in model.all_nodes() if model.is_inner(node) and weights_of(node)]
    for node in found:
        ctx.skip(node, TO_BE_IGNORED if matches_any(node, ignore) else IN_SUBGRAPH)
    return len(found)


def leave_recurrent(model: Model, ctx: PassContext, reason: str, ignore: Sequence[str] = ()) -> None:
    """Report recurrent layers, and layers of subgraphs, of which the pass changes none.

    Args:
        model: that the pass runs on.
        ctx: gets the skips.
        reason: why recurrent ones stay.
        ignore: patterns of names of layers that are to stay anyway.
    """
    from edgecc.inspection import RECURRENT
    from edgecc.model import matches_any
    from edgecc.pruning.works import weights_of

    for node in model.nodes(*RECURRENT):
        if weights_of(node):
            ctx.skip(node, TO_BE_IGNORED if matches_any(node, ignore) else reason)
    leave_inner(model, ctx, ignore)


def ignored_layers(patterns: Sequence[str], model: Model) -> set[str]:
    """Names of the nodes that an option's patterns are about: passes fit their weights to nothing."""
    from edgecc.model import matches_any

    return {node.name for node in model.nodes() if matches_any(node, patterns)} if patterns else set()


def open_sizes(model: Model) -> str:
    """What fixes the model's open dimensions to one sample; "" if it has none."""
    specs = [spec for spec in model.signature.inputs if not spec.is_static]
    shapes = [f"{spec.name}={','.join(str(d) if isinstance(d, int) else '1' for d in spec.shape)}" for spec in specs]
    return " ".join(f"--shape {shape}" for shape in shapes)


def note_uncounted(step: Pass, model: Model, ctx: PassContext) -> None:
    """Say that a budget of multiply-accumulates is about a part of them, if it is.

    Args:
        step: whose budget it is.
        model: that it is about.
        ctx: gets the note.
    """
    from edgecc.inspection import counted_products

    products = counted_products(model.graph.nodes)
    missed = _miscounted(model, products)
    if missed:
        fixed = open_sizes(model)
        hint = f"{fixed}, with the sizes that it is used with" if fixed else f"{step.name}:params=0.5 counts weights"
        ctx.note(
            f"{step.name}: the budget counts {missed} of the {len(products)} operators that multiply too low or not at "
            f"all, since sizes are open or unknown. Try: {hint}"
        )
    once = sum(product.is_static and not product.is_repeated for product in products)
    if once:
        ctx.note(
            f"{step.name}: the budget counts {once} of the {len(products)} operators that multiply once: they are in "
            "loops that run an unknown number of times"
        )


def _miscounted(model: Model, products: Sequence[Product]) -> int:
    """How many products have another share in the whole than they are counted with, as far as is known.

    That no size of the batch is given is no reason: all shares stay what they are, unless the batch is one axis with
    something else somewhere.
    """
    from edgecc.inspection import counted_products

    unknown = [product for product in products if not product.is_static]
    sizes = [(size, axis) for tensor in model.inputs for axis, size in enumerate(tensor.shape or ())]
    if not unknown or any(axis for size, axis in sizes if not isinstance(size, int)):
        return len(unknown)
    single = model.clone()
    for tensor in single.inputs:
        tensor.shape = [size if isinstance(size, int) else 1 for size in tensor.shape or ()]
    single.cleanup()
    found = {product.node.name: product for product in counted_products(single.graph.nodes)}
    same = [found.get(product.node.name) for product in unknown]
    return sum(
        other is None or not other.is_static or other.macs != product.macs
        for product, other in zip(unknown, same, strict=True)
    )
