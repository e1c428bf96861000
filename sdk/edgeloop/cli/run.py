"""Try a bundle on a device: install the agent there, run it on a source, show its live latency.

Nothing is made permanent: the bundle, its data and its key are removed at the end, the unpacked agent stays for the
next run unless --remove. Telemetry comes back through the same connection.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._stop import stop_requested
from edgeloop.cli._words import counted
from edgeloop.devices.aliases import device_url

if TYPE_CHECKING:
    from edgeloop.devices.trial import TrialView

EPILOG = """example:
  edgeloop run local: ic.bundle --source folder:test/
  edgeloop run ssh://pi@pi4.local ic.bundle --source folder:test/ --count 500
  edgeloop run ssh://pi@pi4.local ic.bundle --source synthetic: --loop --store sqlite:///telemetry.db

  edgeloop run ssh://pi@pi4.local ic.bundle --source video:door.mp4 --gate --cascade 0.8

The source's folder or file is copied to the device for the run, of a folder only the pictures that --count asks for;
--source-on-device takes one that is there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", metavar="URL", type=device_url, help="local:, ssh://user@host[:port], or a device's name"
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "--source", required=True, help="folder:DIR, npz:FILE, video:FILE, camera:0, csi:, rtsp://... (docs/sources.md)"
    )
    parser.add_argument("--source-on-device", action="store_true", help="the source is a path there: copy nothing")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--rate", type=float, metavar="FPS", help="frames per second at most")
    parser.add_argument("--loop", action="store_true", help="start the source again at its end, until Ctrl-C")
    parser.add_argument("--variant", help="default: the bundle's first")
    parser.add_argument("--delegate", action="append", default=[], help="repeat for a fallback order")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", metavar="URL", help="keep the telemetry, for example sqlite:///telemetry.db")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    parser.add_argument("--prefix", metavar="DIR", help="install below DIR on the device instead of /")
    parser.add_argument("--slim", action="store_true", help="install without OpenCV (half the size): no pictures")
    parser.add_argument("--remove", action="store_true", help="remove the unpacked agent, too, at the end")
    parser.add_argument("--allow-unsigned", action="store_true", help="run a bundle without a signature (bench only)")

    from edgeloop_agent.activation.flags import OF_A_TRIAL, add_activation_flags

    add_activation_flags(parser.add_argument_group("doing less: gate, governor and cascade"), OF_A_TRIAL)


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices import connect
    from edgeloop.devices.trial import TrialOptions, plan_trial, run_trial
    from edgeloop.telemetry.hit_rates import hit_rates, hit_rates_text
    from edgeloop_agent.activation.flags import OF_A_TRIAL, activation_arguments
    from edgeloop_agent.config_reading import load_config

    # What the agent would refuse is refused here, before anything is connected.
    load_config({"bundle": args.bundle, "source": args.source} | {f.field: getattr(args, f.field) for f in OF_A_TRIAL})
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as scratch:
        options = TrialOptions(
            bundle=args.bundle,
            source=args.source,
            source_on_device=args.source_on_device,
            variant=args.variant,
            delegates=tuple(args.delegate),
            threads=args.threads,
            count=args.count,
            rate=args.rate,
            loop=args.loop,
            prefix=args.prefix,
            keep=not args.remove,
            slim=args.slim,
            allow_unsigned=args.allow_unsigned,
            agent_arguments=activation_arguments(args),
        )
        plan = plan_trial(options)
        device = connect(args.url, identity=args.identity, note=console.note)
        try:
            with _LiveTable(console, enabled=sys.stderr.isatty() and not console.json) as table:
                result = run_trial(
                    device,
                    plan,
                    progress=console,
                    on_refresh=table.refresh,
                    store_url=args.store or f"sqlite:///{scratch}/telemetry.db",
                    stop_requested=stop_requested,
                )
        finally:
            device.close()
    summary = result.summary
    counters = summary.counters
    text = [
        f"{result.bundle} version {result.version}, variant {summary.last.variant}, on {result.platform}",
        f"ran on {summary.ran_text()}",
        summary.latency_text(),
        f"{counted(counters.get('inferences', 0), 'inference')}, {counted(counters.get('errors', 0), 'error')}, "
        f"{counted(summary.reports, 'report')} stored",
        *([f"cache hits {caches}"] if (caches := hit_rates_text(_of_frames(hit_rates(counters)))) else []),
        *(f"event  {event}" for event in summary.events),
    ]
    console.result(result.to_dict(), "\n".join(text))
    return 0


def _of_frames(rates: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """L3 is whether the bundle was unpacked before: in a trial never."""
    return {level: rate for level, rate in rates.items() if level != "l3"}


class _LiveTable:
    """What the agent says at once, and below it the latency table, drawn again at every refresh; on stderr."""

    def __init__(self, console: Console, *, enabled: bool) -> None:
        self._console = console
        self._enabled = enabled
        self._live: Any = None

    def __enter__(self) -> _LiveTable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, view: TrialView) -> None:
        while view.news:
            line = view.news.popleft()
            self._console.note(line) if self._live is None else self._live.console.print(
                line, markup=False, highlight=False
            )
        if not self._enabled:
            return
        from edgeloop.telemetry.summary import summarize_device

        summary = summarize_device(view.store, view.device_id)
        if summary is None:
            return
        if self._live is None:
            from rich.console import Console as RichConsole
            from rich.live import Live

            self._live = Live(console=RichConsole(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        from rich.text import Text

        lines = f"{view.device_id}  {summary.ran_text()}\n{summary.latency_text()}"
        self._live.update(Text(lines, no_wrap=True, overflow="ellipsis"), refresh=True)
