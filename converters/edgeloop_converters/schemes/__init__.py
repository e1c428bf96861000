"""Schemes: how a model's weights and activations are stored and computed. One table, one name each for `--scheme`."""

from __future__ import annotations

from edgeloop_converters.schemes.table import (
    ALIASES,
    IO_KINDS,
    NAMES,
    SCHEME_OPTIONS,
    SCHEMES,
    Scheme,
    check_io,
    check_options,
    check_target,
    cost_notes,
    scheme_named,
)

__all__ = [
    "ALIASES", "IO_KINDS", "NAMES", "SCHEMES", "SCHEME_OPTIONS", "Scheme", "check_io", "check_options", "check_target",
    "cost_notes", "scheme_named",
]  # fmt: skip
