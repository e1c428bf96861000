"""Flags that several verbs have: their words and their checks stand once, here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Protocol

from edgeloop.errors import UsageError

FLAGS: Mapping[str, Mapping[str, Any]] = {
    "--ignore-labels": {"action": "store_true", "help": "use labelled data without its labels"},
    "--no-cache": {"action": "store_true", "help": "neither take decoded pictures from disk nor keep them"},
    "--signature": {"metavar": "KEY", "help": "which signature of a SavedModel or .tflite to take"},
    "--threads": {"type": int, "metavar": "N", "help": "for evaluation (default: one per core, up to 4)"},
    "--trust-code": {
        "action": "store_true",
        "help": "run code inside a Keras file (Lambda layers); else it is refused",
    },
}


class Adds(Protocol):
    """A parser, or a group of its flags."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action: ...


def add_shared_flags(parser: Adds, *names: str) -> None:
    for name in names:
        parser.add_argument(name, **FLAGS[name])


def check_at_least_one(args: argparse.Namespace, *flags: str) -> None:
    """Raises UsageError for a number that was given and is below 1."""
    for flag in flags:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None and value < 1:
            raise UsageError(f"{flag} must be at least 1, got {value}")
