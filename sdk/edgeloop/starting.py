"""The first and the last moments of a program: a Ctrl-C there is one line and exit code 130, not a traceback.

Stdlib only, and little of it: while this module loads, Python's own handler is still in charge.
"""

from __future__ import annotations

import os
import signal
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
    main = load()
    try:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return main()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:  # between two statements of `main` that handle it, or on the way into `finally`
        leave()
        raise
