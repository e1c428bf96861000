"""From a trained model to latency reported by a device, with nothing but this install.

Converts a float CNN for scikit-learn's handwritten digits to int8, evaluates and signs it, and runs it in an agent
process that reports over a serial line (a pty pair) to a collector here. The device is this host: its latency says
nothing about a Raspberry Pi; `edgeloop run ssh://...` shows that.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.cli._console import Console
from edgeloop.cli._stop import stop_requested
from edgeloop.cli._words import counted

if TYPE_CHECKING:
    from edgeloop_converters.demo.loop import DemoResult

EPILOG = """example:
  edgeloop demo
  edgeloop demo --serve                 keep the collector's page open afterwards
  edgeloop demo --train                 train the model first, and convert the .keras file (needs Keras)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="rpi4", help="board to convert for (default: rpi4)")
    parser.add_argument("--train", action="store_true", help="run samples/digits/train.py again (needs Keras)")
    parser.add_argument("--serve", action="store_true", help="keep the collector's page open until Ctrl-C")
    parser.add_argument("-o", "--output", type=Path, default=Path("edgeloop-demo"), help="folder for what it writes")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.errors import MissingExtraError

    try:
        from edgeloop_converters.demo.loop import run_demo
    except ImportError as error:
        raise MissingExtraError("the demo", "host") from error
    result, collector = run_demo(
        args.output.absolute(), target=args.target, train=args.train, progress=console, serve=args.serve
    )
    console.result(result.to_dict(), _text(result, None if collector is None else collector.url))
    if collector is not None:
        with collector, stop_requested() as stop:
            console.note(f"the collector's page: {collector.url} (Ctrl-C ends it)")
            stop.wait()
    return 0


def _text(result: DemoResult, page_url: str | None) -> str:
    found = result.to_dict()
    summary = result.summary
    bundle, data = result.bundle, result.bundle.parent / "held_out.npz"
    live = f"{page_url} (open until Ctrl-C)" if page_url else "edgeloop demo --serve"
    target, samples = found["target"], found["samples"]
    rows = [
        ("", "float", "int8", "on the device", ""),
        (
            "accuracy",
            f"{found['float_accuracy']:.2%}",
            f"{found['int8_accuracy']:.2%}",
            f"{found['device_accuracy']:.2%}",
            f"of {samples} held-out scans",
        ),
        ("agreement", "", f"{found['agreement']:.2%}", "", "same digit as the float model"),
        ("model size", f"{found['float_bytes'] / 1000:.1f} kB", f"{found['bytes'] / 1000:.1f} kB", "", ""),
    ]
    table = "\n".join(f"{name:<11} {a:>10} {b:>10} {c:>14}   {what}".rstrip() for name, a, b, c, what in rows)
    return f"""
{table}

Latency as the collector received it over the serial line: {counted(summary.reports, "report")}.
The device is this host, not a {target}; ran on {summary.ran_text()}.
{summary.latency_text()}
invoke is the model alone, total the whole frame from reading it to its result.

report   {_short(result.report_html)}
bundle   {_short(bundle)}

What next
  your own model   edgeloop convert MODEL --data IMAGES/ --eval TEST/ --target {target} --max-drop 1pt
  a real board     edgeloop run ssh://pi@raspberrypi.local {_typed(bundle)} --source npz:{_typed(data)}
  the live page    {live}

done in {result.seconds:.1f} s"""


def _typed(path: Path) -> str:
    """As a shell takes it."""
    return shlex.quote(_short(path))


def _short(path: Path) -> str:
    """Relative to the current folder where it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
