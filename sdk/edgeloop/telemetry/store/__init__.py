"""Where the collector keeps reports: SQLite by default, one URL away from another database.

`open_store(url)` gives a `Store`; the rest of the package imports SQLAlchemy and is only imported by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import DeviceError, MissingExtraError
from edgeloop.telemetry.store.selection import Selection

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Store

__all__ = ["DEFAULT_STORE_URL", "Selection", "StoreUnavailableError", "open_store"]

DEFAULT_STORE_URL = "sqlite:///telemetry.db"
BUSY_TIMEOUT_S = 5.0


class StoreUnavailableError(DeviceError):
    """The store could not be read or written just now (locked, full disk): nothing of the call was stored."""


def open_store(url: str, *, create: bool = True, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Store:
    """The store at `url` (`sqlite:///relative.db`, `sqlite:////absolute.db`), made or migrated where needed.

    create: False for readers: a store that is not there is a DataError instead of a new empty one.
    busy_timeout_s: how long a call waits for another process that is writing.
    Raises UsageError for a URL it cannot serve, DataError for a file that is not a telemetry store,
    ConfigError for one made by a newer edgeloop, StoreUnavailableError when it stays locked.
    """
    try:
        from edgeloop.telemetry.store.database import Store
        from edgeloop.telemetry.store.dialects import find_dialect
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "sqlalchemy":
            raise
        raise MissingExtraError("the telemetry store", "collector") from error
    return Store(find_dialect(url).connect(url, create=create, busy_timeout_s=busy_timeout_s))
