"""Bytecode made at install: a service whose user may not write there must not compile at every start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgeloop.devices.install import COMPILE_SCRIPT


def test_own_code_is_compiled_whole_and_of_libraries_what_loading_them_takes(tmp_path: Path) -> None:
    files = {
        "edgeloop/__init__.py": "",
        "edgeloop/deep/never_loaded.py": "x = 1",
        "edgeloop_agent/__init__.py": "",
        "numpy/__init__.py": "from numpy import core",
        "numpy/core.py": "print('to nobody')",
        "numpy/never_loaded.py": "",
        "cv2/__init__.py": "raise ImportError('libGL.so.1')",
        "cbor2.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", COMPILE_SCRIPT, str(tmp_path)], capture_output=True, env=environment, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    compiled = {path.relative_to(tmp_path).as_posix().partition(".cpython")[0] for path in tmp_path.rglob("*.pyc")}
    assert compiled >= {
        "edgeloop/__pycache__/__init__",
        "edgeloop/deep/__pycache__/never_loaded",
        "edgeloop_agent/__pycache__/__init__",
        "numpy/__pycache__/core",
        "__pycache__/cbor2",
    }
    assert "numpy/__pycache__/never_loaded" not in compiled
