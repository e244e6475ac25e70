"""TorchScript's parser takes more than PyTorch's printer writes: what could do harm is refused in any spelling."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.errors import InvalidModelError
from edgecc_torch.archive import record_names
from edgecc_torch.script_check import harm_in
from edgecc_torch.testing.modules import edited


class Add(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Odd(torch.nn.Module):  # type: ignore[misc]
    """An attribute called like a library, a text with such names, names that are no Python names."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 1:
            raise ValueError("torch takes one row, say 'ops' # and \"torch\"")
        return self.ops(x).to(torch.device("cpu"))


def saved(module: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls TorchScript deprecated
        torch.jit.save(torch.jit.script(module.eval()), path)
    return path


#: Lines of code, each of which writes the file {0} when the module runs.
HARMFUL = [
    'x = torch.add(x, torch.sum(torch.from_file("{0}", True, 16)))',
    'x = torch.add(x, torch.sum(torch. from_file("{0}", True, 16)))',
    'x = torch.add(x, torch.sum(torch.\\\n  from_file("{0}", True, 16)))',
    'x = torch.add(x, torch.sum(ops. aten.from_file("{0}", True, 16)))',
    'x = torch.add(x, torch.sum(ops.aten .from_file("{0}", True, 16)))',
    't = torch\n    t.save(x, "{0}")',
    'o = ops\n    o.aten.save(x, "{0}")',
    'getattr(torch, "save")(x, "{0}")',
    '_0 = """\n    " """\n    torch. save(x, "{0}")',
    "_0 = '\"'\n    torch. save(x, '{0}')",
]


@pytest.mark.parametrize("line", HARMFUL)
def test_nothing_is_written(line: str, tmp_path: Path) -> None:
    path, target = saved(Add(), tmp_path / "m.pt"), tmp_path / "written"
    lines = line.format(target)

    def harm(code: bytes) -> bytes:
        return code.replace(b"    return ", f"    {lines}\n    return ".encode())

    code = next(name for name in record_names(path) if name.endswith(".py"))
    path.write_bytes(edited(path.read_bytes(), {code: harm}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(path)(torch.zeros(1, 4))
    assert target.exists()  # PyTorch itself lets it
    target.unlink()
    with pytest.raises(InvalidModelError, match="holds code that could do harm") as caught:
        edgecc.load(path, shapes={"x": (1, 4)})
    assert caught.value.where == code
    assert "torch.export" in caught.value.hint
    assert not target.exists()


def test_what_pytorch_prints_is_taken(tmp_path: Path) -> None:
    path = saved(Odd(), tmp_path / "m.pt")
    with zipfile.ZipFile(path) as archive:
        codes = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")]
    assert any("torch takes one row" in code for code in codes)
    assert any("ops : " in code for code in codes)
    assert [harm_in(code) for code in codes] == [""] * len(codes)
    assert edgecc.load(path, shapes={"x": (1, 4)}).signature.outputs[0].shape == (1, 4)


def test_only_what_was_looked_at_reaches_pytorch(tmp_path: Path) -> None:
    """Beside `model.json` PyTorch reads an older format, whose code may lie in any record."""
    path = saved(Add(), tmp_path / "m.pt")
    path.write_bytes(edited(path.read_bytes(), {}, {"model.json": b"{}"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError):
            torch.jit.load(path)
    assert [node.op for node in edgecc.load(path, shapes={"x": (1, 4)}).nodes()] == ["Add"]
