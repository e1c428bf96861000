"""`run`: try a bundle on a device. Install the agent there, start it on a source, gather its telemetry, clean up.

Telemetry comes back through the device's own connection into a collector in this process, so what is shown is what the
collector stored.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop import paths
from edgeloop.devices.connection import Device, DevicePlatform, read_platform
from edgeloop.devices.guarded import GuardedFolder, note_removed
from edgeloop.devices.install import InstalledAgent, choose_layout, install_agent, put_file, remove
from edgeloop.devices.trial_source import HostSource, find_source, put_source
from edgeloop.errors import DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop.progress import Progress
from edgeloop.telemetry.hit_rates import hit_rates
from edgeloop.telemetry.report import HEADLINE_STAGE
from edgeloop.telemetry.summary import DeviceSummary, summarize_device

if TYPE_CHECKING:
    from edgeloop.bundle import Bundle
    from edgeloop.telemetry.store.database import Store

_REFRESH_S = 0.5
_STOP_TIMEOUT_S = 15.0
_AGENT_ERRORS: Mapping[int, type[EdgeloopError]] = {
    error.exit_code: error for error in (UsageError, DeviceError, RefusedError)
}


@dataclass(frozen=True)
class TrialOptions:
    """What to run. `source` is the agent's source URL; its folder or file is on this host and copied over, unless
    `source_on_device`. agent_arguments: given to the agent as they are."""

    bundle: Path
    source: str
    source_on_device: bool = False
    variant: str | None = None
    delegates: tuple[str, ...] = ()
    threads: int = 1
    count: int | None = None
    rate: float | None = None
    loop: bool = False
    report_interval_s: float = 1.0
    prefix: str | None = None
    keep: bool = True
    slim: bool = False
    allow_unsigned: bool = False
    agent_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise UsageError(f"count must be at least 1, got {self.count}")


@dataclass(frozen=True)
class TrialPlan:
    """A request that holds as far as this host can tell."""

    options: TrialOptions
    bundle: Bundle
    source: HostSource | None


def plan_trial(options: TrialOptions) -> TrialPlan:
    """Check what can be checked before any device is touched. Raises UsageError, DataError, RefusedError."""
    from edgeloop.bundle import Bundle

    bundle = Bundle.open(options.bundle, allow_unsigned=options.allow_unsigned)
    return TrialPlan(options, bundle, None if options.source_on_device else find_source(options.source, options.count))


@dataclass(frozen=True)
class TrialResult:
    """What the collector had of the device when the agent ended."""

    url: str
    platform: str
    agent_version: str
    bundle: str
    version: int
    summary: DeviceSummary
    exit_code: int

    def to_dict(self) -> dict[str, Any]:
        """`run --json`."""
        last, counters = self.summary.last, self.summary.counters
        stages = {row.pop("stage"): row for row in self.summary.latency_table()}
        headline = stages.get(HEADLINE_STAGE, {})
        return {
            "url": self.url,
            "device": last.device,
            "platform": self.platform,
            "agent_version": self.agent_version,
            "bundle": self.bundle,
            "version": self.version,
            "variant": last.variant,
            "delegate_asked": last.delegate_asked,
            "delegate": last.delegate_ran,
            "delegated_ops": last.delegated_ops,
            "total_ops": last.total_ops,
            "runtime": last.runtime,
            "threads": self.summary.threads,
            "reports": self.summary.reports,
            **{name: counters.get(name, 0) for name in ("frames", "inferences", "gated", "errors", "drops")},
            "cache": hit_rates(counters),
            **{key: headline.get(key) for key in ("n", "p50_ms", "p95_ms", "p99_ms")},
            "latency": stages,
            "gauges": dict(last.gauges),
            "events": list(self.summary.events),
            "exit_code": self.exit_code,
        }


NEWS = ("source_lost: ", "source_back: ", "quarantine: ", "fallback: ", "restart: ")
"""What the agent says that cannot wait for the end: a source that never comes has none."""


@dataclass
class TrialView:
    """What a live display reads while the trial runs. news: lines of the agent that it has not shown yet."""

    device_id: str
    store: Store
    last_lines: list[str] = field(default_factory=list)
    news: deque[str] = field(default_factory=deque)

    def note_line(self, line: str) -> None:
        self.last_lines.append(line)
        del self.last_lines[:-20]
        if line.startswith(NEWS):
            self.news.append(line)


@contextmanager
def _never() -> Iterator[threading.Event]:
    yield threading.Event()


def run_trial(
    device: Device,
    plan: TrialPlan,
    *,
    progress: Progress,
    on_refresh: Callable[[TrialView], None],
    store_url: str,
    stop_requested: Callable[[], AbstractContextManager[threading.Event]] = _never,
) -> TrialResult:
    """Run to the end of the source, or until the event is set: the agent then stops and sends its last report.

    `stop_requested` is entered when the agent has been started; before that, Ctrl-C is a KeyboardInterrupt, and so it
    is when the agent was stopped before it had a result.

    Raises DeviceError, DataError (too much to copy), and the agent's own error when it failed.
    """
    from edgeloop.telemetry.collector.server import start_collector

    options = plan.options
    with ExitStack() as cleanup:
        collector = start_collector(store_url)
        cleanup.callback(collector.stop)
        platform = read_platform(device) if not device.is_local else None
        device_id = f"{platform.hostname if platform else 'local'}-{token_hex(3)}"
        place = _prepare(device, platform, plan, progress, cleanup)
        port = device.forward_to_host(_port(collector.url))
        command = [
            *place.command,
            *_agent_arguments(place, options),
            *("--telemetry", f"http://127.0.0.1:{port}", "--device", device_id),
            *("--state", str(place.folder.path / "state")),
        ]
        view = TrialView(device_id, collector.store)
        with stop_requested() as stop:
            place.folder.start(command, view.note_line)
            exit_code = _watch(place.folder, view, on_refresh, stop)
        if stop.is_set() and not _has_result(view):
            raise KeyboardInterrupt
        if exit_code not in (0, None) and not stop.is_set():
            raise _agent_failed(device, exit_code, view.last_lines)
        return _result(device, platform, place, plan.bundle, view, exit_code or 0)


@dataclass(frozen=True)
class _Place:
    """Where everything of this trial is on the device."""

    command: list[str]
    bundle: str
    trust: str | None
    source: str
    folder: GuardedFolder
    agent_version: str


def _prepare(
    device: Device,
    platform: DevicePlatform | None,
    plan: TrialPlan,
    progress: Progress,
    cleanup: ExitStack,
) -> _Place:
    from edgeloop.version import VERSION

    options = plan.options
    if platform is None:
        folder = cleanup.enter_context(
            GuardedFolder(device, PurePosixPath(paths.state_dir() / "trials" / token_hex(4)))
        )
        command = [sys.executable, "-m", "edgeloop_agent.cli"]
        return _Place(command, str(options.bundle.resolve()), None, options.source, folder, VERSION)
    layout = choose_layout(device, platform, options.prefix)
    with progress.step("install the agent") as advance:
        agent = install_agent(device, platform, layout, advance, slim=options.slim)
    if not options.keep:
        cleanup.callback(_remove_agent, device, agent)
    done = "was there already" if agent.was_there else "installed"
    progress.note(f"agent {agent.version} {done}: {layout.agent(agent.version)}")
    folder = cleanup.enter_context(GuardedFolder(device, layout.state / "trials" / token_hex(4)))
    note_removed(folder, progress)
    trial = folder.path
    with progress.step("copy bundle and data"):
        target = trial / options.bundle.name
        put_file(device, options.bundle, target, within=trial)
        trust = _put_trust(device, plan.bundle, trial)
        source = options.source if plan.source is None else put_source(device, plan.source, trial, progress)
    return _Place(agent.command, str(target), trust, source, folder, agent.version)


def _put_trust(device: Device, bundle: Bundle, trial: PurePosixPath) -> str | None:
    """The key this host verified the bundle with, for this one run; what the device itself trusts is not changed."""
    import tempfile

    from edgeloop.bundle import TrustStore

    if bundle.signed_by is None:
        return None
    trusted = TrustStore.default().keys.get(bundle.signed_by)
    if trusted is None:
        raise RefusedError(f"the key {bundle.signed_by} that signed the bundle is not trusted here any more")
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(trusted.key.to_text())
        file.flush()
        put_file(device, Path(file.name), trial / "signer.pub", within=trial)
    return str(trial / "signer.pub")


def _agent_arguments(place: _Place, options: TrialOptions) -> list[str]:
    arguments = ["run", "--bundle", place.bundle, "--source", place.source]
    arguments += ["--threads", str(options.threads), "--report-interval", f"{options.report_interval_s:g}"]
    for delegate in options.delegates:
        arguments += ["--delegate", delegate]
    optional: Sequence[tuple[str, object]] = (
        ("--variant", options.variant),
        ("--count", options.count),
        ("--rate", options.rate),
        ("--trust", place.trust),
    )
    for flag, value in optional:
        if value is not None:
            arguments += [flag, str(value)]
    if options.loop:
        arguments.append("--loop")
    if options.allow_unsigned:
        arguments.append("--allow-unsigned")
    return [*arguments, *options.agent_arguments]


def _watch(
    running: GuardedFolder, view: TrialView, on_refresh: Callable[[TrialView], None], stop: threading.Event
) -> int | None:
    """Until the agent ends, or shortly after it was asked to."""
    asked_s: float | None = None
    while True:
        code = running.wait(_REFRESH_S)
        on_refresh(view)
        if code is not None:
            return code
        if asked_s is None and stop.is_set():
            asked_s = time.monotonic()
            running.terminate()
        elif asked_s is not None and time.monotonic() - asked_s > _STOP_TIMEOUT_S:
            running.kill()
            return None


def _has_result(view: TrialView) -> bool:
    summary = summarize_device(view.store, view.device_id)
    return summary is not None and bool(summary.counters.get("inferences"))


def _agent_failed(device: Device, code: int, lines: Sequence[str]) -> EdgeloopError:
    """The agent's own words and its own exit code: what was wrong use or refused there is so here."""
    said = [line for line in lines if line.startswith("edgeloop-agent:")]
    hints = [line.strip().removeprefix("->").strip() for line in lines if line.strip().startswith("->")]
    hint = hints[-1] if hints else None
    if said and code in _AGENT_ERRORS:
        return _AGENT_ERRORS[code](f"{device.url} {said[-1].removeprefix('edgeloop-agent:').strip()}", hint=hint)
    reason = said[-1] if said else (lines[-1] if lines else "it said nothing")
    return DeviceError(f"the agent on {device.url} ended with exit code {code}: {reason}", hint=hint)


def _result(
    device: Device, platform: DevicePlatform | None, place: _Place, bundle: Bundle, view: TrialView, exit_code: int
) -> TrialResult:
    import platform as host

    summary = summarize_device(view.store, view.device_id)
    if summary is None:
        said = " | ".join(view.last_lines[-3:]) or "nothing"
        raise DeviceError(f"no report of {device.url} arrived; the agent said: {said}")
    if platform is None:
        described = f"this host ({host.machine()})"
    else:
        described = f"{platform.hostname}: {platform.machine}, Python {platform.python[0]}.{platform.python[1]}"
    manifest = bundle.manifest
    return TrialResult(device.url, described, place.agent_version, manifest.name, manifest.version, summary, exit_code)


def _remove_agent(device: Device, agent: InstalledAgent) -> None:
    with suppress(DeviceError):  # the connection is gone
        remove(device, agent.layout.agent(agent.version))


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise DeviceError(f"the collector has no port in {url}")
    return port
