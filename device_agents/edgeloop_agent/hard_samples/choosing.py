"""The worker's part: which inputs are hard, and new among those that were kept, as a sink of the frame loop.

In the loop it costs a comparison or two per result; looking, encoding and writing is a thread's, one sample at a time:
what comes while it is busy is passed over.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError
from edgeloop.telemetry.samples.wire import MAX_RESULT_CHARS, MAX_SAMPLE_BYTES, About
from edgeloop_agent.hard_samples.folder import SampleFolder
from edgeloop_agent.hard_samples.settings import HardSampleSettings

if TYPE_CHECKING:
    from edgeloop.contract import InputSpec
    from edgeloop.postprocess import Result
    from edgeloop_agent.activation.steering import Activation
    from edgeloop_agent.worker.pipeline import Pipeline

_DAY_S = 86400
LOW_CONFIDENCE, AUDIT_DISAGREEMENT = "low_confidence", "audit_disagreement"


def certainty(result: Result) -> float | None:
    """Of the best class, else of the best detection; None for what has neither."""
    from edgeloop.postprocess.confidence import confidence

    sure = confidence(result)
    if sure is None and result.detections:
        sure = result.detections[0].score
    return sure


class HardSamples:
    """A `Sink` that counts no lines: results are not what it is for.

    disagreements: how many audits of the gate found another result, up to now.
    """

    lines = lost = 0
    closed = False
    wants_frame = True

    def __init__(
        self,
        settings: HardSampleSettings,
        folder: Path,
        spec: InputSpec,
        *,
        bundle: str,
        version: int,
        variant: str,
        is_rgb: bool,
        disagreements: Callable[[], int] = lambda: 0,
    ) -> None:
        self.problem = ""
        self._settings, self._spec, self._is_rgb = settings, spec, is_rgb
        self._model = (bundle, version, variant)
        self._folder = SampleFolder(folder)
        self._disagreements, self._seen = disagreements, disagreements()
        self._kept = self._passed_over = 0
        self._told = (0, 0)
        self._full_until_s = 0.0
        self._job: tuple[float, Result, Any, str, float | None] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="hard samples", daemon=True)
        self._thread.start()

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        if result.reused or frame is None:
            return
        sure = certainty(result)
        reason = self._reason(sure)
        if not reason:
            return
        with self._changed:
            if self._job is not None or self._closing or time.time() < self._full_until_s:
                self._passed_over += 1
                return
            # A copy: a source may put the next frame where this one is.
            self._job = (time_s, result, _copied(frame), reason, sure)
            self._changed.notify()

    def _reason(self, sure: float | None) -> str:
        count = self._disagreements()
        if count != self._seen:
            self._seen = count
            if self._settings.audit_disagreements:
                return AUDIT_DISAGREEMENT
        return LOW_CONFIDENCE if sure is not None and sure < self._settings.below_confidence else ""

    def flush(self) -> None:
        pass

    def statistics(self) -> dict[str, int]:
        """Counters since the last call."""
        now = (self._kept, self._passed_over)
        before, self._told = self._told, now
        return {"hard_samples_kept": now[0] - before[0], "hard_samples_passed_over": now[1] - before[1]}

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        from edgeloop_agent.capture.variety import Variety

        variety, day = Variety(), ""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None or self._closing)
                if self._job is None:
                    return
                time_s, result, frame, reason, sure = self._job
            if day != self._folder.day():  # what was new yesterday may be worth seeing again
                variety, day = Variety(), self._folder.day()
            try:
                is_kept = self._keep(time_s, result, frame, reason, sure, variety)
                self.problem = ""
            except OSError as error:
                is_kept, self.problem = False, f"hard samples: {error.strerror or error}"
            except Exception as error:  # whatever a frame provokes, cv2.error above all
                is_kept, self.problem = False, f"hard samples: {' '.join(str(error).split())[:200]}"
            with self._changed:
                self._job = None
                self._kept += is_kept
                self._passed_over += not is_kept

    def _keep(self, time_s: float, result: Result, frame: Any, reason: str, sure: float | None, variety: Any) -> bool:
        """Whether it was: there is room in the quota, and nothing like it was kept today."""
        from edgeloop_agent.capture.files import check_room

        settings = self._settings
        if self._folder.kept_today() >= settings.max_per_day:
            self._full_until_s = (time.time() // _DAY_S + 1) * _DAY_S
            return False
        frame = self._as_seen(frame)
        if not variety.is_new(frame):
            return False
        kind, data = encoded(frame, is_rgb=self._is_rgb)
        if len(data) > MAX_SAMPLE_BYTES or self._folder.waiting_bytes() + len(data) > settings.max_bytes:
            return False
        bundle, version, variant = self._model
        answer = json.dumps(result.to_json())
        if len(answer) > MAX_RESULT_CHARS:
            answer = json.dumps({"kind": result.kind, "label": result.label, "score": result.score})
        about = About(kind, reason, bundle, version, result.variant or variant, max(0.0, time_s), sure, answer)
        self._folder.make()
        check_room(self._folder.path, len(data))
        self._folder.put(data, about)
        return True

    def _as_seen(self, frame: Any) -> Any:
        """A picture in the size that the model takes, as `capture` keeps them; anything else as it is."""
        from edgeloop.preprocess import resize
        from edgeloop_agent.capture.variety import is_picture

        size = self._spec.size
        return frame if size is None or not is_picture(frame) else resize(frame, size[0], size[1], self._spec.resize)


def _copied(frame: Any) -> Any:
    import numpy as np

    return {name: np.array(part) for name, part in frame.items()} if isinstance(frame, Mapping) else np.array(frame)


def encoded(frame: Any, *, is_rgb: bool) -> tuple[str, bytes]:
    """(kind of file, its bytes), without loss: PNG of a picture, else .npz: `x`, or an array for each of several
    inputs. Raises DataError."""
    import numpy as np

    from edgeloop_agent.capture.variety import is_picture

    if is_picture(frame):
        import cv2

        if is_rgb and frame.ndim == 3 and frame.shape[2] == 3:
            frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".png", frame)
        if not done:
            raise DataError("the frame cannot be written as PNG")
        return "png", data.tobytes()
    out = io.BytesIO()
    arrays: dict[str, Any] = dict(frame) if isinstance(frame, Mapping) else {"x": frame}
    samples: dict[str, Any] = {name: np.asarray(part)[None] for name, part in arrays.items()}
    np.savez(out, **samples)
    return "npz", out.getvalue()


def open_hard_samples(
    start: Mapping[str, Any], pipeline: Pipeline, variant: str, activation: Activation | None
) -> HardSamples | None:
    """As the start message wants it; None where it is off."""
    told = start.get("hard_samples")
    if told is None:
        return None
    from edgeloop.bundle.limits import MANIFEST
    from edgeloop.bundle.manifest_reading import decode_manifest

    values = dict(told)
    folder = Path(values.pop("folder"))
    manifest = decode_manifest((Path(start["bundle"]) / MANIFEST).read_bytes())
    return HardSamples(
        HardSampleSettings(**values),
        folder,
        pipeline.wanted.input,
        bundle=manifest.name,
        version=manifest.version,
        variant=variant,
        is_rgb=pipeline.wanted.input.kind == "tensor",
        disagreements=(lambda: 0) if activation is None else (lambda: activation.audit_differences),
    )


def with_counters(statistics: Callable[[], Mapping[str, Any]], hard: HardSamples) -> Callable[[], dict[str, Any]]:
    """The same statistics (see `Activation.statistics`), with what was kept among the counters."""

    def both() -> dict[str, Any]:
        found = statistics()
        return {**found, "counters": {**found.get("counters", {}), **hard.statistics()}}

    return both
