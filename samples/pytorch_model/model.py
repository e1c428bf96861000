"""A small PyTorch CNN for the digits, and the function that `edgeloop convert` calls: `model:digits`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

WEIGHTS = Path(__file__).parent / "digits.pth"


class DigitsNet(nn.Module):
    """float [n, 1, 8, 8] in 0..1 -> 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(48, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)))


def digits() -> tuple[nn.Module, torch.Tensor]:
    """The trained model and an example input. `weights_only`: a checkpoint is data, and stays it."""
    model = DigitsNet()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval(), torch.rand(1, 1, 8, 8)
