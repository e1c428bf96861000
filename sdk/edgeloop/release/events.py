"""What events of a device's reports say about versions: kinds, the form of their details, and reading them back.

| kind           | detail                                         |                                 |
|----------------|------------------------------------------------|---------------------------------|
| update         | version 8 is on trial                          |                                 |
| committed      | version 8: well for 60 s and 1800 inferences   |                                 |
| rollback       | version 8 to version 7: too slow while it ran  |                                 |
| release        | ic 8 refused: golden samples differ            | what a pull met, release_detail |
| update_refused | ic version 8: golden samples differ            | what came in another way        |

Of the first three, "agent version 8 ..." and "config version 8 ..." are about the agent itself and its config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeloop.release.channel import BUNDLE

RELEASE = "release"
"""The kind of what a pull says: an offer that was refused by the device's door, or could not be brought."""
TRIAL, COMMITTED, ROLLED_BACK, REFUSED, FAILED = "trial", "committed", "rolled back", "refused", "failed"
"""States of a version on a device. refused: by its door. failed: it could not be brought; it is tried again."""

_STATES = {"update": TRIAL, "committed": COMMITTED, "rollback": ROLLED_BACK}
KINDS = ("update", "committed", "rollback", "update_refused", RELEASE)
"""Of the events that say something about a version."""
_VERSION = re.compile(r"(?:(agent|config) )?version (\d{1,16})\b", re.ASCII)
_RELEASE = re.compile(r"(\S{1,64}) (\d{1,16}) (refused|failed): (.*)", re.ASCII | re.DOTALL)

_REFUSED = re.compile(r"(\S{1,64}) version (\d{1,16}): (.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class VersionEvent:
    """name: "" where it is not said: of a bundle that of the report. kind: "bundle", "agent" or "config". reason: one
    line, "" where nothing went wrong."""

    name: str
    version: int
    state: str
    reason: str = ""
    kind: str = BUNDLE


def release_detail(name: str, version: int, state: str, reason: str) -> str:
    """The detail of a `release` event. state: REFUSED or FAILED."""
    return f"{name} {version} {state}: {reason}"


def version_event(kind: str, detail: str) -> VersionEvent | None:
    """What an event says about a version; None for any other event, and for a detail of another form."""
    if kind == RELEASE:
        found = _RELEASE.match(detail)
        return VersionEvent(found[1], int(found[2]), found[3], found[4]) if found else None
    if kind == "update_refused":
        found = _REFUSED.match(detail)
        return VersionEvent(found[1], int(found[2]), REFUSED, found[3]) if found else None
    state, found = _STATES.get(kind), _VERSION.match(detail)
    if state is None or found is None:
        return None
    reason = detail.partition(": ")[2] if state == ROLLED_BACK else ""
    return VersionEvent("", int(found[2]), state, reason, found[1] or BUNDLE)
