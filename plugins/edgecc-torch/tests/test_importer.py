"""Exported programs: values, names and open dimensions are the program's."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.cli.main import run as run_command_line
from edgecc.data.feeds import random_feeds
from edgecc.errors import InvalidModelError, OptionError, UnknownNameError, UnsupportedError
from edgecc.passes.verification import compare, run
from edgecc_torch.testing.modules import edited, example, small

#: Relative to the largest value of an output; ONNX Runtime and PyTorch sum in another order.
TOLERANCE = 1e-5


def feeds_of(batch: int) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in zip(("image", "gain"), example(batch), strict=True)}


def test_program(program_file: Path) -> None:
    model = edgecc.load(program_file)
    assert [spec.name for spec in model.signature.inputs] == ["image", "gain"]
    assert [spec.name for spec in model.signature.outputs] == ["scores", "features"]
    batch = model.signature.inputs[0].shape[0]
    assert isinstance(batch, str)
    assert [spec.shape for spec in model.signature.outputs] == [(batch, 2), (batch, 4)]
    assert model.source == str(program_file)
    assert model.source_files == (program_file,)
    with torch.no_grad():
        expected = small()(*example(5))
    found = run(model, feeds_of(5))
    for name, values in expected.items():
        assert compare(values.numpy(), found[name], TOLERANCE) == ""


def test_shapes_are_fixed(program_file: Path) -> None:
    model = edgecc.load(program_file, shapes={"image": (1, 3, 8, 8), "gain": (1, 2)})
    assert [spec.shape for spec in model.signature.outputs] == [(1, 2), (1, 4)]
    with pytest.raises(UnknownNameError, match="imgae"):
        edgecc.load(program_file, shapes={"imgae": (1, 3, 8, 8)})


def test_a_program_takes_no_factory(program_file: Path) -> None:
    with pytest.raises(OptionError, match="takes no factory"):
        edgecc.load(program_file, options={"factory": "a:b"})


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_command_line(suffix: str, program_file: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    words = ["compile", str(program_file), "-o", str(out), "--shape", "image=1,3,8,8", "--shape", "gain=1,2", "--json"]
    assert run_command_line(words) == 0
    model = edgecc.load(program_file, shapes={"image": (1, 3, 8, 8), "gain": (1, 2)})
    feeds = random_feeds(model.signature, seed=0)
    with edgecc.runner(out) as runner:
        found = runner.infer(feeds)
    for name, values in run(model, feeds).items():
        assert compare(values, found[name], TOLERANCE) == ""


class Answer(collections.OrderedDict):  # type: ignore[type-arg]
    """A dictionary with a name, as Transformers returns them."""


def test_names_of_a_class_like_a_dictionary(tmp_path: Path) -> None:
    from torch.utils import _pytree

    class Answering(torch.nn.Module):
        def forward(self, x: Any) -> Answer:
            return Answer(doubled=x * 2, same=x + 0)

    _pytree.register_pytree_node(
        Answer,
        lambda answer: (list(answer.values()), list(answer.keys())),
        lambda values, keys: Answer(zip(keys, values, strict=True)),
        serialized_type_name="somewhere.Answer",
    )
    path = saved(Answering(), (torch.ones(2),), tmp_path)
    # Of a class that is not known here.
    unknown = {"models/model.json": lambda data: data.replace(b"somewhere.Answer", b"elsewhere.Answer")}
    path.write_bytes(edited(path.read_bytes(), unknown))
    for model in (edgecc.load(path), edgecc.from_torch(Answering(), torch.ones(2))):
        assert [spec.name for spec in model.signature.outputs] == ["doubled", "same"]


class Double(torch.nn.Module):
    def forward(self, input: Any) -> tuple[Any, Any]:
        return input * 2, input


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls.add_(1)
        return x + self.calls


class Scaled(torch.nn.Module):
    def forward(self, x: Any, factor: float) -> Any:
        return x * factor


class Rare(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x)


class Maybe(torch.nn.Module):
    def forward(self, x: Any) -> tuple[Any, None]:
        return x * 2, None


def saved(module: Any, inputs: tuple[Any, ...], folder: Path) -> Path:
    path = folder / "m.pt2"
    torch.export.save(torch.export.export(module.eval(), inputs), path)
    return path


def test_names_that_are_python_s_own_and_an_input_that_is_an_output(tmp_path: Path) -> None:
    model = edgecc.load(saved(Double(), (torch.ones(2),), tmp_path))
    assert [spec.name for spec in model.signature.inputs] == ["input"]
    assert len({spec.name for spec in (*model.signature.inputs, *model.signature.outputs)}) == 3
    found = run(model, {"input": np.float32([1, 2])})
    assert [values.tolist() for values in found.values()] == [[2, 4], [1, 2]]


CANNOT: dict[str, tuple[Callable[[], Any], tuple[Any, ...], type[Exception], str]] = {
    "state": (Counting, (torch.ones(2),), InvalidModelError, "changes 'calls' while it runs"),
    "a number": (Scaled, (torch.ones(2), 2.5), InvalidModelError, "which is no tensor"),
    "no output": (Maybe, (torch.ones(2),), InvalidModelError, "which is no tensor"),
    "no ONNX operator": (Rare, (torch.ones(2),), UnsupportedError, "bessel_j0"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_imported(name: str, tmp_path: Path) -> None:
    make, inputs, error, reason = CANNOT[name]
    with pytest.raises(error) as caught:
        edgecc.load(saved(make(), inputs, tmp_path))
    assert reason in str(caught.value)
    assert "  try: " in str(caught.value) or "; " in str(caught.value)


def test_pickles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (("weights.pt", small().state_dict()), ("module.pth", torch.nn.ReLU())):
        torch.save(data, tmp_path / name)
        assert run_command_line(["inspect", str(tmp_path / name)]) == 2
        printed = capsys.readouterr().err
        assert "is a pickle, which edgecc does not read" in printed
        assert "torch.export.save" in printed
    torch.save(small().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(InvalidModelError, match="is a pickle"):
        edgecc.load(tmp_path / "old.pth")


def test_quantized_program_keeps_its_scales(tmp_path: Path) -> None:
    """As PT2E leaves it: quantize and dequantize around every operator, weights stored in int8 per channel."""
    pytest.importorskip("torch.ao.quantization.fx._decomposed")  # registers the operators
    ops = torch.ops.quantized_decomposed

    class Quantized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randint(-127, 128, (4, 3), dtype=torch.int8))
            self.register_buffer("scales", torch.tensor([0.01, 0.02, 0.03, 0.04]))
            self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))

        def forward(self, x: Any) -> Any:
            weight = ops.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
            y = ops.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
            y = ops.dequantize_per_tensor(y, 0.05, 3, -128, 127, torch.int8)
            return torch.nn.functional.linear(y, weight)

    torch.manual_seed(0)
    module, x = Quantized(), torch.randn(2, 3)
    model = edgecc.load(saved(module, (x,), tmp_path))
    assert [node.op for node in model.nodes("QuantizeLinear")] == ["QuantizeLinear"]
    scales = sorted(float(np.max(node.inputs[1].values)) for node in model.nodes("DequantizeLinear"))
    assert scales == [np.float32(0.04), np.float32(0.05)]
    assert sorted(str(tensor.dtype) for tensor in model.constants() if tensor.shape == (4, 3)) == ["int8"]
    assert compare(module(x).numpy(), next(iter(run(model, {"x": x.numpy()}).values())), TOLERANCE) == ""


def test_metadata_goes_out_and_comes_back(program_file: Path, tmp_path: Path) -> None:
    model = edgecc.load(program_file)
    model.graph.name, model.graph.doc_string = "pets", "tells pets apart"
    model.metadata = {"model_license": "MIT", "labels.scores": "cat\ndog"}
    again = edgecc.load(edgecc.compile(model, output=tmp_path / "again.pt2").path)
    assert (again.graph.name, again.graph.doc_string) == ("pets", "tells pets apart")
    assert (again.metadata, again.not_carried) == (model.metadata, ())


def test_extra_files_of_others_are_metadata(program_file: Path, tmp_path: Path) -> None:
    import torch

    program = torch.export.load(program_file)
    extra = {"labels.txt": "cat\ndog", "blob": "\0"}
    torch.export.save(program, tmp_path / "extra.pt2", extra_files=extra)
    model = edgecc.load(tmp_path / "extra.pt2")
    assert model.metadata["labels.txt"] == "cat\ndog"
    assert model.not_carried == ("extra file 'blob': it is no text, or a long one",)
