"""`edgeloop-agent run` as a function: verify and stage the bundle, supervise a worker, deliver the reports, sum up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeloop.bundle import StagedBundle, TrustStore
from edgeloop.bundle.verified_mark import stage_verified
from edgeloop.errors import EdgeloopError
from edgeloop.runtime.delegates import parse_delegate
from edgeloop.telemetry.summary import latency_lines
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.desk import Desk
from edgeloop_agent.endings import End
from edgeloop_agent.pipeline import FALLBACK_ORDER
from edgeloop_agent.publisher import Publisher, open_publisher
from edgeloop_agent.reload import Reload, may_reload, same_state
from edgeloop_agent.reporting import NoOutlet
from edgeloop_agent.sinks import parse_sink
from edgeloop_agent.sources import parse_source
from edgeloop_agent.statedir import BUNDLES, SPOOL, locked_state
from edgeloop_agent.supervised import Assignment
from edgeloop_agent.supervisor import supervise
from edgeloop_agent.tally import Identity, Tally


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and its sums. `error` is None after a clean end (source over, count reached, stopped)."""

    summary: dict[str, Any]
    error: EdgeloopError | None = None


@dataclass(frozen=True)
class _Plan:
    """What is to run, as far as it can be checked before a worker starts."""

    config: AgentConfig
    staged: StagedBundle
    unsigned: bool
    delegates: tuple[str, ...]


def run_agent(
    config: AgentConfig, tell: Callable[[str], None], reread: Callable[[], AgentConfig] | None = None
) -> Outcome:
    """Run until the source ends, the count is reached or SIGTERM or SIGINT comes. `tell` gets lines for people.

    reread: the config as it is in its file now, for a reload; the outcome is then the last run's. Raises EdgeloopError
    for what is wrong before the first worker starts.
    """
    with locked_state(config.state) as state, contextlib.ExitStack() as cleanup:
        plan = _planned(config, tell)
        reload = None
        if reread is not None and may_reload():
            reload = Reload(lambda: _planned(same_state(reread(), state), tell))
            cleanup.enter_context(reload.on_hangup())
        desk = Desk(state, tell, device=config.device, reload=reload)
        while True:
            outcome = _run(plan, desk, tell)
            after = None if reload is None else reload.take_next()
            if after is None or desk.was_stopped:
                return outcome
            plan = after


def _planned(config: AgentConfig, tell: Callable[[str], None]) -> _Plan:
    parse_source(config.source)
    for sink in config.sinks:
        parse_sink(sink)
    asked = tuple(str(parse_delegate(text)) for text in config.delegates)
    staged, unsigned = _stage(config, tell)
    return _Plan(config, staged, unsigned, asked or staged.manifest.fallback_order(config.variant) or FALLBACK_ORDER)


def _run(plan: _Plan, desk: Desk, tell: Callable[[str], None]) -> Outcome:
    config, staged = plan.config, plan.staged
    variant = staged.manifest.variant(config.variant)
    who = Identity(
        device=config.device,
        boot=os.urandom(8).hex(),
        bundle=staged.manifest.name,
        version=staged.manifest.version,
        variant=variant.name,
        unsigned=plan.unsigned,
    )
    tally = Tally(who, on_event=desk.events.add)
    tally.count("cache_hits_l3" if staged.was_there else "cache_misses_l3")
    publisher = open_publisher(config.telemetry, config.state / SPOOL, tell) if config.telemetry else None
    desk.telemetry = None if publisher is None else publisher.state
    assignment = Assignment(config, str(staged.path), plan.delegates, tally)
    began = time.monotonic()
    try:
        (end,) = supervise([assignment], publisher or NoOutlet(), tell, desk)
    finally:
        if publisher is not None:
            # A second Ctrl-C does not wait for the collector: what is not delivered stays in the spool.
            with contextlib.suppress(KeyboardInterrupt):
                publisher.close(config.stop_timeout)
    return Outcome(_summary(config, tally, end, publisher, time.monotonic() - began), end.error)


