"""The executor of one start of the agent, from its settings."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop.bundle import StagedBundle, TrustStore
from edgeloop_agent.commands.executor import Executor
from edgeloop_agent.commands.log_level import LogLevel
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.incoming import LineDelivery, door_words
from edgeloop_agent.delivery.incoming_stick import StickWatch


def open_executor(config: AgentConfig, boot: str, bundles: Sequence[StagedBundle], log: LogLevel) -> Executor:
    """Operators are the keys that bundles are trusted by, unless the config names others. Raises ConfigError."""
    places = config.operators or config.trust
    operators = TrustStore.from_paths(places) if places else TrustStore.default()
    words = door_words(config)
    stick = None if config.stick is None else StickWatch(config.stick, config.device, config.state, words)
    delivery = LineDelivery(config.state, words, stick)
    return Executor(device=config.device, boot=boot, operators=operators, bundles=bundles, log=log, delivery=delivery)
