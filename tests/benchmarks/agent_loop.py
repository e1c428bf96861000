"""Time per frame of the agent (telemetry on) against a hand-written cv2 + LiteRT loop over the same image files.

Each side runs a short and a long job as a whole process; the difference, divided by the frames between them, is the
time per frame without start-up. Bound from the design: at most 1.10x, for 3 KB and for 150 KB of model input; with gate
and governor at work, too, at most 1.03x at 200 frames a second (every picture differs, so the gate saves nothing).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from _timing import interleaved_seconds, print_ratio, shared_data, unpack_cifar

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.telemetry.collector.server import start_collector


@dataclass(frozen=True)
class Case:
    name: str
    model: Path
    images: Path
    pattern: str
    size: tuple[int, int]
    short: int
    long: int
    flags: tuple[str, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    args = parser.parse_args()
    runs, only = args.runs, args.only
    data = shared_data()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["EDGELOOP_HOME"] = str(folder / "home")
        cases = [
            Case(
                "3 KB input (ResNet8 int8, 32x32 JPEGs)", data / "models/mlperf_tiny/pretrainedResnet_quant.tflite",
                unpack_cifar(folder, "test"), "*.jpg", (32, 32), 5_000, 45_000,
            ),
            Case(
                "150 KB input (MobileNetV2 uint8, 224x224, ImageNet JPEGs)",
                data / "models/coral/mobilenet_v2_1.0_224_quant.tflite",
                data / "images/imagenet_sample", "*.JPEG", (224, 224), 100, 700,
            ),
        ]  # fmt: skip
        everything = ("--gate", "--latency-budget", "10000", "--temperature-limit", "110", "--max-stride", "4")
        cases.append(replace(cases[1], name=f"{cases[1].name}, gate and governor on", flags=everything))
        for case in cases:
            if only in case.name:
                compare(case, folder, runs)


def compare(case: Case, folder: Path, runs: int) -> None:
    key = load_or_create_signing_key()
    contract = Contract((InputSpec(kind="image", size=case.size),), OutputSpec("classification"))
    bundle = folder / f"{case.model.stem}.bundle"
    variant = VariantDraft("int8", case.model.read_bytes(), "int8", ("xnnpack",))
    write_bundle(bundle, BundleDraft("bench", 1, "generic-x86-64", contract, [variant]), key)
    images = sorted(str(p) for p in case.images.rglob(case.pattern))
    with start_collector(f"sqlite:///{folder}/{case.model.stem}.db") as collector:
        commands = {}
        for label, count in (("short", case.short), ("long", case.long)):
            names = folder / f"{case.model.stem}-{label}.txt"
            names.write_text("\n".join((images * (count // len(images) + 1))[:count]))
            commands[f"agent {label}"] = [
                sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(bundle), "--loop",
                "--source", f"folder:{case.images}", "--count", str(count), "--telemetry", collector.url,
                "--report-interval", "1", "--state", str(folder / "state"), "--device", "bench", *case.flags,
            ]  # fmt: skip
            commands[f"hand {label}"] = [
                sys.executable, str(Path(__file__).with_name("_hand_written_loop.py")), str(case.model), str(names),
                *map(str, case.size),
            ]  # fmt: skip
        seconds = interleaved_seconds(commands, runs=runs)
    frames = case.long - case.short

    def per_frame(side: str) -> list[float]:
        pairs = zip(seconds[f"{side} long"], seconds[f"{side} short"], strict=True)
        return [(long - short) / frames for long, short in pairs]

    print_ratio(f"per frame, {case.name}", per_frame("agent"), per_frame("hand"), "us", 1e6)


if __name__ == "__main__":
    main()
