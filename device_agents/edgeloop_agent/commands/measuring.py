"""What a command to measure means here: which models of which bundle, in which child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeloop.bundle import StagedBundle
from edgeloop.errors import DeviceError, EdgeloopError, UsageError
from edgeloop.runtime.child import child_command
from edgeloop.runtime.delegates import parse_delegate

DEFAULT_TIMEOUT_S = 300.0
_DEFAULT_RUNS = 200
_BENCH = "from edgeloop.bench import main; sys.exit(main())"
_PROFILE = "from edgeloop.bench.per_op import main; sys.exit(main())"


@dataclass(frozen=True)
class Measurement:
    """command: what to start; its stdout is one JSON object. pause: stop the models' workers meanwhile."""

    command: Sequence[str]
    bundle: str
    version: int
    timeout_s: float
    pause: bool
    folder: str


def plan(kind: str, arguments: Mapping[str, Any], bundles: Sequence[StagedBundle]) -> Measurement:
    """Raises UsageError for what is not on this device, with the next step."""
    staged = _find(arguments, bundles)
    manifest = staged.manifest
    known = {variant.name: variant for variant in manifest.variants}
    names = arguments.get("variants") or [manifest.variants[0].name]
    for name in names:
        if name not in known:
            raise UsageError(f"{manifest.name} {manifest.version} has no variant {name!r}; it has {', '.join(known)}")
    paths = [str(staged.path / known[name].file) for name in names]
    n, threads = int(arguments.get("n", _DEFAULT_RUNS)), int(arguments.get("threads", 1))
    asked = tuple(arguments.get("delegates") or ())
    for text in asked:
        if parse_delegate(text).path:  # code that somebody else may have put there
            raise UsageError(f"a command loads no library: {text}")
    if kind == "bench":
        from edgeloop.bench.values import BenchRequest

        wishes = asked or known[names[0]].delegates or ("xnnpack",)
        request = BenchRequest(wishes, threads, n, first_only=not asked)
        command = child_command(_BENCH, *request.argv(paths))
    else:
        flags = ["--delegate", asked[0] if asked else "xnnpack", "--threads", str(threads), "-n", str(n)]
        command = child_command(_PROFILE, *flags, "--", *paths)
    return Measurement(
        command, manifest.name, manifest.version, float(arguments.get("timeout_s", DEFAULT_TIMEOUT_S)),
        bool(arguments.get("pause", False)), str(staged.path),
    )  # fmt: skip


def result(measured: Measurement, exit_code: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """The answer's body, of what the child printed. Raises the child's own error, DelegateError where it crashed."""
    import json

    from edgeloop.bench.local import raise_for_crash

    raise_for_crash(exit_code, stderr, where="this device")
    try:
        # Paths of this device are nobody's matter.
        data = json.loads(stdout.replace(f"{measured.folder}/".encode(), b""))
        if "error" in data:
            raise DeviceError(str(data["error"]["message"]), hint=data["error"]["hint"])
        return dict(data)
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError("measuring gave no result") from error


def _find(arguments: Mapping[str, Any], bundles: Sequence[StagedBundle]) -> StagedBundle:
    name, version = arguments.get("bundle"), arguments.get("version")
    here = [f"{b.manifest.name} {b.manifest.version}" for b in bundles]
    for staged in bundles:
        if name in (None, staged.manifest.name) and version in (None, staged.manifest.version):
            return staged
    wanted = f"{name} {version}" if version is not None else str(name)
    raise UsageError(f"{wanted} is not on this device, it has {', '.join(here)}")


def told(error: EdgeloopError) -> str:
    """An error as one line of an answer."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
