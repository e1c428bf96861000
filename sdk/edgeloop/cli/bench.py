"""Measure a model or a bundle: warm-up, interleaved repeats, percentiles, memory, CPU, throttling."""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeloop.bench import CASE_MARK, DEFAULT_RUNS, BenchReport, BenchRequest, BenchResult
from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DEVICE, EXIT_DONE, DelegateError, UsageError
from edgeloop.runtime.child import child_command

EPILOG = """example:
  edgeloop bench model.tflite
  edgeloop bench ic.bundle --threads 4 -n 1000
  edgeloop bench ic.bundle --device ssh://pi@pi4.local             on the board itself
  edgeloop bench ic.bundle --delegate xnnpack --delegate cpu       several delegates are compared, interleaved
  edgeloop bench model.tflite --delegate external:./libx.so?key=value --json"""

Models = Mapping[str, "bytes | Path"]
Runner = Callable[[argparse.Namespace, Models, BenchRequest, Console], BenchReport]


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
    runner = RUNNERS.get(args.device.partition(":")[0])
    if runner is None:
        raise UsageError(f"--device {args.device!r} is not known", hint=f"one of: {', '.join(RUNNERS)}")
    models, wishes = load_models(args.model, args.variant, args.allow_unsigned)
    delegates = tuple(args.delegate or wishes or ("xnnpack",))
    request = BenchRequest(delegates, args.threads, args.n, first_only=not args.delegate)
    with console.step(f"measure {args.model.name}"):
        report = runner(args, models, request, console)
    console.result(report.to_dict(), as_text(report))
    for failure in report.failures:
        console.note(f"not measured: {failure.reason}" + (f"\n  -> {failure.fix}" if failure.fix else ""))
    return EXIT_DEVICE if report.failures and not request.first_only else EXIT_DONE


def load_models(path: Path, variants: list[str] | None, allow_unsigned: bool) -> tuple[Models, tuple[str, ...]]:
    """(models by name, the delegates that the first of them wishes for). A file that is no zip is a .tflite."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip and path.suffix != ".bundle":
            if variants:
                raise UsageError(f"{path} is a model, only bundles have variants")
            return {path.stem: path}, ()
    except OSError as error:
        raise UsageError(f"model {path}: {error.strerror or error}") from error
    from edgeloop.bundle import Bundle

    bundle = Bundle.open(path, allow_unsigned=allow_unsigned)
    known = {variant.name: variant for variant in bundle.manifest.variants}
    names = variants or [bundle.manifest.variants[0].name]
    for name in names:
        if name not in known:
            raise UsageError(f"{path} has no variant {name!r}", hint=f"it has: {', '.join(known)}")
    return {name: bundle.model(name) for name in names}, known[names[0]].delegates


def run_local(_args: argparse.Namespace, models: Models, request: BenchRequest, console: Console) -> BenchReport:
    """In a process of its own: a delegate that crashes is an error line, and memory is the model's, not this CLI's."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as folder:
        paths = []
        for name, model in models.items():
            path = model if isinstance(model, Path) else Path(folder) / f"{name}.tflite"
            if isinstance(model, bytes):
                path.write_bytes(model)
            paths.append(str(path))
        command = child_command("from edgeloop.bench import main; sys.exit(main())", *request.argv(paths))
        done = subprocess.run(command, capture_output=True, check=False)
    said = done.stderr.decode("utf-8", "replace").splitlines()
    if done.returncode < 0:
        cases = [line.removeprefix(CASE_MARK) for line in said if line.startswith(CASE_MARK)] or ["the model"]
        out_of_memory = done.returncode == -signal.SIGKILL
        hint = "was there too little memory?" if out_of_memory else "its library does not fit: edgeloop doctor"
        raise DelegateError(f"{cases[-1]} crashed (signal {-done.returncode})", hint=hint)
    for line in said:
        if not line.startswith(CASE_MARK):
            console.note(line)
    return BenchReport.from_json(done.stdout.replace(f"{folder}/".encode(), b""))


def run_ssh(args: argparse.Namespace, models: Models, request: BenchRequest, console: Console) -> BenchReport:
    from edgeloop.devices import connect
    from edgeloop.devices.remote_bench import bench_on_device

    device = connect(args.device, identity=args.identity, note=console.note)
    try:
        return bench_on_device(device, models, request, progress=console, prefix=args.prefix)
    finally:
        device.close()


RUNNERS: dict[str, Runner] = {
    # scheme of --device: how models get there, are measured there, and the report gets back
    "local": run_local,
    "ssh": run_ssh,
}


def as_text(report: BenchReport) -> str:
    """A table; device, threads and n stand with the numbers they belong to."""
    first = report.results[0]
    threads = f"{first.threads} thread" + ("s" if first.threads > 1 else "")
    lines = [
        f"{first.device}, {first.runtime}, {threads}, n = {first.n}",
        f"{'model':<24} {'ran on':<12} {'ops':>9} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'per s':>9} "
        f"{'load ms':>8} {'RSS':>9} {'CPU':>6}",
    ]
    lines += [_row(result) for result in report.results]
    lines += [f"{result.model}: {result.note}" for result in report.results if result.note]
    if any(result.throttled for result in report.results):
        lines.append("THROTTLED while measuring: too hot or too little power; these numbers are too high")
    if first.governor not in (None, "performance"):
        lines.append(f"CPU governor is {first.governor}: the clock may vary")
    return "\n".join(lines)


def _row(r: BenchResult) -> str:
    rss = f"{r.rss_bytes / (1 << 20):.0f} MiB" if r.rss_bytes is not None else "-"
    ops = f"{r.delegated_ops}/{r.total_ops}"
    return (
        f"{r.model:<24} {r.delegate:<12} {ops:>9} {r.p50_ms:>9.3f} {r.p95_ms:>9.3f} {r.p99_ms:>9.3f} "
        f"{r.throughput_per_s:>9.1f} {r.load_ms:>8.1f} {rss:>9} {r.cpu_percent:>5.0f}%"
    )