def _stage(config: AgentConfig, tell: Callable[[str], None]) -> tuple[StagedBundle, bool]:
    """The verified bundle, unpacked in the state folder, and whether it was let in unsigned."""
    trust = TrustStore.from_paths(config.trust) if config.trust else TrustStore.default()
    staged, signed_by = stage_verified(
        config.bundle, config.state / BUNDLES, trust=trust, allow_unsigned=config.allow_unsigned
    )
    if signed_by is None:
        tell(f"warning: {config.bundle.name} is not signed by a trusted key; every report says so (--allow-unsigned)")
    return staged, signed_by is None


def _summary(
    config: AgentConfig, tally: Tally, end: End, publisher: Publisher | None, seconds: float
) -> dict[str, Any]:
    summary = tally.summary()
    reports = {"made": tally.seq, **(publisher.totals() if publisher is not None else {"delivered": 0, "waiting": 0})}
    return {
        **summary, "threads": config.threads, "seconds": round(seconds, 3), "end": end.reason, "reports": reports,
        "latency_budget": _budget(config.latency_budget, summary["latency"].get("total")),
    }  # fmt: skip


def _budget(budget_ms: float | None, total: dict[str, Any] | None) -> dict[str, Any] | None:
    """How the whole run stands to the latency budget."""
    if budget_ms is None or total is None:
        return None
    return {"budget_ms": budget_ms, "p95_ms": total["p95_ms"], "kept": total["p95_ms"] <= budget_ms}


def summary_text(summary: dict[str, Any]) -> str:
    """The table that a run ends with."""
    share = f" ({summary['delegated_ops']} of {summary['total_ops']} ops)" if summary["total_ops"] else ""
    threads = f"{summary['threads']} thread" + ("" if summary["threads"] == 1 else "s")
    ran = f"on {summary['delegate_ran']}{share}, {summary['runtime']}" if summary["delegate_ran"] else "did not start"
    lines = [
        f"{summary['bundle']} {summary['version']} ({summary['variant']}) {ran}, {threads}, device {summary['device']}",
        f"frames {summary['frames']}, inferences {summary['inferences']}, errors {summary['errors']}"
        + (f", dropped {summary['drops']}" if summary["drops"] else "")
        + (f", result lines lost {summary['sink_errors']}" if summary["sink_errors"] else "")
        + f", {summary['seconds']:.1f} s",
    ]
    if summary["latency"]:
        rows = [{"stage": stage, **at} for stage, at in summary["latency"].items()]
        lines += latency_lines(
            rows, threads=summary["threads"], delegate=summary["delegate_ran"], device=summary["device"]
        )
    if summary["variants"]:
        lines.append("inferences by variant: " + ", ".join(f"{name} {n}" for name, n in summary["variants"].items()))
    lines += _activation_lines(summary)
    lines += [f"fallback: {text}" for text in summary["fallbacks"]]
    if summary["restarts"]:
        lines.append(f"worker restarts: {summary['restarts']}")
    reports = summary["reports"]
    if reports["delivered"] or reports["waiting"]:
        lines.append(f"reports delivered {reports['delivered']}, waiting {reports['waiting']}")
    return "\n".join(lines)


def _activation_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    if summary["gated"] or "l1" in summary["cache"]:
        l1, audits = summary["cache"].get("l1", {"hits": 0, "misses": 0}), summary["audits"]
        skipped = summary["gated"] - l1["hits"]
        lines.append(
            f"gated {summary['gated']} of {summary['frames']} frames: {l1['hits']} answered from memory "
            f"(audits: {audits['different']} of {audits['n']} would have been other), {skipped} skipped"
        )
    if summary["escalations"]:
        lines.append(f"cascade: {summary['escalations']} frames needed the heavy variant")
    if budget := summary["latency_budget"]:
        kept = "kept" if budget["kept"] else "not kept"
        lines.append(f"latency budget: p95 {budget['p95_ms']:.3g} ms of {budget['budget_ms']:g} ms: {kept}")
    switches = [e["detail"] for e in summary["events"] if e["kind"] in ("variant_switch", "stride_switch")]
    return lines + [f"switch: {text}" for text in switches]
