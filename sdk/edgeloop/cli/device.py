"""Ask something of a running agent: over the serial line that it reports through, or through its collector by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from edgeloop.cli._console import Console
from edgeloop.devices.aliases import device_url
from edgeloop.errors import EXIT_DONE

EPILOG = """example:
  edgeloop device ping serial:///dev/ttyUSB0
  edgeloop device info pi-1 --collector http://127.0.0.1:8080
  edgeloop device report-now pi-1
  edgeloop device log-level pi-1 debug
  edgeloop device bench serial:///dev/ttyUSB0 -n 500 --pause
  edgeloop device profile pi-1 --delegate cpu

ping and info are for anybody on the line; the others are signed with your key (edgeloop keys), which the device has to
trust. A line that a collector holds is reached through the collector."""

_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (line, _run) in _ACTIONS.items():
        action = actions.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        action.add_argument(
            "device", type=device_url, help="serial:///dev/ttyUSB0, rfc2217://HOST:PORT, socket://HOST:PORT, or a NAME"
        )
        if name == "log-level":
            action.add_argument("level", choices=("warning", "info", "debug"))
        action.add_argument("--collector", metavar="URL", help="of a NAME (default: http://127.0.0.1:8080)")
        if name in ("bench", "profile"):
            _add_measuring(action, name)
        else:
            action.add_argument("--timeout", type=float, default=_TIMEOUT_S, metavar="S", help="default: %(default)g")


def _add_measuring(action: argparse.ArgumentParser, name: str) -> None:
    add = action.add_argument
    add("--bundle", default="", metavar="NAME", help="one of several that run there")
    add("--variant", action="append", default=[], metavar="NAME", help="repeat to compare (default: the first)")
    several = "repeat to compare (default: the bundle's)" if name == "bench" else "xnnpack or cpu (default: xnnpack)"
    add("--delegate", action="append", default=[], metavar="D", help=several)
    add("--threads", type=int, default=1, metavar="N")
    add("-n", type=int, default=200, help="inferences to measure (default: %(default)d)")
    add("--pause", action="store_true", help="stop the agent's own inferences meanwhile (default: they go on)")
    add("--timeout", type=float, default=300.0, metavar="S", help="default: %(default)g")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices.commanding import connect_agent

    with connect_agent(args.device, args.collector) as agent:
        _ACTIONS[args.action][1](agent, args, console)
    return EXIT_DONE


def _ping(agent: Any, args: argparse.Namespace, console: Console) -> None:
    import time

    began = time.perf_counter()
    body = agent.ask("ping", timeout_s=args.timeout)
    ms = round((time.perf_counter() - began) * 1e3, 1)
    console.result({**body, "ms": ms}, f"{body.get('device')} answered in {ms:g} ms")


def _info(agent: Any, args: argparse.Namespace, console: Console) -> None:
    body = agent.ask("info", timeout_s=args.timeout)
    lines = [
        f"{body.get('device')}: agent {body.get('agent')}, up {body.get('uptime_s', 0):.0f} s, "
        f"log level {body.get('log_level')}" + (f", busy with a {body['busy']}" if body.get("busy") else "")
    ]
    for model in body.get("models", ()):
        ran = model.get("delegate_ran") or model.get("delegate_asked")
        lines.append(
            f"  {model.get('bundle')} {model.get('version')} ({model.get('variant')}): {model.get('phase')} on {ran}, "
            f"{model.get('delegated_ops')} of {model.get('total_ops')} ops, {model.get('runtime')}"
        )
    console.result(body, "\n".join(lines))


def _report_now(agent: Any, args: argparse.Namespace, console: Console) -> None:
    body = agent.ask("report_now", timeout_s=args.timeout)
    console.result(body, f"reports made: {body.get('reports')}")


def _log_level(agent: Any, args: argparse.Namespace, console: Console) -> None:
    body = agent.ask("log_level", {"level": args.level}, timeout_s=args.timeout)
    console.result(body, f"log level {body.get('level')}, it was {body.get('was')}")


def _bench(agent: Any, args: argparse.Namespace, console: Console) -> None:
    from edgeloop.bench.table import as_text
    from edgeloop.devices.commanding.measuring import bench_there

    with console.step(f"measure on {args.device}"):
        measured = bench_there(agent, _what(args))
    data = {**measured.report.to_dict(), "bundle": measured.bundle, "version": measured.version}
    text = f"{measured.bundle} {measured.version}; the agent's worker: {measured.worker}\n{as_text(measured.report)}"
    console.result({**data, "worker": measured.worker}, text)


def _profile(agent: Any, args: argparse.Namespace, console: Console) -> None:
    from edgeloop.bench.per_op import as_text
    from edgeloop.devices.commanding.measuring import profile_there

    with console.step(f"profile on {args.device}"):
        profiles = profile_there(agent, _what(args))
    data = {**profiles[0].to_dict(), "profiles": [profile.to_dict() for profile in profiles]}
    console.result(data, "\n\n".join(map(as_text, profiles)))


def _what(args: argparse.Namespace) -> Any:
    from edgeloop.devices.commanding.measuring import OnDevice

    return OnDevice(
        args.bundle, 0, tuple(args.variant), tuple(args.delegate), args.threads, args.n, args.pause, args.timeout
    )


_ACTIONS: dict[str, tuple[str, Callable[[Any, argparse.Namespace, Console], None]]] = {
    "ping": ("is it there?", _ping),
    "info": ("what runs on it", _info),
    "report-now": ("have it report at once", _report_now),
    "log-level": ("how much it says of itself", _log_level),
    "bench": ("measure the bundle that it runs, on it", _bench),
    "profile": ("where the time goes inside its model", _profile),
}
