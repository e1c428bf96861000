"""What a device pays for releases: a poll that finds nothing new (CPU, bytes), what its process costs, and deltas.

The server is a process of its own and counts what goes both ways. The repository has 12 versions of a bundle.
Deltas: real int8 weights, changed as training changes them (tests/support/retrained.py); `zstd --patch-from` over the
unpacked models, for comparison, where that command is installed.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/release.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from _timing import SHARED_DATA, host, plain_environment

from edgeloop.release.delta import make_delta
from edgeloop_agent.release.pull import FOLDER
from support.bundles import NO_MODEL
from support.pulling import Fleet
from support.release_server import serving
from support.releasing import key_in, new_repository
from support.retrained import bundle_of, retrained

POLLS = 40
MODELS = {
    "MobileNetV2 (Coral)": "models/coral/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "DeepLabV3 0.5 (Coral)": "models/coral/deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "ResNet8 (MLPerf Tiny)": "models/mlperf_tiny/pretrainedResnet_quant.tflite",
}

_POLLS = """
import json, statistics, sys, time
if sys.argv[4] != "cryptography": sys.modules["cryptography"] = None
from edgeloop_agent.release import signatures
if sys.argv[4] != "libcrypto": signatures.libcrypto_verify = lambda: None
from pathlib import Path
from edgeloop_agent.release.http_files import HttpFiles
from edgeloop_agent.release.pull import FOLDER, Device, pull
from edgeloop_agent.release.repository import Repository
state, url = Path(sys.argv[1]), sys.argv[2]
took = []
for _ in range(int(sys.argv[3])):
    began = time.process_time()
    files = HttpFiles(url)
    pulled = pull(lambda: Repository(url, state / FOLDER, files), "stable", Device("pi-1", state), None)
    files.close()
    took.append((time.process_time() - began) * 1e3)
assert pulled.models[0].state == "current", pulled
print(json.dumps(took[1:]))
"""
_APPLY = """
import resource, sys, time
from pathlib import Path
from edgeloop.release.delta import apply_delta
def peak(): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
before, began = peak(), time.process_time()
apply_delta(*map(Path, sys.argv[1:4]), sys.argv[4])
print(peak() - before, time.process_time() - began)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polls", action="store_true", help="leave the deltas out")
    parser.add_argument("--serve", metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(Path(args.serve))
        return
    print(f"{host()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as cleanup:
        polls(Path(folder), cleanup)
    if not args.polls:
        with tempfile.TemporaryDirectory() as folder:
            deltas(Path(folder))


def serve(repo: Path) -> None:
    """Say the address, then for every line on stdin how many bytes went both ways since the last one."""
    with serving(repo) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(server.wire_bytes, flush=True)
            server.wire_bytes = 0


def polls(folder: Path, cleanup: ExitStack) -> None:
    key = key_in(folder / "keys")
    repo = new_repository(folder / "repo", key)
    state = folder / "state"
    (state / FOLDER).mkdir(parents=True)
    shutil.copy(repo / "metadata/1.root.json", state / FOLDER / "root.json")
    process = cleanup.enter_context(
        subprocess.Popen(
            [sys.executable, __file__, "--serve", str(repo)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain_environment(),
        )
    )  # fmt: skip
    cleanup.callback(process.kill)
    assert process.stdout is not None and process.stdin is not None
    url = process.stdout.readline().strip()
    fleet = Fleet(repo, state, key, None, url=url)  # type: ignore[arg-type]
    for version in range(1, 13):
        newest = fleet.publish(version, NO_MODEL)
    fleet.install(newest)

    def wire_bytes() -> int:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return int(process.stdout.readline())  # type: ignore[union-attr]

    fleet.pull()
    print(f"first poll: {wire_bytes()} bytes")
    for crypto in ("libcrypto", "cryptography", "pure Python"):
        command = [sys.executable, "-c", _POLLS, str(state), url, str(POLLS + 1), crypto]
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=plain_environment()).stdout
        took = json.loads(said)
        wire = wire_bytes() / (POLLS + 1)
        print(
            f"poll without news, {crypto}: {statistics.median(took):.1f} ms CPU (median of {len(took)}), "
            f"p95 {sorted(took)[int(0.95 * len(took))]:.1f} ms, {wire:.0f} bytes in both directions"
        )
    child = [sys.executable, "-m", "edgeloop_agent.cli", "pull", "--json", "--state", str(state), "--release", url]
    whole = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(child, check=True, capture_output=True, env=plain_environment())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        whole.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3)
    print(f"the whole process, start included: {statistics.median(whole[1:]):.0f} ms CPU (median of {len(whole) - 1})")


def deltas(folder: Path) -> None:
    print(f"{'model':24} {'trained':22} {'full':>9} {'delta':>6} {'zstd':>6} {'apply':>7} {'memory':>8}")
    for name, path in MODELS.items():
        file = SHARED_DATA / path
        if not file.is_file():
            print(f"{name}: ../shared/data is not there")
            continue
        model = file.read_bytes()
        old = folder / "old.bundle"
        bundle_of(old, model, None)
        for case, changed in retrained(model).items():
            new = folder / "new.bundle"
            bundle_of(new, changed, None, version=2)
            size = new.stat().st_size
            delta = make_delta(old, new)
            patch = _zstd(folder, model, changed)
            line = f"{name:24} {case:22} {size / 1e6:6.2f} MB"
            line += f" {'none' if delta is None else f'{len(delta) / size:.0%}':>6}"
            line += f" {'?' if patch is None else f'{patch / len(lzma.compress(changed)):.0%}':>6}"
            if delta is not None:
                seconds, memory = _applied(folder, old, delta, new)
                line += f" {seconds:5.1f} s {memory:5.0f} MiB"
            print(line, flush=True)


def _applied(folder: Path, old: Path, delta: bytes, new: Path) -> tuple[float, float]:
    (folder / "delta").write_bytes(delta)
    digest = hashlib.sha256(new.read_bytes()).hexdigest()
    command = [sys.executable, "-c", _APPLY, str(old), str(folder / "delta"), str(folder / "out"), digest]
    memory, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(memory)


def _zstd(folder: Path, old: bytes, new: bytes) -> int | None:
    if shutil.which("zstd") is None:
        return None
    (folder / "a").write_bytes(old)
    (folder / "b").write_bytes(new)
    words = ["zstd", "-q", "-f", "-19", "--long=27", f"--patch-from={folder / 'a'}", str(folder / "b"), "-o"]
    subprocess.run([*words, str(folder / "patch")], check=True, capture_output=True)
    return (folder / "patch").stat().st_size


if __name__ == "__main__":
    began = time.monotonic()
    main()
    if "--serve" not in sys.argv:
        print(f"{time.monotonic() - began:.0f} s")
