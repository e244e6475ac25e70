"""`edgecc compile --prune --low-rank --quantize`, and what is accepted of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.model import Model

from .conftest import Outcome

Run = Callable[..., Outcome]
ROOT = Path(__file__).resolve().parents[2]
TEXT = """g (float[1,3,12,12] x) => (float[1,5] y)
{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) d = Conv<pads = [1, 1, 1, 1]>(c, v, s) e = Relu(d)
  f = GlobalAveragePool(e) h = Flatten(f) y = Gemm(h, u, t) }"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two convolutions and a product, and 64 samples in `d.npz`."""
    rng = np.random.default_rng(0)
    shapes = {"w": (16, 3, 3, 3), "b": (16,), "v": (12, 16, 3, 3), "s": (12,), "u": (12, 5), "t": (5,)}
    model = Model.from_text(TEXT, {k: rng.standard_normal(s).astype(np.float32) / 3 for k, s in shapes.items()})
    model.save(tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((64, 3, 12, 12)).astype(np.float32))
    np.savez(tmp_path / "apart.npz", x=rng.standard_normal((50, 3, 12, 12)).astype(np.float32))
    return tmp_path


def report(path: str = "out.onnx") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.report.json").read_text())
    return found


COMMON = ("compile", "net.onnx", "-o", "out.onnx", "--no-measure", "--calibration", "d.npz")
ALL = ("--prune", "0.5", "--low-rank", "0.3", "--quantize", "int8")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_runs_in_the_order_that_works(edgecc: Run, net: Path, order: tuple[int, ...]) -> None:
    done = edgecc(*COMMON, *(word for place in order for word in ALL[2 * place : 2 * place + 2]))
    assert done.code == 0, done.err
    found = report()
    names = [step["pass"] for step in found["passes"] if step["pass"].partition(":")[0] in NAMES]
    assert names == ["prune-channels:macs=0.5", "factorize-low-rank:macs=0.7", "quantize-static"]
    assert (found["recipe"]["prune"], found["recipe"]["low_rank"]) == (0.5, 0.3)
    losses = found["losses"]
    assert [step["step"] for step in losses["steps"]] == names
    shares = [step["macs"] / losses["macs"] for step in losses["steps"]]
    # Half, then 30 % of that; one channel of the first layer is 1/16 of nearly all.
    assert 0.4 < shares[0] <= 0.5
    assert 0.6 * shares[0] < shares[1] <= 0.7 * shares[0]
    assert shares[2] == shares[1]
    sizes = [step["weight_bytes"] for step in losses["steps"]]
    assert sizes[0] < losses["weight_bytes"]
    assert sizes[2] < 0.5 * sizes[1] < 0.5 * sizes[0]
    rows = done.out.partition("against the source, on 8 held-out samples\n")[2].splitlines()
    columns = re.split(r"\s{2,}", rows[0])
    assert columns == ["after", "MACs", "weights", "SQNR", "same top-1", "(95 % interval)"]
    assert [row.split()[0] for row in rows[1:5]] == ["the", *names]


NAMES = ("prune-channels", "factorize-low-rank", "quantize-static")


def test_beside_passes_of_the_user(edgecc: Run, net: Path) -> None:
    done = edgecc(*COMMON, *ALL, "--pass", "equalize-layers", "--pass", "round-weights", "--print-recipe")
    assert done.code == 0, done.err
    assert 'prune = 0.5\nlow_rank = 0.3\nquantize = "int8"\n' in done.out
    done = edgecc(*COMMON, *ALL, "--pass", "equalize-layers", "--pass", "round-weights")
    assert done.code == 0, done.err
    names = [step["pass"].partition(":")[0] for step in report()["passes"]]
    wanted = [*NAMES[:2], "equalize-layers", NAMES[2], "round-weights"]
    assert [name for name in names if name in wanted] == wanted


def test_options_of_the_pass(edgecc: Run, net: Path) -> None:
    done = edgecc(*COMMON, "--prune", "params=0.6,multiple=4", "--low-rank", "energy=0.9")
    assert done.code == 0, done.err
    steps = [step["step"] for step in report()["losses"]["steps"]]
    assert steps == ["prune-channels:params=0.6,multiple=4", "factorize-low-rank:energy=0.9"]
    done = edgecc(*COMMON, "--prune", "0.3,multiple=2,criterion=magnitude")
    assert done.code == 0, done.err
    (step,) = report()["losses"]["steps"]
    assert step["step"] == "prune-channels:macs=0.7,criterion=magnitude,multiple=2"


