"""TorchScript archives, traced and scripted."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.errors import InvalidModelError, OptionError, UnknownNameError, UnsupportedError
from edgecc.passes.verification import compare, run

TOLERANCE = 1e-5
SHAPES = {"image": (1, 3, 8, 8), "ids": (1, 4)}


class Mixed(torch.nn.Module):
    """Floats and integers; a branch over a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.table = torch.nn.Embedding(7, 4)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.conv(image)).mean((2, 3))
        if features.shape[1] > 3:
            features = features * 2
        return features + self.table(ids).sum(1)


def inputs() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, 8, 8, generator=generator), torch.tensor([[0, 3, 6, 2]])


def saved(kind: str, folder: Path) -> tuple[Path, Any]:
    torch.manual_seed(0)
    module = Mixed().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls TorchScript deprecated, and a branch over a shape suspicious
        archive = torch.jit.trace(module, inputs()) if kind == "trace" else torch.jit.script(module)
        torch.jit.save(archive, folder / "m.pt")
    return folder / "m.pt", module


@pytest.mark.parametrize("kind", ["trace", "script"])
def test_values_and_names(kind: str, tmp_path: Path) -> None:
    path, module = saved(kind, tmp_path)
    model = edgecc.load(path, shapes=SHAPES)
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.signature.inputs] == [
        ("image", "float32", (1, 3, 8, 8)),
        ("ids", "int64", (1, 4)),
    ]
    image, ids = inputs()
    found = run(model, {"image": image.numpy(), "ids": ids.numpy()})
    with torch.no_grad():
        assert compare(module(image, ids).numpy(), next(iter(found.values())), TOLERANCE) == ""


def test_shapes_must_be_given(tmp_path: Path) -> None:
    path, _ = saved("script", tmp_path)
    with pytest.raises(OptionError, match="does not say what shape its inputs have") as caught:
        edgecc.load(path, shapes={"image": (1, 3, 8, 8)})
    assert caught.value.hint == "--shape ids=1,3,224,224"
    with pytest.raises(UnknownNameError, match="imgae"):
        edgecc.load(path, shapes={"imgae": (1, 3, 8, 8)})
    with pytest.raises(InvalidModelError, match="does not run with inputs of these shapes") as wrong:
        edgecc.load(path, shapes={"image": (1, 5, 8, 8), "ids": (1, 4)})
    assert "channels" in wrong.value.why


@pytest.mark.parametrize("call", ['torch.save(image, "x")', "ops.c10d.send(image)", 'ops.aten.from_file("x", True, 9)'])
def test_code_that_does_more_than_compute_is_refused(call: str, tmp_path: Path) -> None:
    path, _ = saved("script", tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/code/__torch__/more.py", f"def f(image: Tensor):\n  return {call}\n")
    with pytest.raises(InvalidModelError, match="could do harm") as caught:
        edgecc.load(path, shapes=SHAPES)
    assert call.partition("(")[0].startswith(caught.value.why.split()[2].rstrip(","))


class Bessel(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_operator_that_onnx_has_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of PyTorch's is printed."""
    path = traced(Bessel(), torch.randn(1, 4), tmp_path)
    with pytest.raises(UnsupportedError) as caught:
        edgecc.load(path, shapes={"x": (1, 4)})
    assert caught.value.nodes[0].op == "aten::special_bessel_j0"
    assert "torch.export.save" in caught.value.nodes[0].hint
    assert capfd.readouterr() == ("", "")


def test_truncated(tmp_path: Path) -> None:
    path, _ = saved("script", tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidModelError, match="is truncated or damaged"):
        edgecc.load(path, shapes=SHAPES)


def test_damaged_data(tmp_path: Path) -> None:
    from edgecc_torch.testing.modules import edited

    path, _ = saved("trace", tmp_path)
    path.write_bytes(edited(path.read_bytes(), {"data.pkl": lambda data: data[: len(data) // 2]}))
    with pytest.raises(InvalidModelError, match="cannot be read as TorchScript"):
        edgecc.load(path, shapes=SHAPES)


def test_outputs_are_those_of_the_module(tmp_path: Path) -> None:
    path, _ = saved("trace", tmp_path)
    assert len(edgecc.load(path, shapes=SHAPES).signature.outputs) == 1
    assert np.prod(edgecc.load(path, shapes=SHAPES).signature.outputs[0].shape) == 4


class Attention(torch.nn.Module):
    """Self-attention between linear layers."""

    def __init__(self, *, with_weights: bool = False) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.last = torch.nn.Linear(16, 3)
        self.with_weights = with_weights

    def forward(self, x: torch.Tensor) -> Any:
        data, weights = self.attention(x, x, x, need_weights=self.with_weights)
        return (self.last(data), weights) if self.with_weights else self.last(data)


def traced(module: torch.nn.Module, x: torch.Tensor, folder: Path) -> Path:
    """As PyTorch fuses it: without gradients."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, (x,), check_trace=False), folder / "m.pt")
    return folder / "m.pt"


@pytest.mark.parametrize("options", [
    None, {}, {"norm_first": True}, {"activation": "gelu"}, {"norm_first": True, "activation": "gelu"},
])  # fmt: skip
def test_fused_attention(options: dict[str, Any] | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = None if options is None else torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options)
    module = (Attention() if layer is None else layer).eval()
    x = torch.randn(2, 5, 16)
    path = traced(module, x, tmp_path)
    name = "x" if layer is None else "src"
    model = edgecc.load(path, shapes={name: (2, 5, 16)})
    (found,) = run(model, {name: x.numpy()}).values()
    assert compare(module(x).detach().numpy(), found, TOLERANCE) == ""


def test_attention_that_gives_its_weights(tmp_path: Path) -> None:
    path = traced(Attention(with_weights=True).eval(), torch.randn(2, 5, 16), tmp_path)
    with pytest.raises(InvalidModelError, match="cannot be exported to ONNX") as caught:
        edgecc.load(path, shapes={"x": (2, 5, 16)})
    assert "attention that gives its weights" in caught.value.why
