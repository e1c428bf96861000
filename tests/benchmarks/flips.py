"""Label flips: how often an int8 file answers another class than its float model, edgeloop against the peers.

Same float model, same calibration samples, same test samples, several random draws of the calibration samples. Bound
from the issue: at the default effort, 100 samples, at most 0.75x the best peer. Settings are chosen on the development
split only; the confirmation split is for the figures that are reported (`_subjects.py` says what is in which).

    .venv/bin/python tests/benchmarks/flips.py --only kws --draws 10
    .venv/bin/python tests/benchmarks/flips.py --split confirmation
"""

from __future__ import annotations

import argparse
import statistics
import time

from _methods import DEFAULT, FAST, PEERS, Start, quantized
from _subjects import CONFIRMATION, DEVELOPMENT, NAMES, Subject, labels, subjects
from _timing import host

METHODS = (*PEERS, FAST, DEFAULT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=(DEVELOPMENT, CONFIRMATION), default=DEVELOPMENT)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100, help="for calibration")
    parser.add_argument("--images", type=int, default=5000, help="pictures to judge by")
    parser.add_argument("--only", default=",".join(NAMES))
    args = parser.parse_args()
    print(f"{args.split} split, {args.samples} calibration samples, {args.draws} draws; {host()}")
    with subjects(args.only.split(","), args.split, args.images) as found:
        for subject in found:
            compare(subject, args.draws, args.samples)


def compare(subject: Subject, draws: int, count: int) -> None:
    wanted = {name: labels(subject.model, test.inputs) for name, test in subject.tests.items()}
    flips: dict[str, dict[str, list[float]]] = {test: {method: [] for method in METHODS} for test in subject.tests}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    sizes: dict[str, int] = {}
    for draw in range(draws):
        samples, kept = subject.draw(draw, count)
        for method in METHODS:
            began = time.perf_counter()
            made = quantized(method, Start(subject.source, subject.model, samples))
            seconds[method].append(time.perf_counter() - began)
            for name, keep in kept.items():
                inputs = subject.tests[name].inputs[keep]
                sizes[name] = len(inputs)
                flips[name][method].append(float((labels(made, inputs) != wanted[name][keep]).mean()))
    for name, size in sizes.items():
        print(f"\n{subject.name}, {size} {name}")
        show(flips[name], seconds)


def show(flips: dict[str, list[float]], seconds: dict[str, list[float]]) -> None:
    """Medians and means, and both against the best peer's."""
    best_median = min(statistics.median(flips[peer]) for peer in PEERS)
    best_mean = min(statistics.fmean(flips[peer]) for peer in PEERS)
    print(f"  {'':36} median  to best    mean  to best  seconds (0.0: cached)")
    for method, values in flips.items():
        median, mean = statistics.median(values), statistics.fmean(values)
        each = " ".join(f"{100 * v:.2f}" for v in values)
        print(
            f"  {method:36} {100 * median:4.2f} %   {_ratio(median, best_median)}  {100 * mean:4.2f} %   "
            f"{_ratio(mean, best_mean)}   {statistics.median(seconds[method]):5.1f}   [{each}]",
            flush=True,
        )


def _ratio(value: float, best: float) -> str:
    return f"{value / best:4.2f}x" if best else "    -"


if __name__ == "__main__":
    main()