def test_a_recipe_gives_the_same_bytes(edgecc: Run, net: Path) -> None:
    words = (*COMMON, *ALL, "--max-drop", "60", "--held-out", "apart.npz")
    assert edgecc(*words).code == 0
    first = Path("out.onnx").read_bytes()
    Path("r.toml").write_text(edgecc(*words, "--print-recipe").out)
    assert "max_drop = 60.0" in Path("r.toml").read_text()
    assert 'held_out = "apart.npz"' in Path("r.toml").read_text()
    Path("out.onnx").unlink()
    done = edgecc("compile", "--recipe", "r.toml")
    assert done.code == 0, done.err
    assert Path("out.onnx").read_bytes() == first


def test_too_much_is_taken_back(edgecc: Run, net: Path) -> None:
    """Pruning this much loses more than that; what is behind it does not."""
    much = "ratio=0.7,criterion=magnitude,repair=false"
    done = edgecc(*COMMON, "--prune", much, "--quantize", "int8", "--min-sqnr", "20", "--held-out", "apart.npz")
    assert done.code == 0, done.err
    assert f"note: prune-channels:{much} was taken back: " in done.err
    assert re.search(rf"^prune-channels:{much} .* taken back$", done.out, re.MULTILINE)
    found = report()
    kept = {step["step"]: not step["taken_back"] for step in found["losses"]["steps"]}
    assert kept == {f"prune-channels:{much}": False, "quantize-static": True}
    assert found["losses"]["samples"] == 50
    assert found["losses"]["steps"][1]["macs"] == found["losses"]["macs"]
    assert {step["pass"]: step["changed"] for step in found["passes"]}[f"prune-channels:{much}"] is False
    assert found["changed"] == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--prune", "1.5"), "prune: 1.5 is no share of the multiply-accumulates: --prune 0.5 lets half of them go"),
        (("--prune", "0"), "prune: 0 is no share"),
        (("--prune", "-0.1"), "prune: -0.1 is no share"),
        (("--prune", ""), "prune: '' is neither a share, such as 0.5, nor an option, such as params=0.5"),
        (("--low-rank", "nan"), "low_rank: nan is no share of the multiply-accumulates: --low-rank 0.5 lets"),
        (("--low-rank", "much"), "low_rank: 'much' is neither a share"),
        (("--low-rank", "2,multiple=8"), "low_rank: 2,multiple=8 is no share"),
        (("--prune", "maks=0.5"), "unknown option 'maks'"),
        (("--prune", "macs=1.5"), "option 'macs' of pass 'prune-channels'"),
        (
            ("--prune", "0.5", "--pass", "prune-channels:macs=0.5"),
            "--prune stands for prune-channels, which is among the passes too: leave one of them out",
        ),
        (
            ("--low-rank", "0.5", "--pass", "factorize-low-rank"),
            "--low-rank stands for factorize-low-rank, which is among the passes too",
        ),
        (("--quantize", "int8", "--max-drop", "1"), "max_drop=1 needs 100 samples that are held out, and there are 8"),
        (("--quantize", "int8", "--max-drop", "-1"), "max_drop: Input should be greater than or equal to 0"),
        (("--quantize", "int8", "--max-drop", "100"), "max_drop: Input should be less than 100"),
        (("--prune", "0.5", "--held-out", "none.npz"), "none.npz"),
    ],
)
def test_bad_requests(edgecc: Run, net: Path, words: tuple[str, ...], text: str) -> None:
    done = edgecc(*COMMON, *words)
    assert done.code == 2
    assert text in done.err
    assert "Value error" not in done.err
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize("flag", [("--max-drop", "2"), ("--min-sqnr", "20")])
def test_a_budget_without_data(edgecc: Run, net: Path, flag: tuple[str, str]) -> None:
    done = edgecc("compile", "net.onnx", "-o", "out.onnx", "--quantize", "int8-weights", *flag)
    assert done.code == 2
    assert "needs samples that what is lost is measured on" in done.err
    assert "--held-out DATA.npz" in done.err


