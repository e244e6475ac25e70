from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace

import pytest

from edgecc_tensorrt import sdk
from edgecc_tensorrt.sdk import Sdk, availability


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = availability()
    assert not found
    assert found.reason == "neither tensorrt nor tensorrt-rtx is installed"
    assert "pip install tensorrt-rtx" in found.hint


def test_tensorrt_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorrt")
    monkeypatch.setattr(sdk, "has_gpu", lambda: False)
    assert "builds engines on a GPU only" in availability().reason


def test_a_package_that_cannot_be_imported_does_not_break_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> object:
        if name in broken:
            raise OSError(f"{name}: no libcudart.so.13")
        return SimpleNamespace(__version__="1.7")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib, "import_module", load)
    monkeypatch.setattr(sdk, "has_gpu", lambda: True)
    broken = {"tensorrt"}
    assert sdk.find_sdk().package == "tensorrt_rtx"
    assert availability()
    broken = {"tensorrt", "tensorrt_rtx"}
    assert availability().reason == (
        "tensorrt cannot be imported: tensorrt: no libcudart.so.13; "
        "tensorrt_rtx cannot be imported: tensorrt_rtx: no libcudart.so.13"
    )


@pytest.mark.parametrize(
    ("version", "package", "flags", "expected"),
    [
        ("8.6.1", "tensorrt", {"EXPLICIT_BATCH": 0}, 1),
        ("10.3.0", "tensorrt", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 2),
        ("11.0.0", "tensorrt", {"STRONGLY_TYPED": 1}, 2),
        ("11.0.0", "tensorrt", {}, 0),
        ("1.7.1", "tensorrt_rtx", {"STRONGLY_TYPED": 1}, 2),
    ],
)
def test_network_flags(version: str, package: str, flags: dict[str, int], expected: int) -> None:
    module = SimpleNamespace(__version__=version, NetworkDefinitionCreationFlag=SimpleNamespace(**flags))
    assert Sdk(module, package).network_flags() == expected


def test_compute_capabilities_are_sorted_numbers() -> None:
    module = SimpleNamespace(ComputeCapability=SimpleNamespace(SM75=0, SM120=1, SM86=2, CURRENT=3, NONE=4))
    assert Sdk(module, "tensorrt_rtx").compute_capabilities() == ["7.5", "8.6", "12.0"]
    assert Sdk(SimpleNamespace(), "tensorrt").compute_capabilities() == []
