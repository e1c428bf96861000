"""Measure a model or a bundle: warm-up, interleaved repeats, percentiles, memory, CPU, throttling."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bench import DEFAULT_RUNS, BenchRequest
from edgeloop.bench.local import check_kind
from edgeloop.bench.table import as_text
from edgeloop.cli._console import Console
from edgeloop.devices.aliases import device_url
from edgeloop.errors import EXIT_DEVICE, EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.bench.per_op import OpProfile

EPILOG = """example:
  edgeloop bench model.tflite
  edgeloop bench ic.bundle --threads 4 -n 1000
  edgeloop bench ic.bundle --device ssh://pi@pi4.local             on the board itself
  edgeloop bench ic.bundle --device serial:///dev/ttyUSB0          where its agent runs it; or --device NAME
  edgeloop bench ic.bundle --device emulated:cortex-a76            Arm instructions per inference, without a board
  edgeloop bench ic.bundle --per-op                                where the time goes
  edgeloop bench ic.bundle --delegate xnnpack --delegate cpu       several delegates are compared, interleaved
  edgeloop bench model.tflite --delegate external:./libx.so?key=value --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .tflite or a .bundle")
    parser.add_argument(
        "--device", default="local:", metavar="URL", type=device_url, help="where to measure (default: this machine)"
    )
    parser.add_argument("--variant", action="append", metavar="NAME", help="of the bundle; repeat to compare")
    parser.add_argument(
        "--delegate", action="append", metavar="D", help="cpu, xnnpack, edgetpu, ...; repeat to compare"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("-n", type=int, default=DEFAULT_RUNS, help=f"inferences to measure (default {DEFAULT_RUNS})")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    parser.add_argument("--prefix", metavar="DIR", help="install the agent below DIR on the device instead of /")
    parser.add_argument("--per-op", action="store_true", help="times of each op instead (LiteRT's profiler)")
    parser.add_argument("--collector", metavar="URL", help="of a device's NAME (default: http://127.0.0.1:8080)")
    parser.add_argument(
        "--pause", action="store_true", help="an agent reached by line or NAME: stop its own inferences meanwhile"
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="measure a bundle without a trusted signature")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices import connect
    from edgeloop.devices.benching import bench_on_device, load_models, profile_on_device

    check_kind(args.model)
    if args.device.startswith("emulated:"):
        return _emulated(args, console)
    if is_agent(args.device):
        return _by_its_agent(args, console)
    if args.collector or args.pause:
        raise UsageError("--collector and --pause are for a device whose agent is asked", hint="--device NAME")
    models, wishes = load_models(args.model, args.variant or (), allow_unsigned=args.allow_unsigned)
    delegates = tuple(args.delegate or wishes or ("xnnpack",))
    request = BenchRequest(delegates, args.threads, args.n, first_only=not args.delegate)
    device = connect(args.device, identity=args.identity, note=console.note)
    try:
        with console.step(f"measure {args.model.name}"):
            if args.per_op:
                return _show(profile_on_device(device, models, request, progress=console, prefix=args.prefix), console)
            report = bench_on_device(device, models, request, progress=console, prefix=args.prefix)
    finally:
        device.close()
    console.result(report.to_dict(), as_text(report))
    for failure in report.failures:
        console.note(f"not measured: {failure.reason}" + (f"\n  -> {failure.fix}" if failure.fix else ""))
    return EXIT_DEVICE if report.failures and not request.first_only else EXIT_DONE


def _emulated(args: argparse.Namespace, console: Console) -> int:
    """Instructions instead of times; with `--per-op` of every kind of op, too."""
    from dataclasses import replace

    from edgeloop.bench.instructions import as_dict
    from edgeloop.bench.instructions import as_text as counts_text
    from edgeloop.bench.local import load_models
    from edgeloop.devices.emulated.cpus import cpu_of
    from edgeloop.devices.emulated.meter import InstructionMeter
    from edgeloop.devices.emulated.op_costs import CostTable, op_groups

    cpu = cpu_of(args.device)
    if args.delegate or args.threads != 1 or args.collector or args.pause:
        raise UsageError(
            f"{args.device} counts the instructions of one thread on XNNPACK", hint="leave the other flags out"
        )
    models, _wishes = load_models(args.model, args.variant or (), allow_unsigned=args.allow_unsigned)
    with InstructionMeter(cpu, console) as meter:
        counted = []
        with console.step(f"count {args.model.name}", total=len(models)) as advance:
            for name, model in models.items():
                data = model if isinstance(model, bytes) else model.read_bytes()
                one = meter.measure(data, name)
                if args.per_op:
                    one = replace(one, groups=op_groups(data, meter, CostTable(meter.device), one.runtime))
                counted.append(one)
                advance(1)
    console.result(as_dict(counted), counts_text(counted))
    return EXIT_DONE


def is_agent(device: str) -> bool:
    """Whether `--device` names a line or a device, whose running agent is asked; not a machine to log in to."""
    from edgeloop.telemetry.serial_link.address import is_serial_url

    return is_serial_url(device) or not (":" in device or "@" in device or "/" in device or device == "local")


def _by_its_agent(args: argparse.Namespace, console: Console) -> int:
    """The bundle stays where it is: it is measured if it is on the device already."""
    from edgeloop.bundle import Bundle
    from edgeloop.devices.commanding import connect_agent
    from edgeloop.devices.commanding.measuring import OnDevice, bench_there, profile_there

    if args.model.suffix != ".bundle":
        raise UsageError(f"{args.model}: an agent measures bundles", hint="edgeloop bundle create makes one of a model")
    manifest = Bundle.open(args.model, allow_unsigned=args.allow_unsigned).manifest
    what = OnDevice(
        manifest.name, manifest.version, tuple(args.variant or ()), tuple(args.delegate or ()), args.threads, args.n,
        args.pause,
    )  # fmt: skip
    with connect_agent(args.device, args.collector) as agent, console.step(f"measure {args.model.name}"):
        if args.per_op:
            return _show(profile_there(agent, what), console)
        measured = bench_there(agent, what)
    console.result({**measured.report.to_dict(), "worker": measured.worker}, as_text(measured.report))
    console.note(f"the agent's own inferences were {measured.worker} meanwhile")
    return EXIT_DONE


def _show(profiles: Sequence[OpProfile], console: Console) -> int:
    from edgeloop.bench.per_op import as_text as profile_text

    data = {**profiles[0].to_dict(), "profiles": [profile.to_dict() for profile in profiles]}
    console.result(data, "\n\n".join(map(profile_text, profiles)))
    return EXIT_DONE
