"""`edgecc compile --calibration`, with a pass that asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

import edgecc as package
from edgecc.cli import output
from edgecc.model import Model
from edgecc.passes.base import Pass, PassContext
from edgecc.passes.entry import PassTable
from edgecc.quantization.ranges import mse_range
from edgecc.registry import default_registry
from edgecc.statistics import Histogram, Request

from .conftest import Outcome

Run = Callable[..., Outcome]
RANGES: list[tuple[float, float]] = []


class Observe(Pass):
    """Chooses a range for each tensor."""

    name = "observe"

    def statistics(self, model: Model) -> Iterable[Request]:
        return [Histogram(node.outputs[0].name) for node in model.nodes()]

    def run(self, model: Model, ctx: PassContext) -> bool:
        RANGES[:] = [mse_range(ctx.statistics.histogram(node.outputs[0].name)) for node in model.nodes()]
        return False


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = default_registry()
    monkeypatch.setattr(registry, "passes", PassTable({**registry.passes, "observe": Observe}))
    RANGES.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", image=rng.standard_normal((20, 1, 8, 8)).astype(np.float32), labels=np.zeros(20))
    return tmp_path / "d.npz"


COMPILE = ("compile", "digits.onnx", "-o", "out.onnx", "--pass", "observe")


def test_npz(edgecc: Run, digits: Path, data: Path) -> None:
    done = edgecc(*COMPILE, "--calibration", "d.npz", "--samples", "8")
    assert done.code == 0, done.err
    assert len(RANGES) > 5
    report = json.loads(Path("out.onnx.report.json").read_text())
    assert report["calibration"] == {"source": "d.npz", "digest": report["calibration"]["digest"], "samples": 8}
    assert report["recipe"]["calibration"] == "d.npz"
    assert report["recipe"]["samples"] == 8


def test_two_runs_write_the_same_bytes(edgecc: Run, digits: Path, data: Path) -> None:
    reports = []
    for _ in range(2):
        assert edgecc(*COMPILE, "--calibration", "d.npz").code == 0
        reports.append(Path("out.onnx.report.json").read_bytes())
    assert reports[0] == reports[1]


def test_saved_statistics_give_the_same_ranges(edgecc: Run, digits: Path, data: Path) -> None:
    assert edgecc(*COMPILE, "--calibration", "d.npz", "--save-statistics", "t.json").code == 0
    first = list(RANGES)
    data.unlink()
    done = edgecc(*COMPILE, "--calibration", "t.json")
    assert done.code == 0, done.err
    assert first == RANGES
    report = json.loads(Path("out.onnx.report.json").read_text())
    assert (report["calibration"]["source"], report["calibration"]["samples"]) == ("d.npz", 20)


def test_random_is_loud(edgecc: Run, digits: Path) -> None:
    done = edgecc(*COMPILE, "--calibration", "random", "--samples", "4")
    assert done.code == 0
    assert "note: CALIBRATED ON RANDOM VALUES" in done.err
    notes = json.loads(Path("out.onnx.report.json").read_text())["notes"]
    assert notes[0].startswith("CALIBRATED ON RANDOM VALUES")


def test_a_function(edgecc: Run, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "cli_feeds.py").write_text(
        "import numpy as np\ndef some():\n    yield from ({'image': np.full((1, 1, 8, 8), i, 'f')} for i in range(3))\n"
    )
    done = edgecc(*COMPILE, "--calibration", "cli_feeds:some")
    assert done.code == 0, done.err
    assert json.loads(Path("out.onnx.report.json").read_text())["calibration"]["samples"] == 3


def test_without_data(edgecc: Run, digits: Path) -> None:
    done = edgecc(*COMPILE)
    assert done.code == 2
    assert "pass 'observe' needs calibration data" in done.err
    assert "add --calibration DATA.npz" in done.err
    assert not Path("out.onnx").exists()


def test_data_that_nobody_asks_for(edgecc: Run, digits: Path, data: Path) -> None:
    done = edgecc("compile", "digits.onnx", "-o", "out.onnx", "--calibration", "d.npz")
    assert done.code == 0
    assert "note: the calibration data was not used: no pass needed it" in done.err
    assert json.loads(Path("out.onnx.report.json").read_text())["calibration"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--calibration", "none.npz"), "none.npz does not exist"),
        (("--calibration", "d.npz", "--samples", "0"), "0 is not in the range x>=1"),
        (("--calibration", "d.txt"), "d.txt does not exist"),
        (("--calibration", "no.such:thing"), "module 'no.such' cannot be imported"),
        (("--calibration", "none.json"), "none.json cannot be read as a table of statistics"),
    ],
)
def test_wrong_requests(edgecc: Run, digits: Path, data: Path, words: tuple[str, ...], message: str) -> None:
    done = edgecc(*COMPILE, *words)
    assert done.code == 2
    assert message in done.err


def test_recipe(edgecc: Run, digits: Path, data: Path, tmp_path: Path) -> None:
    printed = edgecc(*COMPILE, "--calibration", "d.npz", "--samples", "8", "--print-recipe").out
    assert 'calibration = "d.npz"\nsamples = 8\n' in printed
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "r.toml").write_text(printed.replace('"d.npz"', '"../d.npz"').replace('"digits', '"../digits'))
    done = edgecc("compile", "--recipe", folder / "r.toml")
    assert done.code == 0, done.err
    for word in ("random", "some.module:function"):
        (folder / "r.toml").write_text(printed.replace("d.npz", word))
        assert f'calibration = "{word}"' in edgecc("compile", "--recipe", folder / "r.toml", "--print-recipe").out


def test_python(digits: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((6, 1, 8, 8)).astype(np.float32)
    given = [{"image": image}, image, lambda: ({"image": row[None]} for row in image)]
    tables = []
    for calibration in given:
        result = package.compile(digits, output=tmp_path / "o.onnx", passes=Observe(), calibration=calibration)
        tables.append(result.statistics)
    assert len({table.data.digest for table in tables}) == 1
    again = package.compile(digits, output=tmp_path / "o.onnx", passes=Observe(), calibration=tables[0])
    assert again.statistics.data == tables[0].data


def test_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.status import Status

    shown: list[object] = []
    status = Status("", console=Console())
    monkeypatch.setattr(status, "update", shown.append)
    line = output.StatusLine(status)
    line("reading")
    line.work("calibrating", 1, 64)
    line.work("calibrating", 2, 64)  # too soon to draw again
    line.work("calibrating", 64, 64)
    assert shown[0] == "reading"
    assert len(shown) == 3
    console = Console(width=80)
    with console.capture() as printed:
        console.print(shown[-1])
    assert printed.get().split()[0] == "calibrating"
    assert printed.get().rstrip().endswith("64 of 64")
    output.StatusLine().work("nobody sees it", 1, 2)
