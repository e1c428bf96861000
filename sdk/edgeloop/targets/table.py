"""The table of known boards, and targets of the user's own from TOML.

CPU facts: Arm Cortex-A53/A72/A76 technical reference manuals (A76 has the dot-product extension, A53 and A72 have not).
Channel tiles: measured with the emulated instruction counts, multiples of 8 on A72 and 16 on A76; A53 is taken as A72.
Edge TPU: 8 MB of on-chip SRAM, USB ids 1a6e:089a before and 18d1:9302 after its firmware is loaded.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from edgeloop import paths
from edgeloop.errors import ConfigError, UsageError
from edgeloop.targets.spec import Accelerator, Target
from edgeloop.tomlfile import read_toml

_GIB = 1 << 30
_MIB = 1 << 20

_EDGETPU_USB = Accelerator("Edge TPU (USB)", "edgetpu", 8 * _MIB, usb_ids=("1a6e:089a", "18d1:9302"))
_EDGETPU_PCI = Accelerator("Edge TPU (PCIe)", "edgetpu", 8 * _MIB, device_node="/dev/apex_0")

_ALL = (
    Target(
        "rpi-zero2w",
        "Raspberry Pi Zero 2 W",
        "aarch64",
        "cortex-a53",
        4,
        512 * _MIB,
        8,
        False,
        ("xnnpack", "cpu"),
    ),
    Target(
        "rpi3",
        "Raspberry Pi 3B+",
        "aarch64",
        "cortex-a53",
        4,
        _GIB,
        8,
        False,
        ("xnnpack", "cpu"),
    ),
    Target(
        "rpi4",
        "Raspberry Pi 4",
        "aarch64",
        "cortex-a72",
        4,
        2 * _GIB,
        8,
        False,
        ("xnnpack", "cpu"),
    ),
    Target(
        "rpi5",
        "Raspberry Pi 5",
        "aarch64",
        "cortex-a76",
        4,
        4 * _GIB,
        16,
        True,
        ("xnnpack", "cpu"),
    ),
    Target(
        "coral-usb",
        "Coral USB Accelerator on a Raspberry Pi 4",
        "aarch64",
        "cortex-a72",
        4,
        2 * _GIB,
        8,
        False,
        ("edgetpu", "xnnpack", "cpu"),
        accelerator=_EDGETPU_USB,
        notes="on a USB 2 port an inference takes 100 to 200 ms",
    ),
    Target(
        "coral-dev-board",
        "Coral Dev Board",
        "aarch64",
        "cortex-a53",
        4,
        _GIB,
        8,
        False,
        ("edgetpu", "xnnpack", "cpu"),
        accelerator=_EDGETPU_PCI,
        notes="needs a Debian 12 container with /dev/apex_0: its own OS (Python 3.7, glibc 2.28) is too old for LiteRT",
    ),
    Target("generic-x86-64", "x86-64 PC", "x86_64", "x86-64", 2, 2 * _GIB, 16, True, ("xnnpack", "cpu")),
    Target("generic-aarch64", "64-bit Arm board", "aarch64", "cortex-a53", 4, _GIB, 8, False, ("xnnpack", "cpu")),
    Target(
        "generic-armv7",
        "32-bit Arm board",
        "armv7l",
        "cortex-a7",
        4,
        512 * _MIB,
        8,
        False,
        ("xnnpack", "cpu"),
        notes="tflite-runtime 2.14: int8 runs on the reference kernels there, 4 to 12 times slower",
    ),
)

TARGETS: dict[str, Target] = {target.id: target for target in _ALL}


def load_target(name: str) -> Target:
    """A target by id, by path of a TOML file, or by the name of a TOML in the user's `targets` folder.

    Raises UsageError for an unknown id and ConfigError for a wrong file.
    """
    if name in TARGETS:
        return TARGETS[name]
    path = Path(name) if name.endswith(".toml") else paths.config_dir() / "targets" / f"{name}.toml"
    if path.is_file():
        return _read_target(path)
    near = difflib.get_close_matches(name.lower(), TARGETS, 3)
    also = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"target {name!r} is not known", hint=f"{also}see `edgeloop targets`, or give the path of a target TOML"
    )


def _read_target(path: Path) -> Target:
    data = read_toml(path, "target")
    base_id = data.pop("base", None)
    if base_id is not None and base_id not in TARGETS:
        raise ConfigError(f"target {path}: base {base_id!r} is not known", hint=f"one of: {', '.join(TARGETS)}")
    values: dict[str, Any] = {}
    if base_id is not None:
        values = {f.name: getattr(TARGETS[base_id], f.name) for f in fields(Target) if f.name not in ("id", "name")}
    known = {f.name for f in fields(Target)}
    unknown = set(data) - known
    if unknown:
        raise ConfigError(
            f"target {path}: unknown key '{sorted(unknown)[0]}'", hint=f"known: {', '.join(sorted(known))}"
        )
    values.update({key: tuple(v) if isinstance(v, list) else v for key, v in data.items()})
    values.setdefault("id", path.stem)
    values.setdefault("name", values["id"])
    if isinstance(values.get("accelerator"), dict):
        values["accelerator"] = _accelerator(path, values["accelerator"])
    required = {f.name for f in fields(Target) if f.default is MISSING}
    missing = required - set(values)
    if missing:
        raise ConfigError(f"target {path}: '{sorted(missing)[0]}' is missing", hint='or start from `base = "rpi4"`')
    _check_types(path, values)
    return Target(**values)


def _accelerator(path: Path, table: dict[str, Any]) -> Accelerator:
    try:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        return Accelerator(**values)
    except TypeError as error:
        raise ConfigError(f"target {path}: accelerator: {error}") from error


def _check_types(path: Path, values: dict[str, Any]) -> None:
    expected: dict[str, type | tuple[type, ...]] = {
        "id": str, "name": str, "architecture": str, "cpu": str, "cores": int, "ram_bytes": int, "channel_tile": int,
        "has_dot_product": bool, "delegates": tuple,
    }  # fmt: skip
    for key, kind in expected.items():
        if not isinstance(values[key], kind):
            raise ConfigError(f"target {path}: '{key}' has the wrong type ({type(values[key]).__name__})")
