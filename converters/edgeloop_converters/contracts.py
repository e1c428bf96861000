"""The contract of a conversion: from a TOML file, from flags, or detected from model and data; checked against both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeloop.contract import Contract
from edgeloop.progress import Progress
from edgeloop_converters.data import Dataset


@dataclass(frozen=True)
class ContractFlags:
    """What the command line says; None means: detect it."""

    kind: str | None = None
    size: tuple[int, int] | None = None
    color: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    output: str | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Detected:
    """The contract, the data as this contract reads them (class ids renumbered, images as tensors where asked), and
    what was found out on the way. scores: accuracy by scaling, where scalings were tried."""

    contract: Contract
    data: Dataset
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def detect_contract(
    model: bytes,
    dataset: Dataset,
    *,
    file: Path | None = None,
    flags: ContractFlags | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Detected:
    """Contract for a float .tflite and the data it was given. Precedence: flags, then the TOML file, then detection.

    Raises ConfigError (contract does not fit the model), DataError (data fit neither).
    """
    raise NotImplementedError


def fit_data(contract: Contract, model: bytes, dataset: Dataset) -> Dataset:
    """Other data (`--eval`) brought in line with a contract that is settled, and checked. Raises DataError."""
    raise NotImplementedError
