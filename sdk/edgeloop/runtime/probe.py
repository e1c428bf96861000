"""Is a delegate there? Asked in a child process, because a broken driver may crash or hang its process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from edgeloop.errors import EdgeloopError
from edgeloop.runtime.child import child_command
from edgeloop.runtime.delegates import KINDS, DelegateSpec, parse_delegate


@dataclass(frozen=True)
class Probe:
    """`why` says in either case what was found; `fix` is the next step when it is not there."""

    ok: bool
    why: str
    fix: str = ""


def probe_delegate(spec: DelegateSpec | str, *, timeout_s: float = 20.0) -> Probe:
    """Load the delegate as a session would, without a model. Raises UsageError only for a malformed name."""
    wanted = parse_delegate(spec)
    command = child_command("from edgeloop.runtime.probe import main; main()", str(wanted))
    try:
        child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Probe(False, f"{wanted} did not answer within {timeout_s:g} s", "unplug and replug its device")
    if child.returncode < 0:
        fix = KINDS[wanted.name].crash_fix
        return Probe(False, f"{wanted} crashed while loading (signal {-child.returncode})", fix)
    try:
        answer = json.loads(child.stdout)
        return Probe(bool(answer["ok"]), str(answer["why"]), str(answer["fix"]))
    except (ValueError, KeyError, TypeError):
        last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no answer"]
        return Probe(False, f"{wanted} could not be tried: {last[0]}", "run: python -m edgeloop.runtime.probe NAME")


def probe_here(spec: DelegateSpec) -> Probe:
    """The same in this process."""
    from edgeloop.runtime.interpreter import load_backend
    from edgeloop.runtime.native import load_native

    try:
        runtime = load_backend().info
        if spec.library:
            load_native(spec)
    except EdgeloopError as error:
        return Probe(False, error.message, error.hint or "")
    return Probe(True, f"built into {runtime}" if not spec.library else f"{spec.library} loads and finds its device")


def main() -> None:
    """The child: one JSON object on stdout."""
    probe = probe_here(parse_delegate(sys.argv[1]))
    print(json.dumps({"ok": probe.ok, "why": probe.why, "fix": probe.fix}))


if __name__ == "__main__":
    main()
