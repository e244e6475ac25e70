"""Networks over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _unit(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv1d(ins, outs, kernel, stride, padding=kernel // 2, groups=groups)
    return [convolution, nn.BatchNorm1d(outs), nn.PReLU(outs)]


class _Skip(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*_unit(width, width, 5, groups=width), *_unit(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def conv1d() -> nn.Module:
    """Sound of one second at 16 kHz, a fourth of it: samples to classes."""
    layers = _unit(1, 32, 11, 4)
    for width in (32, 64, 128):
        layers += [*_unit(max(width // 2, 32), width, 5, 2), _Skip(width), _Skip(width), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 12))


class BiLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(500, 64)
        self.lstm = nn.LSTM(64, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(ids))[0])


class GRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(40, 128, num_layers=2, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.gru(x)
        return self.head(torch.tanh(states[:, -1] + last[-1]))
