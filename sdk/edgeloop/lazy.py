"""Packages whose names load on first use, so that importing one costs nothing that is not wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The package's `__getattr__` and `__dir__`. homes: name -> where it is, as one of

    ".module" (of the package) or "package.module": the attribute of that name; ".module:other": another attribute;
    ".module:": the module itself.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        where, colon, attribute = homes[name].partition(":")
        module = importlib.import_module(where, package)
        return module if colon and not attribute else getattr(module, attribute or name)

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *homes})

    return find, names
