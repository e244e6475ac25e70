"""`edgecc.from_torch`: modules in memory."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.errors import InvalidModelError, OptionError, PluginError
from edgecc.passes.verification import compare, run
from edgecc_torch.testing.modules import Small, example, small

TOLERANCE = 1e-5


def test_module() -> None:
    model = edgecc.from_torch(small(), example(), dynamic_shapes=[{0: torch.export.Dim("batch")}] * 2)
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [
        ("image", ("batch", 3, 8, 8)),
        ("gain", ("batch", 2)),
    ]
    assert [(spec.name, spec.shape) for spec in model.signature.outputs] == [
        ("scores", ("batch", 2)),
        ("features", ("batch", 4)),
    ]
    with torch.no_grad():
        expected = small()(*example(3))
    found = run(model, {"image": example(3)[0].numpy(), "gain": example(3)[1].numpy()})
    for name, values in expected.items():
        assert compare(values.numpy(), found[name], TOLERANCE) == ""


def test_one_tensor_and_no_open_dimensions() -> None:
    model = edgecc.from_torch(torch.nn.Linear(3, 2), torch.ones(1, 3))
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [("input", (1, 3))]


def test_inputs_by_name() -> None:
    shapes = {"image": {0: torch.export.Dim("batch")}, "gain": {0: torch.export.Dim("batch")}}
    named = dict(zip(("image", "gain"), example(), strict=True))
    model = edgecc.from_torch(small(), named, shapes)
    assert [(spec.name, spec.shape[0]) for spec in model.signature.inputs] == [("image", "batch"), ("gain", "batch")]


def test_exported_program() -> None:
    model = edgecc.from_torch(torch.export.export(small(), example()))
    assert [spec.name for spec in model.signature.outputs] == ["scores", "features"]


def test_modes_of_the_module_stay() -> None:
    """It is traced in evaluation mode, and each of its parts is as it was behind that."""
    module = Small().train()
    module.norm.eval()
    model = edgecc.from_torch(module, example())
    assert [part.training for part in module.modules()] == [True, True, False, True]
    with torch.no_grad():
        expected = module.eval()(*example())
    found = run(model, {"image": example()[0].numpy(), "gain": example()[1].numpy()})
    assert compare(expected["scores"].numpy(), found["scores"], TOLERANCE) == ""


class Branching(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2 if x.sum() > 0 else x


def test_branch_that_depends_on_values() -> None:
    with pytest.raises(InvalidModelError) as caught:
        edgecc.from_torch(Branching(), torch.ones(2))
    assert caught.value.what == "torch.export cannot trace Branching"
    assert "test_from_torch.py" in caught.value.where
    assert "data-dependent" in caught.value.why
    assert "torch.cond" in caught.value.hint
    assert caught.value.exit_code == 2


def test_dimension_that_cannot_stay_open() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 6)

    with pytest.raises(InvalidModelError, match="cannot trace Fixed") as caught:
        edgecc.from_torch(Fixed(), torch.ones(2, 6), dynamic_shapes=[{0: torch.export.Dim("batch")}])
    assert "dynamic_shapes" in caught.value.hint


def test_wrong_arguments() -> None:
    with pytest.raises(OptionError, match="not str"):
        edgecc.from_torch("model.pt2")
    with pytest.raises(OptionError, match="needs example inputs"):
        edgecc.from_torch(small())
    with pytest.raises(InvalidModelError, match="cannot trace Small"):
        edgecc.from_torch(small(), (np.ones(3),))


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_missing_package(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(PluginError, match=f"{missing} is not installed") as caught:
        edgecc.from_torch(small(), example())
    assert caught.value.hint == f"pip install {missing}"


def test_old_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    with pytest.raises(PluginError, match="is too old"):
        edgecc.from_torch(small(), example())
