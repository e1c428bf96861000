"""Which reports a verb is about: the same flags wherever telemetry is read."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from edgeloop.telemetry.times import parse_time

if TYPE_CHECKING:
    from edgeloop.telemetry.reading import Question


def add_device_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="ID", help="only this device")
    parser.add_argument("--bundle", metavar="NAME", help="only this bundle")
    parser.add_argument("--group", metavar="NAME", help="only devices of this group of the collector's registry")
    parser.add_argument("--tag", metavar="KEY=VALUE", help="only devices with this tag of the collector's registry")


def add_report_filters(parser: argparse.ArgumentParser) -> None:
    add_device_filters(parser)
    parser.add_argument("--version", type=int, metavar="N", help="only this version of the bundle")
    parser.add_argument("--since", metavar="TIME", help="2h, 7d, an ISO date or time; by the device's clock")
    parser.add_argument("--until", metavar="TIME", help="the same; what is at that time or later is left out")


def asked(args: argparse.Namespace) -> Question:
    """Of flags as above. Raises UsageError."""
    from edgeloop.telemetry.reading import Question
    from edgeloop.telemetry.store import Selection

    now_s = time.time()
    since_s, until_s = (
        None if text is None else parse_time(text, now_s, flag)
        for flag, text in (("--since", args.since), ("--until", args.until))
    )
    selection = Selection(
        device=args.device, bundle=args.bundle, version=args.version, since_s=since_s, until_s=until_s
    )
    return Question(selection, args.group, args.tag)
