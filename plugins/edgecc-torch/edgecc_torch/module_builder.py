"""A Model as a PyTorch module: an fx graph with one call for each node, and its constants as parameters and buffers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from edgecc.errors import Unsupported, UnsupportedError
from edgecc.model import Model, display_name, is_standard, value_of
from edgecc_torch.rules.base import NodeView, RefusalError, Sizes, torch_type
from edgecc_torch.rules.table import RULES, SIZE_RULES

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor

#: Operators all of whose inputs are data.
_ALL_INPUTS = frozenset({"Add", "Concat", "Div", "Mul", "Sub"})
#: They store numbers of types with which PyTorch does not compute.
_QUANTIZERS = frozenset({"DequantizeLinear", "QuantizeLinear"})
_NO_RULE = "there is no rule that makes a PyTorch module of it"
_REPLACE = "replace it, or keep the model in another format"


def to_module(model: Model) -> fx.GraphModule:
    """A module that computes the model, with one call for each node: `print(module.code)` shows it.

    Its arguments are the model's inputs in order, under their names where those are Python names. It returns a tensor,
    or a tuple of the model's outputs in order. Constants with several floating-point values are parameters, except for
    statistics of normalizations; so the module can be trained.

    Args:
        model: not changed.

    Raises:
        UnsupportedError: nodes for which there is no rule, all of them at once.
    """
    builder = ModuleBuilder(model)
    module = builder.build()
    if builder.unsupported:
        raise UnsupportedError("torch", builder.unsupported)
    return module


class ModuleBuilder:
    """Builds the graph, and collects every node that cannot be in it.

    Attributes:
        unsupported: with reasons; the module is of no use if there are any.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._root = torch.nn.Module()
        self._graph = fx.Graph()
        self._tracer = fx.proxy.GraphAppendingTracer(self._graph)
        self._values: dict[int, fx.Proxy | Sizes] = {}
        self._attributes: dict[tuple[int, bool], fx.Proxy] = {}
        self.unsupported: list[Unsupported] = []

    def build(self) -> fx.GraphModule:
        """The module."""
        for name, tensor in zip(argument_names(self._model), self._model.inputs, strict=True):
            self._values[id(tensor)] = fx.Proxy(self._graph.placeholder(name), self._tracer)
        for node in self._model.nodes():
            self._add(node)
        outputs = tuple(self._output(tensor) for tensor in self._model.outputs)
        self._graph.output(outputs[0] if len(outputs) == 1 else outputs)
        self._graph.eliminate_dead_code()
        module = fx.GraphModule(self._root, self._graph, "EdgeccModule")
        module.eval()
        return module

    # ----------------------------------------------------------------------------------------- what rules build with

    def tensor(self, tensor: Tensor, *, trainable: bool) -> fx.Proxy:
        """The value of a tensor: what its node made, or an attribute of the module."""
        values = value_of(tensor)
        if values is not None:
            key = (id(tensor), trainable and _is_trainable(values))
            if key not in self._attributes:
                self._attributes[key] = self.attribute(str(tensor.name), values, trainable=key[1])
            return self._attributes[key]
        found = self._values[id(tensor)]
        if isinstance(found, Sizes):
            raise RefusalError(f"it computes with the shape {tensor.name} as if it were data")
        return found

    def attribute(self, hint: str, values: np.ndarray, *, trainable: bool) -> fx.Proxy:
        """A new parameter or buffer, called after `hint` as far as modules can be."""
        data = _torch_values(values)
        owner, name = self._place(hint)
        if trainable and _is_trainable(values):
            owner.register_parameter(name.rpartition(".")[2], torch.nn.Parameter(data))
        else:
            owner.register_buffer(name.rpartition(".")[2], data)
        return fx.Proxy(self._graph.get_attr(name), self._tracer)

    def sizes_of(self, tensor: Tensor) -> Sizes | None:
        """What a tensor of sizes holds; None if its values are not known as numbers."""
        values = value_of(tensor)
        if values is not None:
            return (
                Sizes(tuple(int(v) for v in values.reshape(-1)), values.ndim == 0)
                if values.dtype.kind in "iu"
                else None
            )
        found = self._values[id(tensor)]
        return found if isinstance(found, Sizes) else None

    def call(
        self, function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any] = MappingProxyType({})
    ) -> fx.Proxy:
        return self._tracer.create_proxy("call_function", function, tuple(arguments), dict(options))

    def is_read(self, tensor: Tensor) -> bool:
        return bool(tensor.outputs) or self._model.is_output(tensor)

    # ------------------------------------------------------------------------------------------------------ the graph

    def _add(self, node: Node) -> None:
        several: Sequence[Any] = ()
        try:
            made = self._made(node)
            several = made if isinstance(made, (tuple, list)) else [made]
            if any(self.is_read(tensor) for tensor in node.outputs[len(several) :]):
                raise RefusalError(f"more than its first {len(several)} outputs are read")
        except RefusalError as error:
            self.unsupported.append(Unsupported(display_name(node), _op_name(node), error.reason, error.hint))
        for index, tensor in enumerate(node.outputs):
            # Behind a node that nothing takes, others are still looked at.
            self._values[id(tensor)] = several[index] if index < len(several) else self.call(_unknown, ())

    def _made(self, node: Node) -> Any:
        if any(attribute for attribute in node.attrs.values() if hasattr(attribute, "nodes")):
            raise RefusalError("it runs a subgraph", _REPLACE)
        view = NodeView(node, self)
        if not is_standard(node):
            raise RefusalError(_NO_RULE, _REPLACE)
        for tensor in (*node.inputs, *node.outputs):
            if tensor.dtype is not None and node.op not in _QUANTIZERS:
                torch_type(tensor.dtype)
        if node.op == "Shape" or (node.op in SIZE_RULES and self._is_of_sizes(node)):
            return SIZE_RULES[node.op](view)
        if node.op not in RULES:
            raise RefusalError(_NO_RULE, _REPLACE)
        return RULES[node.op](view)

    def _is_of_sizes(self, node: Node) -> bool:
        """Whether its data are sizes: what other inputs say, such as a shape to give them, does not matter."""
        data = node.inputs[1:] if node.op == "Where" else node.inputs if node.op in _ALL_INPUTS else node.inputs[:1]
        made = any(isinstance(self._values.get(id(tensor)), Sizes) for tensor in data)
        return made and all(self.sizes_of(tensor) is not None for tensor in data)

    def _output(self, tensor: Tensor) -> fx.Node | None:
        try:
            return self.tensor(tensor, trainable=False).node
        except RefusalError as error:
            self.unsupported.append(Unsupported(str(tensor.name), "", error.reason, error.hint))
            return None

    def _place(self, hint: str) -> tuple[torch.nn.Module, str]:
        """A free dotted name, and the submodule that it is in: `layer1.0.weight` stays what it was."""
        parts = [re.sub(r"\W", "_", part) or "_" for part in hint.split(".")]
        if not _is_path(self._root, parts):
            parts = ["_".join(parts)]
        if parts[0].isdigit() and len(parts) == 1:
            parts = [f"constant_{parts[0]}"]
        last, count = parts[-1], 1
        while _exists(self._root, parts):
            count += 1
            parts[-1] = f"{last}_{count}"
        owner = self._root
        for part in parts[:-1]:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]
        return owner, ".".join(parts)


