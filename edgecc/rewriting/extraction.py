"""A part of a model as a model of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgecc.cleanup import drop_unused

if TYPE_CHECKING:
    from edgecc.model import Model


def extract(model: Model, inputs: Iterable[str], outputs: Iterable[str]) -> Model:
    """What computes some tensors from others.

    Args:
        model: not changed; weights are shared with it.
        inputs: names of tensors that are fed; the model's own inputs are fed too where they are needed.
        outputs: names of the tensors that it gives, none of them among the inputs.

    Raises:
        KeyError: there is no tensor of that name.
    """
    part = model.clone()
    known = {tensor.name: tensor for tensor in part.tensors()}
    fed, given = [known[name] for name in inputs], [known[name] for name in outputs]
    for tensor in fed:
        producer = part.producer(tensor)
        if producer is not None:
            place = next(i for i, out in enumerate(producer.outputs) if out is tensor)
            part.set_output(producer, place, part.variable(f"{tensor.name}/cut", tensor.dtype, tensor.shape))
    part.graph.outputs = given
    drop_unused(part.graph)
    read = {id(tensor) for node in part.nodes() for tensor in node.inputs}
    own = [tensor for tensor in part.inputs if id(tensor) in read and not any(tensor is other for other in fed)]
    part.graph.inputs = [*fed, *own]
    return part
