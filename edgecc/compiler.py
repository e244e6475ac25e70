"""compile(): the short main that everything goes through."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.artifact import Artifact, check_writable, named_files, report_bytes, report_path, write_files
from edgecc.errors import DataError, OptionError, OutputError, PluginError, UnsupportedError
from edgecc.loading import load_model
from edgecc.options import build, parse_spec
from edgecc.pass_run import PassRun, Setting
from edgecc.passes.base import Loss, Pass, PassContext, no_progress
from edgecc.passes.entry import DeferredPass
from edgecc.passes.pipeline import QUANTIZED, PassPipeline, PipelineResult, Rounds
from edgecc.presets import DEFAULT
from edgecc.provenance import SourceHash, provenance
from edgecc.recipe import Recipe, ordered_passes
from edgecc.registry import Registry, default_registry

if TYPE_CHECKING:
    from edgecc.acceptance.losses import Losses
    from edgecc.backend import Backend, Compiled
    from edgecc.data.calibration import Calibration, CalibrationData
    from edgecc.measuring.float_layers import MeasuredChoice
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.statistics.table import StatisticTable
    from edgecc.target import Target

#: Called with a sentence about the step that begins.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class CompileResult:
    """What `compile` made.

    Attributes:
        artifact: the files on disk, with the report.
        recipe: what was asked for, with every default filled in.
        model: the graph as the backend got it.
        pipeline: what each pass did and left alone.
        notes: sentences that the user should read.
        context: what passes were given and what they recorded.
        losses: what each lossy pass cost; None if no pass lost anything.
    """

    artifact: Artifact
    recipe: Recipe
    model: Model
    pipeline: PipelineResult
    notes: tuple[str, ...]
    context: PassContext
    losses: Losses | None = None

    @property
    def path(self) -> Path:
        return self.artifact.path

    @property
    def statistics(self) -> StatisticTable:
        """What passes asked about the calibration data; empty if none did."""
        return self.context.statistics


def run_recipe(
    recipe: Recipe,
    *,
    registry: Registry | None = None,
    model: Model | None = None,
    calibration: Calibration | None = None,
    held_out: Calibration | None = None,
    progress: Progress = lambda text: None,
    work_progress: WorkProgress = no_progress,
) -> CompileResult:
    """Import, run the passes, check support, compile, write.

    Args:
        recipe: what to do.
        registry: where names are looked up; everything installed if None.
        model: a model in memory, used instead of reading `recipe.source`; it is not changed.
        calibration: samples or statistics in memory, used instead of opening `recipe.calibration`.
        held_out: samples in memory, used instead of opening `recipe.held_out`.
        progress: called at each step.
        work_progress: called during long steps with how much is done.

    Raises:
        RequestError, UnsupportedError, VerificationError: see `edgecc.errors`.
    """
    registry = registry or default_registry()
    backend, target = resolve_target(recipe.target, registry)
    output = resolve_output(recipe, target)
    target = target.for_suffix(output.suffix)
    pipeline = build_pipeline(recipe, backend=backend, target=target, registry=registry, output=output)
    available = backend.can_compile()
    if not available:
        raise PluginError(f"target {backend.name!r} cannot compile here", why=available.reason, hint=available.hint)
    check_writable(output)

    progress(f"reading {recipe.source}")
    in_memory = model is not None
    source = model if model is not None else _load(recipe, registry)
    source_hash = None if in_memory else SourceHash(source.source_files)
    recipe = recipe.model_copy(update={"output": str(output), "target": target.spec()})
    signature = source.signature
    data = _opened(recipe.calibration if calibration is None else calibration, recipe, source, recipe.samples)
    apart = _samples(recipe.held_out if held_out is None else held_out, recipe, source)
    build = functools.partial(build_pipeline, backend=backend, target=target, registry=registry, output=output)
    setting = Setting(build, registry, backend, target, data, apart, work_progress)
    measured = pipeline.quantizes and setting.measures(recipe)
    choice, asked = None, recipe
    progress("running passes")
    recipe, pipeline, shaping = setting.shaped(recipe, pipeline, source)
    # What nobody needs again is not copied.
    run = setting.run(recipe, pipeline, source.clone() if in_memory or measured else source)
    if measured:
        progress("measuring where integers are slower")
        recipe, run, choice = setting.measured(recipe, run, source)
    if shaping:
        # What was measured is in it: the same recipe must not be measured again.
        recipe = recipe.model_copy(update={"measure": False})
    model, context, result = run.model, run.context, run.result
    losses = run.losses()
    quantization = losses.quantization if losses is not None else None
    progress(f"compiling for {backend.name}")
    unsupported = backend.find_unsupported(model, target)
    if unsupported:
        raise UnsupportedError(target.spec(), unsupported)
    compiled = backend.name_files(backend.compile(model, target), output.name)

    report = {
        **provenance(recipe, backend, registry, source, source_hash),
        "signature": {"inputs": list(map(asdict, signature.inputs)), "outputs": list(map(asdict, signature.outputs))},
        "calibration": _calibration_facts(context),
        "losses": losses.to_dict() if losses is not None else {},
        "quantization": quantization.to_dict() if quantization is not None else {},
        "measured": choice.to_dict() if choice is not None else {},
        "shaped": [found.to_dict() for found in shaping],
        "passes": [{"pass": r.spec, "changed": r.changed, "nodes": r.nodes_after} for r in result.records],
        "changed": _choices_of(run.pipeline, context),
        "skipped": [asdict(skip) for skip in result.skips],
        "notes": [
            *_calibration_notes(context, losses, _idle_notes(run.pipeline, model)),
            *(note for found in shaping for note in found.notes()),
            *(() if shaping and choice is None else _choice_notes(choice, asked)),
            *result.notes,
            *_budget_notes(run, recipe),
            *compiled.notes,
        ],
        "not_carried": [*source.not_carried, *compiled.not_carried],
        "output_steps": _output_steps(model),
        "correspondence": [asdict(match) for match in compiled.correspondence],
        "details": compiled.details,
    }
    progress(f"writing {output}")
    artifact = _write(output, compiled, report)
    return CompileResult(artifact, recipe, model, result, tuple(report["notes"]), context, losses)


def _load(recipe: Recipe, registry: Registry) -> Model:
    return load_model(Path(recipe.source), registry, recipe.shapes, recipe.importer)


def _choices_of(pipeline: PassPipeline, context: PassContext) -> list[dict[str, Any]]:
    """What lossy passes said about single nodes."""
    lossy = {step.name for step in pipeline.made_passes if step.loss is Loss.LOSSY}
    return [asdict(change) for change in context.changes if change.pass_name in lossy]


def _output_steps(model: Model) -> dict[str, float]:
    """What one step of each output stands for that is dequantized, or quantized, last."""
    from edgecc.model import value_of

    found = {}
    for output in model.outputs:
        last = model.producer(output)
        scale = value_of(last.inputs[1]) if last is not None and last.op in _CHANGING else None
        if scale is not None and scale.size == 1:
            found[output.name] = float(scale.reshape(()))
    return found


_CHANGING = ("DequantizeLinear", "QuantizeLinear")


def _choice_notes(choice: MeasuredChoice | None, asked: Recipe) -> tuple[str, ...]:
    if choice is not None:
        return (choice.note(),)
    return (
        ("nothing was measured: --measure is about what quantize-static and factorize-low-rank make",)
        if asked.measure
        else ()
    )


def _budget_notes(run: PassRun, recipe: Recipe) -> tuple[str, ...]:
    """What was taken back, or that nothing could be."""
    given = " and ".join(key for key in ("max_drop", "min_sqnr") if getattr(recipe, key) is not None)
    if run.gate is None and given:
        return (f"nothing was held to {given}: no pass changes values",)
    return run.notes


def _idle_notes(pipeline: PassPipeline, model: Model) -> tuple[str, ...]:
    """About passes that mend what quantization cost, where none of the others quantizes."""
    if pipeline.quantizes or model.nodes(*QUANTIZED):
        return ()
    names = [step.name for step in pipeline.made_passes if step.needs_float_model]
    return tuple(f"nothing is quantized: run {name} behind quantize-static" for name in names)


def resolve_target(spec: str, registry: Registry) -> tuple[Backend, Target]:
    """The backend and the target value of `NAME:key=value,...`."""
    name, options = parse_spec(spec)
    backend = registry.backend(name)
    return backend, build(backend.target, "target", name, options)


def resolve_pass(spec: str, registry: Registry) -> Pass:
    """The pass of `NAME:key=value,...`, with the patterns that plugins add to it."""
    name, options = parse_spec(spec)
    step = build(registry.pass_class(name), "pass", name, options)
    more = registry.rewrites(name)
    if not more:
        return step
    from edgecc.rewriting.rewrite import RewritePass

    return step.with_rewrites(more) if isinstance(step, RewritePass) else step


def preset_passes(name: str, registry: Registry) -> list[Pass | DeferredPass]:
    """The passes of a preset; those that say what they need of a model are not imported yet."""
    found: list[Pass | DeferredPass] = []
    for spec in registry.preset(name).passes:
        operators = registry.passes.operators(spec) if spec in registry.passes else None
        # A pattern of another plugin may begin at any operator.
        if operators and not registry.rewrites(spec):
            found.append(DeferredPass(spec, operators, functools.partial(resolve_pass, spec, registry)))
        else:
            found.append(resolve_pass(spec, registry))
    return found


def resolve_output(recipe: Recipe, target: Target) -> Path:
    """The output path: as asked for, or named after the source, never the source itself."""
    source = Path(recipe.source)
    if not recipe.output:
        output = Path(f"{source.stem}{target.suffixes[0]}")
        return output if not _same_file(output, source) else Path(f"{source.stem}.{target.name}{target.suffixes[0]}")
    output = Path(recipe.output)
    if output.suffix not in target.suffixes:
        raise OptionError(
            f"{target.name} does not write {output.suffix or 'files without a suffix'}",
            where=str(output),
            hint=f"-o {output.with_suffix(target.suffixes[0])}",
        )
    if _same_file(output, source):
        raise OutputError(f"{output} is the source itself", hint="choose another -o OUT")
    return output


def build_pipeline(
    recipe: Recipe, *, backend: Backend, target: Target, registry: Registry, output: Path
) -> PassPipeline:
    """The preset's passes in rounds, the user's in their order, then the backend's own that are not among them."""
    passes = [resolve_pass(spec, registry) for spec in ordered_passes(recipe, registry)]
    verifier = None
    if recipe.verify:
        from edgecc.passes.verification import Verifier

        verifier = Verifier(seed=recipe.seed, save_to=output.parent)
    steps = arrange(passes, backend, target, registry, optimize=recipe.optimize)
    instruments = [cls() for cls in registry.instruments]
    return PassPipeline(steps, instruments=instruments, verifier=verifier, asked=passes)


