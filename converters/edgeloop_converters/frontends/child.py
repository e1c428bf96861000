"""The child process of the native frontends: `python -m edgeloop_converters.frontends.child LIBRARY ...`, see
`edgeloop_converters.child` for the protocol. It imports the libraries at once, before it is asked anything."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeloop.errors import EdgeloopError, MissingExtraError
from edgeloop_converters.frontends.imports import importing


def _task(request: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """`to_float` or `to_int8` of the frontend's module."""
    from edgeloop_converters.frontends.table import FRONTENDS

    functions = {"float": "to_float", "int8": "to_int8"}
    name = functions[request["task"]]
    module = import_module(f"edgeloop_converters.frontends.{FRONTENDS[request['frontend']].module}")
    task: Callable[[dict[str, Any]], dict[str, Any]] = getattr(module, name)
    return task


def _answers(request: dict[str, Any]) -> dict[str, Any]:
    """The task's answer; `further` holds those for the request's further sizes, each written into a folder of its own
    (1, 2, ...): libraries are imported once.
    """
    task = _task(request)
    answer = task(request)
    further = []
    for number, sizes in enumerate(request.get("further", ()), 1):
        folder = Path(request["folder"]) / str(number)
        folder.mkdir()
        further.append(task({**request, **sizes, "folder": str(folder)}))
    return {**answer, "further": further}


def main() -> None:
    """Answer one request. Never raises; the exit code says nothing, the answer does."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # libraries print to stdout, some of them from C++
    if libraries := tuple(sys.argv[1:]):
        importing(libraries)
    line = sys.stdin.readline()
    if not line:
        os._exit(3)  # the parent had no use for it, or is gone
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        request = json.loads(line)
        answer = _answers(request)
    except MissingExtraError as error:
        answer = {"error": "MissingExtraError", "feature": error.message.split(" needs the ")[0], "extra": error.extra}
    except EdgeloopError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except MemoryError:
        answer = {"error": "", "message": "memory ran out", "hint": "close other programs, or use a larger machine"}
    except BaseException as error:  # whatever a native library throws ends as one line in the parent
        from edgeloop_converters.frontends.explain import explain

        message, hint = explain(error)
        answer = {"error": "", "message": message, "hint": hint}
    os.write(answer_to, (json.dumps(answer) + "\n").encode())
    # TensorFlow takes half a second to tear itself down, for nothing.
    os._exit(0)


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    main()
