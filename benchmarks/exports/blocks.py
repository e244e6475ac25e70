"""What the architectures share, and weights for which no layer is degenerate."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution, BatchNorm and an activation; `act=None` for none."""

    def __init__(
        self,
        ins: int,
        outs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        padding = (kernel - 1) // 2 * dilation
        layers: list[nn.Module] = [
            nn.Conv2d(ins, outs, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(outs),
        ]
        if act is not None:
            layers.append(act())
        super().__init__(*layers)


class SqueezeExcite(nn.Module):
    """Scale the channels by what a small network makes of their means."""

    def __init__(
        self, channels: int, middle: int, act: type[nn.Module] = nn.ReLU, gate: type[nn.Module] = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.act = nn.Conv2d(channels, middle, 1), act()
        self.expand, self.gate = nn.Conv2d(middle, channels, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class Residual(nn.Module):
    """The sum of a branch and its input, which may go through a projection first."""

    def __init__(self, branch: nn.Module, skip: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.skip, self.act = branch, skip or nn.Identity(), act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.skip(x))


class Classifier(nn.Module):
    """Features, global average pool, flatten, head."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.pool, self.head = features, nn.AdaptiveAvgPool2d(1), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


def divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple that is not much smaller."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def randomize(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Weights that keep values near one in size, statistics that fit them roughly, no parameter at its default."""
    generator = torch.Generator().manual_seed(0)

    def normal(parameter: Tensor, deviation: float, mean: float = 0.0) -> None:
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)

    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan_in = module.weight[0].numel()
            normal(module.weight, (1.7 / fan_in) ** 0.5)
            if module.bias is not None:
                normal(module.bias, 0.1)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            normal(module.weight, 0.2, mean=1.0)
            normal(module.bias, 0.2)
        elif isinstance(module, nn.Embedding):
            normal(module.weight, 1.0)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    if norms:
        # What the layers really see, then bent a little: folding the wrong statistic would show.
        for norm in norms:
            norm.momentum = None
            norm.reset_running_stats()
        model.train()
        with torch.no_grad():
            model(*(torch.cat([x, -x]) if x.is_floating_point() else torch.cat([x, x]) for x in inputs))
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.mul_(1.1).add_(0.05)
            norm.running_var.mul_(1.2).add_(0.01)
    return model.eval()
