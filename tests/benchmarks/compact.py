"""int8-compact against int8: latency, compressed size, accuracy and agreement, ResNet8.

Latency: blocks of inferences of both files in one process, one thread, A B A B ...; an int8 file against itself shows
what of the ratio is noise. Bounds from the issue: 1.00x latency, at most 0.65x xz bytes, at most 0.7 points.
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import time

from _subjects import CONFIRMATION, labels, subjects
from _timing import host

from edgeloop.runtime import Session, open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.schemes import SCHEMES
from edgeloop_converters.schemes.job import Job

INFERENCES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=101)
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    with subjects(["resnet8"], CONFIRMATION, args.images) as found:
        (subject,) = found
    test, (samples, _) = subject.tests["images"], subject.draw(0, 200)
    job = Job(subject.model, calibrate(subject.model, samples), lambda: ((s,) for s in samples), len(samples))
    made = {name: load()(job).tflite for name in ("int8", "int8-compact") if (load := SCHEMES[name].load) is not None}
    wanted = labels(subject.model, test.inputs)
    print(f"ResNet8, {len(test.inputs)} test images; {host()}")
    for name, file in {"float": subject.model, **made}.items():
        got = labels(file, test.inputs)
        right, agree = 100 * float((got == test.classes).mean()), 100 * float((got == wanted).mean())
        print(f"  {name:13} {right:.2f} %  agrees {agree:.2f} %  {len(file):,} bytes  xz {len(lzma.compress(file)):,}")
    xz = len(lzma.compress(made["int8-compact"])) / len(lzma.compress(made["int8"]))
    print(f"  xz ratio {xz:.3f}")
    for name in ("int8-compact", "int8"):
        ratio, ms = latency_ratio(made[name], made["int8"], args.blocks)
        print(f"  latency {name} / int8: {ratio:.3f} (int8 {ms:.4f} ms, 1 thread, n = {args.blocks} x {INFERENCES})")


def latency_ratio(first: bytes, second: bytes, blocks: int) -> tuple[float, float]:
    """(median of the pairwise ratios, the second one's median in milliseconds)."""
    with open_session(first) as one, open_session(second) as other:
        block_s(one), block_s(other)
        pairs = [(block_s(one), block_s(other)) for _ in range(blocks)]
    return statistics.median(a / b for a, b in pairs), 1e3 * statistics.median(b for _, b in pairs) / INFERENCES


def block_s(session: Session) -> float:
    began = time.perf_counter()
    for _ in range(INFERENCES):
        session.invoke()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
