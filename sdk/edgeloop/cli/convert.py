"""Convert a trained model into a signed bundle for a target: calibrate, quantize to int8, evaluate the exported file
against the float model, judge it by your goals, pack it with contract, golden samples and a profile.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._command_line import command_line
from edgeloop.cli._console import Console
from edgeloop.cli._contract_flags import add_contract_flags, contract_flags
from edgeloop.cli._quality import conversion_text
from edgeloop.cli._shared_flags import add_shared_flags, check_at_least_one
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, UsageError

if TYPE_CHECKING:
    from edgeloop_converters.headstart import HeadStart
    from edgeloop_converters.recipe import Recipe

EPILOG = """examples:
  edgeloop convert resnet.h5 --data calib/ --eval test/ --target rpi4 --max-drop 0.5pt -o ic.bundle
  edgeloop convert model.tflite --data kws.npz --target coral-usb --min-agreement 0.96
  edgeloop convert --recipe recipe.toml

Exit code 1: a goal was not met. Then no bundle is written (--keep-failed writes it), but the report is."""


_SCHEME_FLAGS = ("bits", "clusters", "codebook", "budget")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="Keras .keras or .h5, SavedModel folder, float .tflite, PyTorch .pt2 or module:function, ONNX",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="folder of class folders or images, .npz, or module:function; calibrates"
    )
    parser.add_argument("--eval", metavar="DATA", help="data to evaluate on; without it --data is split in two")
    parser.add_argument("--target", metavar="ID", help="board, see `edgeloop targets` (default: rpi4)")
    parser.add_argument("-o", "--output", metavar="FILE", help="bundle or folder (default: NAME-VERSION.bundle here)")
    parser.add_argument("--recipe", metavar="FILE", help="recipe TOML; flags given as well win over it")
    goals = parser.add_argument_group("goals", "exit code 1 when the exported file misses one")
    goals.add_argument("--max-drop", metavar="D", help="largest loss of accuracy: 0.5pt or 0.005; needs labels")
    goals.add_argument(
        "--min-agreement",
        metavar="A",
        help="share of samples answered as the float model does, on the contract's output: 0.96",
    )
    goals.add_argument(
        "--p95-ms", type=float, metavar="MS", help="latency; judged only where it is measured on the target"
    )
    goals.add_argument("--no-repair", action="store_true", help="deliver or refuse what came out; mend nothing")
    goals.add_argument("--max-bytes", metavar="SIZE", help="size of the model file: 95kB")
    add_contract_flags(parser)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--scheme",
        metavar="NAME",
        help="int8 (default), int8-per-tensor, a16w8 (or 16x8), int4, fp16, dynamic, weight-only, "
        "int8-compact, clustered, mixed, fixed-point, or float as it is",
    )  # fmt: skip
    how.add_argument("--bits", type=int, metavar="B", help="grid of --scheme int8-compact: 5 (default) or 4")
    how.add_argument("--clusters", type=int, metavar="N", help="values per layer of --scheme clustered: 8, 16, 24, 32")
    how.add_argument("--codebook", metavar="KIND", help="of --scheme clustered: k-means (default) or logarithmic")
    how.add_argument(
        "--budget",
        type=int,
        metavar="N",
        help="of --scheme mixed: added error, in int8's own: 1, 2, 4 (default) or 8",
    )
    how.add_argument(
        "--io", metavar="KIND", help="the model's inputs and outputs: float, int8 or uint8 (default: the scheme's own)"
    )
    how.add_argument(
        "--engine", choices=("aeq", "tflite"), help="ai-edge-quantizer (default), or TFLiteConverter to compare"
    )
    how.add_argument(
        "--optimize", choices=("balanced", "size", "latency", "accuracy"),
        help="look for a smaller model within the goals, by this; says what it tries and why",
    )  # fmt: skip
    how.add_argument(
        "--minutes", type=float, metavar="N", help="of --optimize: end after about N minutes, with what is there"
    )
    how.add_argument(
        "--device", metavar="URL", default="",
        help="measure candidates there: ssh://USER@HOST (latency: judges --p95-ms, and decides among smaller models), "
        "or emulated:cortex-a72 (instructions, not time)",
    )  # fmt: skip
    how.add_argument("--identity", type=Path, metavar="FILE", help="SSH private key for --device")
    how.add_argument(
        "--ablation", action="store_true",
        help="make the model without each of its passes, too: what each contributed, on samples of --data kept for it",
    )  # fmt: skip
    how.add_argument("--tensorboard", metavar="DIR", type=Path, help="write the figures of trainings there")
    how.add_argument(
        "--widths", metavar="W,..",
        help="narrower variants beside the model, of these shares of its cost: 0.75,0.5; devices step down to them",
    )  # fmt: skip
    how.add_argument(
        "--exits", metavar="S,..", help="heads near these shares of the cost at which a device may stop: 0.4"
    )
    how.add_argument(
        "--effort", choices=("fast", "default", "best"),
        help="fast: calibrate on 100 samples, evaluate on at most 1000; default: 512, all, and a refinement "
        "of seconds for a small model (stops after 180 s); best: a longer one (stops after 600 s)",
    )  # fmt: skip
    how.add_argument("--calibration-samples", type=int, metavar="N", help="calibrate on N samples")
    how.add_argument(
        "--calibration", choices=("grouped", "min-max", "percentile", "mse", "entropy"),
        help="how ranges are taken from the samples (default grouped: mean of the extremes of groups)",
    )  # fmt: skip
    how.add_argument(
        "--eval-samples",
        type=int,
        metavar="N",
        help="evaluate on at most N samples (default: all, with --effort fast 1000)",
    )
    how.add_argument("--seed", type=int, metavar="N", help="which samples are drawn (default: 0)")
    how.add_argument(
        "--onnx-engine", choices=("onnx2torch", "onnx2tf"),
        help="what reads ONNX: onnx2torch, or onnx2tf in an environment of its own (default: the first that can)",
    )  # fmt: skip
    how.add_argument(
        "--install-engine", action="store_true", help="set up onnx2tf's environment in the cache (2.6 GB), once"
    )
    add_shared_flags(how, "--signature")
    how.add_argument(
        "--shape",
        metavar="DxD..",
        action="append",
        help="shape of one sample as the model's own input has it, where it is free: 3x224x224 for PyTorch and ONNX, "
        "ids=16,mask=16 by input; given several times: a variant for each, the device takes the smallest that holds",
    )
    add_shared_flags(how, "--ignore-labels")
    how.add_argument(
        "--strict-data", action="store_true", help="stop (exit 1) at a severe finding on the data; else it is a warning"
    )
    add_shared_flags(how, "--no-cache", "--trust-code", "--threads")
    out = parser.add_argument_group("bundle")
    out.add_argument("--name", help="name of the bundle (default: the model file's)")
    out.add_argument("--version", type=int, metavar="N", help="default: one more than the last made here")
    out.add_argument("--no-sign", action="store_true", help="leave the bundle unsigned; devices refuse it")
    out.add_argument("--keep-failed", action="store_true", help="write the bundle although a goal was missed")
    out.add_argument(
        "--save-recipe", metavar="FILE", type=Path,
        help="write what the first variant was made by as a recipe; of --optimize, what the search came to",
    )  # fmt: skip
    out.add_argument(
        "--report", metavar="DIR", help="put report.json and report.html there (default: beside the bundle)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop_converters.headstart import HeadStart

    check_at_least_one(args, "--threads", "--calibration-samples")
    packs = args.engine != "tflite" and args.scheme != "float"
    with HeadStart(args.model or "", trust_code=args.trust_code, packs=packs) as ahead:
        return _run(args, console, ahead)


def _run(args: argparse.Namespace, console: Console, ahead: HeadStart) -> int:
    from edgeloop_converters.importing import without_garbage_collection

    with without_garbage_collection():
        from edgeloop.bundle import load_or_create_signing_key
        from edgeloop.bundle.files import check_can_write, check_can_write_into
        from edgeloop.bundle.versions import doubt_of_version
        from edgeloop.devices.measurers import check_measures
        from edgeloop_converters.pipeline import convert
        from edgeloop_converters.result import check_output

    recipe = recipe_of(args)
    check_output(args.output)
    if args.report is not None:
        check_can_write_into(Path(args.report), "report")
    if args.save_recipe is not None:
        check_can_write(args.save_recipe, "recipe")
    if args.device:
        check_measures(args.device)
    if args.install_engine:
        from edgeloop_converters.frontends.onnx2tf_env import install

        install(console)
    if (doubt := doubt_of_version(recipe.bundle_name, recipe.version)) is not None:
        console.note(doubt)
    key = None if args.no_sign else load_or_create_signing_key()
    if key is not None and key.created:
        console.note(f"made your signing key {key.fingerprint}; devices need {key.public_path}")
    result = convert(
        recipe, progress=console, trust_code=args.trust_code, threads=args.threads,
        command=command_line("convert", args), strict_data=args.strict_data, cache=not args.no_cache,
        ahead=ahead if args.model else None, device=args.device, tensorboard=args.tensorboard,
        ablation=args.ablation, identity=args.identity,
    )  # fmt: skip
    if result.gate.passed or args.keep_failed:
        result.bundle.save_with(key, args.output)
    report = result.write_report(args.report, beside=args.output)
    if args.save_recipe is not None:
        result.save_recipe(args.save_recipe)
    console.result({**result.to_dict(), "report_html": str(report[1])}, conversion_text(result, report[1]))
    return EXIT_DONE if result.gate.passed else EXIT_GOAL_NOT_MET


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe file, if one was given, with the flags over it. Raises UsageError, ConfigError."""
    from dataclasses import replace

    from edgeloop_converters.contracts import ContractFlags
    from edgeloop_converters.dynamic.steps import shares_of, with_exits
    from edgeloop_converters.goals import parse_agreement, parse_bytes, parse_drop
    from edgeloop_converters.recipe import Recipe
    from edgeloop_converters.recipe_reading import load_recipe
    from edgeloop_converters.recipe_steps import plan_passes
    from edgeloop_converters.schemes import scheme_named
    from edgeloop_converters.shapes import shapes_of

    if not args.model and not args.recipe:
        raise UsageError("which model?", hint="edgeloop convert MODEL --data DIR, or --recipe FILE")
    named = {"source": args.model, "data": args.data, "eval": args.eval}
    recipe = load_recipe(Path(args.recipe), named) if args.recipe else Recipe(args.model)
    goals = {
        "max_drop": None if args.max_drop is None else parse_drop(args.max_drop),
        "min_agreement": None if args.min_agreement is None else parse_agreement(args.min_agreement),
        "p95_ms": args.p95_ms,
        "max_bytes": None if args.max_bytes is None else parse_bytes(args.max_bytes),
    }
    given: dict[str, Any] = {
        "source": args.model, "data": args.data, "evaluation": args.eval, "target": args.target, "name": args.name,
        "version": args.version, "effort": args.effort, "seed": args.seed, "signature": args.signature,
        "onnx_engine": args.onnx_engine, "optimize": args.optimize, "minutes": args.minutes,
        "contract_file": args.contract, "evaluation_samples": args.eval_samples,
        "shapes": None if args.shape is None else shapes_of(args.shape),
        "ignore_labels": args.ignore_labels or None, "repair": False if args.no_repair else None,
    }  # fmt: skip
    changes = {key: value for key, value in given.items() if value is not None}
    if any(value is not None for value in goals.values()):
        changes["goals"] = replace(recipe.goals, **{k: v for k, v in goals.items() if v is not None})
    hints = contract_flags(args)
    if hints != ContractFlags():
        changes["hints"] = hints
    if args.contract:
        changes["contract"] = None
    options = {key: value for key in _SCHEME_FLAGS if (value := getattr(args, key)) is not None}
    if options or any(
        v is not None
        for v in (args.scheme, args.io, args.engine, args.effort, args.calibration_samples, args.calibration)
    ):
        keep, method = None, args.calibration or ""
        if scheme_named(args.scheme or recipe.scheme).calibrated:  # another scheme may do without what a recipe says
            keep = None if args.effort or not recipe.is_calibrated else recipe.calibration_samples
            method = method or ("" if (args.engine or recipe.engine) == "tflite" else recipe.calibration_method)
        own_io, own = ("", {}) if args.scheme else (recipe.io, recipe.scheme_options)
        quantizing = plan_passes(
            args.scheme or recipe.scheme, args.engine or recipe.engine, args.effort or recipe.effort,
            args.calibration_samples or keep, io=args.io or own_io, options={**own, **options},
            method=method,
        )  # fmt: skip
        changes["passes"] = (*recipe.float_passes, *quantizing)
    if args.widths is not None:
        changes["widths"] = shares_of(args.widths, "--widths")
    if args.exits is not None:
        changes["passes"] = with_exits(changes.get("passes", recipe.passes), shares_of(args.exits, "--exits"))
    return replace(recipe, **changes)