def arrange(
    passes: Sequence[Pass],
    backend: Backend,
    target: Target,
    registry: Registry | None = None,
    *,
    optimize: str = DEFAULT,
) -> list[Pass | Rounds]:
    """What a model goes through on its way to a backend.

    One of the backend's passes that must run before one of the others (expanding before fusing, folding before a
    change of precision) goes right in front of it: the user cannot know what the backend adds.

    Args:
        passes: the user's; what is among them is left out of the preset, since the user says when and how it runs.
        backend: brings its own.
        target: what it compiles for.
        registry: where the preset is looked up; everything installed if None.
        optimize: name of the preset.
    """
    registry = registry or default_registry()
    chosen = {step.name for step in passes}
    preset = tuple(step for step in preset_passes(optimize, registry) if step.name not in chosen)
    steps: list[Pass | Rounds] = [Rounds(preset), *passes] if preset else list(passes)
    listed = {step.name for step in preset} | chosen
    for step in backend.passes(target):
        if step.name not in listed:
            steps.insert(_latest_position(step, steps), step)
    return steps


def _latest_position(step: Pass, steps: Sequence[Pass | Rounds]) -> int:
    def blocks(other: Pass | DeferredPass) -> bool:
        return other.name in step.before or step.name in other.after

    members = (item.passes if isinstance(item, Rounds) else (item,) for item in steps)
    return next((i for i, group in enumerate(members) if any(map(blocks, group))), len(steps))


