"""Every architecture with its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.exports import convolutional, mobile, segmentation, sequences, transformers
from benchmarks.exports.blocks import randomize


@dataclass(frozen=True)
class Architecture:
    """How to build one, and shapes of its inputs: a kind (f float, w word numbers below 500, m mask) and sizes."""

    build: Callable[[], nn.Module]
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...] = (("image", "f", (1, 3, 224, 224)),)

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.inputs]

    def example(self, batch: int = 1) -> tuple[Tensor, ...]:
        return tuple(_values(kind, (batch, *shape[1:])) for _, kind, shape in self.inputs)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return randomize(self.build(), self.example())


def _values(kind: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if kind == "w":
        return torch.randint(0, 500, shape, generator=generator)
    if kind == "m":
        return (torch.arange(shape[-1]) < shape[-1] * 3 // 4).long().expand(shape).contiguous()
    return torch.randn(shape, generator=generator)


_SMALL_IMAGE = (("image", "f", (1, 3, 128, 128)),)
_TEXT = (("ids", "w", (1, 64)), ("mask", "m", (1, 64)))

ARCHITECTURES: dict[str, Architecture] = {
    "mobilenet_v2": Architecture(mobile.mobilenet_v2),
    "mobilenet_v3_large": Architecture(mobile.mobilenet_v3_large),
    "mobilenet_v3_small": Architecture(mobile.mobilenet_v3_small),
    "resnet18": Architecture(convolutional.resnet18),
    "resnet50": Architecture(convolutional.resnet50),
    "efficientnet_b0": Architecture(mobile.efficientnet_b0),
    "shufflenet_v2": Architecture(mobile.shufflenet_v2),
    "squeezenet": Architecture(mobile.squeezenet),
    "densenet121": Architecture(convolutional.densenet121),
    "googlenet": Architecture(convolutional.GoogLeNet),
    "regnet_y_400mf": Architecture(convolutional.regnet_y_400mf),
    "mnasnet": Architecture(mobile.mnasnet),
    "convnext_tiny": Architecture(convolutional.convnext_tiny),
    "vit_b_16": Architecture(transformers.ViT),
    "swin_t": Architecture(transformers.Swin),
    "deeplabv3": Architecture(segmentation.DeepLabV3, _SMALL_IMAGE),
    "lraspp": Architecture(segmentation.LRASPP),
    "unet": Architecture(segmentation.UNet, _SMALL_IMAGE),
    "conv1d": Architecture(sequences.conv1d, (("sound", "f", (1, 1, 4096)),)),
    "bilstm": Architecture(sequences.BiLSTM, (("ids", "w", (1, 24)),)),
    "gru": Architecture(sequences.GRU, (("frames", "f", (1, 32, 40)),)),
    "bert": Architecture(transformers.Bert, _TEXT),
    "distilbert": Architecture(transformers.DistilBert, _TEXT),
}
