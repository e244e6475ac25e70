"""Compiles a model to an exported program."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecc.backend import Availability, Backend, Compiled, TensorMatch
from edgecc.distributions import version_of
from edgecc_torch.target import TorchRuntime, TorchTarget

if TYPE_CHECKING:
    from edgecc.errors import Unsupported
    from edgecc.model import Model
    from edgecc.target import RuntimeOptions, Target


class TorchBackend(Backend):
    """Writes `.pt2` files."""

    target: ClassVar[type[Target]] = TorchTarget
    runtime: ClassVar[type[RuntimeOptions]] = TorchRuntime

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        """Nodes that no rule makes PyTorch calls of."""
        del target
        from edgecc_torch.module_builder import ModuleBuilder

        builder = ModuleBuilder(model)
        builder.build()
        return builder.unsupported

    def compile(self, model: Model, target: Target) -> Compiled:
        """The archive."""
        del target
        from edgecc_torch.module_builder import to_module
        from edgecc_torch.program_writer import write_program

        module = to_module(model)
        names = [tensor.name for tensor in (*model.inputs, *model.outputs)]
        details: dict[str, object] = {
            "operators": dict(sorted(Counter(node.op for node in model.all_nodes()).items())),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
        }
        return Compiled(
            {".pt2": write_program(module, model)}, [TensorMatch(name, name) for name in names], [], details
        )

    def can_compile(self) -> Availability:
        return self.can_run()

    def can_run(self) -> Availability:
        if importlib.util.find_spec("torch") is None:
            return Availability("PyTorch is not installed", "pip install torch")
        return Availability()

    def versions(self) -> dict[str, str]:
        return {name: version_of(name) for name in ("edgecc-torch", "torch")}

    def session_file(self) -> Path:
        return Path(__file__).with_name("session.py")
