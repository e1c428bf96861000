"""Peak memory of whole conversions: the resident set of the command and of all its children, added up, sampled.

Bound from the issue: 1 GiB + 11 x the float weights' bytes from Keras and PyTorch, + 7 x from a float .tflite. Models
have random weights; 48 pictures calibrate and evaluate. `folder` is ResNet8 over the 50,000 CIFAR-10 pictures, which
must not sit in memory. One case at a time: VGG16 needs 7 GB.

    .venv/bin/python tests/benchmarks/memory.py --only resnet18,transformer
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _timing import host, shared_data, unpack_cifar

REPOSITORY = Path(__file__).resolve().parents[2]
GIB = 1 << 30
FROM_SOURCE, FROM_TFLITE = 11, 7
_EVERY_S = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Case:
    """source: what `convert` takes, model_bytes: of the float weights, factor: how many times that may be taken."""

    name: str
    source: str
    data: str
    model_bytes: int
    factor: int
    more: tuple[str, ...] = ()

    @property
    def bound(self) -> int:
        return GIB + self.factor * self.model_bytes


@dataclass
class Peak:
    """Sampled by `watch`: the largest sum of resident sets in a tree of processes, and who held it."""

    rss_bytes: int = 0
    at_s: float = 0.0
    holders: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--effort", default="default", choices=("fast", "default", "best"))
    args = parser.parse_args()
    print(f"--effort {args.effort}; {host()}")
    missed = []
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            for case in CASES[name](Path(scratch)):
                peak, seconds = measure(case, Path(scratch), args.effort)
                if peak.rss_bytes > case.bound:
                    missed.append(case.name)
                print(line(case, peak, seconds), flush=True)
    if missed:
        raise SystemExit(f"above the bound: {', '.join(missed)}")


def line(case: Case, peak: Peak, seconds: float) -> str:
    held = " + ".join(f"{who} {size / GIB:.2f}" for who, size in sorted(peak.holders.items(), key=lambda x: -x[1]))
    verdict = "within" if peak.rss_bytes <= case.bound else "ABOVE"
    return (
        f"{case.name:22} float weights {case.model_bytes / 1e6:7.1f} MB  peak {peak.rss_bytes / GIB:5.2f} GiB, bound "
        f"{case.bound / GIB:5.2f} (1 GiB + {case.factor} x): {verdict}; {seconds:.0f} s, at {peak.at_s:.0f} s: {held}"
    )


def measure(case: Case, scratch: Path, effort: str) -> tuple[Peak, float]:
    """Convert, evaluate and bundle; raises SystemExit where that fails."""
    command = [
        sys.executable, "-m", "edgeloop.cli", "convert", case.source, "--data", case.data, "--effort", effort,
        "--json", "-o", str(scratch / f"{case.name}.bundle"), *case.more,
    ]  # fmt: skip
    errors = scratch / "stderr"
    began = time.perf_counter()
    with errors.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=scratch, stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, "EDGELOOP_HOME": str(scratch / "home")},
        )  # fmt: skip
        peak = Peak()
        watcher = threading.Thread(target=watch, args=(process, peak, began))
        watcher.start()
        assert process.stdout is not None
        answer = process.stdout.read()
        process.wait()
        watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{case.name}: exit {process.returncode}: {errors.read_text()[-800:]}")
    assert json.loads(answer)["bundle"]
    return peak, time.perf_counter() - began


def watch(process: subprocess.Popen[bytes], peak: Peak, began: float) -> None:
    """Sample until the process ends."""
    while process.poll() is None:
        held = tree_rss(process.pid)
        total = sum(held.values())
        if total > peak.rss_bytes:
            peak.rss_bytes, peak.holders, peak.at_s = total, held, time.perf_counter() - began
        time.sleep(_EVERY_S)


def tree_rss(root: int) -> dict[str, int]:
    """Resident bytes of a process and its descendants, by what they are."""
    held: dict[str, int] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
        who = "edgeloop" if pid == root else "assistant" if "assistant" in " ".join(words) else "converter"
        held[who] = held.get(who, 0) + pages * _PAGE
    return held


def pictures(folder: Path, count: int = 48, size: int = 224) -> str:
    import cv2

    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        small = rng.integers(0, 256, (7, 7, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i:03}.jpg"), cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC))
    return str(folder)


def from_keras(application: str) -> Callable[[Path], list[Case]]:
    """The .keras file, and then the float .tflite that it becomes."""

    def cases(scratch: Path) -> list[Case]:
        keras_file, tflite = scratch / f"{application}.keras", scratch / f"{application}.tflite"
        made = (
            f"import keras; m = keras.applications.{application}(weights=None); m.save({str(keras_file)!r});"
            f"print(4 * m.count_params())"
        )
        size = int(_python(made).split()[-1])
        convert = (
            "from pathlib import Path; from edgeloop_converters.frontends import to_float_tflite;"
            f"Path({str(tflite)!r}).write_bytes(to_float_tflite(Path({str(keras_file)!r})).tflite)"
        )
        _python(convert)
        data, scaling = pictures(scratch / "pictures"), ("--mean", "0", "--std", "255")
        return [
            Case(f"{application}.keras", str(keras_file), data, size, FROM_SOURCE, scaling),
            Case(f"{application}.tflite", str(tflite), data, size, FROM_TFLITE, scaling),
        ]

    return cases


def resnet18(scratch: Path) -> list[Case]:
    _torch_models(scratch)
    size = int(_python("import my_models; print(sum(p.numel() * 4 for p in my_models.resnet18()[0].parameters()))",
                       scratch).split()[-1])  # fmt: skip
    data = pictures(scratch / "pictures")
    return [Case("resnet18", "my_models:resnet18", data, size, FROM_SOURCE, ("--mean", "0", "--std", "255"))]


def transformer(scratch: Path) -> list[Case]:
    _torch_models(scratch)
    size = int(_python("import my_models; print(sum(p.numel() * 4 for p in my_models.transformer()[0].parameters()))",
                       scratch).split()[-1])  # fmt: skip
    np.savez(scratch / "tokens.npz", x=np.random.default_rng(0).integers(0, 500, (60, 32)).astype(np.int32))
    return [Case("transformer", "my_models:transformer", str(scratch / "tokens.npz"), size, FROM_SOURCE)]


def folder(scratch: Path) -> list[Case]:
    source = shared_data() / "models" / "mlperf_tiny" / "pretrainedResnet.tflite"
    data = unpack_cifar(scratch, "train")
    return [Case("50,000 pictures", str(source), str(data), source.stat().st_size, FROM_TFLITE)]


def _torch_models(scratch: Path) -> None:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from support.torch_zoo import write_models

    write_models(scratch)


def _python(code: str, cwd: Path | None = None) -> str:
    """In a process of its own: TensorFlow and torch are not to stay in this one."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip()[-800:])
    return done.stdout


CASES: dict[str, Callable[[Path], list[Case]]] = {
    "vgg16": from_keras("VGG16"),
    "resnet50": from_keras("ResNet50"),
    "resnet18": resnet18,
    "transformer": transformer,
    "folder": folder,
}


if __name__ == "__main__":
    main()
