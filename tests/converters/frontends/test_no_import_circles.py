"""No frontend module needs one that needs it, however late the import is."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import edgeloop_converters.frontends as frontends

PACKAGE = frontends.__name__


def needed(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that this one imports, at its top or inside a function; types alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = {
        node.module.rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    return found & modules


def test_no_import_circles() -> None:
    files = {path.stem: path for path in Path(str(frontends.__file__)).parent.glob("*.py") if path.stem != "__init__"}
    graph = {name: needed(path, set(files)) for name, path in files.items()}
    assert "loading" in graph["native"], f"the imports of {PACKAGE} are not found"
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle
