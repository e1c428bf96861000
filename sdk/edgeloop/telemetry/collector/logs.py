"""What happens, one line per event, for people or for programs. Never a secret: there is none in what it is given."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgeloop.telemetry.collector.notices import Say, printable

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.security.audit import AuditEntry


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Log:
    """as_json: an object per line with `time` (ISO, UTC), `event` and what belongs to it; else plain text."""

    as_json: bool = False
    write: Say = _to_stderr
    clock: Callable[[], float] = time.time

    def event(self, name: str, line: str, **fields: Any) -> None:
        """`line` for people, `fields` for programs."""
        if not self.as_json:
            self.write(printable(line, 500))
            return
        moment = datetime.fromtimestamp(self.clock(), timezone.utc).isoformat(timespec="milliseconds")
        # ASCII: whatever a stranger sent, a line stays a line.
        self.write(json.dumps({"time": moment, "event": name, **fields}))

    def notice(self, line: str) -> None:
        """A trouble that began or ended: `Notices.say`."""
        self.event("notice", line, text=line)

    def audit(self, entry: AuditEntry) -> None:
        """`Audit.on_entry`."""
        text = f"{entry.action} {entry.subject} by {entry.who} from {entry.origin}{_words(entry.detail)}"
        fields = {"who": entry.who, "subject": entry.subject, "origin": entry.origin, "detail": entry.detail}
        self.event(entry.action, text, **fields)


def _words(detail: Mapping[str, Any]) -> str:
    return "".join(f", {key} {value}" for key, value in detail.items())
