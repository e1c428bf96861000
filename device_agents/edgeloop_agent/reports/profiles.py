"""What a report says of the bundle's bench profile, so that the host can hold the field against it. No numpy here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeloop import probes
from edgeloop.boards import BOARDS, detect_board
from edgeloop.boards.coral import usb_sticks
from edgeloop.boards.table import load_board
from edgeloop.bundle.manifest import Profile, Variant
from edgeloop.probes import ROOT
from edgeloop.telemetry.report import HOST, OTHER_BOARD, THIS_BOARD


def profile_gauges(variants: Iterable[Variant], *, root: Path = ROOT) -> dict[str, dict[str, float]]:
    """Gauges by variant, for those that were measured. Only figures of this kind of board say anything here: of others
    it is only told on what they were measured."""
    here, kind = probes.board_name(root=root), detect_board(root=root).id
    return {v.name: _gauges(v.profile, here, kind) for v in variants if v.profile is not None}


def accelerator_gauges(delegate: str, *, root: Path = ROOT) -> Mapping[str, float]:
    """`usb_mbps`: how fast the Coral stick's port is, where the model runs on one and the kernel says it."""
    if not delegate.startswith("edgetpu"):
        return {}
    speeds = [stick.speed_mbit for stick in usb_sticks(root=root) if stick.speed_mbit > 0]
    return {"usb_mbps": min(speeds)} if speeds else {}


def _gauges(profile: Profile, here: str, kind: str) -> dict[str, float]:
    measured = _measured_on(profile.device, here, kind)
    if measured != THIS_BOARD:
        return {"profile_measured_on": float(measured)}
    return {"profile_p50_ms": profile.p50_ms, "profile_p95_ms": profile.p95_ms, "profile_measured_on": float(measured)}


def _measured_on(device: str, here: str, kind: str) -> int:
    if device == here:
        return THIS_BOARD
    for board_id in BOARDS:
        models = load_board(board_id).models
        if models and device.startswith(models):
            return THIS_BOARD if board_id == kind else OTHER_BOARD
    return HOST
