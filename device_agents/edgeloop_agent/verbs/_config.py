"""Which of an agent's settings a bundle file that comes in is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop_agent.config import AgentConfig


def config_for(bundle: Path, given: Mapping[str, Any], file: Path | None) -> AgentConfig:
    """How this bundle runs here. Of a config with several models the one that runs bundles of this name, else the
    first. Raises ConfigError, UsageError; RefusedError for a damaged bundle.
    """
    from edgeloop.bundle import inspect_bundle
    from edgeloop.bundle.files import is_bundle
    from edgeloop.tomlfile import read_toml
    from edgeloop_agent.config_reading import load_configs

    if file is None or "model" not in read_toml(file, "agent config"):
        # Only what says how bundles run here matters; the config's own bundle and source need not exist yet.
        return load_configs({**given, "bundle": bundle, "source": "synthetic:"}, file)[0]
    configs = load_configs(given, file)
    name = inspect_bundle(bundle)[0].name if is_bundle(bundle) else ""
    return next((config for config in configs if config.bundle.parent.name == name), configs[0])
