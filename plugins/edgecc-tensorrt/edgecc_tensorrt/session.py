"""Runs engines; needs numpy, tensorrt or tensorrt-rtx, and the NVIDIA driver only (see `edgecc.running.runner`).

The driver is called through ctypes, so that no further package is needed on the device. `run` is what is timed: the
inputs are on the GPU already and the outputs stay there; `set_inputs` and `get_outputs` move them.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np


class Unavailable(RuntimeError):
    """The runtime or its device is not on this machine; what follows the first line mends it."""


#: TensorRT-RTX first: it refuses engines of the other kind at once and by name.
_PACKAGES = ("tensorrt_rtx", "tensorrt")
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NONE_INSTALLED, _INSTALL = "neither tensorrt-rtx nor tensorrt is installed", "pip install tensorrt-rtx"
_ELSEWHERE = "copy the .engine to a machine with an NVIDIA GPU and its driver, and run it there"
_ASYNC_MAJOR, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 1, 75, 76


def check() -> None:
    """Raise Unavailable unless an engine can run here; imports neither package."""
    Driver()
    if not any(importlib.util.find_spec(package) for package in _PACKAGES):
        raise Unavailable(f"{_NONE_INSTALLED}\n{_INSTALL}")


def prepare() -> None:
    """Import the runtimes, so that a load time counts the engine alone."""
    _runtimes()


def _runtimes() -> list[Any]:
    """The packages that can be imported: one that cannot (a missing CUDA library) does not stand in the other's way.

    Raises:
        Unavailable: there is none.
    """
    found, reasons = [], []
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            continue
        try:
            found.append(importlib.import_module(package))
        except (ImportError, OSError) as error:
            reasons.append(f"{package} cannot be imported: {error}")
    if not found:
        raise Unavailable(f"{'; '.join(reasons) or _NONE_INSTALLED}\n{_INSTALL}")
    return found


class Driver:
    """The few calls of the CUDA driver that an engine's inputs and outputs need."""

    def __init__(self, device: int = 0) -> None:
        try:
            self._cuda = ctypes.CDLL(_DRIVER)
        except OSError:
            raise Unavailable(f"no NVIDIA driver ({_DRIVER}) on this machine\n{_ELSEWHERE}") from None
        code = self._cuda.cuInit(0)
        if code:
            raise Unavailable(f"the NVIDIA driver does not start: {self._name_of(code)}\n{_ELSEWHERE}")
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if device >= count.value:
            raise Unavailable(f"there is no GPU {device}: the NVIDIA driver finds {count.value}\n{_ELSEWHERE}")
        handle = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
        self._device = handle

    def start(self) -> None:
        """Make the device's primary context, which TensorRT uses too, current; make a stream."""
        context, stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_ASYNC_MAJOR))
        self.stream = int(stream.value or 0)

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, ctypes.c_int(len(text)), self._device)
        return text.value.decode(errors="replace")

    @property
    def capability(self) -> str:
        return f"{self._attribute(_CAPABILITY_MAJOR)}.{self._attribute(_CAPABILITY_MINOR)}"

    @property
    def version(self) -> str:
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def free(self, pointer: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def to_device(self, pointer: int, values: np.ndarray) -> None:
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(pointer), _address(values), ctypes.c_size_t(values.nbytes))

    def to_host(self, values: np.ndarray, pointer: int) -> None:
        self._call("cuMemcpyDtoH_v2", _address(values), ctypes.c_uint64(pointer), ctypes.c_size_t(values.nbytes))

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._cuda, function)(*arguments)
        if code:
            raise RuntimeError(f"{function}: {self._name_of(code)}")

    def _name_of(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text))
        return (text.value or b"unknown error").decode() + f" ({code})"


