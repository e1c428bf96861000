"""Small pieces of text that several verbs print."""

from __future__ import annotations


def counted(n: int, what: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def examples_of(command: str, epilog: str) -> str:
    """The examples of one subcommand, of those of its verb; "" where it has none. command: "edgeloop bundle sign"."""
    lines = [line for line in epilog.splitlines() if f"{line.strip()} ".startswith(f"{command} ")]
    return "\n".join(["example:", *lines]) if lines else ""
