"""What docs/methods.md names exists."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def exists(name: str) -> bool:
    """A module, or an attribute of one."""
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    module, _, attribute = name.rpartition(".")
    try:
        return "." in name and hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False


def test_every_module_that_is_named_exists() -> None:
    named = sorted(set(re.findall(r"`(edgeloop(?:_converters|_agent)?(?:\.\w+)+)`", PAGE)))
    assert len(named) > 15
    assert [name for name in named if not exists(name)] == []


def test_every_test_that_is_named_exists() -> None:
    named = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)", PAGE)))
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_test_of_a_method_is_named() -> None:
    here = {f"tests/methods/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert sorted(path for path in here if path not in PAGE and path != "tests/methods/test_named_paths.py") == []