def _address(values: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


class Session:
    """One engine on one GPU.

    Options:
        threads: ignored; a GPU has its own.
        device: number of the GPU.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {"threads", "device"})
        if unknown:
            raise RuntimeError(f"unknown option {unknown[0]!r}; options are device, threads")
        self._driver = Driver(int(options.get("device", 0)))
        runtimes = _runtimes()
        self._driver.start()
        self._module, self._runtime, self._engine = _load(path, self._driver, runtimes)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(f"{path}: no memory on {self._driver.name} to run the engine")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = self._module.TensorIOMode.INPUT
        self.inputs = [self._describe(n) for n in names if self._engine.get_tensor_mode(n) == is_input]
        self.outputs = [self._describe(n) for n in names if self._engine.get_tensor_mode(n) != is_input]
        self._on_device: dict[str, tuple[int, int]] = {}
        self._on_host: dict[str, np.ndarray] = {}

    def set_inputs(self, feeds: dict[str, np.ndarray]) -> None:
        for entry in self.inputs:
            name = entry["name"]
            values = np.ascontiguousarray(feeds[name], dtype=entry["dtype"]).reshape(np.shape(feeds[name]))
            if not self._context.set_input_shape(name, values.shape):
                raise RuntimeError(f"the engine was not built for shape {list(values.shape)} of input {name!r}")
            if self._is_on_host(name):
                self._on_host[name] = values
                self._context.set_tensor_address(name, values.ctypes.data)
                continue
            pointer = self._room(name, values.nbytes)
            self._driver.to_device(pointer, values)
            self._context.set_tensor_address(name, pointer)
        self._place_outputs()

    def run(self) -> None:
        if not self._context.execute_async_v3(self._driver.stream):
            raise RuntimeError("TensorRT could not run the engine")
        self._driver.synchronize()

    def get_outputs(self) -> dict[str, np.ndarray]:
        results = {}
        for entry in self.outputs:
            name = entry["name"]
            if self._is_on_host(name):
                results[name] = self._on_host[name].copy()
                continue
            values = np.empty(tuple(self._context.get_tensor_shape(name)), entry["dtype"])
            if values.nbytes:
                self._driver.to_host(values, self._on_device[name][0])
            results[name] = values
        return results

    def info(self) -> dict[str, Any]:
        return {
            "tool": self._module.__name__.replace("_", "-"),
            "version": str(self._module.__version__),
            "device": self._driver.name,
            "threads": 0,
            "accelerated_fraction": 1.0,
            "compute_capability": self._driver.capability,
            "driver": self._driver.version,
            "timed": "computation on the GPU; transfers are not in it",
        }

    def _place_outputs(self) -> None:
        for entry in self.outputs:
            name = entry["name"]
            shape = tuple(self._context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise RuntimeError(f"the shape of output {name!r} depends on values, which this runner cannot place")
            values = np.empty(shape, entry["dtype"])
            if self._is_on_host(name):
                self._on_host[name] = values
                self._context.set_tensor_address(name, values.ctypes.data)
            else:
                self._context.set_tensor_address(name, self._room(name, values.nbytes))

    def _room(self, name: str, size: int) -> int:
        """Memory on the device for a tensor; it grows and never shrinks."""
        pointer, room = self._on_device.get(name, (0, -1))
        if room < size:
            if room >= 0:
                self._driver.free(pointer)
            pointer = self._driver.allocate(size)
            self._on_device[name] = (pointer, size)
        return pointer

    def _is_on_host(self, name: str) -> bool:
        return bool(self._engine.get_tensor_location(name) == self._module.TensorLocation.HOST)

    def _describe(self, name: str) -> dict[str, Any]:
        kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
        if kind not in _DTYPES:
            raise RuntimeError(f"{name!r} is of type {kind}, which numpy does not have")
        return {"name": name, "shape": [int(d) for d in self._engine.get_tensor_shape(name)], "dtype": _DTYPES[kind]}


_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def _load(path: str, driver: Driver, runtimes: list[Any]) -> tuple[Any, Any, Any]:
    """Package, runtime and engine, from whichever installed package made the engine."""
    contents = Path(path).read_bytes()
    said: list[str] = []
    for module in runtimes:
        log = _quiet_log(module, said)
        runtime = module.Runtime(log)
        engine = runtime.deserialize_cuda_engine(contents)
        if engine is not None:
            return module, (log, runtime), engine
    reason = said[-1].strip() if said else "the runtime gives no reason"
    raise RuntimeError(
        f"{path} does not load on {driver.name} (compute capability {driver.capability}): {reason}\n"
        "build it for this GPU and with this version of TensorRT"
    )


def _quiet_log(module: Any, said: list[str]) -> Any:
    base: Any = module.ILogger

    class _Log(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if "ERROR" in str(severity):
                said.append(message)

    return _Log()
