"""PyTorch models as the tests' users write them: text of a module, put into the folder the test works in."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

needs_torch = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("litert_torch") is None, reason="PyTorch is missing: scripts/setup --torch"
    ),
]

MODELS = '''
import torch
from torch import nn

print("importing prints")


class Block(nn.Module):
    def __init__(self, into, out, stride):
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        self.short = nn.Identity()
        if stride != 1 or into != out:
            self.short = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.short(x))


class ResNet(nn.Module):
    """blocks per stage, width of the first; (2, 2, 2, 2), 64 and the large stem are ResNet-18."""

    def __init__(self, classes, blocks, width, large):
        super().__init__()
        if large:
            self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                      nn.MaxPool2d(3, 2, 1))
        else:
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        layers, into = [], width
        for stage, count in enumerate(blocks):
            for i in range(count):
                layers.append(Block(into, width << stage, 2 if stage and i == 0 else 1))
                into = width << stage
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(into, classes)

    def forward(self, image):
        return self.head(self.layers(self.stem(image)).mean((2, 3)))


class Transformer(nn.Module):
    """Token ids [1, length] to class scores; attention written out."""

    def __init__(self, words, length, width, heads, layers, classes):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(1, length, width) * 0.1)
        one = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens):
        return self.head(self.layers(self.words(tokens) + self.places).mean(1))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.conv = nn.Conv2d(3, 8, 3, 2)

    def forward(self, image, tokens):
        map = self.conv(image)
        return {"score": self.words(tokens).mean(1) + map.mean((2, 3)), "map": map}


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Svd(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1]


def settled(model, *example):
    """Batch norm as after training: a random network would else give every picture the same class."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(*example)
    return model.eval()


def small():
    torch.manual_seed(0)
    return settled(ResNet(10, (1, 1), 8, False), torch.rand(64, 3, 32, 32)), torch.rand(2, 3, 32, 32)


def resnet18():
    torch.manual_seed(0)
    return settled(ResNet(1000, (2, 2, 2, 2), 64, True), torch.rand(4, 3, 224, 224)), torch.rand(1, 3, 224, 224)


def transformer():
    torch.manual_seed(0)
    return Transformer(500, 32, 64, 4, 2, 8).eval(), torch.randint(0, 500, (1, 32))


def bare():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def two():
    return Two(), {"tokens": torch.randint(0, 50, (2, 5)), "image": torch.rand(2, 3, 16, 16)}


def branches():
    return Branches(), torch.rand(1, 3, 4, 4)


def svd():
    return Svd(), torch.rand(1, 3, 4, 4)


def raises():
    raise ValueError("depth 3 is not possible\\nmore of it")


def number():
    return 3


def wrong_shape():
    return nn.Linear(5, 2), torch.rand(1, 7)
'''


def write_models(folder: Path) -> None:
    """`my_models.py` in `folder`."""
    (folder / "my_models.py").write_text(MODELS)


def line_of(text: str) -> int:
    """The number of the line in `my_models.py` that is `text`."""
    return 1 + [line.strip() for line in MODELS.splitlines()].index(text)
