"""What is imported when: `import edgecc`, `edgecc --help` and listings cost no SDK."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import onnx
import pytest

import edgecc.passes

#: onnx is one too: it costs more than everything that the command line needs to print its help.
SDKS = (
    "onnx",
    "onnx_graphsurgeon",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "tensorflow",
    "networkx",
    "scipy",
)
PASS_MODULES = [f"edgecc.passes.{m.name}" for m in pkgutil.iter_modules(edgecc.passes.__path__)]
FIRST_PARTY = ("onnxruntime", "tensorrt", "tflite", "torch")
INSTALLED = sorted({e.name for e in entry_points(group="edgecc")} & set(FIRST_PARTY))
PLUGIN_MODULES = [f"edgecc_{plugin}.{name}" for plugin in INSTALLED for name in ("plugin", "target", "backend")]


def sdks_after(code: str) -> list[str]:
    """The SDKs that a fresh interpreter has imported once it ran the code."""
    report = f"import json, sys; print('', json.dumps([m for m in {SDKS!r} if m in sys.modules]), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_import_edgecc_imports_no_sdk() -> None:
    assert sdks_after("import edgecc") == []


LINES = ("--help", "compile --help", "passes", "targets tflite", "compile m.onnx -t tflite --print-recipe")


@pytest.mark.parametrize("line", LINES)
def test_command_line_imports_no_sdk(line: str) -> None:
    assert sdks_after(f"from edgecc.cli.main import run\nassert run({line.split()!r}) == 0") == []


def test_no_module_of_a_pass_or_backend_imports_an_sdk() -> None:
    """One process for all: the first module after which an SDK is there is the one to blame."""
    modules = [*PASS_MODULES, *PLUGIN_MODULES]
    code = f"""
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    found = [sdk for sdk in {SDKS!r} if sdk in sys.modules]
    if found:
        sys.exit(f"{{module}} imports {{found}}")
"""
    assert sdks_after(code) == []


def test_every_public_name_of_a_pass_author_imports_no_sdk() -> None:
    """A plugin's module runs at every start of the command line."""
    assert sdks_after("from edgecc import Backend, Loss, NodePass, Pass, Property, Target, hookimpl") == []


#: What a compilation that changes no precision has no use for; importing it would take as long as compiling.
UNUSED = (
    "edgecc.acceptance.gate",
    "edgecc.measuring.metrics",
    "edgecc.pruning",
    "edgecc.quantization.losses",
    "edgecc.statistics",
    "numpy.random",
    "rich",
    "tomllib",
)


def test_a_plain_compilation_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 18]> g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    words = ["compile", str(tmp_path / "m.onnx"), "-t", "tflite", "-o", str(tmp_path / "m.tflite")]
    code = (
        f"import sys; from edgecc.cli.main import run; assert run({words!r}) == 0\n"
        f"sys.exit(', '.join(m for m in {UNUSED!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
