"""The worker process: opens the model on one delegate, tests it on the golden samples, and runs the frame loop.

Started by the supervisor with the numbers of two inherited file descriptors, the socket and the page of `ipc`. Whatever
goes wrong becomes one `fault` message, or its death; what follows from that is the supervisor's to decide.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DelegateError, DeviceError, EdgeloopError, UsageError, install_hint
from edgeloop.runtime.child import die_with_parent
from edgeloop_agent.hard_samples.choosing import open_hard_samples, with_counters
from edgeloop_agent.ipc import Channel, Page
from edgeloop_agent.sinks import Surroundings, open_sink
from edgeloop_agent.sources.shared import open_frames
from edgeloop_agent.worker.loop import Control, Recorder, run_loop

if TYPE_CHECKING:
    from edgeloop.bundle import Variant
    from edgeloop.runtime import Session
    from edgeloop_agent.activation.steering import Activation
    from edgeloop_agent.worker.pipeline import Pipeline
    from edgeloop_agent.worker.recheck import SelfTest

HEARTBEAT_S = 1.0
_OOM_SCORE = "500"
_TIDY_EVERY = 20  # beats


def main(argv: Sequence[str]) -> int:
    """`argv`: socket fd, page fd."""
    channel = Channel(socket.socket(fileno=int(argv[0])))
    page = Page(int(argv[1]))
    die_with_parent()  # where that is too late, or a wrapper is in between, the next message fails and ends it
    _die_before_parent()
    # What C libraries print to stdout would end up between the results of `jsonl:-`.
    stdout_fd = os.dup(1)
    os.dup2(2, 1)
    control = Control()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's business
    signal.signal(signal.SIGTERM, lambda *_: setattr(control, "stopping", True))
    start = _first_message(channel)
    if start is None:
        return 1
    try:
        reason = _work(start, channel, page, control, stdout_fd)
    except OSError as error:
        if isinstance(error, ConnectionError):  # the supervisor is gone
            return 1
        return _send_fault(channel, _unexpected(error))
    except EdgeloopError as error:
        return _send_fault(channel, _deliberate(error))
    except ModuleNotFoundError as error:  # no other worker would find it
        missing = UsageError(f"Python module {error.name} is not installed here", hint=install_hint("agent"))
        return _send_fault(channel, _deliberate(missing))
    except Exception as error:  # a defect or out of memory: one line for the supervisor, who decides
        return _send_fault(channel, _unexpected(error))
    channel.send({"kind": "done", "reason": reason})
    return 0


class _CannotStartError(DelegateError):
    """The delegate cannot be loaded, or computes something else than the golden outputs: trying again is no use."""


def _work(start: Mapping[str, Any], channel: Channel, page: Page, control: Control, stdout_fd: int) -> str:
    """Everything between the start message and the end of the source."""
    began = time.perf_counter()
    variant, pipeline, activation, self_test = _open_model(start)
    where = Surroundings(stdout_fd, is_rgb=pipeline.wanted.input.kind == "tensor")
    sinks = [open_sink(text, where) for text in start["sinks"]]
    source = open_frames(start, pipeline.wanted)
    statistics = dict if activation is None else activation.statistics
    if (hard := open_hard_samples(start, pipeline, variant, activation)) is not None:
        sinks.append(hard)
        statistics = with_counters(statistics, hard)
    recorder = Recorder(channel, page.slots, sinks, control, pipeline.ran, statistics)
    ready = {
        "ran_on": asdict(pipeline.session.ran_on),
        "load_ms": (time.perf_counter() - began) * 1e3,
        "golden": self_test.results[0],
        "opened": variant,
        "variant": "" if activation is None else activation.level.program.name,
    }
    channel.send({"kind": "ready", **ready})
    for text in getattr(source, "notes", ()):
        channel.send({"kind": "event", "event": "source", "detail": text})
    for text in () if activation is None else activation.shortcomings:
        channel.send({"kind": "event", "event": "governor", "detail": text})
    stop_heart = threading.Event()
    heart = threading.Thread(target=_beat, args=(recorder, stop_heart), name="heartbeat", daemon=True)
    heart.start()
    # What is alive now stays alive: the collector need not walk over it again and again.
    gc.collect()
    gc.freeze()
    rate = start["rate"]
    try:
        reason = run_loop(
            pipeline, source, sinks, recorder, page.slots, control,
            count=start["count"], period_s=1 / rate if rate else 0.0, activation=activation,
            recheck=self_test.again,
        )  # fmt: skip
    finally:
        stop_heart.set()
        heart.join(timeout=5)
        recorder.close()
        source.close()
    return reason


def _open_model(start: Mapping[str, Any]) -> tuple[str, Pipeline, Activation | None, SelfTest]:
    """A variant's pipeline on the delegate asked for, after its golden self-test, what steers it, and the test. Raises
    EdgeloopError.
    """
    from edgeloop.bundle.golden import decode_golden
    from edgeloop.bundle.limits import GOLDEN, MANIFEST, REPORT
    from edgeloop.bundle.manifest_reading import decode_manifest
    from edgeloop.bundle.needs import check_runtime
    from edgeloop.contract_files import with_gallery
    from edgeloop.runtime import open_session, runtime_info
    from edgeloop_agent.activation.early_exit import open_joined, with_exit
    from edgeloop_agent.activation.proposals import read_report, with_proposal
    from edgeloop_agent.activation.settings import ActivationSettings
    from edgeloop_agent.worker.buckets import Buckets
    from edgeloop_agent.worker.pipeline import build_pipeline
    from edgeloop_agent.worker.recheck import SelfTest

    staged = Path(start["bundle"])
    manifest = decode_manifest((staged / MANIFEST).read_bytes())
    check_runtime(manifest, runtime_info())
    variant = manifest.variant_for(start["delegate"], start["variant"])
    golden = None
    if manifest.golden is not None:
        golden = decode_golden(manifest.golden, (staged / GOLDEN).read_bytes())
    contract = manifest.contract
    if start["gallery"] is not None:
        contract = with_gallery(contract, Path(start["gallery"]))
    self_test = SelfTest(manifest.contract, golden, start["recheck_s"])

    settings = None if start["activation"] is None else ActivationSettings.from_dict(start["activation"])
    if settings is not None and settings.exit_head is not None:
        proposed = with_proposal(settings.exit_head, variant.name, read_report(staged / REPORT))
        settings = replace(settings, exit_head=proposed)
    several = manifest.buckets() if start["variant"] is None else ()

    def open_file(model: Path | bytes) -> Session:
        return open_session(model, delegate=start["delegate"], threads=start["threads"])

    def open_one(one: Variant) -> Pipeline:
        exits = None if settings is None or one.name != variant.name else settings.exit_head
        try:
            session = (
                open_file(staged / one.file) if exits is None else open_joined(staged / one.file, exits, open_file)
            )
            self_test.opened(session, one.name)
        except DelegateError as error:
            raise _CannotStartError(error.message, hint=error.hint) from error
        pipeline = build_pipeline(session, contract)
        return pipeline if exits is None else with_exit(pipeline, manifest.contract, exits, one.name)

    pipeline = Buckets(several, contract, open_one).pipeline if several else open_one(variant)
    if settings is None:
        return variant.name, pipeline, None, self_test
    from edgeloop_agent.activation.programs import open_activation

    period_s = 1 / start["rate"] if start["rate"] else 0.0
    activation = open_activation(
        settings,
        manifest,
        variant,
        pipeline,
        open_one,
        is_bucketed=bool(several),
        period_s=period_s,
        report=staged / REPORT,
    )
    return variant.name, activation.pipeline, activation, self_test


def _beat(recorder: Recorder, stop: threading.Event) -> None:
    """Speak for the loop while it waits for a frame (a busy loop speaks for itself). Now and then a full collection, as
    in the supervisor: 10 us, for all that was alive at the start is frozen."""
    for beat in count(1):
        if stop.wait(HEARTBEAT_S / 2):
            return
        if beat % _TIDY_EVERY == 0:
            gc.collect()
        if time.perf_counter_ns() - recorder.last_flush_ns > HEARTBEAT_S * 0.75e9:
            try:
                recorder.flush()
            except OSError:  # the supervisor is gone, and this process with it
                os._exit(1)


def _first_message(channel: Channel) -> dict[str, Any] | None:
    while True:
        messages = channel.receive()
        if messages is None:
            return None
        if messages:
            return messages[0]


def _deliberate(error: EdgeloopError) -> dict[str, Any]:
    blame = "fatal"
    if isinstance(error, _CannotStartError):
        blame = "start"
    elif isinstance(error, DelegateError):
        blame = "run"
    elif isinstance(error, DeviceError):
        blame = "source"
    return {"blame": blame, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def _unexpected(error: Exception) -> dict[str, Any]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    text = " ".join(str(error).split())[:200]
    return {"blame": "other", "message": f"{type(error).__name__} at {where}: {text}", "hint": None, "exit_code": 1}


def _send_fault(channel: Channel, fault: Mapping[str, Any]) -> int:
    try:
        channel.send({"kind": "fault", **fault})
    except OSError:
        return 1
    return int(fault["exit_code"])


def _die_before_parent() -> None:
    """When memory runs out the kernel takes this process, and the supervisor can start another."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
