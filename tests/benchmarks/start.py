"""From exec to the first inference's result, and from SIGTERM to the end, against a bare script that does the same
inference (imports numpy, OpenCV and LiteRT, decodes one JPEG, runs ResNet8 once)."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _timing import host, shared_data, unpack_cifar

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec

RUNS = 15

BARE = """
import sys, cv2, numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1])
model.allocate_tensors()
[given], [found] = model.get_input_details(), model.get_output_details()
picture = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB).astype(np.int16) - 128
model.set_tensor(given["index"], picture.astype(np.int8)[None])
model.invoke()
print(model.get_tensor(found["index"]).argmax(), flush=True)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["EDGELOOP_HOME"] = str(folder / "home")
        model = shared_data() / "models/mlperf_tiny/pretrainedResnet_quant.tflite"
        contract = Contract((InputSpec(kind="image", size=(32, 32)),), OutputSpec("classification"))
        variant = VariantDraft("int8", model.read_bytes(), "int8", ("xnnpack",))
        draft = BundleDraft("bench", 1, "generic-x86-64", contract, [variant])
        write_bundle(folder / "b.bundle", draft, load_or_create_signing_key())
        images = unpack_cifar(folder, "test")
        picture = next(images.rglob("*.jpg"))
        agent = [
            sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(folder / "b.bundle"), "--rate", "50",
            "--source", f"folder:{images}", "--sink", "jsonl:-", "--state", str(folder / "state"),
        ]  # fmt: skip
        commands = {"agent": agent, "bare script": [sys.executable, "-c", BARE, str(model), str(picture)]}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        stops: list[float] = []
        for run in range(RUNS + 1):
            for name, command in commands.items():
                took_s, stop_s = first_line(command)
                if run:  # the first one unpacks the bundle and fills the page cache
                    seconds[name].append(took_s)
                    stops += [stop_s] if name == "agent" else []
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"exec to first result, ResNet8 int8 from a JPEG, 1 thread, n = {RUNS}, {host()}:")
    for name, times in seconds.items():
        print(f"  {name}: median {medians[name]:.3f} s, worst {max(times):.3f} s")
    print(f"  agent / bare script: {medians['agent'] / medians['bare script']:.2f}x")
    print(f"SIGTERM to end: median {statistics.median(stops):.3f} s, worst {max(stops):.3f} s")


def first_line(command: Sequence[str]) -> tuple[float, float]:
    """Seconds from exec to the first line on stdout, and from SIGTERM then to the end."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"no result from {' '.join(command)}")
    took_s = time.perf_counter() - began
    process.send_signal(signal.SIGTERM)
    asked = time.perf_counter()
    process.communicate()
    return took_s, time.perf_counter() - asked


if __name__ == "__main__":
    main()
