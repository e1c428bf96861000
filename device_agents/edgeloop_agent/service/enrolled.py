"""The credential that the agent reports with: at hand, or asked for with the token of its settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import UsageError
from edgeloop.telemetry.identity.kept import FOLDER, IdentityFolder, base_of

if TYPE_CHECKING:
    from edgeloop_agent.config import AgentConfig


def prepare_identity(config: AgentConfig, state: Path) -> None:
    """Before the first report: a token that is given and not used yet is laid where the transport finds it.

    state: where the state is kept now, which may stand in for the folder that is meant; the credential is lent to it.
    Raises UsageError where this device is enrolled by another name: the collector would reject every report.
    """
    meant = IdentityFolder(config.state)
    folder = IdentityFolder(state)
    if state != config.state and meant.path.is_dir() and not folder.path.exists():
        shutil.copytree(meant.path, state / FOLDER)
    identity = folder.identity()
    if identity is None:
        if token := config.enroll_token or folder.laid_token():
            folder.plant(token, config.device)
        return
    if identity.device != config.device and any(_is_at(identity.url, url) for url in config.telemetry):
        raise UsageError(
            f"this device is enrolled as {identity.device!r} and would report as {config.device!r}",
            hint=f"--device {identity.device!r}, or enroll it again: edgeloop-agent enroll",
        )


def _is_at(base: str, url: str) -> bool:
    try:
        return base_of(url) == base
    except UsageError:  # another kind of way
        return False
