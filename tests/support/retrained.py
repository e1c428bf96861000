"""Models as they come out of training on: which weights change, and by how much, decides what a delta is worth."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeloop.bundle import Manifest, SigningKey, VariantDraft, write_bundle
from support.bundles import small_draft

HEAD = 0.3
"""The share of the bytes that the last layer holds."""


def model_bytes(size: int, seed: int = 0) -> bytes:
    """Int8 weights as a trained layer has them, behind a .tflite's mark."""
    rng = np.random.default_rng(seed)
    weights = np.clip(np.round(rng.normal(0, 30, size - 8)), -127, 127).astype(np.int8)
    return b"\x1c\x00\x00\x00TFL3" + weights.tobytes()


def retrained(model: bytes, seed: int = 1) -> Mapping[str, bytes]:
    """The cases by name."""
    rng = np.random.default_rng(seed)
    start, weights = 64 if len(model) < 4096 else 2048, np.frombuffer(model, np.int8)

    def moved(where: slice, steps: float) -> bytes:
        changed = weights.copy()
        noise = np.round(rng.normal(0, steps, len(changed[where])))
        changed[where] = np.clip(changed[where] + noise, -127, 127).astype(np.int8)
        return changed.tobytes()

    some = weights.copy()
    chosen = np.flatnonzero(rng.random(len(some) - start) < 0.05) + start
    some[chosen] = rng.integers(-127, 128, len(chosen))
    fresh = weights.copy()
    fresh[start:] = rng.permutation(fresh[start:])
    return {
        "head only": moved(slice(int(len(weights) * (1 - HEAD)), None), 8),
        "5 % of the weights": some.tobytes(),
        "all, by a step": moved(slice(start, None), 1),
        "all, by three steps": moved(slice(start, None), 3),
        "from scratch": fresh.tobytes(),
    }


def bundle_of(
    path: Path, model: bytes, key: SigningKey | None, version: int = 1, name: str = "small", target: str = ""
) -> Manifest:
    """A bundle with this one variant. target: by default this machine: a device takes none that was made for another
    processor."""
    variants = [VariantDraft("int8", model, "int8", ("xnnpack", "cpu"))]
    here = {"aarch64": "generic-aarch64", "armv7l": "generic-armv7"}.get(platform.machine(), "generic-x86-64")
    draft = small_draft(name=name, version=version, variants=variants, golden=None, target=target or here)
    return write_bundle(path, draft, key)
