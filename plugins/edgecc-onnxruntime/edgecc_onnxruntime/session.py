"""Runs .onnx and .ort files; needs numpy and onnxruntime only (see `edgecc.runner`)."""

from __future__ import annotations

from typing import Any

import numpy as np


class Unavailable(RuntimeError):
    """The runtime or its device is not on this machine; what follows the first line mends it."""


try:
    import onnxruntime as ort
except ImportError as error:
    raise Unavailable(f"onnxruntime cannot be imported: {error}\npip install onnxruntime") from error

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_CPU = "CPUExecutionProvider"


class Session:
    """One model in ONNX Runtime.

    Options:
        threads: of one operator; operators run one after another.
        provider: "cpu", "cuda", "coreml" ... or ONNX Runtime's own name; the rest of the graph runs on the CPU.
        optimize: graph optimizations at load: "none", "basic", "extended", "all".
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {"threads", "provider", "optimize"})
        if unknown:
            raise RuntimeError(f"unknown option {unknown[0]!r}; options are threads, provider, optimize")
        self._threads = int(options.get("threads", 1))
        provider = find_provider(str(options.get("provider", "cpu")))
        level = str(options.get("optimize", "all"))
        if level not in _LEVELS:
            raise RuntimeError(f"option optimize is {level!r}; it takes {', '.join(_LEVELS)}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self._threads
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = _LEVELS[level]
        settings.log_severity_level = 3
        # Threads of one operator wait busily within a run, as by default, but not after it: they would take time
        # from whatever is measured next.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        providers = [provider] if provider == _CPU else [provider, _CPU]
        self._session = ort.InferenceSession(path, settings, providers=providers)
        self._provider = self._session.get_providers()[0]
        if self._provider != provider:
            raise Unavailable(f"{provider} does not start on this machine; ONNX Runtime would use {self._provider}")
        self.inputs = [_describe(value) for value in self._session.get_inputs()]
        self.outputs = [_describe(value) for value in self._session.get_outputs()]
        # Strings cannot be bound.
        self._bindable = all(entry["dtype"] != "str" for entry in (*self.inputs, *self.outputs))
        self._feeds: dict[str, np.ndarray] = {}
        self._results: list[np.ndarray] = []
        self._binding = self._session.io_binding()

    def set_inputs(self, feeds: dict[str, np.ndarray]) -> None:
        self._feeds = feeds
        if not self._bindable:
            return
        self._binding = self._session.io_binding()
        for name, values in feeds.items():
            # The array is read in place at each run: `_feeds` keeps it alive.
            self._binding.bind_cpu_input(name, values)
        for entry in self.outputs:
            self._binding.bind_output(entry["name"])

    def run(self) -> None:
        if self._bindable:
            self._session.run_with_iobinding(self._binding)
        else:
            self._results = self._session.run(None, self._feeds)

    def get_outputs(self) -> dict[str, np.ndarray]:
        results = self._binding.copy_outputs_to_cpu() if self._bindable else self._results
        return {entry["name"]: np.asarray(results[index]) for index, entry in enumerate(self.outputs)}

    def info(self) -> dict[str, Any]:
        return {
            "tool": "onnxruntime",
            "version": ort.__version__,
            "device": self._provider.removesuffix("ExecutionProvider").lower(),
            "threads": self._threads,
            "providers": self._session.get_providers(),
            "accelerated_fraction": None,
        }


def find_provider(name: str) -> str:
    """ONNX Runtime's name of a provider, given in any case and with or without "ExecutionProvider"."""
    available = ort.get_available_providers()
    wanted = name.lower().removesuffix("executionprovider")
    for provider in available:
        if provider.lower().removesuffix("executionprovider") == wanted:
            return str(provider)
    short = ", ".join(p.removesuffix("ExecutionProvider").lower() for p in available)
    known = wanted in {p.lower().removesuffix("executionprovider") for p in ort.get_all_providers()}
    hint = "install an onnxruntime package that has it, such as onnxruntime-gpu" if known else "check the name"
    what = f"execution provider {name!r} is not in this ONNX Runtime {ort.__version__}; it has: {short}"
    raise Unavailable(f"{what}\n{hint}")


def _describe(value: Any) -> dict[str, Any]:
    if value.type not in _DTYPES:
        raise RuntimeError(f"{value.name} is a {value.type}, which the runner does not pass")
    shape = [d if isinstance(d, int) and d >= 0 else -1 for d in value.shape]
    return {"name": value.name, "dtype": _DTYPES[value.type], "shape": shape}
