"""Talking to a measuring process (`bench_child`), which may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any

from edgeloop.runtime.child import child_command

OPEN_TIMEOUT_S = 30.0
_CODE = "from edgeloop_agent.autotune.bench_child import main; sys.exit(main(sys.argv[1]))"


class ChildGoneError(Exception):
    """It crashed or hung; the text says which."""


class MeasuringChild:
    """One measuring process and what it has open."""

    def __init__(self, staged: Path) -> None:
        self.open: set[int] = set()
        self._process = subprocess.Popen(
            child_command(_CODE, str(staged)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._rest = b""

    def ask(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Raises ChildGoneError."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # its end is seen where its answer is missing
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(timeout_s))
        return answer

    def _line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        until_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    self.end()
                    raise ChildGoneError(f"hung: no answer within {timeout_s:.0f} s")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    code = self._process.wait()
                    raise ChildGoneError(f"crashed (signal {-code})" if code < 0 else f"ended with exit code {code}")
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
