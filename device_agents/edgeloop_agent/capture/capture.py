"""`edgeloop-agent capture` as a function: calibration data through the device's own source and geometry.

With a bundle pictures are brought to its model's size the way the agent does it, so what the converter calibrates on is
what the model will see; without one they are kept as the source gives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop_agent.capture.files import DiskFullError, Keeper, keeper_for
from edgeloop_agent.capture.variety import DIFFERENT_LEVELS, Variety
from edgeloop_agent.sources import Source, Wanted, open_source, parse_source
from edgeloop_agent.sources.live import LiveSource

if TYPE_CHECKING:
    from edgeloop.contract import InputSpec

PATIENCE_S = 15.0
_TELL_EVERY_S = 2.0
_POLL_S = 0.25


@dataclass(frozen=True)
class CaptureSettings:
    """different: see `variety.DIFFERENT_LEVELS`; rate: at most so many frames are looked at per second; seconds: stop
    after so long with what there is; patience_s: a live source without a frame for so long is an error."""

    source: str
    output: Path
    count: int
    bundle: Path | None = None
    trust: tuple[Path, ...] = ()
    allow_unsigned: bool = False
    different: float = DIFFERENT_LEVELS
    rate: float | None = None
    seconds: float | None = None
    patience_s: float = PATIENCE_S


@dataclass
class Captured:
    """What became of the frames: frames = saved + alike + errors + drops. end: "count", "end" (of the source), "time",
    "stop" or "disk". data: what `edgeloop convert --data` takes."""

    saved: int = 0
    alike: int = 0
    errors: int = 0
    drops: int = 0
    end: str = ""
    data: str = ""
    target: str = ""

    @property
    def frames(self) -> int:
        return self.saved + self.alike + self.errors + self.drops


def capture(settings: CaptureSettings, tell: Callable[[str], None]) -> Captured:
    """Until `count` frames are saved. Ctrl-C ends it with what there is. `tell` gets lines for people.

    Raises DataError where nothing could be saved, DeviceError for a live source that gives nothing, UsageError,
    RefusedError (bundle).
    """
    if settings.count < 1:
        raise UsageError(f"--count must be at least 1, got {settings.count}")
    spec = parse_source(settings.source)
    wanted, target = wanted_by(settings)
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{settings.output}: {error.strerror}") from error
    source = open_source(spec, wanted)
    session = _Session(settings, str(spec), [each.input for each in wanted.every], source, tell)
    try:
        session.run()
    except KeyboardInterrupt:
        session.done.end = "stop"
    finally:
        source.close()
        if session.keeper is not None:
            session.keeper.close()
    done = session.done
    done.target = target
    if session.keeper is None:
        raise DataError(f"no frame could be saved: {session.reason or f'source {spec} gave none'}")
    return done


def wanted_by(settings: CaptureSettings) -> tuple[Wanted, str]:
    """What the bundle's model takes, and its target; without a bundle pictures of any size. Raises RefusedError."""
    import numpy as np

    from edgeloop.contract import InputSpec

    if settings.bundle is None:
        anything = InputSpec(kind="image", size=(1, 1))
        return Wanted(anything, (), np.dtype(np.uint8), 0.0, 255.0), ""
    from edgeloop.bundle import Bundle, TrustStore

    trust = TrustStore.from_paths(settings.trust) if settings.trust else TrustStore.default()
    manifest = Bundle.open(settings.bundle, trust=trust, allow_unsigned=settings.allow_unsigned).manifest

    def one(spec: InputSpec) -> Wanted:
        return Wanted(spec, (1, *(spec.sample_shape or ())), np.dtype(np.float32), 0.0, 1.0)

    first, *others = [one(spec) for spec in manifest.contract.inputs]
    return Wanted(first.input, first.shape, first.dtype, 0.0, 1.0, tuple(others)), manifest.target


class _MisfitError(DataError):
    """A frame of another kind or shape than the bundle's model takes: so will be all others."""


def _check_fits(spec: InputSpec, frame: Any, source: str) -> None:
    """Raises _MisfitError where no preprocessing brings the frame to the model's input."""
    shape = spec.sample_shape
    if spec.kind == "image":
        what = f"{spec.size[0]}x{spec.size[1]} pixels" if spec.size else "pictures"
    elif shape is None or spec.has_free_sizes or _without_ones(frame.shape) == _without_ones(shape):
        return
    else:
        what = f"samples of shape {list(shape)}"
    raise _MisfitError(
        f"source {source} gives {frame.dtype} {list(frame.shape)}, and the bundle's model takes {what}",
        hint="another --source, or leave out --bundle to keep the frames as they come",
    )


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


