"""The Python API: the words of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.compiler import CompileResult, Progress, run_recipe
from edgecc.errors import PluginError
from edgecc.presets import DEFAULT
from edgecc.recipe import Quantize, make_recipe
from edgecc.registry import default_registry

if TYPE_CHECKING:
    import jax
    import onnx
    import torch

    from edgecc.backend import Backend
    from edgecc.data.calibration import Calibration
    from edgecc.model import Model
    from edgecc.passes.base import Pass
    from edgecc.running.runner import Runner
    from edgecc.target import Target


def compile(
    source: str | Path | onnx.ModelProto | Model,
    target: str | Target = "",
    output: str | Path = "",
    *,
    optimize: str = DEFAULT,
    passes: str | Pass | Iterable[str | Pass] = (),
    prune: float | str | None = None,
    low_rank: float | str | None = None,
    quantize: Quantize | None = None,
    max_drop: float | None = None,
    min_sqnr: float | None = None,
    calibration: Calibration | None = None,
    samples: int | None = None,
    held_out: Calibration | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    importer: Mapping[str, Any] | None = None,
    verify: bool = False,
    measure: bool | None = None,
    seed: int = 0,
    progress: Progress = lambda text: None,
) -> CompileResult:
    """Compile a model for a target and write the artifact with its report.

    Args:
        source: a file, an `onnx.ModelProto`, or a Model (not changed).
        target: `"tflite"`, `"tflite:io_layout=nhwc"` or a Target; read from `output`'s suffix if empty.
        output: where to write; named after the source if empty.
        optimize: preset of passes that run first, `"0"` for none.
        passes: run in this order before the backend's own; names with options or Pass objects.
        prune: share of the multiply-accumulates that goes, by channels, or options of prune-channels such as
            `"params=0.5"`. Runs where it works among `passes`, as the next two do.
        low_rank: share of what pruning leaves that goes by factorizing layers, or options of factorize-low-rank.
        quantize: precision preset.
        max_drop: points of top-1 agreement with the source that may be lost in all; a lossy pass that loses more, on
            samples that are held out from it, is taken back.
        min_sqnr: dB that every output must have; likewise.
        calibration: samples for passes that need them: an `.npz` file, arrays by input name, a function that returns an
            iterable of feeds or `"package.module:function"`, `"random"`, or saved statistics.
        samples: how many of them are used; all if None.
        held_out: samples like those, on which what is lost is measured; every eighth of `calibration` if None.
        shapes: static shapes for named inputs.
        importer: options of the importer that reads a file, such as `{"factory": "package.module:callable"}`.
        verify: execute the model before and after every pass that must keep its values.
        measure: run models on this machine, keep layers in float that integers make slower, and layers whole that
            factors make slower; if None, where `quantize` is "int8" or `low_rank` is given, and the target is for
            machines like this one.
        seed: of the generator that passes may use.
        progress: called with a sentence at each step.

    Raises:
        edgecc.errors.EdgeccError: see the tree in `edgecc.errors`.
    """
    model = None if isinstance(source, str | Path) else load(source, shapes)
    name = str(source) if model is None else model.source or f"{model.graph.name or 'model'}.onnx"
    recipe = make_recipe(
        {
            "source": name,
            "target": _target_spec(target, output),
            "output": str(output),
            "optimize": optimize,
            "passes": tuple(step if isinstance(step, str) else step.spec() for step in _several(passes)),
            "prune": prune,
            "low_rank": low_rank,
            "quantize": quantize,
            "max_drop": max_drop,
            "min_sqnr": min_sqnr,
            "calibration": str(calibration) if isinstance(calibration, str | Path) else "",
            "samples": samples,
            "held_out": str(held_out) if isinstance(held_out, str | Path) else "",
            "shapes": {key: tuple(shape) for key, shape in (shapes or {}).items()},
            "importer": dict(importer or {}),
            "verify": verify,
            "measure": measure,
            "seed": seed,
        }
    )
    samples_seen, samples_apart = (None if isinstance(data, str | Path) else data for data in (calibration, held_out))
    return run_recipe(recipe, model=model, calibration=samples_seen, held_out=samples_apart, progress=progress)


def load(
    source: str | Path | onnx.ModelProto | Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Import a model: a file of any installed format, or an `onnx.ModelProto`; a Model is returned as it is.

    Args:
        source: what to read.
        shapes: static shapes for named inputs.
        options: of the importer that reads a file.

    Raises:
        edgecc.errors.RequestError: it cannot be read as a model, or an option is wrong.
    """
    from edgecc.importers.onnx import OnnxImporter
    from edgecc.loading import load_model
    from edgecc.model import Model

    if isinstance(source, Model):
        return source
    if isinstance(source, str | Path):
        return load_model(Path(source), default_registry(), shapes, options)
    return OnnxImporter().from_proto(source, shapes=shapes or {})


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor = (),
    dynamic_shapes: Any = None,
) -> Model:
    """Import a PyTorch module from memory; needs the plugin edgecc-torch.

    Args:
        module: traced with torch.export in evaluation mode; it is not changed. Of an ExportedProgram only the graph is
            used, and the other arguments are not.
        example_inputs: what `forward` takes, positionally or by name; a tensor is a tuple of that tensor.
        dynamic_shapes: dimensions that stay open, as torch.export takes them: `[{0: torch.export.Dim("batch")}]`. All
            are fixed to those of `example_inputs` if None.

    Returns:
        A Model whose inputs are called as `forward` calls its arguments. Outputs keep the keys of a dictionary, and
        have the names of torch.export otherwise.

    Raises:
        PluginError: edgecc-torch or one of its packages is not installed.
        InvalidModelError: the module cannot be traced, such as one with a branch that depends on values.
        UnsupportedError: ONNX has nothing for one of its operators.
    """
    import importlib.util

    if importlib.util.find_spec("edgecc_torch") is None:
        raise PluginError("edgecc-torch is not installed, which reads PyTorch modules", hint="pip install edgecc-torch")
    from edgecc_torch.from_torch import from_torch as imported

    return imported(module, example_inputs, dynamic_shapes)


