"""The agent's settings: from flags, or from a TOML file with the same keys; flags win. Unknown keys are refused."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from edgeloop import paths
from edgeloop.errors import UsageError
from edgeloop.telemetry.wire.values import MAX_NAME_CHARS
from edgeloop_agent.activation.flags import GATE, GOVERNOR, check_activation
from edgeloop_agent.activation.levels import Law
from edgeloop_agent.activation.settings import (
    DEFAULT_WARM_MIB,
    ActivationSettings,
    GateSettings,
    check_range,
    parse_cascade,
    parse_exit_head,
)
from edgeloop_agent.autotune.objectives import OBJECTIVES
from edgeloop_agent.delivery.update import Window
from edgeloop_agent.hard_samples.settings import OFF, HardSampleSettings
from edgeloop_agent.release import settings as releases
from edgeloop_agent.reports.spool_place import SpoolPlace
from edgeloop_agent.service.statedir import LOAD_TRACE, MODELS, SPOOL
from edgeloop_agent.supervisor.decisions import RECHECK_EVERY_S, Policy
from edgeloop_agent.supervisor.fallback_clock import ALERT_AFTER_S

_RANGES = {
    "memory_limit": (1, 65536, " MiB"),
    "recheck": (0, 86400, " seconds"),
    "spool_size": (1, 65536, " MiB"),
    "spool_max_age": (0.01, 3650, " days"),
    "trial": (1, 86400, " seconds"),
    **releases.RANGES,
}


@dataclass(frozen=True)
class AgentConfig:
    """Everything `edgeloop-agent run` can be told. Seconds (`spool_max_age`: days), as in the file and the flags.

    `model`: its name where the agent runs several ([model.NAME]), "" else. `delegates` empty means: the variant's own
    list; `threads` 0: what autotune found, else 1. `count` and `rate` None mean: all there are, as fast as it goes.
    """

    bundle: Path
    source: str
    model: str = ""
    variant: str | None = None
    gallery: Path | None = None
    delegates: tuple[str, ...] = ()
    threads: int = 0
    count: int | None = None
    loop: bool = False
    rate: float | None = None
    sinks: tuple[str, ...] = ()
    telemetry: tuple[str, ...] = ()
    device: str = ""
    state: Path = Path()
    enroll_token: str = field(default="", repr=False)
    report_interval: float = 10.0
    spool_size: float = 16.0
    spool_max_age: float = 7.0
    trust: tuple[Path, ...] = ()
    operators: tuple[Path, ...] = ()
    allow_unsigned: bool = False
    heartbeat_timeout: float = Policy.heartbeat_timeout_s
    frame_timeout: float = Policy.frame_timeout_s
    invoke_timeout: float = Policy.invoke_timeout_s
    load_timeout: float = Policy.load_timeout_s
    retry_after: float = Policy.retry_after_s
    memory_limit: float | None = None
    fallback_alert: float = ALERT_AFTER_S
    recheck: float = RECHECK_EVERY_S
    stop_timeout: float = 2.0
    trial: float = Window.seconds
    gate: bool = False
    audit_every: int = GateSettings.audit_every
    max_difference: float = GateSettings.max_difference
    max_age: float = GateSettings.max_age_s
    latency_budget: float | None = None
    temperature_limit: float | None = None
    accuracy_floor: float | None = None
    max_stride: int = Law.max_stride
    prefer: str = Law.prefer
    dwell: float = Law.dwell_s
    quiet: float = Law.quiet
    steepness: float = Law.steepness
    midpoint: float = Law.midpoint
    cascade: str | None = None
    exit_head: str | None = None
    warm_memory: float = DEFAULT_WARM_MIB
    record_load: bool = False
    autotune: str | None = None
    hard_samples: HardSampleSettings = OFF
    release: str = ""
    channel: str = releases.STABLE
    release_interval: float = releases.INTERVAL_S
    release_rate: float = 0.0
    tags: tuple[str, ...] = ()
    stick: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= 256:
            raise UsageError(f"threads must be 1..256, got {self.threads}")
        if self.count is not None and self.count < 1:
            raise UsageError(f"count must be at least 1, got {self.count}")
        if self.rate is not None and not 0 < self.rate <= 1e6:
            raise UsageError(f"rate must be a positive number of frames per second, got {self.rate:g}")
        for name in (
            "report_interval",
            "heartbeat_timeout",
            "frame_timeout",
            "invoke_timeout",
            "load_timeout",
            "retry_after",
            "fallback_alert",
        ):
            value = getattr(self, name)
            if not 0.1 <= value <= 86400:
                raise UsageError(f"{name} must be 0.1 to 86400 seconds, got {value:g}")
        if not 0 <= self.stop_timeout <= 300:
            raise UsageError(f"stop_timeout must be 0 to 300 seconds, got {self.stop_timeout:g}")
        if len(self.device) > MAX_NAME_CHARS or not self.device.isprintable():
            raise UsageError(f"device must be at most {MAX_NAME_CHARS} printable characters")
        for text in (self.bundle, self.state, self.source, *self.sinks, *self.delegates, *self.trust, *self.operators):
            _check_is_text(str(text))
        if self.autotune not in (None, *OBJECTIVES):
            raise UsageError(f"autotune must be {', '.join(OBJECTIVES)}, got '{self.autotune}'")
        releases.check_settings(self.release, self.channel, self.tags)
        self._check_activation()
        if self.heartbeat_timeout < 2:
            raise UsageError("heartbeat_timeout must be at least 2 seconds: the worker speaks once a second")

    def _check_activation(self) -> None:
        for name, (low, high, unit) in _RANGES.items():
            check_range(name, getattr(self, name), low, high, unit)
        defaults = {f.name: f.default for f in fields(self)}
        check_activation(vars(self), defaults, on={GATE: self.gate, GOVERNOR: self.is_governed})

    @property
    def is_governed(self) -> bool:
        """Whether there is a limit that the governor could keep, or something it may give up."""
        return self.latency_budget is not None or self.temperature_limit is not None or self.max_stride > 1

    @property
    def activation(self) -> ActivationSettings | None:
        """Of gate, governor and cascade; None where all are off."""
        if not (self.gate or self.is_governed or self.cascade or self.exit_head or self.record_load):
            return None
        law = Law(
            latency_budget_ms=self.latency_budget,
            temperature_limit_c=self.temperature_limit,
            accuracy_floor=self.accuracy_floor,
            max_stride=self.max_stride,
            prefer=self.prefer,
            dwell_s=self.dwell,
            quiet=self.quiet,
            steepness=self.steepness,
            midpoint=self.midpoint,
        )
        return ActivationSettings(
            gate=GateSettings(self.audit_every, self.max_difference, self.max_age) if self.gate else None,
            law=law if self.is_governed else None,
            cascade=parse_cascade(self.cascade) if self.cascade else None,
            exit_head=parse_exit_head(self.exit_head) if self.exit_head else None,
            warm_bytes=int(self.warm_memory * 2**20),
            record=str(self.folder / LOAD_TRACE) if self.record_load else "",
        )

    @property
    def folder(self) -> Path:
        """Of this model's own files: the state folder, or one below it where there are several models."""
        return self.state / MODELS / self.model if self.model else self.state

    @property
    def spool(self) -> SpoolPlace:
        """Where reports wait, and how many."""
        return SpoolPlace(self.state / SPOOL, int(self.spool_size * 2**20), self.spool_max_age * 86400.0)

    @property
    def policy(self) -> Policy:
        return Policy(
            heartbeat_timeout_s=self.heartbeat_timeout,
            frame_timeout_s=self.frame_timeout,
            invoke_timeout_s=self.invoke_timeout,
            load_timeout_s=self.load_timeout,
            retry_after_s=self.retry_after,
            memory_limit_bytes=None if self.memory_limit is None else int(self.memory_limit * 2**20),
        )


def _check_is_text(text: str) -> None:
    """The worker is told in UTF-8, and some libraries crash at a file name that is not."""
    if not paths.is_utf8(text):
        shown = text.encode(errors="replace").decode()
        raise UsageError(
            f"'{shown}' is not UTF-8", hint="rename the file, or set LC_ALL=C.UTF-8 if the name is in UTF-8"
        )
