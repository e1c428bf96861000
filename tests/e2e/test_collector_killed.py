"""The agent goes on while its collector is killed and started again: every report is stored exactly once."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeloop.telemetry.store import open_store
from support.collecting import wait_until
from support.digits import make_digits_bundle

FRAMES = 1500
RATE_PER_S = 250


def start_collector(port: int, store: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "edgeloop.cli",
        "collect",
        "--listen",
        f"127.0.0.1:{port}",
        "--store",
        store,
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()  # the one JSON object says that it listens
    return process


def start_agent(bundle: Path, port: int, folder: Path, *source: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(bundle), *source]
    command += ["--count", str(FRAMES), "--rate", str(RATE_PER_S), "--telemetry", f"http://127.0.0.1:{port}"]
    command += ["--device", "pi-1", "--state", str(folder / "state"), "--report-interval", "0.2"]
    command += ["--stop-timeout", "60"]  # a busy machine's collector takes long to come back
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_every_report_is_stored_exactly_once(tmp_path):
    run_with_kills(make_digits_bundle(tmp_path), tmp_path, "--source", "synthetic:")


@pytest.mark.slow
def test_resnet8_over_the_cifar_folder(tmp_path, shared_data):
    import tarfile

    from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
    from edgeloop.contract import Contract, InputSpec, OutputSpec

    with tarfile.open(shared_data / "cifar10/test.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    model = (shared_data / "models/mlperf_tiny/pretrainedResnet_quant.tflite").read_bytes()
    contract = Contract((InputSpec(kind="image", size=(32, 32)),), OutputSpec("classification"))
    variant = VariantDraft("int8", model, "int8", ("xnnpack", "cpu"))
    bundle = tmp_path / "ic.bundle"
    write_bundle(bundle, BundleDraft("ic", 1, "generic-x86-64", contract, [variant]), load_or_create_signing_key())
    run_with_kills(bundle, tmp_path, "--source", f"folder:{tmp_path / 'test'}")


def wait_for_a_report(store_url: str) -> None:
    store = open_store(store_url, create=False)
    try:
        wait_until(lambda: store.counts().reports > 0, "a report was stored")
    finally:
        store.close()


def run_with_kills(bundle: Path, folder: Path, *source: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store_url = f"sqlite:///{folder}/telemetry.db"
    collector = start_collector(port, store_url)
    agent = start_agent(bundle, port, folder, *source)
    try:
        wait_for_a_report(store_url)
        for alive_s, away_s in ((1.5, 0.7), (0.8, 0.3), (0.6, 0.2)):
            time.sleep(alive_s)
            collector.kill()
            collector.wait(60)
            time.sleep(away_s)
            collector = start_collector(port, store_url)
        _, said = agent.communicate(timeout=400)
        assert agent.returncode == 0, said
    finally:
        agent.kill()
        collector.terminate()
        collector.wait(60)
    store = open_store(store_url, create=False)
    reports = [stored.report for stored in store.reports()]
    store.close()
    assert sorted(r.seq for r in reports) == list(range(1, len(reports) + 1))
    assert len({r.boot for r in reports}) == 1
    assert sum(r.counters["inferences"] for r in reports) == FRAMES
    assert sum(r.latency["invoke"].count for r in reports if "invoke" in r.latency) == FRAMES
