"""What a run came to, as an object for `--json` and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeloop.telemetry.summary import latency_lines
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.reports.tally import Tally
from edgeloop_agent.supervisor.endings import End


def model_summary(config: AgentConfig, tally: Tally, end: End, seconds: float) -> dict[str, Any]:
    """Of one model."""
    summary = tally.summary()
    return {
        **summary, "threads": config.threads, "seconds": round(seconds, 3), "end": end.reason,
        "latency_budget": _budget(config.latency_budget, summary["latency"].get("total")),
    }  # fmt: skip


def agent_summary(models: Mapping[str, dict[str, Any]], reports: Mapping[str, int]) -> dict[str, Any]:
    """Of all models by name: the model's own where there is but one without a name, else {"models": {NAME: ...}}."""
    if set(models) == {""}:
        return {**models[""], "reports": dict(reports)}
    ends = [model["end"] for model in models.values()]
    return {
        "device": next(iter(models.values()))["device"],
        "end": "failed" if "failed" in ends else ends[0],
        "seconds": max(model["seconds"] for model in models.values()),
        "reports": dict(reports),
        "models": dict(models),
    }


def _budget(budget_ms: float | None, total: dict[str, Any] | None) -> dict[str, Any] | None:
    """How the whole run stands to the latency budget."""
    if budget_ms is None or total is None:
        return None
    return {"budget_ms": budget_ms, "p95_ms": total["p95_ms"], "kept": total["p95_ms"] <= budget_ms}


def summary_text(summary: Mapping[str, Any]) -> str:
    """The table that a run ends with; of several models one after another."""
    parts = [f"[{name}]\n{_model_text(model)}" for name, model in summary.get("models", {}).items()]
    parts = parts or [_model_text(summary)]
    reports = summary["reports"]
    if reports["delivered"] or reports["waiting"]:
        parts.append(f"reports delivered {reports['delivered']}, waiting {reports['waiting']}")
    return "\n".join(parts)


def _model_text(summary: Mapping[str, Any]) -> str:
    has_share = summary["total_ops"] and len(summary["variants"]) < 2  # each variant has one of its own
    share = f" ({summary['delegated_ops']} of {summary['total_ops']} ops)" if has_share else ""
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
    return "\n".join(lines)


def _activation_lines(summary: Mapping[str, Any]) -> list[str]:
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
