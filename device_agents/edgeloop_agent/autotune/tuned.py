"""What autotune found, kept in the state folder: for a bundle on a board with a runtime, and for nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgeloop import probes
from edgeloop.bundle import StagedBundle
from edgeloop.bundle.files import write_atomically
from edgeloop.errors import DeviceError
from edgeloop_agent.config import AgentConfig

FILE = "tuned.json"
_VERSION = 1
_MAX_BYTES = 1 << 20
_KEPT = 16


@dataclass(frozen=True)
class Key:
    """Where a result holds. bundle: as its unpacked folder is called: name, version, start of the manifest's hash."""

    bundle: str
    board: str
    cores: int
    runtime: str

    @staticmethod
    def here(staged: Path) -> Key:
        from edgeloop.runtime.interpreter import installed_runtime  # not at every start: it brings importlib.metadata

        return Key(staged.name, probes.board_name(), os.cpu_count() or 1, installed_runtime())


@dataclass(frozen=True)
class Tuned:
    """The best way to run a bundle by one objective, and what runs without tuning. p50_ms: set, invoke and get."""

    objective: str
    variant: str
    delegate: str
    threads: int
    p50_ms: float
    default_p50_ms: float
    time_s: float

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + ("" if self.threads == 1 else "s")
        return f"{self.variant} on {self.delegate}, {threads} (autotune for {self.objective})"


def save(folder: Path, key: Key, tuned: Tuned) -> None:
    """Beside those of other bundles; the last 16 stay. Raises DeviceError."""
    entries = [e for e in _read(folder) if e["key"] != asdict(key)]
    entries = [*entries, {"key": asdict(key), "tuned": asdict(tuned)}][-_KEPT:]
    try:
        write_atomically(folder / FILE, json.dumps({"version": _VERSION, "entries": entries}, indent=1).encode())
    except OSError as error:
        hint = "--state DIR names one that can be written"
        raise DeviceError(f"{folder / FILE}: {error.strerror}", hint=hint) from error


def find(folder: Path, key: Key) -> tuple[Tuned | None, str]:
    """The result that holds here; else None, and why an earlier one does not hold any more ("": there is none)."""
    stale = ""
    for entry in reversed(_read(folder)):
        if entry["key"] == asdict(key):
            known = {f.name for f in fields(Tuned)}
            try:
                return Tuned(**{k: v for k, v in entry["tuned"].items() if k in known}), ""
            except TypeError:
                return None, ""
        stale = stale or _difference(entry["key"], key)
    return None, stale


def _difference(old: dict[str, Any], key: Key) -> str:
    """What changed since a result for the same model was found; "" where it was for another model."""
    if str(old.get("bundle", "")).rsplit("-", 2)[0] != key.bundle.rsplit("-", 2)[0]:
        return ""
    now = asdict(key)
    return ", ".join(f"{name} {old.get(name)} is now {now[name]}" for name in now if old.get(name) != now[name])


def _read(folder: Path) -> list[dict[str, Any]]:
    """All entries; none where the file is absent, damaged or of another version: tuning can be done again."""
    try:
        with (folder / FILE).open("rb") as file:
            stored = json.loads(file.read(_MAX_BYTES))
        entries = stored["entries"] if stored["version"] == _VERSION else []
        return [e for e in entries if isinstance(e["key"], dict) and isinstance(e["tuned"], dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def is_open(config: AgentConfig) -> bool:
    """Whether the user left all that autotune could choose to it."""
    return not (config.threads or config.delegates or config.variant)


def settled(
    config: AgentConfig, staged: StagedBundle, order: tuple[str, ...]
) -> tuple[AgentConfig, tuple[str, ...], str]:
    """(config, fallback order, a line about it) with what autotune found where the user left variant, delegates and
    threads open; without a result 1 thread, and `order` as it is. The line is "" where nothing was ever tuned.
    """
    plain = config if config.threads else replace(config, threads=1)
    if not is_open(config) or not (config.state / FILE).exists():
        return plain, order, ""
    tuned, stale = find(config.state, Key.here(staged.path))
    if tuned is None:
        return plain, order, f"not used: {stale}; edgeloop-agent autotune measures again" if stale else ""
    variant = None if tuned.variant == staged.manifest.variant_for(tuned.delegate).name else tuned.variant
    delegates = (tuned.delegate, *(d for d in order if d != tuned.delegate))
    gain = f": p50 {tuned.p50_ms:.3g} ms instead of {tuned.default_p50_ms:.3g} ms when measured" if tuned.p50_ms else ""
    return replace(config, threads=tuned.threads, variant=variant), delegates, f"{tuned}{gain}"
