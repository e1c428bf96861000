"""Doctor: is this machine fit to run models, or to convert them? Each finding comes with its fix.

`edgeloop doctor` asks as a host, `edgeloop-agent doctor` as a device. `docs/doctor.md` lists all findings.
"""

from __future__ import annotations

from edgeloop.doctor.checks import CHECKS, DEVICE, HOST, as_dict, as_text, examine, exit_code
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System

__all__ = [
    "CHECKS",
    "DEVICE",
    "FAIL",
    "HOST",
    "OK",
    "WARN",
    "Finding",
    "System",
    "as_dict",
    "as_text",
    "examine",
    "exit_code",
]
