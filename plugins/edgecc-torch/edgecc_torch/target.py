"""The target `torch`."""

from __future__ import annotations

from typing import ClassVar

from edgecc.target import RuntimeOptions, Target


class TorchTarget(Target):
    """PyTorch: an exported program (`.pt2`), for `torch.export.load`, ExecuTorch and AOTInductor."""

    name: ClassVar[str] = "torch"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    # What PyTorch has a function for.
    fused: ClassVar[frozenset[str]] = frozenset(
        {"Gelu", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LogSoftmax", "Mish", "Softmax", "Softplus"}
        | {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
    )


class TorchRuntime(RuntimeOptions):
    """PyTorch on this machine's CPU."""
