"""edgeloop: from a trained model to a fleet of Raspberry Pi and Coral devices.

    import edgeloop as el
    r = el.convert("resnet.h5", target="rpi4", data="calib/", evaluate="test/", goals=el.Goals(max_drop=0.005))
    if not r.gate.passed: raise SystemExit(r.gate.reasons)
    r.bundle.save("ic.bundle")

Names load on first use: importing this package imports none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop import telemetry as telemetry
    from edgeloop.devices.api import connect as connect
    from edgeloop.graph import Graph as Graph
    from edgeloop_converters.api import check_data as check_data
    from edgeloop_converters.api import convert as convert
    from edgeloop_converters.assess import evaluate as evaluate
    from edgeloop_converters.compare import compare as compare
    from edgeloop_converters.goals import Goals as Goals

_HOMES = {
    "Goals": "edgeloop_converters.goals",
    "Graph": "edgeloop.graph",
    "check_data": "edgeloop_converters.api",
    "compare": "edgeloop_converters.compare",
    "connect": "edgeloop.devices.api",
    "convert": "edgeloop_converters.api",
    "evaluate": "edgeloop_converters.assess",
    "telemetry": "edgeloop.telemetry:",
}

__all__ = ["Goals", "Graph", "check_data", "compare", "connect", "convert", "evaluate", "telemetry"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
