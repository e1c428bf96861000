"""Put a bundle on devices for good: agent, key, config and service, then wait until it is well or rolled back.

Agents (`edgeloop bundle agent`) and configs (`bundle config`) go to devices that run an agent already."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._deploy_stick import StatusFlag, check_budgets, is_stick, run_stick
from edgeloop.cli._release_flags import add_release_flags, release_root, release_settings
from edgeloop.devices.aliases import device_url
from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.progress import Advance, Progress

if TYPE_CHECKING:
    from edgeloop.bundle import PublicKey
    from edgeloop.deploy.cargo import Cargo
    from edgeloop.deploy.remote import Deployed
    from edgeloop.deploy.rollout import Outcome

Work = Callable[[str, Progress], "Deployed"]
_ONLY_SSH = ("identity", "slim", "no_service", "prefix", "release_root")
_ONLY_BUNDLES = ("slim", "no_service", "release_root")
_TRY = "edgeloop run tries a bundle on local:"

EPILOG = """example:
  edgeloop deploy ssh://pi@pi4.local ic.bundle --source camera:0 --telemetry https://collector.local:8443
  edgeloop deploy ssh://pi@pi4.local ic-8.bundle --max-p95 20
  edgeloop deploy ssh://pi@a.local ssh://pi@b.local ssh://pi@c.local ic-8.bundle --canary 1 --parallel 4
  edgeloop deploy ssh://pi@pi4.local ic.bundle --source camera:0 --dry-run
  edgeloop deploy ssh://pi@pi4.local edgeloop-agent-5-aarch64.agent
  edgeloop deploy ssh://pi@pi4.local kitchen-2.config
  edgeloop deploy serial:///dev/ttyUSB0?baud=921600 ic-8.bundle
  edgeloop deploy pi-1 ic-8.bundle --collector http://127.0.0.1:8080
  edgeloop deploy file:///media/usb/edgeloop ic-8.bundle --device pi-1 --device pi-2
  edgeloop deploy file:///media/usb/edgeloop --status

