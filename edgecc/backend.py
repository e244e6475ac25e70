"""Backend: the code that turns a model into files for a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from edgecc.errors import Unsupported
from edgecc.options import build
from edgecc.target import RuntimeOptions, Target

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from edgecc.model import Model, Node
    from edgecc.passes.base import Pass


@dataclass(frozen=True)
class TensorMatch:
    """Which tensor of the artifact holds which tensor of the source.

    Attributes:
        source: name in the source model.
        target: name in the artifact.
        layout: permutation of the source's axes that gives the target's; None if they are the same.
        scale, zero_point: of a quantized tensor, real = scale * (stored - zero_point).
    """

    source: str
    target: str
    layout: tuple[int, ...] | None = None
    scale: float | None = None
    zero_point: int | None = None


@dataclass
class Compiled:
    """What a backend makes of a model.

    Attributes:
        files: suffix to contents; the first one is the artifact, others lie beside it.
        correspondence: source tensor to target tensor.
        notes: sentences for the report, such as what was composed or left out.
        details: facts for the report (operator counts, layer list), JSON values only.
        not_carried: what of the model has no place in the files, a line for each.
    """

    files: dict[str, Buffer]
    correspondence: list[TensorMatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)
    not_carried: list[str] = field(default_factory=list)


class Availability(NamedTuple):
    """Whether something can be used here.

    Attributes:
        reason: why not; "" if it can.
        hint: the command that mends it.
    """

    reason: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class NodeSupport:
    """What a backend makes of one node.

    Attributes:
        node: the source node's name.
        op: its operator.
        taken_by: what takes it, such as the operators it becomes; "" if nothing does.
        reasons: why nothing does; empty if something does.
    """

    node: str
    op: str
    taken_by: str = ""
    reasons: tuple[str, ...] = ()


class Backend(ABC):
    """Compiles a model for one kind of target.

    Importing a backend's module must not import its SDK: import it inside the methods.

    Class attributes:
        target: the class of targets this backend compiles for; its name is the backend's name.
        runtime: options of `Session` beside the number of threads.

    Attributes:
        plugin_lowerings: gives the rules that other plugins bring for this backend (hook `edgecc_lowerings`); set by
            the registry that makes the backend.
    """

    target: ClassVar[type[Target]]
    runtime: ClassVar[type[RuntimeOptions]] = RuntimeOptions
    plugin_lowerings: Callable[[], list[Any]] = list

    @property
    def name(self) -> str:
        return self.target.name

    def passes(self, target: Target) -> Sequence[Pass]:
        """The backend's own legalization, run after the user's passes."""
        del target
        return ()

    @abstractmethod
    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        """Every node that cannot be compiled, with its reason; the model is not changed."""

    def explain(self, model: Model, unsupported: Sequence[Unsupported]) -> list[NodeSupport]:
        """Each node with what takes it, or every reason why nothing does: `edgecc inspect --target`.

        Args:
            model: that `find_unsupported` was asked about.
            unsupported: its answer.
        """
        from edgecc.model import display_name

        reasons: dict[str, list[str]] = {}
        for problem in unsupported:
            reasons.setdefault(problem.node, []).append(problem.reason)
        found = []
        for node in model.all_nodes():
            name = display_name(node)
            why = tuple(reasons.get(name, ()))
            found.append(NodeSupport(name, node.op, "" if why else self.takes(node), why))
        return found

    def takes(self, node: Node) -> str:
        """What takes a node that is supported; a backend that is a table of rules names the rule."""
        del node
        return self.name

    @abstractmethod
    def compile(self, model: Model, target: Target) -> Compiled:
        """The artifact's files; called only when `find_unsupported` found nothing. The model is not changed."""

    def name_files(self, compiled: Compiled, name: str) -> Compiled:
        """What `compile` made, for an output of that file name; for files that name the ones beside them."""
        del name
        return compiled

    def can_compile(self) -> Availability:
        """Whether the SDK that `compile` needs is installed."""
        return Availability()

    def can_run(self) -> Availability:
        """Whether artifacts of this backend run on this machine."""
        return Availability()

    def is_for_this_machine(self, target: Target) -> bool:
        """Whether artifacts most often run on the kind of machine that compiles them.

        Then `--quantize int8` measures here which layers are faster in float, unless it is told not to.
        """
        del target
        return False

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Package versions that decide what `compile` writes, for the provenance."""

    @abstractmethod
    def session_file(self) -> Path:
        """The module with `Session`, which runs artifacts: see `edgecc.running.runner`."""

    def session_options(self, threads: int, options: Mapping[str, object]) -> dict[str, object]:
        """What `Session` is given: the number of threads and the user's options, validated.

        Raises:
            UnknownNameError, OptionError: `runtime` has no such option, or it takes no such value.
        """
        chosen = build(self.runtime, "runtime", self.name, options)
        return {"threads": threads, **chosen.model_dump(mode="json", exclude_unset=True)}
