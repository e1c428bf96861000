"""What `edgeloop-agent status` shows: the state of an agent as plain values, its alerts, and both as text. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop_agent.reports.tally import PERCENTILES, Tally

_HEADLINE = "total"
_LOW_DISK_BYTES = 100 << 20
_COUNTERS = ("frames", "inferences", "gated", "errors", "drops", "sink_errors", "worker_restarts")


def model_state(
    tally: Tally,
    delegates: Sequence[str],
    *,
    model: str,
    phase: str,
    threads: int,
    worker_pid: int | None,
    worker_rss_bytes: int | None,
    fallback_s: float | None,
    next_try_s: float | None,
) -> dict[str, Any]:
    """One model. model: its name where there are several, "" else; phase: "running", "loading", "waiting" (to start a
    worker again) or "ended"; fallback_s: how long it has run on something else than its first delegate."""
    who, on = tally.identity, tally.runs_on
    return {
        "model": model,
        "bundle": who.bundle,
        "version": who.version,
        "variant": tally.variant or tally.opened or who.variant,
        "unsigned": who.unsigned,
        "phase": phase,
        "delegates": list(delegates),
        "delegate_asked": on.asked,
        "delegate_ran": on.ran,
        "delegated_ops": on.delegated_ops,
        "total_ops": on.total_ops,
        "runtime": on.runtime,
        "threads": threads,
        "worker_pid": worker_pid,
        "worker_rss_bytes": worker_rss_bytes,
        "fallback_s": fallback_s,
        "next_try_s": next_try_s,
        "counters": {name: tally.totals[name] for name in _COUNTERS},
        "latency": _latency(tally.total_latency.get(_HEADLINE)),
        "latency_recent": _latency(tally.recent_latency(_HEADLINE)),
        "last_event": {"time": e.time_s, "kind": e.kind, "detail": e.detail} if (e := tally.last_event) else None,
    }


def _latency(histogram: Histogram | None) -> dict[str, float] | None:
    """From before a frame is read to its decoded result, in ms."""
    if histogram is None or not histogram.count:
        return None
    return {"n": histogram.count, **{f"p{p}_ms": round(histogram.percentile(p), 4) for p in PERCENTILES}}


def alerts_of(state: Mapping[str, Any]) -> list[str]:
    """What somebody should look at, a line each."""
    alerts = []
    for model in state["models"]:
        name = _title(model)
        if model["phase"] == "waiting":
            alerts.append(f"{name}: no worker runs; next try in {model['next_try_s']:.0f} s")
        elif model["phase"] == "ended":
            alerts.append(f"{name}: has ended, while others run")
        if model["fallback_s"] is not None:
            wanted = model["delegates"][0]
            alerts.append(f"{name}: on {model['delegate_ran']} for {model['fallback_s']:.0f} s instead of {wanted}")
        if model["unsigned"]:
            alerts.append(f"{name}: is not signed by a trusted key")
    alerts += [f"board: {text} now" for text in state["board"]["throttled_now"]]
    telemetry = state["telemetry"]
    if telemetry is not None and telemetry["trouble"]:
        alerts.append(f"telemetry: {telemetry['trouble']}; {telemetry['waiting']} reports wait")
    free = state["disk_free_bytes"]
    if free is not None and free < _LOW_DISK_BYTES:
        alerts.append(f"disk: {free / 2**20:.0f} MiB free in {state['state']}")
    if state["events_lost"]:
        alerts.append(f"disk: {state['events_lost']} events could not be written to {state['state']}")
    return alerts


def state_text(state: Mapping[str, Any]) -> str:
    """For people."""
    board, telemetry = state["board"], state["telemetry"]
    age = _age(state["uptime_s"])
    lines = [f"edgeloop-agent {state['agent']}, process {state['pid']}, up {age}, {state['device']}"]
    for model in state["models"]:
        lines += _model_lines(model)
    lines.append("board: " + ", ".join(_board_words(board)))
    if telemetry is not None:
        counts = ", ".join(f"{telemetry[name]} {name}" for name in ("delivered", "waiting", "rejected", "lost"))
        carried = f" ({telemetry['carried']} of these carried)" if telemetry.get("carried") else ""
        way = f", by {telemetry['way']}" if telemetry.get("way") else ""
        lines.append(f"telemetry: {counts}{carried}{way}")
    if samples := state.get("hard_samples"):
        counts = ", ".join(f"{samples[name]} {name}" for name in ("sent", "waiting", "refused"))
        trouble = f"; {samples['trouble']}" if samples["trouble"] else ""
        lines.append(f"hard samples: {counts}, {samples['sent_bytes']} bytes{trouble}")
    lines += [f"ALERT {text}" for text in state["alerts"]]
    return "\n".join(lines)


def status_line(models: Sequence[Mapping[str, Any]]) -> str:
    """The line of `systemctl status`."""
    return "; ".join(
        f"{_title(m)} ({m['variant']}) {m['phase']}" + (f" on {m['delegate_ran']}" if m["phase"] == "running" else "")
        for m in models
    )


def _title(model: Mapping[str, Any]) -> str:
    return (f"{model['model']}: " if model["model"] else "") + f"{model['bundle']} {model['version']}"


def _model_lines(model: Mapping[str, Any]) -> list[str]:
    counters, recent = model["counters"], model["latency_recent"] or model["latency"]
    share = f" ({model['delegated_ops']} of {model['total_ops']} ops)" if model["total_ops"] else ""
    on = f" on {model['delegate_ran']}{share}, {model['runtime']}" if model["delegate_ran"] else ""
    lines = [f"{_title(model)} ({model['variant']}): {model['phase']}{on}"]
    if recent:
        threads = f"{model['threads']} thread" + ("" if model["threads"] == 1 else "s")
        lines.append(
            f"  total p50 {recent['p50_ms']:.3g} ms, p95 {recent['p95_ms']:.3g} ms "
            f"(n {recent['n']}, {threads}, {model['delegate_ran']})"
        )
    lines.append("  " + ", ".join(f"{name} {n}" for name, n in counters.items() if n or name == "frames"))
    if model["worker_rss_bytes"]:
        lines.append(f"  worker {model['worker_pid']}, {model['worker_rss_bytes'] / 2**20:.0f} MiB")
    if event := model["last_event"]:
        lines.append(f"  last event: {event['kind']}: {event['detail']}")
    return lines


def _board_words(board: Mapping[str, Any]) -> list[str]:
    words = [board["name"]]
    for key, unit in (("temperature_c", "°C"), ("accelerator_c", "°C accelerator"), ("frequency_mhz", "MHz")):
        if board[key] is not None:
            words.append(f"{board[key]:.0f} {unit}")
    if board["clock_governor"]:
        words.append(f"clock governor {board['clock_governor']}")
    if board["throttle_flags"] is None:
        return words
    if board["throttled_now"]:
        words.append(f"now: {', '.join(board['throttled_now'])}")
    if board["throttled_since_boot"]:
        words.append(f"since boot: {', '.join(board['throttled_since_boot'])}")
    if not board["throttled_now"] and not board["throttled_since_boot"]:
        words.append("never throttled since boot")
    return words


def _age(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
