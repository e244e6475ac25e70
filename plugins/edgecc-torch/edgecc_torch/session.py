"""Runs `.pt2` files; needs numpy, PyTorch, and the two files beside this one that check archives."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys
import tempfile
import types
from typing import Any

import numpy as np


class Unavailable(RuntimeError):
    """The runtime is not on this machine; what follows the first line mends it."""


try:
    import torch
except ImportError as error:
    raise Unavailable(f"PyTorch cannot be imported: {error}\npip install torch") from error


def _neighbour(name: str) -> types.ModuleType:
    """A file beside this one: on a device there is no package."""
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_pt2_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_archive, _program_check = _neighbour("archive"), _neighbour("program_check")


class Session:
    """One exported program.

    Options:
        threads: of PyTorch.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {"threads"})
        if unknown:
            raise RuntimeError(f"unknown option {unknown[0]!r}; options are threads")
        self._threads = int(options.get("threads", 1))
        torch.set_num_threads(self._threads)
        program, names = _load(pathlib.Path(path))
        self._module = program.module()
        self.inputs, self.outputs = _described(program, names)
        self._arguments: list[torch.Tensor] = []
        self._results: list[torch.Tensor] = []

    def set_inputs(self, feeds: dict[str, np.ndarray]) -> None:
        self._arguments = [torch.from_numpy(np.array(feeds[entry["name"]])) for entry in self.inputs]

    def run(self) -> None:
        with torch.inference_mode():
            found = self._module(*self._arguments)
        self._results = _flat(found)

    def get_outputs(self) -> dict[str, np.ndarray]:
        return {entry["name"]: values.numpy() for entry, values in zip(self.outputs, self._results, strict=True)}

    def info(self) -> dict[str, Any]:
        return {
            "tool": "torch",
            "version": torch.__version__,
            "device": "cpu",
            "threads": self._threads,
            "accelerated_fraction": None,
        }


def _load(path: pathlib.Path) -> tuple[Any, dict[str, list[str]]]:
    """The program of a clean copy, and the names that are stored beside it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "model.pt2"
        with _archive.Archive(path) as archive:
            names = archive.json(_archive.NAMES_RECORD) if _archive.NAMES_RECORD in archive.sizes else {}
            program = _archive.write_clean_copy(archive, copy, _program_check.check_program)
        for module in _program_check.modules_of(program):
            importlib.import_module(module)  # registers its operators
        return torch.export.load(copy), names


def _described(program: Any, names: dict[str, list[str]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Name, type and shape of each input and output."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    inputs, outputs = [str(name) for name in signature.user_inputs], [str(name) for name in signature.user_outputs]
    inner = [(names.get("inputs", inputs), inputs), (names.get("outputs", outputs), outputs)]
    described = [
        [_entry(name, values[own]) for name, own in zip(given, own_names, strict=True)] for given, own_names in inner
    ]
    return described[0], described[1]


def _entry(name: str, value: Any) -> dict[str, Any]:
    shape = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return {"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": shape}


def _flat(found: Any) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found]
    items = found.values() if isinstance(found, dict) else found
    return [tensor for item in items for tensor in _flat(item)]