def _samples(given: Calibration, recipe: Recipe, model: Model) -> CalibrationData | None:
    """Those that what is lost is measured on; None if none are given."""
    found = _opened(given, recipe, model)
    if found is None:
        return None
    from edgecc.statistics.table import StatisticTable

    if isinstance(found, StatisticTable):
        raise DataError(
            "what is lost is measured on samples, and these are statistics",
            where=f"--held-out {recipe.held_out}",
            hint="--held-out DATA.npz, one array per input",
        )
    return found


def _opened(
    given: Calibration, recipe: Recipe, model: Model, limit: int | None = None
) -> CalibrationData | StatisticTable | None:
    """The data; None if there is none."""
    if isinstance(given, str) and not given:
        return None
    from edgecc.data.calibration import open_calibration

    return open_calibration(given, model.signature, limit=limit, seed=recipe.seed)


def _calibration_facts(context: PassContext) -> dict[str, Any]:
    """What passes were told about the data, for the report; empty if nothing."""
    return asdict(context.statistics.data) if context.has_statistics else {}


def _calibration_notes(context: PassContext, losses: Losses | None, idle: tuple[str, ...]) -> tuple[str, ...]:
    if context.calibration is None or idle:
        return idle
    if not context.has_statistics and (losses is None or not losses.samples):
        return ("the calibration data was not used: no pass needed it",)
    why = losses.why_no_accuracy if losses is not None else ""
    return (*context.calibration.notes, *((why,) if why else ()))


def _write(output: Path, compiled: Compiled, report: Mapping[str, Any]) -> Artifact:
    files = named_files(output, compiled)
    full = {**report, "files": {path.name: {"bytes": memoryview(data).nbytes} for path, data in files.items()}}
    stale = _former_files(output) - {path.name for path in files}
    write_files({**files, report_path(output): report_bytes(full)})
    for name in stale:
        output.with_name(name).unlink(missing_ok=True)
    return Artifact(output, full)


def _former_files(output: Path) -> set[str]:
    """Names of the files beside the output that an earlier compilation of edgecc wrote for it."""
    former = Artifact.open(output).report.get("files", {})
    return {name for name in former if name.startswith(output.name) and Path(name).name == name}


def _same_file(first: Path, second: Path) -> bool:
    # Path.resolve raises where links lead in a circle; reading the source then says so.
    return os.path.realpath(first) == os.path.realpath(second)
