"""`edgeloop deploy file://FOLDER`: bundles onto a stick, and what the devices wrote back on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, UsageError

if TYPE_CHECKING:
    from edgeloop.deploy.cargo import Cargo

_OF_STICKS = ("urls", "bundle", "verb", "json", "status", "device", "max_p95", "max_memory", "wait", "parallel")


class StatusFlag(argparse.Action):
    """`--status` asks for no bundle."""

    def __init__(self, bundle: argparse.Action, **options: Any) -> None:
        super().__init__(nargs=0, default=False, **options)
        self._bundle = bundle

    def __call__(self, _parser: Any, namespace: argparse.Namespace, _values: Any, _option: str | None = None) -> None:
        namespace.status = True
        self._bundle.required = False


def is_stick(url: str) -> bool:
    return url.startswith("file:")


def run_stick(args: argparse.Namespace, console: Console) -> int:
    """Exit code 1 with --status where a device refused or rolled back."""
    from edgeloop.deploy.stick import stick_folder

    folder, *others = args.urls
    words = [*others, *([str(args.bundle)] if args.bundle is not None else [])]
    if foreign := sorted(
        name for name, value in vars(args).items() if value and name not in _OF_STICKS and _given(name, value)
    ):
        raise UsageError(f"--{foreign[0].replace('_', '-')} is not for a stick: the device decides", hint=_HINT)
    if any("://" in word for word in words):
        raise UsageError("one stick at a time, and no other way beside it", hint=_HINT)
    root = stick_folder(folder)
    return _status(root, console) if args.status else _put(root, [Path(word) for word in words], args, console)


_HINT = "edgeloop deploy file:///media/usb/edgeloop ic-8.bundle --device pi-1"


def _given(name: str, value: Any) -> bool:
    """Not what a flag has where nobody gave it."""
    return not (name in ("canary", "max_failures") and value == 0) and not (name == "channel" and value is None)


def _put(root: Path, paths: Sequence[Path], args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.cargo import signed_cargo
    from edgeloop.deploy.stick import put_on_stick

    cargoes = [signed_cargo(path)[0] for path in paths]
    check_budgets(args, cargoes)
    with console.step(f"write to {root}"):
        offers = put_on_stick(root, cargoes, args.device, max_p95_ms=args.max_p95, max_memory_mib=args.max_memory)
    shown = [
        {
            "name": o.name,
            "version": o.version,
            "kind": o.kind,
            "offer": o.id,
            "bytes": o.bytes,
            "devices": list(o.devices),
        }
        for o in offers
    ]
    lines = [
        f"on the stick  {o.name} version {o.version} ({o.bytes} bytes) for {', '.join(o.devices) or 'every device'}"
        for o in offers
    ]
    lines.append(f"then          edgeloop deploy file://{root} --status")
    console.result({"folder": str(root), "offers": shown}, "\n".join(lines))
    return EXIT_DONE


def check_budgets(args: argparse.Namespace, cargoes: Sequence[Cargo]) -> None:
    """Raises UsageError for a budget where there is no inference to judge by it."""
    package = next((cargo for cargo in cargoes if not cargo.is_bundle), None)
    if package is not None and (args.max_p95 is not None or args.max_memory is not None):
        raise UsageError(
            f"a budget is for bundles, {package.path} is {package.shown}", hint="no --max-p95, --max-memory"
        )


def _status(root: Path, console: Console) -> int:
    from edgeloop.deploy.stick import stick_states

    states = stick_states(root)
    shown = [
        {"name": s.name, "version": s.version, "device": s.device, "state": s.state, "reason": s.reason} for s in states
    ]
    lines = [
        f"{s.state:<12} {s.name} version {s.version}  {s.device}" + (f"  {s.reason}" if s.reason else "")
        for s in states
    ]
    console.result({"folder": str(root), "bundles": shown}, "\n".join(lines) or f"no bundle lies on {root}")
    return EXIT_GOAL_NOT_MET if any(state.is_bad for state in states) else EXIT_DONE
