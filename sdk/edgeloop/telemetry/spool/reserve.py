"""Room on the disk that is kept for the time when the disk is full.

Deleting takes room, too: SQLite writes every change into its log first, and the log into the file later. Without some
bytes set aside, a spool on a full disk could not get rid of the reports that the collector has.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 3 << 19
"""1 MiB for what the log holds and the file does not yet (see `wal_autocheckpoint`), half of it for a change."""
_SMALLEST_BYTES = 1 << 17


class Reserve:
    """A file beside the spool that does nothing but take up room."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self) -> None:
        """Make it, as large as the disk allows. It is there already: nothing."""
        size = RESERVE_BYTES
        while size >= _SMALLEST_BYTES:
            with suppress(OSError):
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    if os.fstat(descriptor).st_size < size:
                        os.posix_fallocate(descriptor, 0, size)
                    return
                finally:
                    os.close(descriptor)
            self.give()
            size //= 2

    def give(self) -> bool:
        """Give the room back to the disk; False when there was none."""
        with suppress(OSError):
            self.path.unlink()
            return True
        return False
