"""Commands for Python children that see the same packages as this process. stdlib only.

On a device the packages are unpacked in a folder that `python -I` does not know, so the import path is handed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys

PYTHON_VARIABLE = "EDGELOOP_PYTHON"
"""A command that runs Python, where `sys.executable` cannot be started by the kernel (an emulated agent)."""

_PR_SET_PDEATHSIG = 1
_TAKE_PATH = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from edgeloop.runtime.child import die_with_parent; die_with_parent(); "
)


def child_command(code: str, *arguments: str) -> list[str]:
    """Run `code` in an isolated child: `sys.argv[1:]` there is `arguments`, `sys.path` is that of this process, and it
    ends when the thread that started it does."""
    override = os.environ.get(PYTHON_VARIABLE)
    python = shlex.split(override) if override else [sys.executable]
    return [*python, "-I", "-c", _TAKE_PATH + code, json.dumps([entry for entry in sys.path if entry]), *arguments]


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it is gone, however that happens.

    One that was gone before this call is not noticed.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
