"""Compression with training: how many instructions go at which accuracy, against an adapted baseline and a control.

    .venv/bin/python tests/benchmarks/compress.py --quick
    .venv/bin/python tests/benchmarks/compress.py --part large --write

Choices are made on a part of the training data; test data are looked at once a row. Models and checkpoints are kept in
--work: a run that was killed goes on where it was, and models that are there are only judged anew.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

PARTS = ("large", "kws", "resnet8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="few data and epochs: whether it runs, not how good it is")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--work", type=Path, help="folder for models and checkpoints; default: none are kept")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow")
    parser.add_argument("--hours", type=float, help="begin no further model after so long; its rows are left out")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    # TensorFlow reads these when it is imported.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(asked.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from _compress_common import Run, write

    with tempfile.TemporaryDirectory() as scratch:
        work = asked.work or Path(scratch) / "work"
        work.mkdir(parents=True, exist_ok=True)
        until = math.inf if asked.hours is None else time.monotonic() + 3600 * asked.hours
        run = Run(asked.quick, asked.threads, asked.seed, work, Path(scratch), until)
        for part in asked.part or PARTS:
            block = _part(part, run)
            print(f"\n{part}\n\n{block}", flush=True)
            if asked.write:
                write(part, block)


def _part(name: str, run: object) -> str:
    from importlib import import_module

    block: str = getattr(import_module(f"_compress_{name}"), name)(run)
    return block


if __name__ == "__main__":
    main()
