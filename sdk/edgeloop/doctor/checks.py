"""The table of checks, and running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeloop.doctor import board, hardware, software
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET
from edgeloop.runtime.delegates import parse_delegate
from edgeloop.runtime.probe import probe_delegate

HOST, DEVICE = "host", "device"


@dataclass(frozen=True)
class Check:
    """`look` gives any number of findings; none means that there is nothing to say."""

    look: Callable[[System], Iterable[Finding]]
    roles: tuple[str, ...] = (HOST, DEVICE)


CHECKS: dict[str, Check] = {
    "python": Check(software.check_python),
    "glibc": Check(software.check_glibc),
    "runtime": Check(software.check_runtime),
    "numpy": Check(software.check_numpy),
    "opencv": Check(software.check_opencv),
    "extras": Check(software.check_extras, (HOST,)),
    "board": Check(board.check_board),
    "cpu": Check(hardware.check_cpu),
    "memory": Check(hardware.check_memory),
    "throttling": Check(board.check_throttling),
    "edgetpu": Check(board.check_edgetpu),
    "serial": Check(hardware.check_serial),
    "disk": Check(software.check_disk),
    "clock": Check(hardware.check_clock),
}


def examine(role: str = HOST, system: System | None = None, *, delegates: Sequence[str] = ()) -> tuple[Finding, ...]:
    """All findings of a role's checks, in the table's order, and of `delegates` that the user wants to use.

    Never raises for what it finds; UsageError for a malformed delegate.
    """
    wanted = [parse_delegate(delegate) for delegate in delegates]
    here = system or System()
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        if role not in check.roles:
            continue
        try:
            findings.extend(check.look(here))
        except Exception as error:  # a check that breaks on an odd machine must not hide the others
            findings.append(Finding(name, WARN, f"could not be checked: {type(error).__name__}: {error}"))
    for spec in wanted:
        probe = probe_delegate(spec)
        findings.append(Finding("delegate", OK if probe.ok else FAIL, probe.why, probe.fix))
    return tuple(findings)


def exit_code(findings: Sequence[Finding]) -> int:
    """0, or 1 when something needed does not work."""
    return EXIT_GOAL_NOT_MET if any(f.status == FAIL for f in findings) else EXIT_DONE


def as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """`doctor --json`."""
    counts = {status: sum(f.status == status for f in findings) for status in (OK, WARN, FAIL)}
    return {"healthy": counts[FAIL] == 0, **counts, "findings": [asdict(f) for f in findings]}


def as_text(findings: Sequence[Finding]) -> str:
    """One line a finding, its fix under it."""
    lines: list[str] = []
    for f in findings:
        mark = f.status.upper() if f.status == FAIL else f.status
        lines.append(f"{mark:<5} {f.check:<11} {f.what}")
        if f.fix:
            lines.append(f"{'':<17} -> {f.fix}")
    counts = as_dict(findings)
    lines.append(f"{counts['fail']} failed, {counts['warn']} warnings, {counts['ok']} ok")
    return "\n".join(lines)
