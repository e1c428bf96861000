"""Tables beside the reports, a module for each matter, all on `schema.METADATA`.

A new one is a module here and a name in TABLES: `prepare` makes it in new stores and in those it brings forward.
"""

from __future__ import annotations

import importlib

TABLES: tuple[str, ...] = (
    "alerts",
    "hard_samples",
    "alerts",
    "commands",
    "registry",
    "rollups",
)
"""Modules of this package that declare tables."""


def load_tables() -> None:
    """Import them all, so that METADATA is complete."""
    for name in TABLES:
        importlib.import_module(f"{__name__}.{name}")
