"""Starting a conversion early and collecting the float .tflite when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeloop.progress import Progress


@dataclass(frozen=True)
class FloatModel:
    """A float .tflite, batch 1, with a signature.

    frontend: key of FRONTENDS. versions: packages that made it. notes: what the user should know. seconds: by stage.
    """

    tflite: bytes
    frontend: str
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


class Conversion(Protocol):
    """A conversion under way. Leaving the `with` block without asking for the result stops it."""

    frontend: str

    def result(self, progress: Progress | None = None) -> FloatModel: ...
    def close(self) -> None: ...
    def __enter__(self) -> Conversion: ...
    def __exit__(self, *_: object) -> None: ...


def start_conversion(
    source: Path, *, trust_code: bool = False, batch: int = 1, signature: str | None = None
) -> Conversion:
    """Detect, scan for code, and start converting; returns at once.

    signature: which one to take of a SavedModel that has several.
    Raises UsageError (not a supported model), MissingExtraError, RefusedError (code inside the model, corrupt file);
    `result()` raises UsageError or RefusedError for what only the native converter finds.
    """
    raise NotImplementedError


def to_float_tflite(
    source: Path,
    *,
    trust_code: bool = False,
    batch: int = 1,
    signature: str | None = None,
    progress: Progress | None = None,
) -> FloatModel:
    """`start_conversion(...).result()`."""
    with start_conversion(source, trust_code=trust_code, batch=batch, signature=signature) as conversion:
        return conversion.result(progress)
