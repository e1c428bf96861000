"""A small network on scikit-learn's digit scans, trained with PyTorch and written as ONNX, opset 17."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

SEED = 7


class Residual(nn.Module):
    """x + f(x) of two convolutions; padding is asymmetric nowhere, so that it becomes SAME."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def build_model() -> nn.Module:
    """float [n, 1, 8, 8] in 0..1 -> 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), Residual(24), nn.MaxPool2d(2), Residual(24), nn.Flatten(),
        nn.Linear(24 * 4 * 4, 10),
    )  # fmt: skip


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> nn.Module:
    """images: uint8 [n, 8, 8]."""
    torch.manual_seed(SEED)
    x = torch.from_numpy(images).float().div(255)[:, None]
    y = torch.from_numpy(labels).long()
    model = build_model()
    steps = epochs * (len(x) // 32)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: len(x) // 32 * 32].split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Opset 17 is the newest that the converter reads."""
    example = torch.rand(1, 1, 8, 8)
    torch.onnx.export(
        model, (example,), str(path), opset_version=17, input_names=["image"], output_names=["digit"], dynamo=False
    )
