"""`call:module:function`: a Python function of the user's own for every result, in the worker process.

Named on the command line and nowhere else: never in a config file, never in a bundle.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import UsageError
from edgeloop_agent.sinks import SinkSpec, Surroundings

if TYPE_CHECKING:
    from edgeloop.postprocess import Result


@dataclass(frozen=True)
class Inference:
    """What the function gets. time_s: unix seconds of the capture; latency_ms: from there to the result; frame: as the
    source gave it (BGR), not to be changed."""

    source: str
    time_s: float
    latency_ms: float
    result: Result
    frame: Any


class Callback:
    """The loop waits for the function. One that raises loses this result, and is called again for the next. What it
    prints goes to the agent's own stdout."""

    wants_frame = True
    closed = False

    def __init__(self, spec: SinkSpec, *, where: Surroundings) -> None:
        self.lines = self.lost = 0
        self.problem = ""
        self._name = str(spec)
        self._stdout = os.fdopen(os.dup(where.stdout_fd), "w", buffering=1)
        with contextlib.redirect_stdout(self._stdout):
            self._function = _load(spec)

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        try:
            with contextlib.redirect_stdout(self._stdout):
                self._function(Inference(source, time_s, latency_ms, result, frame))
            self.lines += 1
        except (Exception, SystemExit) as error:  # sys.exit in the function ends no worker
            self.lost += 1
            text = " ".join(str(error).split())[:200]
            self.problem = f"{self._name} raised {type(error).__name__}: {text}"

    def flush(self) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stdout.close()


def _load(spec: SinkSpec) -> Callable[[Inference], Any]:
    module, _, name = spec.path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # behind what is installed: nothing there is shadowed
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module), name or "main")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"sink {spec}: no module {error.name!r}", hint="is it in this folder, or installed?"
        ) from error
    except AttributeError as error:
        raise UsageError(f"sink {spec}: {error}", hint="call:MODULE:FUNCTION") from error
    except (Exception, SystemExit) as error:  # whatever a module does while it is imported
        raise UsageError(f"sink {spec}: {type(error).__name__} while it was imported: {error}") from error
    if not callable(function):
        raise UsageError(f"sink {spec}: {name} is no function", hint="call:MODULE:FUNCTION")
    return function  # type: ignore[no-any-return]
