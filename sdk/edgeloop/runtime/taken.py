"""Which ops a delegate really takes of a model. Asked in a child process: a model may crash the runtime."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import DelegateError, EdgeloopError
from edgeloop.runtime.child import child_command

_CODE = "from edgeloop.runtime.taken import main; main()"


@dataclass(frozen=True)
class Taken:
    """`ops`: indices of ops of the main subgraph. `delegate`: the one that ran, "cpu" where none did. `runtime`: as
    "litert 2.3.0".
    """

    ops: frozenset[int]
    delegate: str
    runtime: str


def taken_ops(model: bytes, delegate: str = "xnnpack", *, timeout_s: float = 60.0) -> Taken:
    """Open the model as a session would and look; nothing is inferred. Raises DelegateError, one line, where it cannot
    be told: no runtime here, or one that refuses the model, crashes or hangs.
    """
    with tempfile.TemporaryDirectory(prefix="edgeloop-taken-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        try:
            child = subprocess.run(
                child_command(_CODE, str(path), delegate), capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise DelegateError(f"the runtime did not open the model within {timeout_s:g} s") from None
    if child.returncode < 0:
        raise DelegateError(f"the runtime crashed on the model (signal {-child.returncode})")
    try:
        answer = json.loads(child.stdout)
        if "error" in answer:
            raise DelegateError(str(answer["error"]).replace(str(path), "the model"))
        return Taken(frozenset(map(int, answer["ops"])), str(answer["delegate"]), str(answer["runtime"]))
    except (ValueError, KeyError, TypeError):
        last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no answer"]
        raise DelegateError(f"the runtime could not be asked: {last[0][:200]}") from None


def main() -> None:
    """The child: one JSON object on stdout."""
    from edgeloop.runtime.session import open_session

    try:
        with open_session(Path(sys.argv[1]), delegate=sys.argv[2]) as session:
            ran = session.ran_on
            print(json.dumps({"ops": sorted(session.delegated), "delegate": ran.ran, "runtime": ran.runtime}))
    except EdgeloopError as error:
        print(json.dumps({"error": error.message}))
