"""Disks that are full or read-only, as real file systems in a mount namespace: said once, counted, and work goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop_agent.service.statedir import stand_in
from support.agents import PATIENCE_S, frames, make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-r", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for this user")
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def run_on(disk: Path, before: str, *arguments: str | Path, size: str = "4m") -> subprocess.CompletedProcess[str]:
    """`edgeloop-agent run --json` where `disk` is a file system of its own, after the shell commands `before`."""
    agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--json", *map(str, arguments)]
    script = f'disk={disk}; mount -t tmpfs -o size={size} none $disk && {{ {before}; }} && exec "$@"'
    environment = {k: v for k, v in os.environ.items() if k != "INVOCATION_ID"} | {"TMPDIR": str(disk.parent)}
    return subprocess.run(
        ["unshare", "-r", "-m", "sh", "-c", script, "sh", *agent],
        capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False,
    )  # fmt: skip


def test_on_a_read_only_disk_the_state_is_kept_in_memory(
    disk: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_on(
        disk, "mount -o remount,ro $disk",
        "--bundle", bundle, "--source", "synthetic:", "--count", "30", "--state", disk / "state",
        "--telemetry", "http://127.0.0.1:9", "--stop-timeout", "0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["inferences"], summary["reports"]["lost"]) == (30, 0)
    assert done.stderr.count("Read-only file system") == 1
    monkeypatch.setenv("TMPDIR", str(disk.parent))
    monkeypatch.setattr("tempfile.tempdir", None)
    kept = stand_in(disk / "state")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "events.jsonl").exists() is bool(summary["events"])


def test_a_stand_in_of_another_user_is_not_touched(disk: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(disk.parent))
    monkeypatch.setattr("tempfile.tempdir", None)
    trap = stand_in(disk / "state")
    trap.symlink_to(disk.parent / "elsewhere")
    (disk.parent / "elsewhere").mkdir()
    done = run_on(
        disk, "mount -o remount,ro $disk", "--bundle", bundle, "--source", "synthetic:", "--state", disk / "state"
    )
    assert (done.returncode, "belongs to another user" in done.stderr) == (3, True)
    assert list((disk.parent / "elsewhere").iterdir()) == []


FILL = "dd if=/dev/zero of=$disk/fill bs=4k 2>/dev/null; mkdir -p $disk/state; true"


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_is_stood_in_for_as_a_read_only_one(disk: Path, bundle: Path) -> None:
    done = run_on(
        disk, FILL, "--bundle", bundle, "--source", "synthetic:", "--count", "30", "--state", disk / "state",
        "--telemetry", "http://127.0.0.1:9", "--stop-timeout", "0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inferences"] == 30
    assert done.stderr.count("No space left on device") == 1


def test_where_memory_is_full_too_it_says_what_to_do(disk: Path, bundle: Path) -> None:
    agent = ("--bundle", bundle, "--source", "synthetic:", "--state", disk / "state")
    done = run_on(disk, f"{FILL}; export RUNTIME_DIRECTORY=$disk", *agent)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "-> make room (1 MiB and what the bundle takes), or --state DIR" in done.stderr


@pytest.mark.slow
def test_a_bundle_that_does_not_fit_says_how_much_it_needs(disk: Path, bundle: Path) -> None:
    from support.tiny_models import TinyBuilder

    b = TinyBuilder(3)
    model = b.finish(b.dense(b.dense(b.mean(b.conv(b.input("image", (1, 8, 8, 1)), 1000)), 1000), 1)).write()
    large = make_bundle(disk.parent / "large.bundle", model=model)
    done = run_on(disk, "true", "--bundle", large, "--source", "synthetic:", "--state", disk / "state", size="3m")
    assert (done.returncode, "no space left for it" in done.stderr) == (3, True), done.stderr
    assert "make room there, or put the state elsewhere" in done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_up_while_it_runs_loses_lines_not_inferences(disk: Path, bundle: Path) -> None:
    np.savez(disk.parent / "x.npz", x=frames(100))
    fill = "(sleep 1.2; dd if=/dev/zero of=$disk/fill bs=4k 2>/dev/null) & true"
    done = run_on(
        disk, fill,
        "--bundle", bundle, "--source", f"npz:{disk.parent}/x.npz", "--loop", "--count", "600", "--rate", "150",
        "--state", disk / "state", "--sink", f"jsonl:{disk}/out.jsonl", "--report-interval", "0.2",
        "--telemetry", "http://127.0.0.1:9", "--stop-timeout", "0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["inferences"], summary["restarts"]) == (600, 0)
    assert summary["sink_errors"] > 0
    said = done.stderr.splitlines()
    assert len([line for line in said if "results are not written" in line]) == 1, done.stderr
    assert len(said) < 12, done.stderr
