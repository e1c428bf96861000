"""The table of docs/benchmarks.md: edgeloop against TFLiteConverter and ai-edge-quantizer, losses shown too.

Every cell is a whole process, start-up included, from the same 100 calibration samples of the confirmation split
(`_subjects.py`); three draws of them, medians. The peers read samples and write a file. edgeloop starts from the float
.tflite as ai-edge-quantizer does (TFLiteConverter from the source) and does all that `convert` does: it also checks the
data, evaluates both models on up to 1,000 test samples, profiles, signs, writes bundle and report. Quality is measured
here, the same way for all, on the whole test split. Memory is the sum over the tree of processes, sampled.

    .venv/bin/python tests/benchmarks/table.py --write      measures and re-makes the block in docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _subjects import CONFIRMATION, NAMES, Samples, Subject, labels, subjects
from _timing import REPOSITORY, host, plain_environment
from memory import Peak, watch

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by tests/benchmarks/table.py -->", "<!-- end of what table.py makes -->"
CALIBRATION, EVALUATED = 100, 1000
WITH_BEST = ("ResNet8", "KWS")
"""Minutes for the larger one."""
SPEED_CALIBRATION, SPEED_BOUND_S, FAST_BOUND = 512, 40, 2.0


@dataclass(frozen=True)
class Row:
    """One run of one tool. drop_pt: accuracy of float minus int8, in points."""

    drop_pt: float
    agreements: tuple[float, ...]
    size_bytes: int
    xz_bytes: int
    seconds: float
    rss_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000, help="test pictures")
    parser.add_argument("--no-best", action="store_true", help="leave --effort best out")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    args = parser.parse_args()
    blocks = []
    with tempfile.TemporaryDirectory() as scratch, subjects(args.only.split(","), CONFIRMATION, args.images) as found:
        for subject in found:
            best = subject.name in WITH_BEST and not args.no_best
            blocks.append(table(subject, Path(scratch), args.draws, best=best))
            print(blocks[-1], flush=True)
        if found[0].name == "ResNet8":
            blocks.append(speed(found[0], Path(scratch)))
            print(blocks[-1])
    if args.write:
        write("\n\n".join([f"Host: {host()}.", *blocks]))


def table(subject: Subject, scratch: Path, draws: int, *, best: bool) -> str:
    tests = subject.tests
    wanted = {name: labels(subject.model, test.inputs) for name, test in tests.items()}
    rows: dict[str, list[Row]] = {}
    model = scratch / f"{subject.source.stem}_float.tflite"
    model.write_bytes(subject.model)
    for draw in range(draws):
        samples, _ = subject.draw(draw, CALIBRATION)
        calibration, evaluation = scratch / "calibration.npz", scratch / "evaluation.npz"
        np.savez(calibration, x=np.concatenate(samples))
        save_evaluation(evaluation, next(iter(tests.values())))
        for name, command, result in commands(subject, model, calibration, evaluation, scratch, best=best and not draw):
            seconds, rss_bytes = run(command, scratch)
            rows.setdefault(name, []).append(judged(result_of(result), tests, wanted, seconds, rss_bytes))
    return rendered(subject, rows)


def save_evaluation(path: Path, test: Samples) -> None:
    order = np.random.default_rng(0).permutation(len(test.inputs))[:EVALUATED]
    assert test.classes is not None
    np.savez(path, x=test.inputs[order], y=test.classes[order])


def commands(
    subject: Subject, model: Path, calibration: Path, evaluation: Path, scratch: Path, *, best: bool
) -> list[tuple[str, list[str], Path]]:
    """(name, command, the file it leaves) of every tool."""
    peer = [sys.executable, str(Path(__file__).with_name("_one_peer.py"))]
    found = []
    for name, kind, source in (("TFLiteConverter", "tflite", subject.source), ("ai-edge-quantizer", "aeq", model)):
        file = scratch / f"{kind}.tflite"
        found.append((name, [*peer, kind, str(source), str(calibration), str(CALIBRATION), str(file)], file))
    for effort in ("fast", "default", *(["best"] if best else [])):
        bundle = scratch / f"{effort}.bundle"
        found.append(
            (f"edgeloop, {effort}", convert(model, calibration, evaluation, bundle, effort, CALIBRATION), bundle)
        )
    return found


def convert(model: Path, calibration: Path, evaluation: Path, bundle: Path, effort: str, count: int) -> list[str]:
    return [
        sys.executable, "-m", "edgeloop.cli", "convert", str(model), "--data", str(calibration), "--eval",
        str(evaluation), "--calibration-samples", str(count), "--effort", effort, "--json", "-o", str(bundle),
    ]  # fmt: skip


def run(command: Sequence[str], scratch: Path) -> tuple[float, int]:
    """(wall seconds, peak bytes of the processes together). Raises SystemExit where it fails."""
    errors = scratch / "stderr"
    began = time.perf_counter()
    with errors.open("wb") as log:
        process = subprocess.Popen(
            list(command), stdout=subprocess.DEVNULL, stderr=log, cwd=scratch,
            env={**plain_environment(), "EDGELOOP_HOME": str(scratch / "home"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        peak = Peak()
        watcher = threading.Thread(target=watch, args=(process, peak, began))
        watcher.start()
        process.wait()
        seconds = time.perf_counter() - began
        watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command[:6])} failed: {errors.read_text()[-800:]}")
    return seconds, peak.rss_bytes


def result_of(path: Path) -> bytes:
    """The int8 file: what a peer wrote, or the first variant in a bundle."""
    if path.suffix == ".tflite":
        return path.read_bytes()
    with zipfile.ZipFile(path) as bundle:
        return bundle.read(next(name for name in bundle.namelist() if name.startswith("models/")))


def judged(
    made: bytes, tests: dict[str, Samples], wanted: dict[str, np.ndarray], seconds: float, rss_bytes: int
) -> Row:
    agreements, drop = [], 0.0
    for name, test in tests.items():
        found = labels(made, test.inputs)
        agreements.append(float((found == wanted[name]).mean()))
        if test.classes is not None:
            drop = 100 * float((wanted[name] == test.classes).mean() - (found == test.classes).mean())
    return Row(drop, tuple(agreements), len(made), len(lzma.compress(made)), seconds, rss_bytes)


def rendered(subject: Subject, rows: dict[str, list[Row]]) -> str:
    """Markdown; the better of a column is not marked: read it."""
    counts = [f"{len(test.inputs):,} {name}" for name, test in subject.tests.items()]
    agree = "".join(f" agreement, {count} |" for count in counts)
    lines = [
        f"### {subject.name}",
        "",
        f"| | drop, points |{agree} bytes | xz bytes | wall s | peak MiB | n |",
        "|---|" + "---|" * (6 + len(counts)),
    ]
    for name, found in rows.items():
        medians = [statistics.median(row.agreements[i] for row in found) for i in range(len(counts))]
        cells = [
            name,
            f"{statistics.median(r.drop_pt for r in found):+.2f}",
            *(f"{100 * median:.2f} %" for median in medians),
            f"{statistics.median(r.size_bytes for r in found):,.0f}",
            f"{statistics.median(r.xz_bytes for r in found):,.0f}",
            f"{statistics.median(r.seconds for r in found):.1f}",
            f"{statistics.median(r.rss_bytes for r in found) / (1 << 20):,.0f}",
            str(len(found)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(subject: Subject, scratch: Path, runs: int = 5) -> str:
    """The bounds of the issue on time: default effort with 512 samples, and fast against ai-edge-quantizer alone."""
    model, calibration, evaluation = (scratch / n for n in ("speed.tflite", "calibration.npz", "evaluation.npz"))
    model.write_bytes(subject.model)
    samples, _ = subject.draw(0, SPEED_CALIBRATION)
    np.savez(calibration, x=np.concatenate(samples))
    save_evaluation(evaluation, subject.tests["images"])
    whole = run(convert(model, calibration, evaluation, scratch / "s.bundle", "default", SPEED_CALIBRATION), scratch)[0]
    np.savez(calibration, x=np.concatenate(samples[:CALIBRATION]))
    peer = [sys.executable, str(Path(__file__).with_name("_one_peer.py")), "aeq", str(model), str(calibration)]
    both = {
        "fast": convert(model, calibration, evaluation, scratch / "s.bundle", "fast", CALIBRATION),
        "aeq": [*peer, str(CALIBRATION), str(scratch / "s.tflite")],
    }
    times: dict[str, list[float]] = {name: [] for name in both}
    for number in range(runs + 1):
        for name, command in both.items():
            seconds, _ = run(command, scratch)
            if number:  # the first of each warms up
                times[name].append(seconds)
    ratio = statistics.median(a / b for a, b in zip(times["fast"], times["aeq"], strict=True))
    ours, theirs = statistics.median(times["fast"]), statistics.median(times["aeq"])
    return "\n".join(
        [
            "### Time, ResNet8",
            "",
            "| what | measured | bound | n |",
            "|---|---|---|---|",
            f"| float .tflite to a bundle, default effort, {SPEED_CALIBRATION} samples | {whole:.1f} s |"
            f" {SPEED_BOUND_S} s | 1 |",
            f"| `--effort fast`, to a bundle, against ai-edge-quantizer alone, to a file; {CALIBRATION} samples |"
            f" {ours:.2f} s : {theirs:.2f} s = {ratio:.2f} | {FAST_BOUND:.1f} | {runs} |",
        ]
    )


def write(block: str) -> None:
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}")


if __name__ == "__main__":
    main()
