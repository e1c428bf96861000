"""A file that came in, through the device's door, in a process of its own: `edgeloop-agent update`, and its verdict.

The supervisor starts it (`start_door`) and stays small; it dies with the supervisor, and then the file is still there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DEVICE, EXIT_GOAL_NOT_MET
from edgeloop.runtime.child import child_command
from edgeloop.telemetry.wire.values import tidy
from edgeloop_agent.delivery.incoming_files import forget, write_verdict

_CODE = "from edgeloop_agent.delivery.incoming_door import main; sys.exit(main(sys.argv[1]))"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Order:
    """What is to go through. path: in the state folder. words: of `edgeloop-agent update` behind the file."""

    state: str
    path: str
    sha256: str
    offer: str
    words: Sequence[str]


def budget_words(max_p95_ms: float | None, max_memory_mib: float | None) -> tuple[str, ...]:
    """Flags of `edgeloop-agent update`."""
    given = (("--max-p95", max_p95_ms), ("--max-memory", max_memory_mib))
    return tuple(word for flag, value in given if value is not None for word in (flag, f"{value:g}"))


def start_door(order: Order) -> subprocess.Popen[bytes]:
    """What it does is in the verdict (`incoming_files.read_verdict`) when it has ended. OSError."""
    command = child_command(_CODE, json.dumps(asdict(order)))
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main(order_json: str) -> int:
    """The child. Nothing of a file that was judged stays behind in `incoming`."""
    order = Order(**json.loads(order_json))
    state, path = Path(order.state), Path(order.path)
    verdict = {name: tidy(said) if isinstance(said, str) else said for name, said in _through(path, order).items()}
    write_verdict(state, order.offer, {"offer": order.offer, "sha256": order.sha256, **verdict})
    forget(path)
    return 0


def _through(path: Path, order: Order) -> dict[str, Any]:
    try:
        if _sha256(path) != order.sha256:
            return failed_verdict(
                "what arrived is not what was sent: its SHA-256 is another", "send it again", EXIT_DEVICE
            )
    except OSError as error:
        return failed_verdict(f"{path}: {error.strerror}", "", EXIT_DEVICE)
    from edgeloop_agent.cli import main as agent

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = agent(["update", str(path), *order.words, "--json"])
    try:
        answer = json.loads(said.getvalue())
    except ValueError:
        return failed_verdict("the door gave no answer", "edgeloop-agent logs on the device says more", code)
    if "error" in answer:
        message = str(answer["error"]["message"]).replace(str(path), path.name).replace(path.name, "the file")
        return failed_verdict(message, str(answer["error"]["hint"] or ""), code)
    shown = {name: answer[name] for name in ("state", "name", "version", "reason", "hint")}
    return {**shown, "rehearsal": answer.get("rehearsal"), "exit_code": code}


def failed_verdict(reason: str, hint: str, exit_code: int = EXIT_DEVICE) -> dict[str, Any]:
    """Of what came to no decision of the door about a bundle."""
    return {"state": "failed", "name": "", "version": 0, "reason": reason, "hint": hint,
            "exit_code": exit_code or EXIT_GOAL_NOT_MET}  # fmt: skip


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
