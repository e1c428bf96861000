"""The worker's frame loop: source -> preprocess -> invoke -> postprocess -> sink, with nothing in it that costs.

Per frame: five readings of the clock, one tuple appended to a list, four numbers stored. Everything else (histograms,
messages) happens twice a second in `Recorder.flush`. Result lines are written every 20 ms: a slow model's at once, a
fast one's many at a time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeloop.errors import DataError, DelegateError
from edgeloop.probes import rss_bytes
from edgeloop_agent.activation.steering import SKIPPED, Activation, Moved
from edgeloop_agent.ipc import (
    BEGUN,
    BUSY_SINCE_NS,
    DROPPED,
    ERRORS,
    GATED,
    INFERRED,
    INVOKING_SINCE_NS,
    REUSED,
    SINK_ERRORS,
    SINK_LINES,
    TELLING_SINCE_NS,
    Channel,
    Slots,
)
from edgeloop_agent.sinks import Sink
from edgeloop_agent.sources import Source
from edgeloop_agent.sources.live import LiveSource
from edgeloop_agent.worker.folding import FrameTimes, stage_histograms
from edgeloop_agent.worker.pipeline import Pipeline

FLUSH_EVERY_NS = 500_000_000
WRITE_EVERY_NS = 20_000_000
_LONGEST_SLEEP_S = 0.1  # a stop is noticed after this much waiting for the next frame


@dataclass
class Control:
    """`stopping` is set by the signal handler; the loop finishes its frame and ends."""

    stopping: bool = False


class Recorder:
    """Collects what the loop measures and sends it; `flush` may be called by the loop and by the heartbeat thread."""

    def __init__(
        self,
        channel: Channel,
        slots: Slots,
        sinks: Sequence[Sink],
        control: Control,
        ran: list[str] | None = None,
        statistics: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """ran: see Pipeline; statistics: see Activation."""
        self._ran = ran
        self._statistics = statistics
        self.times: list[FrameTimes] = []
        self.last_flush_ns = time.perf_counter_ns()
        self._channel = channel
        self._slots = slots
        self._sinks = sinks
        self._control = control
        self._said: set[str] = set()
        self._failed_sinks: list[Sink] = []
        self._lock = threading.Lock()

    def flush(self) -> None:
        """Send the latencies gathered since the last time, and let the sinks write. This is the heartbeat, too."""
        with self._lock:
            self.last_flush_ns = time.perf_counter_ns()
            # Taken from the front of the list, step by step atomic, while the loop may append to its end.
            count = len(self.times)
            taken = self.times[:count]
            del self.times[:count]
            self._write()
            message: dict[str, Any] = {
                "kind": "stats", "latency": stage_histograms(taken), "rss_bytes": rss_bytes() or 0,
                **self._statistics(),
            }  # fmt: skip
            if self._ran:
                names = self._ran[: len(self._ran)]
                del self._ran[: len(names)]
                message["variants"] = dict(Counter(names))
            self._channel.send(message)

    def write(self) -> None:
        """Let the sinks write. What they still hold is lost with this process."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        for sink in self._sinks:
            sink.flush()
            if sink.closed:  # the reader of a pipe has gone, as in `... --sink jsonl:- | head`
                self._control.stopping = True
            elif sink.problem and sink not in self._failed_sinks:
                self._failed_sinks.append(sink)
                self.event("sink_failed", sink.problem)
        self._slots[SINK_ERRORS] = sum(sink.lost for sink in self._sinks)
        self._slots[SINK_LINES] = sum(sink.lines for sink in self._sinks)

    def close(self) -> None:
        """The last flush; closes the sinks."""
        self.flush()
        for sink in self._sinks:
            sink.close()
        self._slots[SINK_ERRORS] = sum(sink.lost for sink in self._sinks)
        self._slots[SINK_LINES] = sum(sink.lines for sink in self._sinks)

    def moved(self, move: Moved) -> None:
        """Tell the supervisor that something else runs from now on; what was measured before goes first."""
        self.flush()
        said = {"event": move.kind, "detail": move.detail, "variant": move.program, "ran_on": asdict(move.ran_on)}
        self._channel.send({"kind": "event", **said})

    def event(self, event: str, detail: str) -> None:
        """Tell the supervisor."""
        self._channel.send({"kind": "event", "event": event, "detail": detail})

    def event_once(self, event: str, detail: str) -> None:
        """Tell the supervisor, the first time only: a thousand bad frames are one event and a counter."""
        if event not in self._said:
            self._said.add(event)
            self.event(event, detail)


