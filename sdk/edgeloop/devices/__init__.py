"""How the host reaches a device: `local:`, `ssh://user@host[:port]`. One interface, a table of ways."""

from edgeloop.devices.connection import Completed, Device, DevicePlatform, Running, connect

__all__ = ["Completed", "Device", "DevicePlatform", "Running", "connect"]
