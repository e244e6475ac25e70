"""Run a `.tflite` file with LiteRT, or with tflite-runtime where only that is installed.

This file runs in a process of its own and, copied, on a device: it needs numpy and one of the runtimes, nothing else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import numpy as np

#: Modules with an `Interpreter`, the preferred one first, and the distributions that they come from.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)

_OPTIONS = {"threads": 1, "xnnpack": True}


class Unavailable(RuntimeError):
    """No runtime for `.tflite` files is installed here; what follows the first line mends it."""


class Session:
    """A loaded model.

    Args:
        path: the `.tflite` file.
        options: "threads" (1) and "xnnpack" (True): run what it can with the XNNPACK delegate, the runtime's default;
            False runs the built-in kernels.

    Attributes:
        inputs: name, shape (-1 where it is open) and dtype of each input, in the model's order.
        outputs: the same of the outputs.

    Raises:
        Unavailable: neither runtime is installed.
        RuntimeError: the runtime cannot load the file.
    """

    def __init__(self, path: str, options: dict[str, object]) -> None:
        unknown = sorted(options.keys() - _OPTIONS.keys())
        if unknown:
            raise RuntimeError(f"the TFLite runner has no option {unknown[0]!r}; it has {', '.join(sorted(_OPTIONS))}")
        settings: dict[str, Any] = {**_OPTIONS, **options}
        self._threads = int(settings["threads"])
        self._xnnpack = bool(settings["xnnpack"])
        self._runtime, self._distribution = _load_runtime()
        self._interpreter = self._open(path)
        self._inputs, self._outputs = self._named_tensors()
        self.inputs = [_describe(name, detail) for name, detail in self._inputs.items()]
        self.outputs = [_describe(name, detail) for name, detail in self._outputs.items()]
        self._shapes = {name: tuple(int(dim) for dim in detail["shape"]) for name, detail in self._inputs.items()}

    def set_inputs(self, feeds: dict[str, np.ndarray]) -> None:
        """Hand over a value for every input; a model with open dimensions is resized to what it gets.

        Raises:
            ValueError: a name, dtype or shape does not fit.
        """
        self._check(feeds)
        shapes = {name: values.shape for name, values in feeds.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape, strict=False)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, values in feeds.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], values)

    def run(self) -> None:
        """Run the model on the inputs that were set."""
        self._interpreter.invoke()

    def get_outputs(self) -> dict[str, np.ndarray]:
        """A copy of each output of the last run."""
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

    def info(self) -> dict[str, object]:
        """What runs the model, and how much of it the delegate took over."""
        return {
            "tool": self._distribution,
            "version": _version(self._distribution),
            "device": "cpu",
            "threads": self._threads,
            "xnnpack": self._xnnpack,
            "accelerated_fraction": self._accelerated_fraction(),
        }

    def _open(self, path: str) -> Any:
        resolvers = self._runtime.OpResolverType
        kind = resolvers.AUTO if self._xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = self._runtime.Interpreter(
                model_path=path, num_threads=self._threads, experimental_op_resolver_type=kind
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RuntimeError(f"{self._distribution} cannot load {path}: {error}") from error
        return interpreter

    def _named_tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Details of the inputs and outputs by the names that users know: the signature's if there is one."""
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        signatures = self._interpreter.get_signature_list()
        if len(signatures) != 1:
            return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}
        runner = self._interpreter.get_signature_runner(next(iter(signatures)))
        return _in_order(runner.get_input_details(), inputs), _in_order(runner.get_output_details(), outputs)

    def _check(self, feeds: dict[str, np.ndarray]) -> None:
        if feeds.keys() != self._inputs.keys():
            missing = ", ".join(sorted(self._inputs.keys() - feeds.keys())) or "none"
            surplus = ", ".join(sorted(feeds.keys() - self._inputs.keys())) or "none"
            raise ValueError(f"the inputs do not fit: missing {missing}; unknown {surplus}")
        for described in self.inputs:
            values = feeds[described["name"]]
            if values.dtype.name != described["dtype"]:
                raise ValueError(f"input {described['name']!r} takes {described['dtype']}, not {values.dtype.name}")
            if not _fits(values.shape, described["shape"]):
                raise ValueError(
                    f"input {described['name']!r} takes shape {described['shape']} (-1 is open), "
                    f"not {list(values.shape)}"
                )

    def _accelerated_fraction(self) -> float | None:
        """Operators that a delegate runs, of all that the file has; None if this runtime does not tell."""
        list_operators = getattr(self._interpreter, "_get_ops_details", None)
        if list_operators is None:
            return None
        operators = list_operators()
        originals = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
        # The runtime lists the operators that a delegate replaced, too. Those that still run are met on the way from
        # the outputs back, when a delegate goes before the operators that it replaced.
        writer = {int(tensor): operator for operator in originals for tensor in operator["outputs"]}
        for operator in operators:
            if operator["op_name"] == "DELEGATE":
                writer.update({int(tensor): operator for tensor in operator["outputs"]})
        waiting = [int(detail["index"]) for detail in self._interpreter.get_output_details()]
        running: dict[int, Any] = {}
        while waiting:
            operator = writer.get(waiting.pop())
            if operator is not None and operator["index"] not in running:
                running[operator["index"]] = operator
                waiting += [int(tensor) for tensor in operator["inputs"]]
        left = sum(operator["op_name"] != "DELEGATE" for operator in running.values())
        return 1.0 - left / len(originals) if originals else None


def prepare() -> None:
    """Import the runtime, so that a load time counts the model alone."""
    _load_runtime()


def _load_runtime() -> tuple[Any, str]:
    reasons = []
    for module, distribution in _RUNTIMES:
        try:
            return importlib.import_module(module), distribution
        except ImportError as error:
            reasons.append(f"{distribution}: {error}")
    raise Unavailable(
        f"no runtime for .tflite files can be imported ({'; '.join(reasons)})\npip install ai-edge-litert"
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _in_order(named: dict[str, Any], ordered: list[Any]) -> dict[str, Any]:
    """The signature's tensors in the model's order; the runtime sorts them by name."""
    place = {int(detail["index"]): number for number, detail in enumerate(ordered)}
    names = sorted(named, key=lambda name: place[int(named[name]["index"])])
    return {name: ordered[place[int(named[name]["index"])]] for name in names}


def _describe(name: str, detail: dict[str, Any]) -> dict[str, Any]:
    signature = detail.get("shape_signature", detail["shape"])
    shape = signature if len(signature) == len(detail["shape"]) else detail["shape"]
    return {"name": name, "shape": [int(dim) for dim in shape], "dtype": np.dtype(detail["dtype"]).name}


def _fits(shape: tuple[int, ...], wanted: list[int]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, have) for have, want in zip(shape, wanted, strict=True))
