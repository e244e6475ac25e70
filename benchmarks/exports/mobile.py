"""Convolutional classifiers for phones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.exports.blocks import Classifier, ConvNormAct, Residual, SqueezeExcite, divisible


def _inverted(
    ins: int,
    outs: int,
    *,
    expanded: int,
    kernel: int = 3,
    stride: int = 1,
    act: type[nn.Module] = nn.ReLU6,
    excite: nn.Module | None = None,
    dilation: int = 1,
) -> nn.Module:
    """Expand, convolve each channel by itself, project."""
    layers: list[nn.Module] = [] if expanded == ins else [ConvNormAct(ins, expanded, 1, act=act)]
    layers.append(ConvNormAct(expanded, expanded, kernel, stride, groups=expanded, dilation=dilation, act=act))
    if excite is not None:
        layers.append(excite)
    layers.append(ConvNormAct(expanded, outs, 1, act=None))
    branch = nn.Sequential(*layers)
    return Residual(branch) if stride == 1 and ins == outs else branch


def mobilenet_v2() -> nn.Module:
    layers, ins = [ConvNormAct(3, 32, stride=2, act=nn.ReLU6)], 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outs, count, stride in table:
        for number in range(count):
            layers.append(_inverted(ins, outs, expanded=ins * expansion, stride=1 if number else stride))
            ins = outs
    layers.append(ConvNormAct(ins, 1280, 1, act=nn.ReLU6))
    return Classifier(nn.Sequential(*layers), nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000)))


#: Kernel, expanded channels, output channels, squeeze and excite, hard swish, stride.
_V3_LARGE = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1),
    (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1),
    (5, 960, 160, 1, 1, 1),
)  # fmt: skip
_V3_SMALL = (
    (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1),
    (5, 576, 96, 1, 1, 1),
)  # fmt: skip


def v3_blocks(table: tuple[tuple[int, ...], ...], dilated_from: int | None = None) -> list[nn.Module]:
    """MobileNetV3's layers; from block `dilated_from` on dilated instead of strided."""
    layers: list[nn.Module] = [ConvNormAct(3, 16, stride=2, act=nn.Hardswish)]
    ins = 16
    for number, (kernel, expanded, outs, squeezes, swish, stride) in enumerate(table):
        dilated = dilated_from is not None and number >= dilated_from
        act = nn.Hardswish if swish else nn.ReLU
        excite = SqueezeExcite(expanded, divisible(expanded / 4), gate=nn.Hardsigmoid) if squeezes else None
        step, dilation = (1, 2) if dilated else (stride, 1)
        options = {"expanded": expanded, "kernel": kernel, "stride": step, "act": act, "dilation": dilation}
        layers.append(_inverted(ins, outs, excite=excite, **options))
        ins = outs
    return [*layers, ConvNormAct(ins, 6 * ins, 1, act=nn.Hardswish)]


def _mobilenet_v3(table: tuple[tuple[int, ...], ...], hidden: int) -> nn.Module:
    features = 6 * table[-1][2]
    head = nn.Sequential(nn.Linear(features, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, 1000))
    return Classifier(nn.Sequential(*v3_blocks(table)), head)


def mobilenet_v3_large() -> nn.Module:
    return _mobilenet_v3(_V3_LARGE, 1280)


def mobilenet_v3_small() -> nn.Module:
    return _mobilenet_v3(_V3_SMALL, 1024)


def dilated_mobilenet_v3() -> tuple[nn.Module, nn.Module]:
    """The layers up to an eighth of the size, and the rest at a sixteenth."""
    layers = v3_blocks(_V3_LARGE, dilated_from=12)
    return nn.Sequential(*layers[:7]), nn.Sequential(*layers[7:])


def efficientnet_b0() -> nn.Module:
    layers, ins = [ConvNormAct(3, 32, stride=2, act=nn.SiLU)], 32
    table = (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )  # fmt: skip
    for expansion, kernel, stride, outs, count in table:
        for number in range(count):
            expanded = ins * expansion
            excite = SqueezeExcite(expanded, max(1, ins // 4), act=nn.SiLU)
            step = 1 if number else stride
            layers.append(
                _inverted(ins, outs, expanded=expanded, kernel=kernel, stride=step, act=nn.SiLU, excite=excite)
            )
            ins = outs
    layers.append(ConvNormAct(ins, 1280, 1, act=nn.SiLU))
    return Classifier(nn.Sequential(*layers), nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000)))


def mnasnet() -> nn.Module:
    layers: list[nn.Module] = [
        ConvNormAct(3, 32, stride=2), ConvNormAct(32, 32, groups=32), ConvNormAct(32, 16, 1, act=None)
    ]  # fmt: skip
    ins = 16
    table = (
        (3, 2, 3, 24, 3),
        (5, 2, 3, 40, 3),
        (5, 2, 6, 80, 3),
        (3, 1, 6, 96, 2),
        (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1),
    )
    for kernel, stride, expansion, outs, count in table:
        for number in range(count):
            step = 1 if number else stride
            layers.append(_inverted(ins, outs, expanded=ins * expansion, kernel=kernel, stride=step, act=nn.ReLU))
            ins = outs
    layers.append(ConvNormAct(ins, 1280, 1))
    return Classifier(nn.Sequential(*layers), nn.Linear(1280, 1000))


class _ShuffleUnit(nn.Module):
    """Work on one half of the channels (both where the size halves), then mix the halves."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        half, self.stride = outs // 2, stride
        read = ins if stride > 1 else half
        self.left = nn.Sequential()
        if stride > 1:
            self.left = nn.Sequential(ConvNormAct(ins, ins, 3, 2, groups=ins, act=None), ConvNormAct(ins, half, 1))
        self.right = nn.Sequential(
            ConvNormAct(read, half, 1),
            ConvNormAct(half, half, 3, stride, groups=half, act=None),
            ConvNormAct(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.stride == 1 else (x, x)
        joined = torch.cat((self.left(left), self.right(right)), dim=1)
        batch, channels, height, width = joined.size()
        return joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)


def shufflenet_v2() -> nn.Module:
    layers: list[nn.Module] = [ConvNormAct(3, 24, stride=2), nn.MaxPool2d(3, 2, 1)]
    ins = 24
    for outs, count in ((116, 4), (232, 8), (464, 4)):
        for number in range(count):
            layers.append(_ShuffleUnit(ins, outs, 1 if number else 2))
            ins = outs
    layers.append(ConvNormAct(ins, 1024, 1))
    return Classifier(nn.Sequential(*layers), nn.Linear(1024, 1000))


class _Fire(nn.Module):
    def __init__(self, ins: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(ins, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    """Version 1.1."""
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, _Fire(64, 16, 64), _Fire(128, 16, 64), pool, _Fire(128, 32, 128),
        _Fire(256, 32, 128), pool, _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256),
        nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
