"""Models too large for a board are refused before anything is loaded: conversion takes 7 to 11 times their size."""

from __future__ import annotations

from pathlib import Path

from edgeloop.errors import UsageError

MAX_BYTES = 1 << 30
"""Of float weights. A .tflite holds at most 2 GiB, and an int8 model of 256 MiB is more than these boards run."""
_HINT = "a smaller model, or a part of it: edgeloop is for boards with at most 8 GB"


def check_source_size(source: Path) -> None:
    """Raises UsageError for a model file, or the weights of a SavedModel, above MAX_BYTES."""
    check_size(_bytes_of(source), str(source))


def check_size(size: int, what: str) -> None:
    """Raises UsageError for `size` bytes of weights above MAX_BYTES."""
    if size > MAX_BYTES:
        raise UsageError(
            f"{what} holds {size / MAX_BYTES:.1f} GiB of weights; at most {MAX_BYTES >> 30} GiB is converted",
            hint=_HINT,
        )


def _bytes_of(source: Path) -> int:
    if source.is_dir():
        return sum(path.stat().st_size for path in source.glob("variables/*") if path.is_file())
    return source.stat().st_size if source.is_file() else 0
