"""Larger convolutional classifiers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.exports.blocks import Classifier, ConvNormAct, Residual, SqueezeExcite


def _stem() -> list[nn.Module]:
    return [ConvNormAct(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]


def _basic(ins: int, outs: int, stride: int) -> nn.Module:
    branch = nn.Sequential(ConvNormAct(ins, outs, 3, stride), ConvNormAct(outs, outs, act=None))
    skip = None if ins == outs else ConvNormAct(ins, outs, 1, stride, act=None)
    return Residual(branch, skip, nn.ReLU())


def _bottleneck(ins: int, width: int, stride: int, dilation: int = 1) -> nn.Module:
    outs = 4 * width
    branch = nn.Sequential(
        ConvNormAct(ins, width, 1),
        ConvNormAct(width, width, 3, stride, dilation=dilation),
        ConvNormAct(width, outs, 1, act=None),
    )
    skip = None if ins == outs else ConvNormAct(ins, outs, 1, stride, act=None)
    return Residual(branch, skip, nn.ReLU())


def resnet18() -> nn.Module:
    layers, ins = _stem(), 64
    for outs in (64, 128, 256, 512):
        layers += [_basic(ins, outs, 1 if ins == outs else 2), _basic(outs, outs, 1)]
        ins = outs
    return Classifier(nn.Sequential(*layers), nn.Linear(512, 1000))


def resnet50_layers(dilations: tuple[int, ...] = (1, 1, 1, 1)) -> list[nn.Module]:
    """A stage with a dilation keeps its size."""
    layers, ins = _stem(), 64
    for width, count, dilation in zip((64, 128, 256, 512), (3, 4, 6, 3), dilations, strict=True):
        for number in range(count):
            stride = 2 if number == 0 and width > 64 and dilation == 1 else 1
            layers.append(_bottleneck(ins, width, stride, dilation))
            ins = 4 * width
    return layers


def resnet50() -> nn.Module:
    return Classifier(nn.Sequential(*resnet50_layers()), nn.Linear(2048, 1000))


class _Dense(nn.Module):
    """Normalization first; what it makes is put beside what it read."""

    def __init__(self, ins: int, growth: int = 32) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(ins), nn.Conv2d(ins, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


def densenet121() -> nn.Module:
    layers, ins = _stem(), 64
    for count in (6, 12, 24, 16):
        for _ in range(count):
            layers.append(_Dense(ins))
            ins += 32
        layers += [nn.BatchNorm2d(ins), nn.ReLU()]
        if count != 16:
            layers += [nn.Conv2d(ins, ins // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            ins //= 2
    return Classifier(nn.Sequential(*layers), nn.Linear(ins, 1000))


class _Inception(nn.Module):
    def __init__(self, ins: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormAct(ins, one, 1),
                nn.Sequential(ConvNormAct(ins, three[0], 1), ConvNormAct(*three)),
                nn.Sequential(ConvNormAct(ins, five[0], 1), ConvNormAct(*five)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), ConvNormAct(ins, pooled, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    """With the transform of its input that torchvision's trained weights want."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            ConvNormAct(3, 64, 7, 2), pool, ConvNormAct(64, 64, 1), ConvNormAct(64, 192), pool,
            _Inception(192, 64, (96, 128), (16, 32), 32), _Inception(256, 128, (128, 192), (32, 96), 64), pool,
            _Inception(480, 192, (96, 208), (16, 48), 64), _Inception(512, 160, (112, 224), (24, 64), 64),
            _Inception(512, 128, (128, 256), (24, 64), 64), _Inception(512, 112, (144, 288), (32, 64), 64),
            _Inception(528, 256, (160, 320), (32, 128), 128), nn.MaxPool2d(2, 2, ceil_mode=True),
            _Inception(832, 256, (160, 320), (32, 128), 128), _Inception(832, 384, (192, 384), (48, 128), 128),
        )  # fmt: skip
        self.head = nn.Linear(1024, 1000)

    def forward(self, x: Tensor) -> Tensor:
        channels = [
            torch.unsqueeze(x[:, n], 1) * (s / 0.5) + (m - 0.5) / 0.5
            for n, (s, m) in enumerate(((0.229, 0.485), (0.224, 0.456), (0.225, 0.406)))
        ]
        x = self.features(torch.cat(channels, 1))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def regnet_y_400mf() -> nn.Module:
    layers: list[nn.Module] = [ConvNormAct(3, 32, stride=2)]
    ins = 32
    for outs, count in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for number in range(count):
            stride = 1 if number else 2
            branch = nn.Sequential(
                ConvNormAct(ins, outs, 1),
                ConvNormAct(outs, outs, 3, stride, groups=outs // 8),
                SqueezeExcite(outs, round(0.25 * ins)),
                ConvNormAct(outs, outs, 1, act=None),
            )
            skip = ConvNormAct(ins, outs, 1, stride, act=None) if stride == 2 else None
            layers.append(Residual(branch, skip, nn.ReLU()))
            ins = outs
    return Classifier(nn.Sequential(*layers), nn.Linear(440, 1000))


class _ChannelsNorm(nn.LayerNorm):
    """LayerNorm over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class _ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, 1e-6)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.rand(width, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(F.gelu(self.expand(y))).permute(0, 3, 1, 2)
        return self.scale * y + x


def convnext_tiny() -> nn.Module:
    """Of the depth a third."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), _ChannelsNorm(96, 1e-6)]
    widths = (96, 192, 384, 768)
    for number, (width, count) in enumerate(zip(widths, (1, 1, 3, 1), strict=True)):
        if number:
            layers += [_ChannelsNorm(widths[number - 1], 1e-6), nn.Conv2d(widths[number - 1], width, 2, 2)]
        layers += [_ConvNeXtBlock(width) for _ in range(count)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), _ChannelsNorm(768, 1e-6), nn.Flatten(1), nn.Linear(768, 1000)
    )
