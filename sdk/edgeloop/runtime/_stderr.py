"""What native code writes to file descriptor 2, caught while something loads, so that users see one line, not ten."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_NOISE = re.compile(r"^(INFO:|I\d{4}\b|WARNING: All log messages before absl::InitializeLog)")
_ONE_AT_A_TIME = threading.RLock()  # file descriptor 2 belongs to the whole process


@contextlib.contextmanager
def captured_stderr(*, replay: bool = True) -> Iterator[list[str]]:
    """Lines that appear on descriptor 2 meanwhile; the list is filled at the end.

    When all goes well and `replay` is on, what is not known noise is written out after all: a driver's warning must not
    be lost. When the body raises, nothing is: the caller puts the useful line into its error.
    """
    lines: list[str] = []
    with _ONE_AT_A_TIME:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):  # no stderr at all (a daemon)
            yield lines
            return
        try:
            with tempfile.TemporaryFile() as caught:
                os.dup2(caught.fileno(), 2)
                try:
                    yield lines
                finally:
                    with contextlib.suppress(OSError, ValueError, AttributeError):
                        sys.stderr.flush()
                    os.dup2(saved, 2)
                    caught.seek(0)
                    lines.extend(caught.read().decode("utf-8", "replace").splitlines())
        finally:
            os.close(saved)
    useful = [line for line in lines if line.strip() and not _NOISE.match(line)]
    if replay and useful:
        os.write(2, ("\n".join(useful) + "\n").encode())
