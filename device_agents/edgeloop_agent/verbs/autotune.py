"""`edgeloop-agent autotune`: find the best variant, delegate and threads for a bundle on this board, and keep it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.mains import json_text
from edgeloop_agent.autotune.objectives import OBJECTIVES

EPILOG = """example:
  edgeloop-agent autotune --bundle ic.bundle
  sudo systemctl stop edgeloop-agent; edgeloop-agent autotune --config /etc/edgeloop/agent.toml --optimize throughput

The result is kept in the state folder for this bundle, board and runtime; where one of them changes, measure again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="the agent's config file: bundle, state and trust")
    add("--bundle", metavar="FILE", type=Path, help="the bundle")
    add("--state", metavar="DIR", type=Path, help="the agent's state folder")
    add("--optimize", choices=OBJECTIVES, default="latency",
        help="median time, mean time or memory (default: latency)")  # fmt: skip
    add("--time-budget", metavar="S", type=float, default=60.0, help="seconds to measure (default: 60)")
    add("--delegate", dest="delegates", metavar="NAME", action="append",
        help="try this one only; may be repeated (default: those of the bundle)")  # fmt: skip
    add("--accuracy-floor", metavar="FRACTION", type=float,
        help="variants that measured at least this may win "
        "(default: none that is less accurate than the first)")  # fmt: skip
    add("--trust", metavar="PATH", type=Path, action="append", help="as in run")
    add("--allow-unsigned", action="store_true", help="as in run")


def run(args: argparse.Namespace) -> int:
    from edgeloop.bundle import TrustStore
    from edgeloop.bundle.verified_mark import stage_verified
    from edgeloop_agent.autotune.tune import tune, tuning_text
    from edgeloop_agent.config_reading import load_configs
    from edgeloop_agent.service.statedir import BUNDLES, locked_state

    flags = {name: getattr(args, name) for name in ("bundle", "state", "allow_unsigned")}
    # A source is of no matter here, and a config for `run` has one.
    configs = load_configs({**flags, "trust": tuple(args.trust or ()), "source": "synthetic:"}, args.config)
    if args.accuracy_floor is not None and not 0 <= args.accuracy_floor <= 1:
        raise UsageError(f"accuracy floor must be 0 to 1, got {args.accuracy_floor:g}")
    tunings = {}
    with locked_state(configs[0].state) as state:
        for config in configs:
            trust = TrustStore.from_paths(config.trust) if config.trust else TrustStore.default()
            staged, _ = stage_verified(
                config.bundle, state / BUNDLES, trust=trust, allow_unsigned=config.allow_unsigned
            )
            tunings[config.model] = tune(
                staged, state, objective=args.optimize, budget_s=args.time_budget / len(configs), note=_note,
                delegates=args.delegates or (), accuracy_floor=args.accuracy_floor,
            )  # fmt: skip
    if args.json:
        bodies = {model: tuning.to_dict() for model, tuning in tunings.items()}
        print(json_text(bodies.get("", {"models": bodies})), flush=True)
    else:
        print("\n\n".join(map(tuning_text, tunings.values())), flush=True)
    return EXIT_DONE


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
