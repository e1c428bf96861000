"""Small models with several inputs, and data for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.graph import make_options
from support.tiny_models import RELU, TinyBuilder

TOKENS, LENGTH = 20, 12


def masked_tokens(seed: int = 0) -> bytes:
    """ "tokens" int32 [1, 12] and "mask" float32 [1, 12] -> "hidden" [1, 8] and a softmax [1, 3] of it."""
    b = TinyBuilder(seed)
    tokens, mask = b.input("tokens", (1, LENGTH), "int32"), b.input("mask", (1, LENGTH))
    table = b.constant("table", b.random.normal(size=TOKENS).astype(np.float32))
    looked_up = b.op("GATHER", [table, tokens], (1, LENGTH), make_options("GatherOptions", axis=0, batchDims=0))
    masked = b.op("MUL", [looked_up, mask], (1, LENGTH), make_options("MulOptions", fusedActivationFunction=0))
    hidden = b.dense(masked, 8, activation=RELU)
    return b.finish(hidden, b.softmax(b.dense(hidden, 3))).write()


def token_data(count: int = 120, seed: int = 1) -> dict[str, Any]:
    """tokens int64, mask float32 of 0 and 1, y."""
    random = np.random.default_rng(seed)
    return {
        "tokens": random.integers(0, TOKENS, (count, LENGTH)),
        "mask": (random.random((count, LENGTH)) > 0.3).astype(np.float32),
        "y": random.integers(0, 3, count),
    }


def save(path: Path, arrays: dict[str, Any]) -> str:
    np.savez(path, **arrays)
    return str(path)
