"""Asking something of a running agent: directly on a serial line, or through the collector that it reports to.

`connect_agent` finds the way, `Commander.ask` signs where a signature is needed and waits for the answer.
"""

from __future__ import annotations

from edgeloop.devices.commanding.commander import Commander, connect_agent

__all__ = ["Commander", "connect_agent"]