class _Session:
    def __init__(
        self,
        settings: CaptureSettings,
        name: str,
        specs: Sequence[InputSpec],
        source: Source,
        tell: Callable[[str], None],
    ) -> None:
        """name: of the source, without its secrets; specs: of the model's inputs."""
        self.done = Captured()
        self.keeper: Keeper | None = None
        self.reason = ""
        self._settings = settings
        self._name = name
        self._specs = specs
        self._source = source
        self._tell = tell
        self._variety = Variety(settings.different)
        self._told_s = time.monotonic()
        self._told = (0, 0, 0)
        self._until_s = float("inf") if settings.seconds is None else self._told_s + settings.seconds
        self._last_event = ""

    def run(self) -> None:
        done, settings = self.done, self._settings
        due_s = time.monotonic()
        while done.saved < settings.count:
            now_s = time.monotonic()
            if now_s >= self._until_s:
                done.end = "time"
                return
            if settings.rate:
                time.sleep(max(0.0, due_s - now_s))
                due_s = max(due_s, now_s - 1.0) + 1.0 / settings.rate
            if not self._one():
                return
            self._progress()
        done.end = "count"

    def _one(self) -> bool:
        """Take a frame, and keep it if it is a new one. False at the end."""
        done = self.done
        try:
            item = self._read()
            if item is None:
                done.end = "end" if time.monotonic() < self._until_s else "time"
                return False
            frame = self._as_seen(item[0])
            self._keep(frame)
        except DiskFullError as error:
            done.end = "disk"
            self._tell(f"stopped: {error.message}")
            return False
        except DataError as error:
            if isinstance(error, _MisfitError) and self.keeper is None:
                raise  # a live source would go on with it for ever
            done.errors += 1
            if not self.reason:
                self.reason = error.message
                self._tell(f"bad frame: {error.message}")
        return True

    def _keep(self, frame: Any) -> None:
        if self.keeper is None:
            self.keeper = keeper_for(frame, self._settings.output, is_rgb=self._specs[0].kind == "tensor")
            self.done.data = self.keeper.data
            there = sum(self._variety.is_new(old) for old in self.keeper.before())
            if there:
                self._tell(f"{there} are there already; frames like them are left out, too")
        if not self._variety.is_new(frame):
            self.done.alike += 1
            return
        self.keeper.keep(frame)
        self.done.saved += 1

    def _read(self) -> tuple[Any, str] | None:
        live = self._source if isinstance(self._source, LiveSource) else None
        if live is None:
            return self._source.read()
        quiet_since_s = time.monotonic()
        while not live.wait(_POLL_S):
            if time.monotonic() >= self._until_s:
                return None
            for kind, detail in live.take_events():
                self._last_event = detail
                self._tell(f"{kind}: {detail}")
            if time.monotonic() - quiet_since_s > self._settings.patience_s:
                why = self._last_event or f"source {self._name}"
                raise DeviceError(f"no frame for {self._settings.patience_s:g} s: {why}")
            self._progress()
        self.done.drops = live.dropped
        return live.read()

    def _as_seen(self, frame: Any) -> Any:
        """In the geometry of the bundle's model."""
        from edgeloop.preprocess import resize
        from edgeloop_agent.capture.variety import is_picture

        if self._settings.bundle is None:
            return frame
        size = self._specs[0].size
        if size is not None and is_picture(frame):
            return resize(frame, size[0], size[1], self._specs[0].resize)
        for spec in self._specs:
            _check_fits(spec, frame[spec.name] if isinstance(frame, Mapping) else frame, self._name)
        return frame

    def _progress(self) -> None:
        now_s, done = time.monotonic(), self.done
        counts = (done.saved, done.alike, done.errors)
        if now_s - self._told_s >= _TELL_EVERY_S and counts != self._told:
            self._told_s, self._told = now_s, counts
            said = f"saved {done.saved} of {self._settings.count} ({done.alike} looked alike, {done.errors} damaged)"
            self._tell(said)
