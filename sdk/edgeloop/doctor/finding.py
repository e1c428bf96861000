"""One thing that doctor found."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """`what` is one line. `fix` is the next step; on an `ok` finding it tells how to get what is optional.

    fail: something that is needed does not work. warn: it works, but worse or not for long.
    """

    check: str
    status: str
    what: str
    fix: str = ""
