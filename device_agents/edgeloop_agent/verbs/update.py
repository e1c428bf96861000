"""`edgeloop-agent update`: a bundle file through the door: verified, rehearsed, then on trial."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, UsageError
from edgeloop.mains import json_text

if TYPE_CHECKING:
    from edgeloop.bundle import StagedBundle
    from edgeloop_agent.delivery.apply import Admitted
    from edgeloop_agent.delivery.update import Rehearsal

EPILOG = """example:
  edgeloop-agent update ic-8.bundle
  edgeloop-agent update ic-8.bundle --config /etc/edgeloop/agent.toml --max-p95 20

Nothing that runs is touched before signature, golden samples, latency and memory held. Then the agent runs it on
trial: it is committed when it was well for a while, else the version before runs again. The config names the link
that is printed as its bundle, once.
Exit codes: 0 on trial or there already, 1 refused because it does not fit or hold here, 4 not signed or damaged."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="FILE", type=Path, help="a bundle, a version of the agent or a config; the file says which")
    add("--config", metavar="FILE", type=Path, help="the agent's config file: state, trust, delegates, threads")
    add("--state", metavar="DIR", type=Path, help="the agent's state folder")
    add("--device", metavar="ID", help="as in run")
    add("--trust", metavar="PATH", type=Path, action="append", help="as in run")
    add("--delegate", dest="delegates", metavar="NAME", action="append", help="as in run")
    add("--variant", metavar="NAME", help="as in run")
    add("--threads", metavar="N", type=int, help="as in run")
    add("--max-p95", metavar="MS", type=float, help="refuse what takes longer here for one inference")
    add("--max-memory", metavar="MIB", type=float, help="refuse what takes more memory here")
    add("--load-timeout", metavar="S", type=float, help="for the model to load in the rehearsal; as in run")
    add("--rehearsal", metavar="S", type=float, default=2.0, help="seconds to measure (default: 2)")
    add("--rehearse", action="store_true", help="only rehearse a bundle: nothing is taken in")
    add("--again", action="store_true", help="try a version that failed here before")


def run(args: argparse.Namespace) -> int:
    from edgeloop.bundle import TrustStore
    from edgeloop_agent.delivery.apply import offer_file, only_rehearse, rehearse_in_a_child
    from edgeloop_agent.delivery.lending import borrowed
    from edgeloop_agent.delivery.update import Budget
    from edgeloop_agent.delivery.versions import INSTALLED
    from edgeloop_agent.verbs._config import config_for
    from edgeloop_agent.worker.pipeline import FALLBACK_ORDER

    given = {"state": args.state, "device": args.device, "variant": args.variant, "threads": args.threads,
             "load_timeout": args.load_timeout}  # fmt: skip
    several = {"trust": tuple(args.trust or ()), "delegates": tuple(args.delegates or ())}
    config = config_for(args.bundle, {**given, **several}, args.config)
    for name, value in (("--max-p95", args.max_p95), ("--max-memory", args.max_memory)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be above 0, got {value:g}")
    if not 0.1 <= args.rehearsal <= 600:
        raise UsageError(f"--rehearsal must be 0.1 to 600 seconds, got {args.rehearsal:g}")
    budget = Budget(args.max_p95, None if args.max_memory is None else int(args.max_memory * (1 << 20)))

    def rehearse(staged: StagedBundle) -> Rehearsal:
        order = config.delegates or staged.manifest.fallback_order(config.variant) or FALLBACK_ORDER
        return rehearse_in_a_child(
            staged, delegates=order, variant=config.variant, threads=config.threads or 1, seconds=args.rehearsal,
            patience_s=config.load_timeout, borrow=lambda: borrowed(config.state, config.state / INSTALLED),
        )  # fmt: skip

    trust = TrustStore.from_paths(config.trust) if config.trust else TrustStore.default()
    if args.rehearse:
        done = only_rehearse(args.bundle, config.state, trust=trust, rehearse=rehearse, budget=budget)
        print(json_text({**asdict(done), "link": str(done.link)}) if args.json else _text(done), flush=True)
        return EXIT_GOAL_NOT_MET if done.state == "refused" else EXIT_DONE
    done = offer_file(
        args.bundle, config.state, trust=trust, rehearse=rehearse, budget=budget, device=config.device,
        again=args.again, note=_note,
    )  # fmt: skip
    if args.json:
        print(json_text({**asdict(done), "link": str(done.link.absolute())}), flush=True)
    else:
        print(_text(done), flush=True)
    return EXIT_GOAL_NOT_MET if done.state == "refused" else EXIT_DONE


def _text(done: Admitted) -> str:
    what = f"{done.name} version {done.version}"
    if done.kind != "bundle":
        what = f"{done.kind} {what}"
    measured = done.rehearsal
    lines = []
    if measured is not None and not measured.failed:
        memory = measured.memory_bytes / (1 << 20)
        lines.append(f"here     p95 {measured.p95_ms:.3g} ms, {memory:.0f} MiB (n = {measured.n}, {measured.delegate})")
    if done.state == "trial":
        lines += [f"on trial {what}: a running agent takes it within a second, else the next start"]
        lines += [f'config   bundle = "{done.link.absolute()}"'] if done.kind == "bundle" else []
    elif done.state == "rehearsed":
        lines.append(f"well     {what} would run here")
    elif done.state == "there":
        lines.append(f"there    {what} runs here already")
    else:
        lines.append(f"refused  {what}: {done.reason}" + (f" -> {done.hint}" if done.hint else ""))
    return "\n".join(lines)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