Over a line the agent has to run already and takes the next version, while its reports go on; a line that a collector
holds is reached through the collector, by the device's name. Interrupted or unplugged, the same command goes on where
it was.
The device verifies and rehearses the bundle itself and goes back by itself where it is not well (docs/delivery.md).
Exit codes: 0 committed, 1 refused or rolled back, 3 not reached or no sudo, 4 not signed, or another key is trusted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "urls",
        metavar="URL",
        type=device_url,
        nargs="+",
        help="ssh://user@host[:port], serial:///dev/ttyUSB0, file:///media/usb/edgeloop",
    )
    bundle = add("bundle", metavar="FILE", type=Path, help="a bundle, an agent or a config; the file says which")
    add("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    add("--slim", action="store_true", help="agent without OpenCV: for arrays, sound and sensor lines")
    add("--no-service", action="store_true", help="install and update only; says what to type")
    add("--user-service", action="store_true", help="for the user who logs in alone: no root, a systemd --user unit")
    add("--prefix", metavar="DIR", help="install below DIR on the device instead of / (containers, tests)")
    add("--collector", metavar="URL", help="of devices that are given by name: it holds their line")
    add("--wait", metavar="S", type=float, default=900.0, help="for it to be committed (default: %(default)g)")
    add("--dry-run", action="store_true", help="look at the device and say what would be done")
    settings = parser.add_argument_group("the device's config: written where there is none, these keys changed else")
    settings.add_argument("--source", metavar="SOURCE", help="where frames come from, as in edgeloop-agent run")
    settings.add_argument("--telemetry", metavar="URL", help="where reports go")
    settings.add_argument("--trial", metavar="S", type=float, help="how long a version is watched there (default: 60)")
    add_release_flags(parser)
    stick = parser.add_argument_group("a stick (file://)")
    stick.add_argument("--device", metavar="NAME", action="append", default=[], help="for this one only; repeatable")
    stick.add_argument("--status", action=StatusFlag, bundle=bundle, help="what the devices wrote back on it")
    door = parser.add_argument_group("what the device refuses")
    door.add_argument("--max-p95", metavar="MS", type=float, help="what takes longer there for one inference")
    door.add_argument("--max-memory", metavar="MIB", type=float, help="what takes more memory there")
    door.add_argument("--again", action="store_true", help="nothing for having failed there before")
    many = parser.add_argument_group("many devices")
    many.add_argument("--parallel", metavar="N", type=int, default=4, help="at once (default: %(default)d)")
    many.add_argument("--canary", metavar="N", type=int, default=0, help="so many first; all must be well")
    many.add_argument("--max-failures", metavar="N", type=int, default=0, help="begin no more after so many + 1")


def run(args: argparse.Namespace, console: Console) -> int:
    if is_stick(args.urls[0]):
        return run_stick(args, console)
    if args.bundle is None or args.device:
        raise UsageError(
            "--status and --device are for a stick", hint="edgeloop deploy file:///media/usb/edgeloop --status"
        )
    from edgeloop.deploy.cargo import signed_cargo
    from edgeloop.deploy.rollout import Pace, roll_out

    cargo, key = signed_cargo(args.bundle)
    _check_flags(args, cargo)
    over_ssh = [url for url in args.urls if url.startswith("ssh://")]
    ways = {url: (_over_ssh if url in over_ssh else _over_line)(args, cargo, key) for url in args.urls}
    pace = Pace(args.parallel, args.canary, args.max_failures)
    is_one = len(args.urls) == 1

    def work(url: str) -> Deployed:
        return ways[url](url, console if is_one else _Named(console, url))

    outcomes = roll_out(args.urls, work, pace, (lambda _o: None) if is_one else lambda o: console.note(_line(o)))
    if is_one and outcomes[0].error is not None:
        raise outcomes[0].error
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    data = {"bundle": cargo.name, "version": cargo.version, "kind": cargo.kind}
    counts = {"done": sum(o.done is not None for o in outcomes), "failed": len(failed)}
    counts["skipped"] = len(outcomes) - sum(counts.values())
    console.result({**data, "hosts": [_as_dict(o) for o in outcomes], **counts}, _text(outcomes, cargo))
    return failed[0].exit_code if failed else EXIT_DONE


def _over_ssh(args: argparse.Namespace, cargo: Cargo, key: PublicKey) -> Work:
    from edgeloop.deploy.remote import DeployPlan, deploy
    from edgeloop.deploy.remote_package import deploy_package
    from edgeloop.devices import connect

    plan = DeployPlan(
        cargo, key, settings=_settings(args), update_flags=_update_flags(args), prefix=args.prefix,
        slim=args.slim, with_service=not args.no_service, dry_run=args.dry_run, wait_s=args.wait,
        release_root=release_root(args), is_own_service=args.user_service,
    )  # fmt: skip

    def work(url: str, progress: Progress) -> Deployed:
        device = connect(url, identity=args.identity, note=progress.note)
        try:
            return (deploy if cargo.is_bundle else deploy_package)(device, plan, progress)
        finally:
            device.close()

    return work


def _over_line(args: argparse.Namespace, cargo: Cargo, _key: PublicKey) -> Work:
    from edgeloop.deploy.serial_deploy import LinePlan, deploy_over_line
    from edgeloop.devices.commanding import connect_agent
    from edgeloop.telemetry.serial_link.address import is_serial_url

    for url in args.urls:
        if "://" in url and not url.startswith("ssh://") and not is_serial_url(url):
            raise UsageError(f"{url}: deploy goes to ssh://user@host or serial:///dev/ttyUSB0", hint=_TRY)
        if "://" not in url and args.collector is None:
            raise UsageError(f"{url}: a device by name needs --collector URL, or is it ssh://{url}?", hint=_TRY)
    if given := sorted([*_settings(args), *(n for n in _ONLY_SSH if getattr(args, n))]):
        raise UsageError(f"--{given[0].replace('_', '-')} is for ssh://: over a line only the file goes")
    plan = LinePlan(cargo, args.max_p95, args.max_memory, again=args.again, dry_run=args.dry_run, wait_s=args.wait)

    def work(url: str, progress: Progress) -> Deployed:
        collector = None if is_serial_url(url) else args.collector
        return deploy_over_line(url, lambda: connect_agent(url, collector), plan, progress)

    return work


def _check_flags(args: argparse.Namespace, cargo: Cargo) -> None:
    """Raises UsageError for what means nothing to an agent or a config."""
    check_budgets(args, [cargo])
    needless = sorted([*_settings(args), *(n for n in _ONLY_BUNDLES if getattr(args, n))])
    if needless and not cargo.is_bundle:
        raise UsageError(
            f"--{needless[0].replace('_', '-')} is for bundles, {cargo.path} is {cargo.shown}",
            hint="what a config shall say stands in it: edgeloop bundle config agent.toml",
        )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    given = {"source": args.source, "telemetry": args.telemetry, "trial": args.trial}
    return {**{name: value for name, value in given.items() if value is not None}, **release_settings(args)}


def _update_flags(args: argparse.Namespace) -> tuple[str, ...]:
    words = ["--again"] if args.again else []
    for flag, value in (("--max-p95", args.max_p95), ("--max-memory", args.max_memory)):
        words += [flag, f"{value:g}"] if value is not None else []
    return tuple(words)


class _Named:
    """Progress of one host among several: notes bear its name, bars would overwrite each other."""

    _lock = threading.Lock()

    def __init__(self, console: Console, url: str) -> None:
        self._console, self._url = console, url

    def note(self, text: str) -> None:
        with self._lock:
            self._console.note(f"{self._url}: {text}")

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Advance]:
        yield lambda _count: None


def _state(outcome: Outcome[Deployed]) -> str:
    if outcome.done is not None:
        return outcome.done.state
    if outcome.error is None:
        return "skipped"
    return "refused" if outcome.error.exit_code in (1, 4) else "failed"


def _as_dict(outcome: Outcome[Deployed]) -> dict[str, Any]:
    done, error = outcome.done, outcome.error
    return {
        "url": outcome.url,
        "state": _state(outcome),
        "seconds": round(outcome.seconds, 2),
        "agent_version": done.agent_version if done else None,
        "steps": list(done.steps) if done else [],
        "next": list(done.next) if done else [],
        "error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code} if error else None,
    }


def _line(outcome: Outcome[Deployed]) -> str:
    why = f"  {outcome.error.message}" if outcome.error is not None else ""
    return f"{_state(outcome):<12} {outcome.seconds:6.1f} s  {outcome.url}{why}"


def _text(outcomes: list[Outcome[Deployed]], cargo: Cargo) -> str:
    done = outcomes[0].done
    if len(outcomes) > 1 or done is None:
        return "\n".join([cargo.shown, *map(_line, outcomes)])
    lines = [f"{done.state}: {cargo.shown}, agent {done.agent_version}, {outcomes[0].seconds:.1f} s"]
    lines += [f"set      {step}" for step in done.steps]
    return "\n".join(lines + (["type there:", *(f"  {command}" for command in done.next)] if done.next else []))
