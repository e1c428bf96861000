"""Small pieces of text that several verbs print."""

from __future__ import annotations


def counted(n: int, what: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
