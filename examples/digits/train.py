"""Train a small convolutional net on scikit-learn's handwritten digits and export it to ONNX.

Its results are committed, so only run this to make them again: see README.md for what it needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).parent
SEED, EPOCHS, BATCH = 0, 60, 64


def conv(channels_in: int, channels_out: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias that keeps the image's size, and its normalization."""
    weights = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [weights, nn.BatchNorm2d(channels_out)]


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(channels, channels), nn.ReLU(), *conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class DigitNet(nn.Module):
    """Every ingredient of a mobile image classifier once: 8x8 pixels in, ten logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv(1, 16), nn.ReLU())
        self.separable = nn.Sequential(*conv(16, 16, groups=16), nn.ReLU(), *conv(16, 32, kernel=1), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.residual = Residual(32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.residual(self.pool(self.separable(self.stem(image))))
        return self.head(features.mean(dim=(2, 3)))


def load_split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (n, 1, 8, 8) in 0..1 and their labels: 1197 to train on, 200 to calibrate with, 400 to test on."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=400, random_state=SEED, stratify=labels
    )
    images, calibration_images, labels, calibration_labels = train_test_split(
        images, labels, test_size=200, random_state=SEED, stratify=labels
    )
    return {
        "train": (images, labels),
        "calibration": (calibration_images, calibration_labels),
        "test": (test_images, test_labels),
    }


def train(images: Tensor, labels: Tensor) -> DigitNet:
    net = DigitNet()
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            shift = (int(torch.randint(-1, 2, ())), int(torch.randint(-1, 2, ())))  # a pixel of jitter per batch
            logits = net(images[batch].roll(shift, dims=(2, 3)))
            loss = nn.functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.inference_mode()
def accuracy(net: DigitNet, images: np.ndarray, labels: np.ndarray) -> float:
    return float((net(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())


def export(net: DigitNet, path: Path) -> None:
    """Write the net as the exporter leaves it, but as one file and without stack traces of the machine it ran on."""
    example = torch.zeros(1, 1, 8, 8)
    torch.onnx.export(net, (example,), path, input_names=["image"], output_names=["logits"], external_data=False)
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def main() -> None:
    torch.manual_seed(SEED)
    split = load_split()
    net = train(*map(torch.from_numpy, split["train"]))
    for part, (images, labels) in split.items():
        print(f"{part:<12} {len(images):5} images   accuracy {accuracy(net, images, labels):.2%}")
    export(net, HERE / "digits.onnx")
    for part, name in (("calibration", "digits_calibration.npz"), ("test", "digits.npz")):
        images, labels = split[part]
        np.savez_compressed(HERE / name, image=images, labels=labels)


if __name__ == "__main__":
    main()
