"""`edgecc.from_jax`: a function in memory becomes a Model, through jax2onnx."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgecc.errors import EdgeccError, InvalidModelError, OptionError, PluginError, Unsupported, UnsupportedError
from edgecc_jax.pooling import narrow_pooling

if TYPE_CHECKING:
    import onnx

    from edgecc.model import Model

#: The newest that edgecc's own opset is (`edgecc.opset`).
_OPSET = 23
_BRANCH = "write branches on values with jax.lax.cond or jax.numpy.where"


def from_jax(function: Callable[..., Any], example_inputs: Sequence[Any] | Mapping[str, Any] | Any) -> Model:
    """See `edgecc.from_jax`."""
    for module in ("jax", "jax2onnx"):
        if importlib.util.find_spec(module) is None:
            raise PluginError(f"{module} is not installed, which edgecc-jax needs", hint=f"pip install {module}")
    from edgecc.importers.onnx import OnnxImporter

    if not callable(function):
        raise OptionError(f"from_jax takes a function, not {type(function).__name__}", hint="edgecc.load reads files")
    arguments, named = _arguments(example_inputs)
    source = getattr(function, "__name__", type(function).__name__)
    proto = _exported(function, arguments, named, source)
    narrow_pooling(proto)
    try:
        model = OnnxImporter().from_proto(proto)
    except InvalidModelError as error:
        raise InvalidModelError(error.what, where=error.where or source, why=error.why, hint=error.hint) from error
    model.source = source
    return model


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    named = dict(example_inputs) if isinstance(example_inputs, Mapping) else {}
    several = isinstance(example_inputs, tuple | list)
    arguments = () if named else tuple(example_inputs) if several else (example_inputs,)
    if not arguments and not named:
        raise OptionError("from_jax needs example inputs", hint="edgecc.from_jax(function, (jnp.zeros((1, 8)),))")
    return arguments, named


def _exported(
    function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any], source: str
) -> onnx.ModelProto:
    """jax2onnx takes positional arrays and gives a tuple: here the function becomes one of its leaves."""
    import jax
    import jax2onnx

    leaves, structure = jax.tree_util.tree_flatten_with_path((arguments, named))
    names = [_input_name(function, path) for path, _ in leaves]
    specs = [_spec(leaf, name) for (_, leaf), name in zip(leaves, names, strict=True)]

    def nested(*values: Any) -> Any:
        given, by_name = jax.tree_util.tree_unflatten(structure, values)
        return function(*given, **by_name)

    def flat(*values: Any) -> tuple[Any, ...]:
        return tuple(jax.tree_util.tree_leaves(nested(*values)))

    try:
        with _quiet():
            outputs = _output_names(jax.eval_shape(nested, *specs), names)
            proto: onnx.ModelProto = jax2onnx.to_onnx(
                flat,
                specs,
                model_name=source,
                opset=_OPSET,
                enable_double_precision=bool(jax.config.jax_enable_x64),
                input_names=names,
                output_names=outputs,
            )
            return proto
    except EdgeccError:
        raise
    except NotImplementedError as error:
        reason = str(error).splitlines()[0] if str(error) else "jax2onnx has no rule for it"
        found = re.search(r"primitive[ :]+'?([\w.]+)", str(error))
        raise UnsupportedError("ONNX", [Unsupported(found[1] if found else source, "", reason)]) from error
    except Exception as error:  # of tracing, of jax2onnx, and whatever the function's own code raises
        raise InvalidModelError(
            f"{source} cannot be exported by jax2onnx",
            why=f"{type(error).__name__}: {_first_lines(str(error))}",
            hint=_BRANCH if "Tracer" in type(error).__name__ else "jax.jit(function)(*example_inputs) must work first",
        ) from error


def _spec(leaf: Any, name: str) -> Any:
    """Shape and type of an input; open dimensions are those with a name."""
    import jax

    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        what = f"input {name!r} is {type(leaf).__name__}, and inputs are arrays"
        raise OptionError(what, hint="bind what is no input with functools.partial")
    # As JAX takes it: float64 is float32 unless jax_enable_x64 says otherwise.
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _input_name(function: Callable[..., Any], path: Sequence[Any]) -> str:
    """The argument's name and the keys within it, such as "state.h"."""
    keys = [_key(entry) for entry in path]
    if keys[0] == "1":  # by name
        return ".".join(keys[1:])
    return ".".join([_parameter(function, int(keys[1])), *keys[2:]])


def _parameter(function: Callable[..., Any], index: int) -> str:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return f"input_{index}"
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return positional[index] if index < len(positional) else f"input_{index}"


def _output_names(results: Any, inputs: Sequence[str]) -> list[str]:
    import jax

    names: list[str] = []
    for path, _ in jax.tree_util.tree_flatten_with_path(results)[0]:
        keys = [_key(entry) for entry in path]
        name = ".".join(keys) if keys and not keys[0].isdigit() else "_".join(["output", *keys])
        names.append(f"{name}_output" if name in inputs else name)
    if not names:
        raise InvalidModelError("the function returns no arrays", hint="return what the model is to compute")
    return names


def _key(entry: Any) -> str:
    """One step of a path in JAX's trees: a key, an index or an attribute."""
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[:3])[:500]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and logs of jax2onnx, which the user can do nothing about."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)
