"""edgeloop: from a trained model to a fleet of Raspberry Pi and Coral devices.

    import edgeloop as el
    r = el.convert("resnet.h5", target="rpi4", data="calib/", evaluate="test/", goals=el.Goals(max_drop=0.005))
    if not r.gate.passed: raise SystemExit(r.gate.reasons)
    r.bundle.save("ic.bundle")

Names load on first use: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop import telemetry as telemetry
    from edgeloop.devices.api import connect as connect
    from edgeloop.graph import Graph as Graph
    from edgeloop_converters.api import check_data as check_data
    from edgeloop_converters.api import convert as convert
    from edgeloop_converters.assess import evaluate as evaluate
    from edgeloop_converters.compare import compare as compare
    from edgeloop_converters.goals import Goals as Goals

_HOMES: dict[str, tuple[str, str | None]] = {
    # name: (module, attribute; None: the module itself)
    "Goals": ("edgeloop_converters.goals", "Goals"),
    "Graph": ("edgeloop.graph", "Graph"),
    "check_data": ("edgeloop_converters.api", "check_data"),
    "compare": ("edgeloop_converters.compare", "compare"),
    "connect": ("edgeloop.devices.api", "connect"),
    "convert": ("edgeloop_converters.api", "convert"),
    "evaluate": ("edgeloop_converters.assess", "evaluate"),
    "telemetry": ("edgeloop.telemetry", None),
}

__all__ = ["Goals", "Graph", "check_data", "compare", "connect", "convert", "evaluate", "telemetry"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeloop' has no attribute {name!r}")
    module_name, attribute = _HOMES[name]
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
