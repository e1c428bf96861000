"""Several models in one agent: `[model.NAME]` tables of the config file. Pure.

Keys above the tables are every model's; a table's own win. What the process has once cannot be in a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from edgeloop_agent.config import AgentConfig

OF_THE_AGENT = frozenset(
    {
        "telemetry",
        "enroll_token",
        "device",
        "state",
        "trust",
        "operators",
        "allow_unsigned",
        "report_interval",
        "stop_timeout",
        "spool_size",
        "spool_max_age",
        "release",
        "channel",
        "release_interval",
        "release_rate",
        "tags",
        "stick",
    }
)
"""What all models share, as a key, a flag or a field."""
MAX_MODELS = 16
FRAMES_OF = "model"
"""As in source = "model:NAME"."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def split_models(
    table: Mapping[str, Any], flags: Mapping[str, Any], file: Path | str | None
) -> dict[str, Mapping[str, Any]]:
    """name -> its keys, those above the tables included; {"": table} where there are no tables. Raises ConfigError;
    UsageError for a flag that would be every model's.
    """
    if "model" not in table:
        _refuse_misspelt(table, file)
        return {"": table}
    models = table["model"]
    shared = {key: value for key, value in table.items() if key != "model"}
    if not isinstance(models, Mapping) or not models or not all(isinstance(own, Mapping) for own in models.values()):
        hint = "a table with a name for each model: [model.NAME]; for one model its keys stand at the top"
        raise ConfigError(f"agent config {file}: 'model' is no key", hint=hint)
    if len(models) > MAX_MODELS:
        raise ConfigError(f"agent config {file}: {len(models)} models, at most {MAX_MODELS}")
    for name, own in models.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"agent config {file}: [model.{name}] is no name", hint="letters, digits, - and _, at most 32"
            )
        if once := sorted(OF_THE_AGENT & set(own)):
            raise ConfigError(
                f"agent config {file}: '{once[0]}' in [model.{name}] is for all models", hint="set it above the tables"
            )
    given = [name for name, value in flags.items() if value not in (None, False, ()) and name not in OF_THE_AGENT]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} would be for all {len(models)} models of {file}",
            hint="set it in [model.NAME], or start the agent without --config",
        )
    return {name: {**shared, **own} for name, own in models.items()}


def _refuse_misspelt(table: Mapping[str, Any], file: Path | str | None) -> None:
    """Raises ConfigError for a table that is called nearly as one of a model."""
    for key, value in table.items():
        is_table = isinstance(value, Mapping) or (
            isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
        )
        if is_table and get_close_matches(key.lower(), ["model"], 1):
            names = ", ".join(f"[model.{name}]" for name in value) if isinstance(value, Mapping) else "[model.NAME]"
            raise ConfigError(f"agent config {file}: unknown table '{key}'", hint=f"a table for each model: {names}")


def frames_of(config: AgentConfig) -> str:
    """The model whose frames this one gets, "" where it has a source of its own."""
    scheme, _, name = config.source.partition(":")
    return name if scheme == FRAMES_OF and config.model else ""


def check_together(configs: Sequence[AgentConfig]) -> None:
    """Raises UsageError where two models would write into one file, or a source of frames is not there."""
    readers = {config.model for config in configs if not frames_of(config)}
    for config in configs:
        name = frames_of(config)
        if name and name not in readers:
            raise UsageError(
                f"[model.{config.model}] source {config.source}: no model of that name reads a source of its own",
                hint="one of: " + (", ".join(sorted(readers)) or "none has a source"),
            )
    sinks = Counter(sink for config in configs for sink in set(config.sinks))
    twice = next((sink for sink, models in sinks.items() if models > 1), None)
    if twice is not None:
        raise UsageError(f"two models have the sink {twice}", hint="give each model a file of its own")
