"""`python -m edgeloop.bench`: measuring in a process of its own, on this machine or on a device."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeloop.bench.measuring import bench_models
from edgeloop.bench.values import COOL_S, DEFAULT_RUNS, BenchRequest
from edgeloop.errors import EdgeloopError

CASE_MARK = "@bench "  # a line on stderr that names the case which is now loaded: a crash is then that one's


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m edgeloop.bench`: result or error as one JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="python -m edgeloop.bench", description="Measure models on this machine.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--delegate", action="append", default=[])
    parser.add_argument("--first", action="store_true", help="only the first delegate that opens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-n", type=int, default=DEFAULT_RUNS)
    parser.add_argument("--cool", type=float, default=COOL_S, metavar="S")
    parser.add_argument("--json", action="store_true", help="the only output there is")
    args = parser.parse_args(argv)
    try:
        delegates = tuple(args.delegate) or ("xnnpack",)
        request = BenchRequest(delegates, args.threads, args.n, args.first, cool_s=args.cool)
        report = bench_models(
            {model.stem: model for model in args.models},
            request,
            on_case=lambda name: print(CASE_MARK + name, file=sys.stderr, flush=True),
            note=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except EdgeloopError as error:
        print(json.dumps({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}}))
        return error.exit_code
    print(json.dumps(report.to_dict()))
    return 0
