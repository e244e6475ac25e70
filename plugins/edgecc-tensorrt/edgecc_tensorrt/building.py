"""Building: from a model taken apart to an engine's bytes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecc.errors import EdgeccError, OptionError
from edgecc_tensorrt.log import Log, errors, make_log
from edgecc_tensorrt.sdk import Sdk
from edgecc_tensorrt.target import Range3, TensorRTTarget

if TYPE_CHECKING:
    from edgecc.signature import TensorSpec
    from edgecc_tensorrt.typed_onnx import TypedOnnx


class BuildError(EdgeccError):
    """The builder gave up; `why` are its own words."""


@dataclass
class Parsed:
    """A parsed model. The objects of the SDK need each other, the log and the weights alive, in this order.

    Attributes:
        complete: whether everything was parsed.
    """

    log: Log
    typed: TypedOnnx
    builder: Any
    network: Any
    parser: Any
    complete: bool

    def errors(self) -> list[ParserError]:
        found = [self.parser.get_error(index) for index in range(self.parser.num_errors)]
        return [ParserError(error.node(), error.desc()) for error in found]


@dataclass(frozen=True)
class ParserError:
    """What the parser says of the node at a position of the proto; -1 if of none."""

    position: int
    text: str


def parse(sdk: Sdk, typed: TypedOnnx) -> Parsed:
    """Give the model to the parser; it may have errors afterwards."""
    log = make_log(sdk.module)
    builder = sdk.module.Builder(log)
    network = builder.create_network(sdk.network_flags())
    parser = sdk.module.OnnxParser(network, log)
    return Parsed(log, typed, builder, network, parser, _feed(parser, typed))


def _feed(parser: Any, typed: TypedOnnx) -> bool:
    if not hasattr(parser, "load_model_proto"):  # TensorRT before 10.12 reads whole models only
        whole = typed.to_bytes()
        if whole is None:
            raise BuildError("this TensorRT reads no model over 2 GB", hint="install TensorRT 10.12 or later")
        return bool(parser.parse(bytes(whole)))
    if not parser.load_model_proto(typed.proto.SerializeToString(deterministic=True)):
        return False
    for name, values in typed.weights.items():
        parser.load_initializer(name, values.ctypes.data, values.nbytes)
    return bool(parser.parse_model_proto())


def build(sdk: Sdk, parsed: Parsed, target: TensorRTTarget, inputs: Sequence[TensorSpec], *, sparse: bool) -> Any:
    """The engine as an `IHostMemory`, which has the buffer interface.

    Args:
        sdk: that parsed it.
        parsed: without errors.
        target: with the options.
        inputs: of the model.
        sparse: whether some weights have two zeros in each four, so that sparse kernels are worth a try.

    Raises:
        BuildError: the builder gave up.
    """
    config = parsed.builder.create_builder_config()
    config.profiling_verbosity = sdk.module.ProfilingVerbosity.DETAILED  # the layer list names the model's nodes
    if target.workspace is not None:
        config.set_memory_pool_limit(sdk.module.MemoryPoolType.WORKSPACE, target.workspace)
    if target.optimization_level is not None:
        config.builder_optimization_level = target.optimization_level
    if sparse:
        config.set_flag(sdk.module.BuilderFlag.SPARSE_WEIGHTS)
    _choose_capabilities(sdk, config, target)
    _add_profile(parsed.builder, config, target, inputs)
    with _interruptible():
        engine = parsed.builder.build_serialized_network(parsed.network, config)
    if engine is None:
        said = errors(parsed.log)
        raise BuildError("TensorRT could not build the engine", why=said[-1] if said else "it gives no reason")
    return engine


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt after the build if Ctrl-C was pressed during it.

    Raised at once it would land in the logger, where TensorRT swallows every exception.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()  # where signals are handled
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if pressed:
        raise KeyboardInterrupt


def _choose_capabilities(sdk: Sdk, config: Any, target: TensorRTTarget) -> None:
    wanted = target.compute_capabilities
    if not wanted:
        return
    known = sdk.compute_capabilities()
    if not known:
        raise OptionError(
            "this TensorRT builds for the GPU of this machine only",
            where="option compute_capabilities of target tensorrt",
            hint="drop the option, or pip install tensorrt-rtx",
        )
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        if capability not in known:
            raise OptionError(
                f"{sdk.package} {sdk.version} cannot build for compute capability {capability}",
                where="option compute_capabilities of target tensorrt",
                hint=f"it can for {', '.join(known)}",
            )
        config.set_compute_capability(getattr(sdk.module.ComputeCapability, f"SM{capability.replace('.', '')}"), index)


def _add_profile(builder: Any, config: Any, target: TensorRTTarget, inputs: Sequence[TensorSpec]) -> None:
    """One optimization profile for all open dimensions."""
    if all(spec.is_static for spec in inputs):
        return
    profile = builder.create_optimization_profile()
    for spec in inputs:
        if not spec.is_static:
            profile.set_shape(spec.name, *profile_shapes(spec, target))
    config.add_optimization_profile(profile)


def profile_shapes(spec: TensorSpec, target: TensorRTTarget) -> tuple[list[int], list[int], list[int]]:
    """Smallest, usual and largest shape of an input all of whose open dimensions have a range."""
    ranges: list[Range3] = []
    for axis, size in enumerate(spec.shape):
        found = (size, size, size) if isinstance(size, int) else target.range_of(size, first=axis == 0)
        if found is None:
            raise AssertionError(f"{spec.name}: find_unsupported lets no dimension without a range pass")
        ranges.append(found)
    smallest, usual, largest = zip(*ranges, strict=True)
    return list(smallest), list(usual), list(largest)


def open_dimensions(inputs: Sequence[TensorSpec], target: TensorRTTarget) -> list[tuple[TensorSpec, str]]:
    """Dimensions that neither the model nor the options fix."""
    return [
        (spec, size)
        for spec in inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str) and target.range_of(size, first=axis == 0) is None
    ]