def from_jax(function: Callable[..., Any], example_inputs: Sequence[Any] | Mapping[str, Any] | jax.Array) -> Model:
    """Import a JAX function from memory; needs the plugin edgecc-jax.

    Args:
        function: what `jax.jit` takes: a function with its weights bound, a Flax NNX or an Equinox module.
        example_inputs: its arguments, positionally or by name, nested as JAX nests them; an array is a tuple of that
            array. Arrays or `jax.ShapeDtypeStruct`; dimensions of `jax.export.symbolic_shape` stay open.

    Returns:
        A Model whose inputs are called as the function calls its arguments, with the keys of what is nested in them.
        Outputs keep the keys of a dictionary, and are "output" or "output_0", "output_1" ... otherwise.

    Raises:
        PluginError: edgecc-jax or one of its packages is not installed.
        InvalidModelError: the function cannot be traced, such as one with a branch that depends on values.
        UnsupportedError: ONNX has nothing for one of its operators.
    """
    import importlib.util

    if importlib.util.find_spec("edgecc_jax") is None:
        raise PluginError("edgecc-jax is not installed, which reads JAX functions", hint="pip install edgecc-jax")
    from edgecc_jax.from_jax import from_jax as imported

    return imported(function, example_inputs)


def runner(
    artifact: str | Path, *, target: str = "", threads: int = 1, options: Mapping[str, Any] | None = None
) -> Runner:
    """A runner for an artifact, to be entered: `with edgecc.runner("m.tflite") as r: r.infer({"x": x})`.

    Args:
        artifact: the compiled file.
        target: name of the target; by the report beside the file or its suffix if empty.
        threads: of the runtime.
        options: the runtime's own, such as `{"provider": "CUDAExecutionProvider"}` for onnxruntime.
    """
    from edgecc.running.runner import Runner

    path = Path(artifact)
    return Runner(path, backend_of(path, target), threads=threads, options=dict(options or {}))


def backend_of(artifact: Path, target: str = "") -> Backend:
    """The backend that runs an artifact: by name, by the report beside it, or by its suffix."""
    from edgecc.artifact import Artifact

    registry = default_registry()
    name = target or str(Artifact.open(artifact).report.get("target", ""))
    return registry.backend(name) if name else registry.backend_for_suffix(artifact.suffix)


def _several(passes: str | Pass | Iterable[str | Pass]) -> Iterable[str | Pass]:
    from edgecc.passes.base import Pass

    return (passes,) if isinstance(passes, str | Pass) else passes


def _target_spec(target: str | Target, output: str | Path) -> str:
    if not isinstance(target, str):
        return target.spec()
    if target or not output:
        return target
    return target_for_output(Path(output))


def target_for_output(output: Path) -> str:
    """The target that an output's suffix means."""
    return default_registry().backend_for_suffix(output.suffix).name
