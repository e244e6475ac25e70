"""`.safetensors` with the factory of the module that they belong to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.cli.main import run as run_command_line
from edgecc.errors import DataError, InvalidModelError, OptionError, UnknownNameError
from edgecc.passes.verification import compare, run
from edgecc_torch.testing.modules import example, small

FACTORY = "edgecc_torch.testing.modules:Small"
SHAPES = {"image": (2, 3, 8, 8), "gain": (2, 2)}
TOLERANCE = 1e-5


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    path = tmp_path / "small.safetensors"
    save_file(small().state_dict(), path)
    return path


def test_values(weights: Path) -> None:
    model = edgecc.load(weights, SHAPES, {"factory": FACTORY})
    with torch.no_grad():
        expected = small()(*example())
    found = run(model, {"image": example()[0].numpy(), "gain": example()[1].numpy()})
    for name, values in expected.items():
        assert compare(values.numpy(), found[name], TOLERANCE) == ""


def test_command_line_and_recipe(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", str(weights), "--importer", f"factory={FACTORY}", "-o", str(tmp_path / "m.onnx")]
    for name, shape in SHAPES.items():
        words += ["--shape", f"{name}={','.join(map(str, shape))}"]
    assert run_command_line([*words, "--print-recipe"]) == 0
    recipe = tmp_path / "r.toml"
    recipe.write_text(capsys.readouterr().out)
    assert f'[importer]\n"factory" = "{FACTORY}"' in recipe.read_text()
    assert run_command_line(words) == 0
    first = (tmp_path / "m.onnx").read_bytes()
    assert run_command_line(["compile", "--recipe", str(recipe)]) == 0
    assert (tmp_path / "m.onnx").read_bytes() == first


def test_tied_weights_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    (tmp_path / "tied_module.py").write_text(
        "import torch\n\n\ndef make():\n    m = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))\n"
        "    m[1].weight = m[0].weight\n    return m\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    values = {"0.weight": torch.randn(3, 3), "0.bias": torch.randn(3), "1.bias": torch.randn(3)}
    save_file(values, "m.safetensors")
    model = edgecc.load("m.safetensors", {"input": (1, 3)}, {"factory": "tied_module:make"})
    sys.modules.pop("tied_module")
    x = torch.randn(1, 3)
    weight = values["0.weight"]
    expected = (x @ weight.T + values["0.bias"]) @ weight.T + values["1.bias"]
    assert compare(expected.numpy(), next(iter(run(model, {"input": x.numpy()}).values())), TOLERANCE) == ""


WRONG = {
    "": (OptionError, "holds weights and not what is computed"),
    "small.py": (OptionError, "cannot read factory"),
    "no.such.module:make": (DataError, "module 'no.such.module' cannot be imported"),
    "edgecc_torch.testing.modules:smol": (UnknownNameError, "unknown function 'smol'"),
    "edgecc_torch.testing.modules:edited": (OptionError, "does not work: TypeError"),
    "edgecc_torch.testing.modules:example": (OptionError, "gives tuple, no torch.nn.Module"),
    "torch.nn:Identity": (InvalidModelError, "holds the weights of another module"),
}


@pytest.mark.parametrize("factory", WRONG)
def test_wrong_factory(factory: str, weights: Path) -> None:
    error, reason = WRONG[factory]
    with pytest.raises(error) as caught:
        edgecc.load(weights, SHAPES, {"factory": factory})
    assert reason in str(caught.value)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({**small().state_dict(), "head.weight": torch.ones(5, 4)}, tmp_path / "m.safetensors")
    with pytest.raises(InvalidModelError, match="does not fit the module") as caught:
        edgecc.load(tmp_path / "m.safetensors", SHAPES, {"factory": FACTORY})
    assert caught.value.where == "head.weight"


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_truncated(fraction: float, weights: Path) -> None:
    contents = weights.read_bytes()
    weights.write_bytes(contents[: int(len(contents) * fraction)])
    with pytest.raises(InvalidModelError, match="truncated or damaged"):
        edgecc.load(weights, SHAPES, {"factory": FACTORY})


def test_content_decides_and_not_the_suffix(weights: Path) -> None:
    other = weights.rename(weights.with_suffix(".bin"))
    assert edgecc.load(other, SHAPES, {"factory": FACTORY}).nodes()
