"""edgecc: a plugin-based model compiler for edge AI.

    edgecc.compile("model.onnx", target="tflite", output="model.tflite")

Every name is imported at first use: `import edgecc` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc.api import compile, from_jax, from_torch, load, runner
    from edgecc.artifact import Artifact
    from edgecc.backend import Availability, Backend, Compiled, TensorMatch
    from edgecc.compiler import CompileResult
    from edgecc.errors import EdgeccError, Unsupported
    from edgecc.hookspecs import hookimpl
    from edgecc.measuring.benchmark import BenchmarkResult, benchmark
    from edgecc.measuring.compare import compare
    from edgecc.model import Model
    from edgecc.passes.base import Loss, NodePass, Pass, PassContext, Property
    from edgecc.passes.pipeline import PassPipeline, Rounds
    from edgecc.presets import Preset
    from edgecc.recipe import Recipe
    from edgecc.rewriting.rewrite import Replacement, Rewrite, RewritePass
    from edgecc.running.runner import Runner
    from edgecc.target import Target

_HOME = {
    "Artifact": "edgecc.artifact",
    "Availability": "edgecc.backend",
    "Backend": "edgecc.backend",
    "BenchmarkResult": "edgecc.measuring.benchmark",
    "CompileResult": "edgecc.compiler",
    "Compiled": "edgecc.backend",
    "EdgeccError": "edgecc.errors",
    "Loss": "edgecc.passes.base",
    "Model": "edgecc.model",
    "NodePass": "edgecc.passes.base",
    "Pass": "edgecc.passes.base",
    "PassContext": "edgecc.passes.base",
    "PassPipeline": "edgecc.passes.pipeline",
    "Preset": "edgecc.presets",
    "Property": "edgecc.passes.base",
    "Recipe": "edgecc.recipe",
    "Replacement": "edgecc.rewriting.rewrite",
    "Rewrite": "edgecc.rewriting.rewrite",
    "RewritePass": "edgecc.rewriting.rewrite",
    "Rounds": "edgecc.passes.pipeline",
    "Runner": "edgecc.running.runner",
    "Target": "edgecc.target",
    "TensorMatch": "edgecc.backend",
    "Unsupported": "edgecc.errors",
    "benchmark": "edgecc.measuring.benchmark",
    "compare": "edgecc.measuring.compare",
    "compile": "edgecc.api",
    "from_jax": "edgecc.api",
    "from_torch": "edgecc.api",
    "hookimpl": "edgecc.hookspecs",
    "load": "edgecc.api",
    "runner": "edgecc.api",
}

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Availability",
    "Backend",
    "BenchmarkResult",
    "CompileResult",
    "Compiled",
    "EdgeccError",
    "Loss",
    "Model",
    "NodePass",
    "Pass",
    "PassContext",
    "PassPipeline",
    "Preset",
    "Property",
    "Recipe",
    "Replacement",
    "Rewrite",
    "RewritePass",
    "Rounds",
    "Runner",
    "Target",
    "TensorMatch",
    "Unsupported",
    "benchmark",
    "compare",
    "compile",
    "from_jax",
    "from_torch",
    "hookimpl",
    "load",
    "runner",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'edgecc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
