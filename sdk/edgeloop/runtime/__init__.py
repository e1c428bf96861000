"""Runtime: the one place that opens an interpreter, and tells what actually ran.

Names load on first use, so that `edgeloop.runtime.delegates` (stdlib only) costs the agent's supervisor no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.runtime.delegates import DelegateFailure, DelegateSpec, parse_delegate
    from edgeloop.runtime.interpreter import RuntimeInfo, runtime_info
    from edgeloop.runtime.plan import RanOn
    from edgeloop.runtime.probe import Probe, probe_delegate
    from edgeloop.runtime.session import Session, TensorInfo, open_first, open_session

__all__ = [
    "DelegateFailure",
    "DelegateSpec",
    "Probe",
    "RanOn",
    "RuntimeInfo",
    "Session",
    "TensorInfo",
    "open_first",
    "open_session",
    "parse_delegate",
    "probe_delegate",
    "runtime_info",
]

_HOMES = {
    "DelegateFailure": ".delegates",
    "DelegateSpec": ".delegates",
    "parse_delegate": ".delegates",
    "RuntimeInfo": ".interpreter",
    "runtime_info": ".interpreter",
    "RanOn": ".plan",
    "Probe": ".probe",
    "probe_delegate": ".probe",
    "Session": ".session",
    "TensorInfo": ".session",
    "open_first": ".session",
    "open_session": ".session",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
