"""Check data before a conversion: values, layout, classes, copies, leaks, whether ranges are stable, and whether
another contract (scaling, channel order, resizing, class order) scores clearly better than the one you use.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._contract_flags import add_contract_flags, contract_flags
from edgeloop.cli._shared_flags import add_shared_flags, check_at_least_one
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET

if TYPE_CHECKING:
    from edgeloop_converters.check_data.run import DataCheck

EPILOG = """examples:
  edgeloop check-data resnet.h5 --data calib/ --eval test/
  edgeloop check-data model.tflite --data kws.npz --contract c.toml --json
  edgeloop check-data ic.bundle --data field/           do these data contradict the contract in a bundle?

Exit code 1: a finding is severe. Every finding is one line with its fix. `convert` does a short form of this check."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="any model that `convert` reads, or a bundle")
    parser.add_argument("--data", metavar="DATA", help="what you calibrate on: folder, .npz, or module:function")
    parser.add_argument("--eval", metavar="DATA", help="what you evaluate on; without it --data is split in two")
    add_contract_flags(parser)
    parser.add_argument("--calibration-samples", type=int, metavar="N", help="as for `convert` (default: 512)")
    parser.add_argument("--samples", type=int, metavar="N", help="look at N samples of either (default: 50000)")
    parser.add_argument("--shape", metavar="DxD..", help="of one sample, where the model leaves it free; see `convert`")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which samples are drawn (default: 0)")
    add_shared_flags(parser, "--signature", "--no-cache", "--trust-code")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop_converters.check_data.run import THOROUGH_SAMPLES, check_data
    from edgeloop_converters.data.cache import DecodedCache
    from edgeloop_converters.recipe import Recipe
    from edgeloop_converters.recipe_steps import plan_passes
    from edgeloop_converters.shapes import shapes_of

    check_at_least_one(args, "--samples", "--calibration-samples")
    changes: dict[str, Any] = {}
    if args.calibration_samples is not None:
        changes["passes"] = plan_passes("int8", "aeq", "default", args.calibration_samples)
    recipe = Recipe(
        args.model,
        data=args.data,
        evaluation=args.eval,
        contract_file=args.contract or "",
        hints=contract_flags(args),
        seed=args.seed,
        signature=args.signature or "",
        shapes=shapes_of([] if args.shape is None else [args.shape]),
        **changes,
    )
    with nullcontext() if args.no_cache else DecodedCache() as cache:
        result = check_data(
            recipe, samples=args.samples or THOROUGH_SAMPLES, trust_code=args.trust_code, cache=cache, progress=console
        )
    console.result(result.to_dict(), text_of(result))
    return EXIT_GOAL_NOT_MET if result.is_severe else EXIT_DONE


def text_of(result: DataCheck) -> str:
    """One line per finding with its fix, the gravest first."""
    lines = [f"{f.severity:<8} {f.what}\n         -> {f.fix}" for f in result.findings]
    looked = f"{result.evaluation_samples} samples to evaluate on"
    if result.calibration_samples:
        looked = f"{result.calibration_samples} samples to calibrate with, {result.evaluation_samples} to evaluate on"
    if result.verdict is not None:
        verdict = result.verdict
        looked += (
            f"; {verdict.accuracy:.1%} of {verdict.samples} right with this contract, {verdict.comparisons} "
            "comparisons with others"
        )
    if result.contract is None:
        looked = "nothing else was looked at: data and model must fit each other first"
    return "\n".join([*lines, *(["nothing found"] if not lines else []), looked])