def test_a_budget_for_saved_statistics(edgecc: Run, net: Path) -> None:
    assert edgecc(*COMMON, "--quantize", "int8", "--save-statistics", "t.json").code == 0
    words = ("compile", "net.onnx", "-o", "out.onnx", "--no-measure", "--quantize", "int8", "--calibration", "t.json")
    assert "needs samples that what is lost" in edgecc(*words, "--max-drop", "5").err
    done = edgecc(*words, "--max-drop", "50", "--held-out", "apart.npz")
    assert done.code == 0, done.err
    assert report()["losses"]["samples"] == 50
    wrong = edgecc(*words, "--held-out", "t.json")
    assert wrong.code == 2
    assert "what is lost is measured on samples, and these are statistics" in wrong.err


def test_a_budget_without_a_lossy_pass_is_a_note(edgecc: Run, net: Path) -> None:
    done = edgecc("compile", "net.onnx", "-o", "out.onnx", "--max-drop", "2")
    assert done.code == 0, done.err
    assert "note: nothing was held to max_drop: no pass changes values\n" in done.err


def test_a_budget_that_cannot_be_met(edgecc: Run, net: Path) -> None:
    done = edgecc(*COMMON, "--prune", "0.999")
    assert done.code == 0, done.err
    assert "of the multiply-accumulates are left, not 0%: 2 groups of channels are down to 20%" in done.err
    assert "--low-rank" not in done.err  # not so much can be asked of it: the option must be less than 1


def test_nothing_to_prune(edgecc: Run, net: Path, small: Path) -> None:
    np.savez("s.npz", x=np.ones((8, 4), np.float32))
    done = edgecc("compile", "m.onnx", "-o", "out.onnx", "--prune", "0.5", "--calibration", "s.npz")
    assert done.code == 0, done.err
    assert "note: prune-channels: nothing goes: the model has no layer" in done.err
    assert report()["losses"] == {}


def test_float16_is_a_lossy_pass_too(edgecc: Run, net: Path) -> None:
    done = edgecc(*COMMON, "--quantize", "float16", "--min-sqnr", "30")
    assert done.code == 0, done.err
    (step,) = report()["losses"]["steps"]
    # Halves have 11 digits: some 60 dB.
    assert 50 < step["outputs"]["y"]["sqnr_db"] < 90
    assert step["weight_bytes"] < 0.6 * report()["losses"]["weight_bytes"]
    without = edgecc("compile", "net.onnx", "-o", "out.onnx", "--quantize", "float16")
    assert "what it cost was not measured" in without.out


def test_several_outputs(edgecc: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "g (float[1,8] x) => (float[1,8] a, float[1,6] b) { a = MatMul(x, w)  r = Relu(a)  b = MatMul(r, v) }"
    shapes = {"w": (8, 8), "v": (8, 6)}
    model = Model.from_text(text, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    model.save(tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((64, 8)).astype(np.float32))
    done = edgecc(*COMMON, "--quantize", "int8-weights", "--pass", "quantize-weights:min_elements=1")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[lines.index("in the end") + 2 :][:2]] == ["a", "b"]


def test_the_page_about_losses_shows_what_its_first_command_prints(edgecc: Run) -> None:
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    command = re.search(r"^```sh\nedgecc (.*)$", page, re.MULTILINE)
    table = re.search(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert command
    assert table
    for name in ("digits.onnx", "digits_calibration.npz"):
        shutil.copy(ROOT / "examples" / "digits" / name, ".")
    done = edgecc(*command[1].split())
    assert done.code == 0, done.err
    title, *rows = table[1].splitlines()
    printed = done.out.splitlines()
    found = printed[printed.index(title) + 1 : printed.index(title) + 1 + len(rows)]
    numbers = r"\d+(?:\.\d+)?"
    for shown, now in zip(rows, found, strict=True):
        # The last digits may be others on another processor.
        assert re.split(r"\s{2,}", re.sub(numbers, "#", shown)) == re.split(r"\s{2,}", re.sub(numbers, "#", now))
        assert [float(n) for n in re.findall(numbers, now)] == pytest.approx(
            [float(n) for n in re.findall(numbers, shown)], rel=0.1
        )
