"""Networks that label every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.exports.blocks import ConvNormAct
from benchmarks.exports.convolutional import resnet50_layers
from benchmarks.exports.mobile import dilated_mobilenet_v3


class _ImagePool(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        for layer in self:
            x = layer(x)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class DeepLabV3(nn.Module):
    """ResNet-50 at an eighth of the size, then convolutions with several dilations side by side."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*resnet50_layers((1, 1, 2, 4)))
        self.branches = nn.ModuleList(
            [
                ConvNormAct(2048, 256, 1),
                *(ConvNormAct(2048, 256, 3, dilation=rate) for rate in (12, 24, 36)),
                _ImagePool(nn.AdaptiveAvgPool2d(1), ConvNormAct(2048, 256, 1)),
            ]
        )
        self.head = nn.Sequential(
            ConvNormAct(1280, 256, 1), nn.Dropout(0.5), ConvNormAct(256, 256), nn.Conv2d(256, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        y = self.backbone(x)
        y = self.head(torch.cat([branch(y) for branch in self.branches], dim=1))
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False)


class LRASPP(nn.Module):
    """MobileNetV3-Large with two branches behind it."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.low, self.high = dilated_mobilenet_v3()
        self.value = ConvNormAct(960, 128, 1)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(960, 128, 1, bias=False), nn.Sigmoid())
        self.low_classes, self.high_classes = nn.Conv2d(40, classes, 1), nn.Conv2d(128, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.high(low)
        y = self.value(high) * self.scale(high)
        y = F.interpolate(y, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.low_classes(low) + self.high_classes(y)
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _twice(ins: int, outs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(ins, outs, 3, padding=1), nn.GroupNorm(8, outs), nn.SiLU(),
        nn.Conv2d(outs, outs, 3, padding=1), nn.GroupNorm(8, outs), nn.SiLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """Up by transposed convolutions, the last time by interpolation."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList([nn.ConvTranspose2d(256, 128, 2, 2), nn.ConvTranspose2d(128, 64, 4, 2, 1)])
        self.upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(64, 32, 1)
        )
        self.merge = nn.ModuleList([_twice(256, 128), _twice(128, 64), _twice(64, 32)])
        self.head = nn.Conv2d(32, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        for up, merge, skip in zip((*self.up, self.upsample), self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        return self.head(x)
