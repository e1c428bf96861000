"""32-bit Arm (qemu-user, a Debian armhf tree with its numpy 1): bundle, runtime and inference with tflite-runtime 2.14.

LiteRT has no wheel for it. What else the agent can do there is best effort, see docs/runtime.md.
"""

from __future__ import annotations

import fcntl
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.contract import Contract, InputSpec
from edgeloop.devices.agent_site import pack_own_code
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.overview import Overview
from edgeloop_converters.demo.loop import CONTRACT
from support.debian_root import DebianRoot, debian_root
from support.digits import make_digits_bundle

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

_WHEELS = ("tflite-runtime==2.14.0", "cbor2", "securesystemslib")
_TAGS = ("manylinux_2_34_armv7l", "manylinux2014_armv7l", "manylinux_2_17_armv7l")
_FRAMES = 200
# There is no OpenCV wheel either: arrays, no pictures.
_ARRAYS = Contract((InputSpec(kind="tensor", shape=(8, 8, 1), std=CONTRACT.inputs[0].std),), CONTRACT.output)


@pytest.fixture(scope="module")
def root() -> DebianRoot:
    return debian_root("armv7")


@pytest.fixture(scope="module")
def agent(root: DebianRoot, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of an agent with our own code and three wheels beside Debian's numpy."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(io.BytesIO(pack_own_code())) as own:
        own.extractall(site)
    for wheel in _wheels(root.path.with_name("armv7-wheels")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    start = f"import sys; sys.path.insert(0, {str(site)!r}); from edgeloop_agent.cli import main; sys.exit(main())"
    return [*root.python, "-I", "-c", start]


def _wheels(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").is_file():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--python-version", "3.11", "--implementation", "cp", "--dest", str(folder)]
            command += [word for tag in _TAGS for word in ("--platform", tag)]
            done = subprocess.run([*command, *_WHEELS], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"wheels for armv7 are not to be had: {done.stderr.strip().splitlines()[-1:]}")
            (folder / "complete").touch()
    return sorted(folder.glob("*.whl"))


def run(root: DebianRoot, agent: list[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [*agent, *map(str, arguments)], capture_output=True, text=True, env=root.environment, timeout=240, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_a_bundle_made_here_infers_there_and_reports_back(root: DebianRoot, agent: list[str], tmp_path: Path) -> None:
    bundle, data = make_digits_bundle(tmp_path, contract=_ARRAYS), tmp_path / "held_out.npz"
    with start_collector(f"sqlite:///{tmp_path}/telemetry.db") as collector:
        code, summary, said = run(
            root, agent, "run", "--json", "--bundle", bundle, "--source", f"npz:{data}", "--count", _FRAMES,
            "--sink", f"jsonl:{tmp_path}/out.jsonl", "--telemetry", collector.url, "--device", "emulated-armv7",
            "--trust", load_or_create_signing_key().public_path, "--state", tmp_path / "state",
        )  # fmt: skip
        assert code == 0, said
        (view,) = Overview(collector.store).devices()
    assert (summary["inferences"], summary["errors"], summary["fallbacks"]) == (_FRAMES, 0, [])
    # tflite-runtime 2.14 accelerates no int8: what really ran is told.
    assert (summary["delegate_asked"], summary["delegate_ran"]) == ("xnnpack", "cpu")
    assert summary["runtime"] == view.runtime == "tflite-runtime 2.14.0"
    assert not view.alerts, "nothing there can be mended"
    there = [json.loads(line)["top"][0]["class_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (np.array(there) == np.load(data)["y"][:_FRAMES]).mean() > 0.95


def test_doctor_says_what_32_bit_costs(root: DebianRoot, agent: list[str]) -> None:
    code, report, said = run(root, agent, "doctor", "--json")
    assert code in (0, 1), said
    told = {finding["check"]: finding for finding in report["findings"]}
    assert "only tflite-runtime exists there" in told["python"]["what"]
    assert told["python"]["status"] == "warn"
    assert told["numpy"]["status"] == "ok"


def test_pictures_need_opencv_and_that_is_one_line(root: DebianRoot, agent: list[str], tmp_path: Path) -> None:
    bundle = make_digits_bundle(tmp_path)
    code, summary, said = run(
        root, agent, "run", "--json", "--bundle", bundle, "--source", "synthetic:", "--count", 5,
        "--trust", load_or_create_signing_key().public_path, "--state", tmp_path / "state",
    )  # fmt: skip
    assert (code, summary["restarts"]) == (2, 0)
    assert summary["error"]["message"] == "Python module cv2 is not installed here"
    assert "Traceback" not in said
