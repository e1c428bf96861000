"""`edgeloop` as a program."""

from __future__ import annotations

from collections.abc import Callable

from edgeloop.starting import start


def main() -> int:
    return start("edgeloop", _load)


def _load() -> Callable[[], int]:
    from edgeloop.cli.main import main

    return main
