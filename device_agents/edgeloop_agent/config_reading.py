"""An agent's settings from a TOML file and flags: which keys there are, of what kind, and what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edgeloop import paths
from edgeloop.errors import ConfigError, RefusedError, UsageError
from edgeloop.tomlfile import nearest_key, read_toml
from edgeloop_agent.activation.flags import NUMBERS, SWITCHES
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.device_name import default_device_id, device_name
from edgeloop_agent.hard_samples.settings import read_settings
from edgeloop_agent.model_tables import check_together, split_models
from edgeloop_agent.sinks import refuse_code

_NEVER_IN_A_FILE = "allow_unsigned"
# The key in the file (and the flag, with - for _) where it differs from the field.
_KEYS = {"delegates": "delegate", "sinks": "sink"}
_FIELD_OF_KEY = {_KEYS.get(f.name, f.name): f.name for f in fields(AgentConfig) if f.name != "model"}
_LISTS = frozenset({"delegates", "sinks", "telemetry", "trust", "operators", "tags"})
_PATHS = frozenset({"bundle", "gallery", "state", "trust", "operators", "stick"})
_SWITCHES = frozenset({"loop"}) | SWITCHES
_NUMBERS = {
    "threads": int, "count": int, "rate": float, "report_interval": float, "heartbeat_timeout": float,
    "frame_timeout": float, "invoke_timeout": float, "load_timeout": float, "stop_timeout": float, "retry_after": float,
    "memory_limit": float, "fallback_alert": float, "recheck": float, "spool_size": float, "spool_max_age": float,
    "trial": float, "release_interval": float, "release_rate": float,
    **NUMBERS,
}  # fmt: skip


def load_configs(flags: Mapping[str, Any], file: Path | None = None) -> tuple[AgentConfig, ...]:
    """One for each model: of a file with tables [model.NAME], else one. See `load_config`."""
    tables = split_models(read_toml(file, "agent config"), flags, file) if file is not None else {"": {}}
    configs = tuple(_load(flags, table, file, name) for name, table in tables.items())
    check_together(configs)
    return configs


def load_config(flags: Mapping[str, Any], file: Path | None = None) -> AgentConfig:
    """Of one model. `flags`: field -> value, None or empty where not given. Raises ConfigError or UsageError."""
    return _load(flags, {} if file is None else read_toml(file, "agent config"), file)


def _load(flags: Mapping[str, Any], table: Mapping[str, Any], file: Path | None, model: str = "") -> AgentConfig:
    values: dict[str, Any] = {"model": model} if file is None else {"model": model, **_from_file(table, file)}
    given: dict[str, Any] = {k: v for k, v in flags.items() if v is not None and v is not False and v != ()}
    values.update({k: (v,) if k in _LISTS and isinstance(v, (str, Path)) else v for k, v in given.items()})
    for needed in ("bundle", "source"):
        if needed not in values and model:
            raise ConfigError(f"agent config {file}: [model.{model}] has no '{needed}'")
        if needed not in values:
            raise UsageError(
                f"--{needed} is missing", hint=f"give --{needed}, or --config FILE with the key '{needed}'"
            )
    if values.get("threads") == 0:  # which the field has where nobody said anything
        raise UsageError("threads must be 1..256, got 0")
    config = AgentConfig(**values)
    config = replace(config, device=device_name(config.device or default_device_id()))
    if config.state == Path():
        config = replace(config, state=paths.state_dir() / "agent")
    if config.allow_unsigned and _is_a_service():
        raise RefusedError(
            "--allow-unsigned is for the bench and refused under systemd",
            hint="sign the bundle: edgeloop bundle sign FILE",
        )
    return config


def _is_a_service() -> bool:
    """Started by systemd. A terminal emulator may be a service itself and hand the variable down to its shell."""
    return bool(os.environ.get("INVOCATION_ID")) and not (sys.stdin is not None and sys.stdin.isatty())


def _from_file(table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == _NEVER_IN_A_FILE:
            raise ConfigError(
                f"agent config {file}: '{key}' cannot be set in a file", hint="it exists only as a flag, for the bench"
            )
        name = _FIELD_OF_KEY.get(key)
        if name is None:
            known = [k for k in _FIELD_OF_KEY if k != _NEVER_IN_A_FILE]
            raise ConfigError(f"agent config {file}: unknown key '{key}'", hint=nearest_key(key, known))
        values[name] = _typed(name, key, value, file)
    refuse_code(values.get("sinks", ()), f"agent config {file}")
    return values


def _typed(name: str, key: str, value: Any, file: Path) -> Any:
    def wrong(expected: str) -> ConfigError:
        return ConfigError(f"agent config {file}: '{key}' must be {expected}")

    if name == "hard_samples":
        return read_settings(value, file)
    if name in _SWITCHES:
        if not isinstance(value, bool):
            raise wrong("true or false")
        return value
    if name in _NUMBERS:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or (_NUMBERS[name] is int and not isinstance(value, int))
        ):
            raise wrong("a whole number" if _NUMBERS[name] is int else "a number")
        return _NUMBERS[name](value)
    if name in _LISTS:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(x, str) and x for x in items):
            raise wrong("a string or a list of strings")
        return tuple(Path(x) for x in items) if name in _PATHS else tuple(items)
    if not isinstance(value, str) or not value:
        raise wrong("a string")
    return Path(value) if name in _PATHS else value