def argument_names(model: Model) -> list[str]:
    """The model's inputs as names of arguments."""
    names: list[str] = []
    for tensor in model.inputs:
        name = re.sub(r"\W", "_", str(tensor.name))
        name = name if name.isidentifier() and not _is_reserved(name) else f"input_{name}".rstrip("_")
        free, count = name, 1
        while free in names:
            count += 1
            free = f"{name}_{count}"
        names.append(free)
    return names


def _is_reserved(name: str) -> bool:
    import builtins
    import keyword

    return keyword.iskeyword(name) or hasattr(builtins, name) or name == "self"


def _is_path(root: torch.nn.Module, parts: Sequence[str]) -> bool:
    """Whether modules can be made on the way to that name: none of its parts is anything else yet."""
    module = root
    for part in parts[:-1]:
        if part not in module._modules:
            return not hasattr(module, part)
        module = module._modules[part]
    return True


def _exists(root: torch.nn.Module, parts: Sequence[str]) -> bool:
    module = root
    for part in parts[:-1]:
        if part not in module._modules:
            return False
        module = module._modules[part]
    return hasattr(module, parts[-1])


def _is_trainable(values: np.ndarray) -> bool:
    return values.size > 1 and (values.dtype.kind == "f" or values.dtype.name == "bfloat16")


def _torch_values(values: np.ndarray) -> torch.Tensor:
    """A tensor of its own: constants of a Model may lie in a read-only file."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    if values.dtype.kind not in "fiub" or values.dtype.itemsize == 0:
        raise RefusalError(f"PyTorch has no tensors of {values.dtype.name}")
    native = values.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(values, dtype=native, order="C"))


def _op_name(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else str(node.op)


def _unknown() -> None:
    """Stands for what a node without a rule would give; never called."""
