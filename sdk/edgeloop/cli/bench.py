"""Measure a model or a bundle: warm-up, interleaved repeats, percentiles, memory, CPU, throttling."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.bench import DEFAULT_RUNS, BenchRequest
from edgeloop.bench.local import check_kind
from edgeloop.bench.table import as_text
from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DEVICE, EXIT_DONE

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