def run_loop(
    pipeline: Pipeline,
    source: Source,
    sinks: Sequence[Sink],
    recorder: Recorder,
    slots: Slots,
    control: Control,
    *,
    count: int | None,
    period_s: float = 0.0,
    activation: Activation | None = None,
    recheck: Callable[[int, Callable[[], None]], None] | None = None,
) -> str:
    """Run until the source ends ("end"), `count` frames were taken ("count") or a stop was asked for ("stop").

    Raises DelegateError when the model fails while it runs, DeviceError when the source is lost.
    """
    read, prepare, set_input = source.read, pipeline.prepare, pipeline.set_input
    invoke, collect, decode = pipeline.invoke, pipeline.collect, pipeline.decode
    clock, wall_clock = time.perf_counter_ns, time.time
    record = recorder.times.append
    limit = -1 if count is None else count
    begun = inferred = errors = gated = reused = 0
    due_s, write_ns = time.monotonic(), clock()
    known: Any = None
    live = source if isinstance(source, LiveSource) else None
    is_shown = any(sink.wants_frame for sink in sinks)
    if activation is not None:
        activation.follow(live)

    def tell(name: str, result: Any, since_ns: int, now_ns: int, frame: Any) -> None:
        latency_ns = now_ns - since_ns
        captured_s = wall_clock() - latency_ns * 1e-9
        if is_shown:
            slots[TELLING_SINCE_NS] = clock()
        for sink in sinks:
            sink.write(name, captured_s, result, latency_ns * 1e-6, frame)
        if is_shown:
            slots[TELLING_SINCE_NS] = 0

    def at_work() -> None:
        slots[BUSY_SINCE_NS] = clock()

    def keep_house(since_ns: int, now_ns: int) -> None:
        nonlocal write_ns
        if activation is not None:
            move = activation.worked(since_ns, now_ns)
            if move is not None:
                recorder.moved(move)
        if now_ns - recorder.last_flush_ns >= FLUSH_EVERY_NS:
            recorder.flush()
            if recheck is not None:
                recheck(now_ns, at_work)
                slots[BUSY_SINCE_NS] = 0
        elif now_ns >= write_ns:
            recorder.write()
            write_ns = now_ns + WRITE_EVERY_NS

    while begun != limit:
        if period_s:
            due_s = _wait_until(due_s, control) + period_s
        if live is not None:
            _await_frame(live, recorder, control)
        if control.stopping:
            return "stop"
        # From here to the decoded result a hang is noticed, and a crash costs this one frame.
        slots[BUSY_SINCE_NS] = t0 = began_ns = clock()
        try:
            item = read()
        except DataError as error:
            begun, errors = begun + 1, errors + 1
            slots[BUSY_SINCE_NS], slots[BEGUN], slots[ERRORS] = 0, begun, errors
            recorder.event_once("bad_input", str(error))
            continue
        if item is None:
            slots[BUSY_SINCE_NS] = 0
            return "end"
        frame, name = item
        begun += 1
        t1 = clock()
        slots[BEGUN] = begun
        if live is not None:  # latency counts from when the frame was there
            t0, slots[DROPPED] = live.captured_ns, live.dropped
        try:
            if activation is not None:
                known = activation.admit(frame, t1)
            array = prepare(frame) if known is None else None
            del item
            if not is_shown:
                frame = None  # its memory, still in the CPU's cache, is there for the next frame
        except DelegateError:  # a variant that opens when its first sample comes
            raise
        except Exception as error:  # whatever a frame provokes (cv2.error among them) is that frame's fault
            errors += 1
            slots[BUSY_SINCE_NS], slots[ERRORS] = 0, errors
            recorder.event_once("bad_input", f"{name}: {error}")
            continue
        if known is not None:
            gated += 1
            slots[BUSY_SINCE_NS], slots[GATED] = 0, gated
            t4 = clock()
            if known is not SKIPPED:
                reused += 1
                slots[REUSED] = reused
                tell(name, known, t0, t4, frame)
            keep_house(began_ns, t4)
            continue
        try:
            set_input(array)
            slots[INVOKING_SINCE_NS] = t2 = clock()
            invoke()
            t3 = clock()
            slots[INVOKING_SINCE_NS] = 0
            raw = collect()
        except (RuntimeError, ValueError) as error:
            raise DelegateError(f"the model failed while it ran: {' '.join(str(error).split())[:200]}") from error
        try:
            result = decode(raw)
        except DataError as error:  # what the model answers is no answer
            errors += 1
            slots[BUSY_SINCE_NS], slots[ERRORS] = 0, errors
            recorder.event_once("bad_output", f"{name}: {error}")
            continue
        t4 = clock()
        record((t0, t1, t2, t3, t4))
        inferred += 1
        slots[BUSY_SINCE_NS] = 0
        slots[INFERRED] = inferred
        if activation is not None:
            activation.inferred(result, (t0, t1, t2, t3, t4))
        if sinks:
            tell(name, result, t0, t4, frame)
        keep_house(began_ns, t4)
    return "count"


def _await_frame(source: LiveSource, recorder: Recorder, control: Control) -> None:
    """Until there is one, or a stop is asked for. Raises DeviceError."""
    is_there = False
    while not is_there and not control.stopping:
        is_there = source.wait(_LONGEST_SLEEP_S)
        for kind, detail in source.take_events():
            recorder.event(kind, detail)
        if not is_there:
            recorder.write()


def _wait_until(due_s: float, control: Control) -> float:
    """Sleep until `due_s` on the monotonic clock; the time to count the next period from. Late: from now, no burst."""
    while not control.stopping:
        left = due_s - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, _LONGEST_SLEEP_S))
    return max(due_s, time.monotonic() - _LONGEST_SLEEP_S)
