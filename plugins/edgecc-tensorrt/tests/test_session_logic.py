"""What Session does with a runtime and a driver, shown with stand-ins that compute y = 2 x in host memory."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecc_tensorrt import session
from edgecc_tensorrt.session import Session, Unavailable


class HostDriver:
    """Device memory is host memory."""

    name, capability, version, stream = "stand-in", "8.6", "13.0", 7

    def __init__(self, device: int = 0) -> None:
        self.rooms: dict[int, Any] = {}

    def start(self) -> None:
        pass

    def allocate(self, size: int) -> int:
        room = ctypes.create_string_buffer(max(size, 1))
        self.rooms[ctypes.addressof(room)] = room
        return ctypes.addressof(room)

    def free(self, pointer: int) -> None:
        del self.rooms[pointer]

    def to_device(self, pointer: int, values: np.ndarray) -> None:
        ctypes.memmove(pointer, values.ctypes.data, values.nbytes)

    def to_host(self, values: np.ndarray, pointer: int) -> None:
        ctypes.memmove(values.ctypes.data, pointer, values.nbytes)

    def synchronize(self) -> None:
        pass


class Context:
    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (-1, 3)
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return shape[0] <= 8

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        count = int(np.prod(self.shape))
        x, y = ((ctypes.c_float * count).from_address(self.addresses[name]) for name in "xy")
        np.frombuffer(y, np.float32)[:] = np.frombuffer(x, np.float32) * 2
        return stream == HostDriver.stream


class Engine:
    num_io_tensors = 2

    def create_execution_context(self) -> Context:
        return Context()

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "DataType.FLOAT"

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return (-1, 3)

    def get_tensor_location(self, name: str) -> str:
        return "device"


class Logger:
    def __init__(self) -> None:
        pass


class Runtime:
    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, contents: bytes) -> Engine | None:
        if contents == b"engine":
            return Engine()
        self.log.log("Severity.ERROR", "magic tag does not match")
        return None


MODULE = SimpleNamespace(
    __name__="tensorrt_rtx",
    __version__="1.7",
    ILogger=Logger,
    Runtime=Runtime,
    TensorIOMode=SimpleNamespace(INPUT="in"),
    TensorLocation=SimpleNamespace(HOST="host"),
)


@pytest.fixture
def load(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(session, "Driver", HostDriver)
    monkeypatch.setattr(session, "_runtimes", lambda: [MODULE])

    def load(contents: bytes) -> Session:
        path = tmp_path / "m.engine"
        path.write_bytes(contents)
        return Session(str(path), {"threads": 1})

    return load


def test_shapes_follow_the_feeds_and_memory_is_reused(load: Any) -> None:
    found = load(b"engine")
    assert found.inputs == [{"name": "x", "shape": [-1, 3], "dtype": "float32"}]
    for batch in (2, 5, 1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 3))  # float64: taken as the input's type
        found.set_inputs({"x": x})
        found.run()
        np.testing.assert_array_equal(found.get_outputs()["y"], x.astype(np.float32) * 2)
    assert len(found._driver.rooms) == 2


def test_a_shape_out_of_range(load: Any) -> None:
    with pytest.raises(RuntimeError, match=r"not built for shape \[9, 3\] of input 'x'"):
        load(b"engine").set_inputs({"x": np.zeros((9, 3), np.float32)})


def test_a_file_of_another_kind(load: Any) -> None:
    with pytest.raises(RuntimeError, match="magic tag does not match") as caught:
        load(b"onnx")
    assert "build it for this GPU" in str(caught.value)


def test_info_says_what_was_timed(load: Any) -> None:
    info = load(b"engine").info()
    assert (info["tool"], info["device"], info["compute_capability"]) == ("tensorrt-rtx", "stand-in", "8.6")
    assert "transfers are not in it" in info["timed"]


def importing(monkeypatch: pytest.MonkeyPatch, **packages: object) -> None:
    """Let these be the installed packages; an exception is what the import raises."""

    def load(name: str) -> object:
        if isinstance(packages[name], Exception):
            raise packages[name]
        return packages[name]

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: packages.get(name))
    monkeypatch.setattr(importlib, "import_module", load)


BROKEN = OSError("libcudart.so.13: cannot open shared object file")


def test_a_package_that_cannot_be_imported_does_not_break_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "Driver", HostDriver)
    (tmp_path / "m.engine").write_bytes(b"engine")
    importing(monkeypatch, tensorrt_rtx=MODULE, tensorrt=BROKEN)
    assert Session(str(tmp_path / "m.engine"), {"threads": 1}).info()["tool"] == "tensorrt-rtx"
    importing(monkeypatch, tensorrt_rtx=BROKEN)
    with pytest.raises(Unavailable) as caught:
        Session(str(tmp_path / "m.engine"), {"threads": 1})
    assert str(caught.value) == f"tensorrt_rtx cannot be imported: {BROKEN}\npip install tensorrt-rtx"
    session.check()  # asks for what is installed, and imports nothing


def test_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "Driver", HostDriver)
    importing(monkeypatch)
    for ask in (session.check, session.prepare):
        with pytest.raises(
            Unavailable, match="neither tensorrt-rtx nor tensorrt is installed\npip install tensorrt-rtx"
        ):
            ask()
