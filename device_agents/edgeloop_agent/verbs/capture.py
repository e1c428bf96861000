"""`edgeloop-agent capture`: calibration data through the device's own camera."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from edgeloop.errors import EXIT_DONE
from edgeloop.mains import json_text

EPILOG = """examples:
  edgeloop-agent capture --source camera:0 --count 200 -o calib/
  edgeloop-agent capture --source csi: --bundle ic.bundle --count 200 -o calib/      (at the model's own size)
  edgeloop-agent capture --source serial:///dev/ttyUSB0 --count 500 -o calib/        (writes calib/samples.npz)

Then, on the host: edgeloop convert MODEL --data calib/

Frames that look like one that was saved are left out: move the camera, change the light, let things happen.
Ctrl-C ends it with what there is; the same folder again goes on where it was."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", required=True, metavar="SOURCE", help="as of `run`: camera:0, csi:, rtsp://..., serial:///dev/ttyX")
    add("-o", "--output", required=True, type=Path, metavar="DIR", help="where PNG files (or samples.npz) go")
    add("--count", type=int, default=200, metavar="N", help="frames to save (default 200)")
    add("--bundle", type=Path, metavar="FILE", help="save pictures at the size and in the cut that its model sees")
    add("--different", type=float, default=6.0, metavar="LEVELS",
        help="a part of it must differ by so many of 255 levels (default 6; 0: only copies are left out)")  # fmt: skip
    add("--rate", type=float, metavar="FPS", help="look at so many frames per second at most")
    add("--seconds", type=float, metavar="S", help="stop after so long with what there is")
    add("--trust", metavar="PATH", type=Path, action="append", default=[],
        help="accept bundles signed by a key of this .pub file or folder, and no others; may be repeated")  # fmt: skip
    add("--allow-unsigned", action="store_true", help="take the geometry of a bundle that no trusted key signed")


def run(args: argparse.Namespace) -> int:
    for name, value in (("OPENCV_LOG_LEVEL", "SILENT"), ("OPENCV_FFMPEG_LOGLEVEL", "-8")):
        os.environ.setdefault(name, value)  # what matters is said once, by us
    from edgeloop_agent.capture.capture import CaptureSettings, capture

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: end with what there is
    settings = CaptureSettings(
        args.source, args.output, args.count, args.bundle, tuple(args.trust), args.allow_unsigned,
        different=args.different, rate=args.rate, seconds=args.seconds,
    )  # fmt: skip
    done = capture(settings, lambda text: print(text, file=sys.stderr, flush=True))
    target = f" --target {done.target}" if done.target else ""
    following = f"edgeloop convert MODEL --data {done.data}{target}"
    if args.json:
        body = {
            "saved": done.saved, "frames": done.frames, "alike": done.alike, "errors": done.errors,
            "drops": done.drops, "end": done.end, "data": done.data, "next": following,
        }  # fmt: skip
        print(json_text(body), flush=True)
        return EXIT_DONE
    print(
        f"saved {done.saved} of {args.count} in {done.data} (of {done.frames} frames {done.alike} looked alike, "
        f"{done.errors} were damaged, {done.drops} were dropped)\nnext, on the host: {following}"
    )
    return EXIT_DONE
