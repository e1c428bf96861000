"""Measure a model or a bundle: warm-up, interleaved repeats, percentiles, memory, CPU, throttling."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.bench import DEFAULT_RUNS, BenchReport, BenchRequest, BenchResult
from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DEVICE, EXIT_DONE, UsageError

EPILOG = """example:
  edgeloop bench model.tflite
  edgeloop bench ic.bundle --threads 4 -n 1000
  edgeloop bench ic.bundle --device ssh://pi@pi4.local             on the board itself
  edgeloop bench ic.bundle --delegate xnnpack --delegate cpu       several delegates are compared, interleaved
  edgeloop bench model.tflite --delegate external:./libx.so?key=value --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .tflite or a .bundle")
    parser.add_argument("--device", default="local:", metavar="URL", help="where to measure (default: this machine)")
    parser.add_argument("--variant", action="append", metavar="NAME", help="of the bundle; repeat to compare")
    parser.add_argument(
        "--delegate", action="append", metavar="D", help="cpu, xnnpack, edgetpu, ...; repeat to compare"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("-n", type=int, default=DEFAULT_RUNS, help=f"inferences to measure (default {DEFAULT_RUNS})")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    parser.add_argument("--prefix", metavar="DIR", help="install the agent below DIR on the device instead of /")
    parser.add_argument("--allow-unsigned", action="store_true", help="measure a bundle without a trusted signature")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices import connect
    from edgeloop.devices.benching import bench_on_device, load_models

    check_kind(args.model)
    models, wishes = load_models(args.model, args.variant or (), allow_unsigned=args.allow_unsigned)
    delegates = tuple(args.delegate or wishes or ("xnnpack",))
    request = BenchRequest(delegates, args.threads, args.n, first_only=not args.delegate)
    device = connect(args.device, identity=args.identity, note=console.note)
    try:
        with console.step(f"measure {args.model.name}"):
            report = bench_on_device(device, models, request, progress=console, prefix=args.prefix)
    finally:
        device.close()
    console.result(report.to_dict(), as_text(report))
    for failure in report.failures:
        console.note(f"not measured: {failure.reason}" + (f"\n  -> {failure.fix}" if failure.fix else ""))
    return EXIT_DEVICE if report.failures and not request.first_only else EXIT_DONE


def check_kind(path: Path) -> None:
    """Raises UsageError for a file that is neither a .tflite nor a bundle, naming what it is."""
    from edgeloop.bundle.filekind import HEAD_BYTES, file_kind, next_step

    if path.is_dir():
        what = f"{path} is a directory; bench takes a .tflite or a .bundle"
        raise UsageError(what, hint="edgeloop convert makes a bundle of a SavedModel")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # said where it is loaded
        return
    kind = file_kind(path, head)
    if kind and "tflite" not in kind:
        raise UsageError(f"{path} is {kind}; bench takes a .tflite or a .bundle", hint=next_step(kind))


def as_text(report: BenchReport) -> str:
    """A table; device, threads and n stand on the line of the numbers they belong to."""
    first = report.results[0]
    width = max(len("model"), *(len(result.model) for result in report.results))
    lines = [
        first.runtime,
        f"{'model':<{width}} {'ran on':<12} {'ops':>9} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'n':>6} "
        f"{'threads':>7} {'per s':>9} {'load ms':>8} {'RSS':>9} {'CPU':>6}  device",
    ]
    lines += [_row(result, width) for result in report.results]
    lines += [f"{result.model}: {result.note}" for result in report.results if result.note]
    if any(result.throttled for result in report.results):
        lines.append("THROTTLED while measuring: too hot or too little power; these numbers are too high")
    if first.governor not in (None, "performance"):
        lines.append(f"CPU governor is {first.governor}: the clock may vary")
    return "\n".join(lines)


def _row(r: BenchResult, width: int) -> str:
    rss = f"{r.rss_bytes / (1 << 20):.0f} MiB" if r.rss_bytes is not None else "-"
    ops = f"{r.delegated_ops}/{r.total_ops}"
    return (
        f"{r.model:<{width}} {r.delegate:<12} {ops:>9} {r.p50_ms:>9.3f} {r.p95_ms:>9.3f} {r.p99_ms:>9.3f} {r.n:>6} "
        f"{r.threads:>7} {r.throughput_per_s:>9.1f} {r.load_ms:>8.1f} {rss:>9} {r.cpu_percent:>5.0f}%  {r.device}"
    )
