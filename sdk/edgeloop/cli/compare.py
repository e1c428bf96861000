"""Compare two models or bundles: size, ops, placement, accuracy, agreement and latency; fail where one got worse."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeloop.cli._console import Console
from edgeloop.cli._contract_flags import add_contract_flags, contract_flags
from edgeloop.cli._shared_flags import add_shared_flags, check_at_least_one
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET
from edgeloop.latency_text import milliseconds

if TYPE_CHECKING:
    from edgeloop_converters.compare import CompareResult
    from edgeloop_converters.compare.sides import Side

EPILOG = """examples:
  edgeloop compare v1.bundle v2.bundle --data test/
  edgeloop compare resnet.h5 ic.bundle --data test/ --target rpi4 --json
  edgeloop compare old.tflite new.tflite --data test/ --fail-on "size>1.1x,drop>0.5pt,agreement<0.98,latency>1.2x"

--fail-on lists what may not be; exit code 1 when one of them is, 2 for a term that is not known:
  size>1.1x or size>120kB, xz>1.1x (compressed), ops>1.0x, latency>1.2x or latency>5ms (median, this host, in turns),
  drop>0.5pt (accuracy of A less that of B), agreement<0.98 (B's answers with A's), unmapped>0 (ops that the target's
  first delegate would not run)."""

_MOST_CHANGES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a bundle, a .tflite, or any model that `convert` reads, module:function too"
    parser.add_argument("a", metavar="A", help=f"what was: {what}")
    parser.add_argument("b", metavar="B", help="what is to be")
    parser.add_argument("--data", metavar="DATA", help="for accuracy and agreement: folder, .npz, or module:function")
    parser.add_argument("--target", metavar="ID", help="for placement (default: the bundles' own)")
    parser.add_argument("--fail-on", metavar="TERMS", help="exit 1 when one holds, see below")
    parser.add_argument("--variant-a", metavar="NAME", help="of bundle A (default: the first)")
    parser.add_argument("--variant-b", metavar="NAME", help="of bundle B (default: the first)")
    add_contract_flags(parser)
    parser.add_argument("--samples", type=int, metavar="N", help="at most N samples (default: all)")
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="inferences of either for latency (200)")
    parser.add_argument("--no-latency", action="store_true", help="do not measure latency")
    parser.add_argument("--allow-unsigned", action="store_true", help="take bundles without a trusted signature")
    add_shared_flags(parser, "--ignore-labels", "--threads", "--trust-code", "--no-cache")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop_converters.compare import compare

    check_at_least_one(args, "--threads", "--samples", "--runs")
    result = compare(
        args.a,
        args.b,
        data=args.data,
        target=args.target,
        fail_on=args.fail_on,
        variants=(args.variant_a, args.variant_b),
        contract=args.contract,
        hints=contract_flags(args),
        ignore_labels=args.ignore_labels,
        samples=args.samples,
        latency=not args.no_latency,
        runs=args.runs,
        threads=args.threads,
        allow_unsigned=args.allow_unsigned,
        trust_code=args.trust_code,
        cache=not args.no_cache,
        progress=console,
    )
    console.result(result.to_dict(), text_of(result))
    return EXIT_DONE if result.passed else EXIT_GOAL_NOT_MET


def text_of(result: CompareResult) -> str:
    """A table of A, B and their ratio; what differs in ops and placement; the verdict."""
    a, b, pairs = result.a, result.b, result.pairs
    lines = [f"A  {a.title}", f"B  {b.title}", "", _row("", "A", "B", "B / A")]
    lines.append(_row("scheme", a.subject.scheme, b.subject.scheme))
    lines.append(_row("size", _bytes(a.bytes), _bytes(b.bytes), _ratio(pairs["size"].ratio)))
    lines.append(_row("xz", _bytes(a.xz_bytes), _bytes(b.xz_bytes), _ratio(pairs["xz"].ratio)))
    lines.append(_row("MACs", f"{a.analysis.macs:,}", f"{b.analysis.macs:,}"))
    lines.append(_row("ops", str(len(a.analysis.ops)), str(len(b.analysis.ops))))
    if a.unmapped is not None and result.target is not None:
        lines.append(_row("unmapped", str(a.unmapped), str(b.unmapped), f"on {result.target.id}"))
    quality = result.quality
    if quality is not None:
        if quality.a is not None:
            lines.append(_row("accuracy", _percent(quality.a), _percent(quality.b), _drop(result.drop)))
        agree = f"{quality.kind}, {quality.samples} samples"
        lines.append(_row("agreement", "", _percent(quality.agreement), agree))
    if a.latency is not None and b.latency is not None:
        p50_a, p95_a, p50_b, p95_b = milliseconds(
            a.latency.p50_ms, a.latency.p95_ms, b.latency.p50_ms, b.latency.p95_ms
        )
        lines += [_row("p50", p50_a, p50_b, _ratio(pairs["latency"].ratio)), _row("p95", p95_a, p95_b, _where(a))]
    shown = result.changes.ops[:_MOST_CHANGES]
    if shown:
        more = "" if len(shown) == len(result.changes.ops) else ", ..."
        lines += ["", "ops that differ: " + ", ".join(f"{c.name} {c.a} -> {c.b}" for c in shown) + more]
    if result.target is not None:
        placed = ", ".join(f"{name} {c.a} -> {c.b}" for name, c in result.changes.placement.items())
        lines.append(f"placement on {result.target.id} (predicted): {placed}")
    if result.outcomes:
        lines += ["", "passed" if result.passed else "FAILED", *(f"  - {reason}" for reason in result.reasons)]
    return "\n".join(lines)


def _row(label: str, a: str, b: str, rest: str = "") -> str:
    return f"{label:<12}{a:>16}{b:>16}   {rest}".rstrip()


def _where(side: Side) -> str:
    latency = side.latency
    assert latency is not None
    return f"{latency.device}, {latency.delegate}, {latency.threads} thread, n = {latency.n} each, in turns"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1000:.1f} kB"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f} %"


def _drop(value: float | None) -> str:
    return "" if value is None else f"{round(-value * 100, 2) + 0.0:+.2f} pt"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}x"
