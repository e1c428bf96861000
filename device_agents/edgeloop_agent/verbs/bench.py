"""`edgeloop-agent bench`: how fast a model is on this device, with the keys of `edgeloop bench`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeloop.errors import EXIT_DEVICE, EXIT_DONE
from edgeloop.mains import json_text

_RUNS = 200

EPILOG = """example:
  edgeloop-agent bench ic.bundle
  edgeloop-agent bench ic.bundle --delegate edgetpu --delegate xnnpack --threads 4 -n 1000 --json

Stop the agent first (sudo systemctl stop edgeloop-agent): it takes its part of the CPU, and a stick serves
one process."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .bundle or a .tflite")
    parser.add_argument("--variant", action="append", metavar="NAME", help="of the bundle; repeat to compare")
    parser.add_argument("--delegate", action="append", metavar="D", help="repeat to compare (default: the bundle's)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("-n", type=int, default=_RUNS, help=f"inferences to measure (default {_RUNS})")
    parser.add_argument("--allow-unsigned", action="store_true", help="measure a bundle without a trusted signature")


def run(args: argparse.Namespace) -> int:
    from edgeloop.bench import BenchRequest
    from edgeloop.bench.local import bench_here, check_kind, load_models
    from edgeloop.bench.table import as_text

    check_kind(args.model)
    models, wishes = load_models(args.model, args.variant or (), allow_unsigned=args.allow_unsigned)
    delegates = tuple(args.delegate or wishes or ("xnnpack",))
    request = BenchRequest(delegates, args.threads, args.n, first_only=not args.delegate)
    report = bench_here(models, request, note=lambda text: print(text, file=sys.stderr, flush=True))
    print(json_text(report.to_dict()) if args.json else as_text(report), flush=True)
    for failure in report.failures:
        fix = f"\n  -> {failure.fix}" if failure.fix else ""
        print(f"not measured: {failure.reason}{fix}", file=sys.stderr, flush=True)
    return EXIT_DEVICE if report.failures and not request.first_only else EXIT_DONE
