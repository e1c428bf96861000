"""Model versions across the fleet: which run where, how healthy they are, how they compare. Pure over the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeloop.telemetry.fleet.deviation import Expected
from edgeloop.telemetry.fleet.row import FleetRow


@dataclass(frozen=True)
class VersionState:
    """One version of a bundle as it runs now. healthy: devices that are heard of, run on what was asked for, are not
    throttled, have no errors and no alert. share: of all devices with this bundle."""

    bundle: str
    version: int
    devices: int
    share: float
    healthy: int
    silent: int
    throttled: int
    fell_back: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    last_seen_s: float
    first_seen_s: float | None
    variants: dict[str, int]
    delegates: dict[str, int]


def is_healthy(row: FleetRow, now_s: float) -> bool:
    return not (row.silent(now_s) or row.fell_back or row.throttled or row.errors or row.alerts or row.firing)


def rollout(rows: Iterable[FleetRow], now_s: float, first_seen: dict[tuple[str, int], float]) -> list[VersionState]:
    """Every version that some device ran when it was last heard of; by bundle, the newest version first.

    p50_ms, p95_ms: the median of the devices' own.
    """
    groups: dict[tuple[str, int], list[FleetRow]] = {}
    of_bundle: Counter[str] = Counter()
    for row in rows:
        if row.bundle:
            groups.setdefault((row.bundle, row.version), []).append(row)
            of_bundle[row.bundle] += 1
    states = [
        VersionState(
            bundle=bundle,
            version=version,
            devices=len(group),
            share=len(group) / of_bundle[bundle],
            healthy=sum(is_healthy(row, now_s) for row in group),
            silent=sum(row.silent(now_s) for row in group),
            throttled=sum(bool(row.throttled) for row in group),
            fell_back=sum(row.fell_back for row in group),
            errors=sum(row.errors > 0 for row in group),
            p50_ms=_median([row.p50_ms for row in group if row.p50_ms is not None]),
            p95_ms=_median([row.p95_ms for row in group if row.p95_ms is not None]),
            last_seen_s=max(row.received_s for row in group),
            first_seen_s=first_seen.get((bundle, version)),
            variants=dict(Counter(row.variant for row in group).most_common(20)),
            delegates=dict(Counter(row.delegate_ran for row in group).most_common(20)),
        )
        for (bundle, version), group in groups.items()
    ]
    return sorted(states, key=lambda state: (state.bundle, -state.version))


def expected_of(rows: Iterable[FleetRow], bundle: str, delegate_asked: str) -> Expected:
    """What most devices with this bundle run; the variant among those that ask for the same delegate."""
    mine = [row for row in rows if row.bundle == bundle]
    versions = Counter(row.version for row in mine).most_common(1)
    variants = Counter(row.variant for row in mine if row.delegate_asked == delegate_asked).most_common(1)
    return Expected(versions[0][0] if versions else 0, variants[0][0] if variants else "")


def to_json(states: Sequence[VersionState]) -> list[dict[str, Any]]:
    return [asdict(state) for state in states]


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
