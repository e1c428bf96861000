"""Evaluate the exported file: task metric, agreement with the float model and error per layer, on any data."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.cli._command_line import command_line
from edgeloop.cli._console import Console
from edgeloop.cli._contract_flags import add_contract_flags, contract_flags
from edgeloop.cli._quality import assessment_text
from edgeloop.cli._shared_flags import add_shared_flags, check_at_least_one
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, UsageError

EPILOG = """examples:
  edgeloop evaluate ic.bundle --data test/ --reference resnet.h5
  edgeloop evaluate model_int8.tflite --data kws.npz --reference model.tflite --json
  edgeloop evaluate ic.bundle --data test/ --cascade int8-lite

The float model to compare with is --reference (any format that `convert` reads), else the one of this bundle if it was
converted on this host, else none: then agreement and errors are not known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="BUNDLE|MODEL", help="a bundle, a .tflite, or any model that `convert` reads")
    parser.add_argument("--data", metavar="DATA", required=True, help="folder, .npz, or module:function")
    parser.add_argument("--reference", metavar="MODEL", help="float model to compare with")
    parser.add_argument("--variant", metavar="NAME", help="variant of the bundle (default: the first)")
    parser.add_argument("--max-drop", metavar="D", help="exit 1 when more accuracy is lost: 0.5pt or 0.005")
    parser.add_argument(
        "--min-agreement",
        metavar="A",
        help="exit 1 when fewer samples agree with the float model, on the contract's output: 0.96",
    )
    add_contract_flags(parser)
    parser.add_argument("--samples", type=int, metavar="N", help="evaluate on at most N samples (default: all)")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    add_shared_flags(parser, "--ignore-labels", "--threads", "--trust-code", "--no-cache")
    parser.add_argument(
        "--cascade",
        metavar="LIGHT",
        help="a lighter variant or .tflite to ask first: accuracy and time by threshold",
    )
    parser.add_argument("--exit-head", metavar="OUTPUT", help="the same for an output of the model to stop at")
    parser.add_argument("--report", metavar="DIR", help="write report.json and report.html there")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.files import check_can_write_into
    from edgeloop_converters.assess import evaluate
    from edgeloop_converters.goals import Goals, parse_agreement, parse_drop
    from edgeloop_converters.report import write_report

    if args.cascade is not None and args.exit_head is not None:
        raise UsageError("--cascade and --exit-head together are not possible", hint="one after the other")
    check_at_least_one(args, "--threads", "--samples")
    if args.report is not None:
        check_can_write_into(Path(args.report), "report")
    result = evaluate(
        args.model,
        args.data,
        reference=args.reference,
        variant=args.variant,
        contract=args.contract,
        hints=contract_flags(args),
        goals=Goals(
            max_drop=None if args.max_drop is None else parse_drop(args.max_drop),
            min_agreement=None if args.min_agreement is None else parse_agreement(args.min_agreement),
        ),
        ignore_labels=args.ignore_labels,
        samples=args.samples,
        cascade=args.cascade,
        exit_head=args.exit_head,
        allow_unsigned=args.allow_unsigned,
        trust_code=args.trust_code,
        threads=args.threads,
        cache=not args.no_cache,
        progress=console,
    )
    if args.report:
        folder = Path(args.report)
        write_report(folder / "report.json", folder / "report.html", result.report(command_line("evaluate", args)))
    console.result(result.to_dict(), assessment_text(result))
    return EXIT_DONE if result.gate.passed else EXIT_GOAL_NOT_MET
