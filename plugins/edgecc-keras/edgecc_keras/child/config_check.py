"""Model configurations, checked before Keras builds anything of them.

A configuration names classes and functions that Keras looks up, imports and calls, and Lambda layers carry bytecode.
Keras's own `safe_mode` covers `.keras` files; Keras 2 does not heed it in `.h5` files (CVE-2025-9905 and its kin).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from edgecc_keras.child.report import ModelError

_EXPORT = "export it where it was made: model.export('folder'), and import that SavedModel"
#: Layers that are code, or that load it from elsewhere.
_CODE_LAYERS = {
    "Lambda": "it holds code of its own",
    "__lambda__": "it holds code of its own",
    "TFSMLayer": "it loads another model from a path",
    "TorchModuleWrapper": "it unpickles a PyTorch module",
    "JaxLayer": "it holds code of its own",
    "FlaxLayer": "it holds code of its own",
}
_OWN_MODULES = re.compile(
    r"(keras|tf_keras)(\.src)?(\.(layers|models|engine|activations|initializers|regularizers|constraints|ops|random"
    r"|dtype_policies|mixed_precision|quantizers|applications|losses|metrics|optimizers)(\.\w+)*)?"
)
_FUNCTION_MODULES = re.compile(r"builtins|(keras|tf_keras)(\.src)?\.(activations|ops|initializers|layers)(\.\w+)*")
#: TensorFlow's functions that layers of Keras 2 can wrap: those that only compute.
_COMPUTING = re.compile(
    r"(compat\.v1\.)?((math|nn|linalg|signal|image|bitwise|quantization|__operators__|keras\.activations)\.(\w+\.)*\w+"
    r"|abs|add|argmax|argmin|argsort|batch_to_space|broadcast_to|cast|clip_by_value|concat|cumsum|divide|einsum|equal"
    r"|exp|expand_dims|eye|fill|floor|gather|gather_nd|greater|greater_equal|identity|less|less_equal|linspace|logical_and"
    r"|logical_not|logical_or|matmul|maximum|meshgrid|minimum|multiply|negative|norm|not_equal|one_hot|ones|ones_like|pad"
    r"|pow|range|rank|reduce_\w+|repeat|reshape|reverse|roll|round|scatter_nd|shape|sigmoid|sign|size|slice|softmax|sort"
    r"|space_to_batch|split|sqrt|square|squeeze|stack|stop_gradient|strided_slice|subtract|tanh|tensordot|tile|transpose"
    r"|truediv|unstack|where|zeros|zeros_like)"
)


def check_config(text: str | bytes) -> dict[str, Any]:
    """The configuration as JSON, once all that it names is Keras's own and only computes.

    Raises:
        ModelError: it is no JSON object, or it names code.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError("{path} is damaged: its configuration is no JSON", why=str(error)[:200]) from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError("{path} holds no Keras model", why="its configuration names no class")
    for entry in _entries(config):
        _check_entry(entry)
    return config


def _entries(value: object) -> Iterator[dict[str, Any]]:
    """Every dictionary of a configuration, without recursion."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_entry(entry: dict[str, Any]) -> None:
    name, module, settings = entry.get("class_name"), entry.get("module"), entry.get("config")
    if entry.get("function_type") in ("lambda", "raw"):
        raise _refused("a function", "its code is in the file")
    if not isinstance(name, str):
        return
    if name.rpartition(">")[2] in _CODE_LAYERS:
        raise _refused(f"layer {_title(entry)} ({name})", _CODE_LAYERS[name.rpartition(">")[2]])
    if name in ("TFOpLambda", "SlicingOpLambda"):
        function = settings.get("function") if isinstance(settings, dict) else None
        if name == "TFOpLambda" and not (isinstance(function, str) and _COMPUTING.fullmatch(function)):
            raise _refused(f"layer {_title(entry)} ({name})", f"it calls {str(function)[:100]!r} of TensorFlow")
        return
    if name in ("ClassMethod", "InstanceMethod", "InstanceProperty"):
        raise _refused(f"layer {_title(entry)} ({name})", "it calls a method that the file names")
    if isinstance(settings, dict) and isinstance(settings.get("vocabulary"), str):
        raise _refused(f"layer {_title(entry)} ({name[:100]})", "it reads its vocabulary from a file that it names")
    own = _FUNCTION_MODULES if name == "function" else _OWN_MODULES
    if isinstance(module, str) and not own.fullmatch(module):
        raise _refused(f"{name[:100]} of module {module[:100]!r}", "that is code which is not Keras's own")


def _title(entry: dict[str, Any]) -> str:
    settings = entry.get("config")
    name = entry.get("name") or (settings.get("name") if isinstance(settings, dict) else "")
    return repr(str(name)[:100]) if name else "without a name"


def _refused(where: str, why: str) -> ModelError:
    return ModelError("{path} runs code that edgecc does not run", where=where, why=why, hint=_EXPORT)
