"""The door, from outside: `edgeloop-agent update FILE` in a process of its own, and what it said."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, EXIT_REFUSED, DeviceError
from edgeloop.runtime.child import child_command

_CODE = "import sys; from edgeloop_agent.cli import main; sys.exit(main(sys.argv[1:]))"
_PATIENCE_S = 1800.0

Door = Callable[[Path, float | None], "Verdict"]
"""(file, budget of one inference in ms or None) -> what the door said of it. Raises DeviceError where it said nothing
about the file: it is busy, or failed."""


@dataclass(frozen=True)
class Verdict:
    """state: "trial", "there" or "refused". exit_code: of a refusal, 1 or 4."""

    state: str
    reason: str = ""
    hint: str = ""
    exit_code: int = EXIT_DONE


def door_of(arguments: Sequence[str]) -> Door:
    """arguments: what `update` needs besides the file: --state, --config."""

    def through(file: Path, p95_ms: float | None) -> Verdict:
        budget = [] if p95_ms is None else ["--max-p95", f"{p95_ms:g}"]
        command = child_command(_CODE, "update", str(file), "--json", *arguments, *budget)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_PATIENCE_S, check=False)
            said = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"the door took more than {_PATIENCE_S / 60:.0f} minutes for {file.name}") from error
        except ValueError as error:
            raise DeviceError(f"the door ended with exit code {done.returncode} and said nothing") from error
        if "error" not in said:
            return Verdict(said["state"], said["reason"], said["hint"], done.returncode)
        reason, hint = said["error"]["message"], said["error"]["hint"] or ""
        if done.returncode in (EXIT_GOAL_NOT_MET, EXIT_REFUSED):
            return Verdict("refused", reason, hint, done.returncode)
        raise DeviceError(reason, hint=hint or None)

    return through
