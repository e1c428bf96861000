"""What a cascade gives and costs: accuracy and time per picture over the confidence asked of the light variant.

Two real CIFAR-10 models on test pictures; the cascade is the agent's own, each threshold over the same pictures, light,
heavy and cascade in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
from _timing import host, shared_data, unpack_cifar

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.runtime import open_session
from edgeloop_agent.activation.cascade import Cascade
from edgeloop_agent.worker.pipeline import Pipeline, build_pipeline

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=60)
    per_class = parser.parse_args().per_class
    models = shared_data() / "models" / "mlperf_tiny"
    contract = Contract((InputSpec(kind="image", size=(32, 32)),), OutputSpec("classification"))

    def opened(name: str) -> Pipeline:
        return build_pipeline(open_session((models / name).read_bytes(), delegate="xnnpack"), contract)

    light, heavy = opened("pretrainedResnet_quant.tflite"), opened("pretrainedResnet_large_int8.tflite")
    escalated: list[int] = []
    sides = {"light alone": light, "heavy alone": heavy}
    for threshold in THRESHOLDS:
        cascade = Cascade(light, heavy, ("light", "heavy"), threshold, lambda t=threshold: escalated.append(t))  # type: ignore[misc]
        sides[f"cascade at {threshold:g}"] = cascade.pipeline
    with tempfile.TemporaryDirectory() as scratch:
        folders = sorted(p for p in unpack_cifar(Path(scratch), "test").iterdir() if p.is_dir())
        pictures = [
            (cv2.imread(str(path)), label)
            for label, folder in enumerate(folders)
            for path in sorted(folder.iterdir())[:per_class]
        ]
    right = dict.fromkeys(sides, 0)
    times_ms: dict[str, list[float]] = {name: [] for name in sides}
    for picture, label in pictures:
        for name, steps in sides.items():
            began = time.perf_counter()
            steps.set_input(steps.prepare(picture))
            steps.invoke()
            result = steps.decode(steps.collect())
            times_ms[name].append((time.perf_counter() - began) * 1e3)
            right[name] += result.top[0].class_id == label
    print("| | accuracy | asked the heavy one | mean ms, relative to heavy |")
    print("|---|---|---|---|")
    base = _mean(times_ms["heavy alone"])
    for name, count in right.items():
        asked = {"light alone": 0.0, "heavy alone": 1.0}.get(name)
        if asked is None:
            asked = escalated.count(float(name.rsplit(" ", 1)[1])) / len(pictures)
        print(f"| {name} | {count / len(pictures):.3f} | {asked:.0%} | {_mean(times_ms[name]) / base:.2f} |")
    print(f"\nn = {len(pictures)} pictures, 1 thread, {host()}")


def _mean(values: list[float]) -> float:
    """Without the slowest twentieth: other work on the machine."""
    return statistics.fmean(sorted(values)[: max(1, len(values) * 19 // 20)])


if __name__ == "__main__":
    main()
