"""Where the time goes inside a model: each op's part, measured by LiteRT's own profiler in a process of its own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeloop import probes
from edgeloop.errors import DeviceError, EdgeloopError

DEFAULT_RUNS = 200
_WARM_UP_RUNS = 10
_EVENTS_PER_SLICE = 4000


@dataclass(frozen=True)
class OpTime:
    """index: the op's in the main subgraph; None for a node that XNNPACK made, which may be several ops. name: the
    builtin's (`CONV_2D`), or XNNPACK's. ms: mean per inference, in which the profiler counts whole microseconds.
    share: of all ops' time, 0..1."""

    index: int | None
    name: str
    ran_on: str
    ms: float
    share: float


@dataclass(frozen=True)
class OpProfile:
    """One model's ops in the order in which they ran, over `n` inferences."""

    model: str
    device: str
    delegate: str
    runtime: str
    threads: int
    n: int
    ops_ms: float
    throttled: bool | None
    ops: tuple[OpTime, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON keys are the fields' names."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> OpProfile:
        """Raises DeviceError."""
        try:
            ops = tuple(OpTime(**{name: op[name] for name in OpTime.__dataclass_fields__}) for op in data["ops"])
            names = [name for name in OpProfile.__dataclass_fields__ if name != "ops"]
            return OpProfile(**{name: data[name] for name in names}, ops=ops)
        except (KeyError, TypeError) as error:
            raise DeviceError("profiling answered with something else than its result") from error


def profile_model(model: Path, *, delegate: str = "xnnpack", threads: int = 1, n: int = DEFAULT_RUNS) -> OpProfile:
    """Measure in this process, which a library that crashes takes along. delegate: "xnnpack" or "cpu" (the builtin
    kernels, whose rows are the model's ops one to one). Raises UsageError, DeviceError."""
    from edgeloop.bench.litert_profiler import BUILTIN_OP, PACKAGE, OpEvent, Profiler, check_version
    from edgeloop.boards import detect_board

    version = check_version()
    if not model.is_file():
        raise DeviceError(f"model {model}: no such file")
    profiler = Profiler(model, delegate=delegate, threads=threads)
    profiler.run(_WARM_UP_RUNS)
    first: Sequence[OpEvent] = profiler.measure(1)
    if not first:
        raise DeviceError("LiteRT's profiler saw no op of this model")
    totals_us = [0] * len(first)
    done, runs_per_slice = 0, max(1, _EVENTS_PER_SLICE // len(first))
    while done < n:
        runs = min(runs_per_slice, n - done)
        events = profiler.measure(runs)
        if len(events) != runs * len(first):
            raise DeviceError("LiteRT's profiler saw another number of ops from run to run: a loop in the model?")
        for position, event in enumerate(events):
            totals_us[position % len(first)] += event.us
        done += runs
    whole_us = max(1, sum(totals_us))
    ops = tuple(
        OpTime(
            event.index if event.kind == BUILTIN_OP else None, event.name,
            "cpu" if event.kind == BUILTIN_OP else "xnnpack", round(total / n / 1e3, 6), round(total / whole_us, 5),
        )
        for event, total in zip(first, totals_us, strict=True)
    )  # fmt: skip
    return OpProfile(
        model.stem, probes.board_name(), delegate, f"{PACKAGE} {version}", threads, n, round(whole_us / n / 1e3, 6),
        detect_board().is_throttled(), ops,
    )  # fmt: skip


def as_text(profile: OpProfile) -> str:
    """A table, the most expensive first."""
    lines = [
        f"{profile.model} on {profile.delegate}, {profile.threads} threads, {profile.runtime}, {profile.device}: "
        f"{profile.ops_ms:.3f} ms in {len(profile.ops)} ops, mean of n = {profile.n}",
        f"{'op':>4} {'ran on':<8} {'ms':>9} {'share':>7}  name",
    ]
    for op in sorted(profile.ops, key=lambda op: -op.ms):
        index = "-" if op.index is None else str(op.index)
        lines.append(f"{index:>4} {op.ran_on:<8} {op.ms:>9.4f} {100 * op.share:>6.1f}%  {op.name}")
    if profile.throttled:
        lines.append("THROTTLED while measuring: too hot or too little power; these numbers are too high")
    return "\n".join(lines)


def profile_here(model: Path, *, delegate: str, threads: int, n: int) -> OpProfile:
    """`profile_model` in a process of its own. DelegateError for a crash, else what the process says."""
    import subprocess

    from edgeloop.bench.local import raise_for_crash
    from edgeloop.runtime.child import child_command

    arguments = ["--delegate", delegate, "--threads", str(threads), "-n", str(n), "--", str(model)]
    command = child_command("from edgeloop.bench.per_op import main; sys.exit(main())", *arguments)
    done = subprocess.run(command, capture_output=True, check=False)
    raise_for_crash(done.returncode, done.stderr, where="this machine")
    return read_profiles(done.stdout)[0]


def read_profiles(text: bytes) -> tuple[OpProfile, ...]:
    """What `main` printed. Raises the error that it printed, else DeviceError."""
    try:
        data = json.loads(text)
        if "error" in data:
            raise DeviceError(str(data["error"]["message"]), hint=data["error"]["hint"])
        return tuple(OpProfile.from_dict(each) for each in data["profiles"])
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError("profiling answered with something else than its result") from error


def main(argv: Iterable[str] | None = None) -> int:
    """Result or error as one JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="python -m edgeloop.bench.per_op")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--delegate", default="xnnpack")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-n", type=int, default=DEFAULT_RUNS)
    args = parser.parse_args(None if argv is None else list(argv))
    try:
        profiles = [profile_model(m, delegate=args.delegate, threads=args.threads, n=args.n) for m in args.models]
    except EdgeloopError as error:
        print(json.dumps({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}}))
        return error.exit_code
    print(json.dumps({"profiles": [profile.to_dict() for profile in profiles]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
