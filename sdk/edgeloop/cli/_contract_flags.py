"""The contract as flags, for the verbs that take a model without one."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.contract import COLORS, INPUT_KINDS, OUTPUT_KINDS, RESIZES
from edgeloop.contract_files import load_labels
from edgeloop.errors import UsageError

if TYPE_CHECKING:
    from edgeloop_converters.contracts import ContractFlags


def add_contract_flags(parser: argparse.ArgumentParser) -> None:
    """`--contract` and one flag per part of it."""
    group = parser.add_argument_group(
        "contract", "what the model eats and means; what is not given is detected and checked against the data"
    )
    group.add_argument("--contract", metavar="FILE", help="contract TOML; single flags win over it")
    group.add_argument(
        "--input-kind", choices=INPUT_KINDS, help="image: pixels of a picture; tensor: numbers as they are"
    )
    group.add_argument("--size", metavar="HxW", help="picture size that the model takes, such as 96x96")
    group.add_argument("--color", choices=COLORS, help="channel order that the model was trained with")
    group.add_argument(
        "--mean", metavar="M", help="model value = (pixel - M) / S; one number or one per channel: 0,0,0"
    )
    group.add_argument("--std", metavar="S", help="see --mean; 255 maps pixels to 0..1")
    group.add_argument("--resize", choices=RESIZES, help="how pictures of another size are brought to --size")
    kinds = ", ".join(OUTPUT_KINDS)
    group.add_argument("--output-kind", metavar="KIND", choices=OUTPUT_KINDS, help=f"what the output means: {kinds}")
    group.add_argument("--labels", metavar="FILE", help="one class name a line, in the order of the model's outputs")


def contract_flags(args: argparse.Namespace) -> ContractFlags:
    """The flags that were given. Raises UsageError, ConfigError for an unreadable labels file."""
    from edgeloop_converters.contracts import ContractFlags

    return ContractFlags(
        kind=args.input_kind,
        size=None if args.size is None else parse_size(args.size),
        color=args.color,
        mean=None if args.mean is None else parse_numbers(args.mean, "--mean"),
        std=None if args.std is None else parse_numbers(args.std, "--std"),
        resize=args.resize,
        output=args.output_kind,
        labels=None if args.labels is None else load_labels(Path(args.labels)),
    )


def parse_size(text: str) -> tuple[int, int]:
    """`96x128` (height x width) or `96` for a square. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})(?:[xX,]([0-9]{1,5}))?", text.strip())
    size = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (0, 0)
    if min(size) < 1:
        raise UsageError(f"--size {text!r} is not a picture size", hint="height x width, such as 96x128")
    return size


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """`127.5` or `123.7,116.3,103.5`. Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{flag} {text!r} is not a list of numbers", hint=f"{flag} 127.5 or {flag} 1,2,3") from None
