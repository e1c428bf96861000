"""The first and the last moments of a program: a Ctrl-C there is one line and exit code 130, not a traceback.

Stdlib only, and little of it: while this module loads, Python's own handler is still in charge.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable

EXIT_INTERRUPTED = 130


def start(program: str, load: Callable[[], Callable[[], int]]) -> int:
    """The exit code of the main function that `load` imports. Once that has ended nothing is left to be interrupted."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # `nohup`, or `&` in a script
        return load()()

    def leave(*_: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    last = _Last()
    main = load()
    try:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            last.code = main()
            return last.code
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:  # between two statements of `main` that handle it, or on the way into `finally`
        leave()
        raise


class _Last:
    """Ends the process when all else is done, before Python takes libraries apart, which is 50 ms for nothing.

    Registered before anything else is, so it runs last.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:  # an exception is on its way out
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return  # Python has its own words for that
        os._exit(self.code)
