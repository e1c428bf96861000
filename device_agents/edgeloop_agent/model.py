"""`edgeloop_agent.open`: a bundle's model as a callable. A crash of the delegate is a crash of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle import Bundle, TrustStore, Variant
from edgeloop.bundle.needs import check_runtime
from edgeloop.contract_files import with_gallery
from edgeloop.errors import DataError, DelegateError, UsageError
from edgeloop.postprocess import Result
from edgeloop.runtime import DelegateFailure, RanOn, open_session, runtime_info
from edgeloop_agent.activation.early_exit import open_joined, with_exit
from edgeloop_agent.activation.proposals import with_threshold
from edgeloop_agent.activation.settings import parse_exit_head
from edgeloop_agent.arguments import as_count, as_path, as_paths, as_text, as_texts
from edgeloop_agent.worker.buckets import Buckets
from edgeloop_agent.worker.pipeline import FALLBACK_ORDER, Pipeline, build_pipeline, self_test

if TYPE_CHECKING:
    from edgeloop.bundle.manifest import Manifest
    from edgeloop.contract import Contract
    from edgeloop.runtime import Session
    from edgeloop_agent.streaming import StreamItem


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage of one inference."""

    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.preprocess_ms + self.invoke_ms + self.postprocess_ms


@dataclass(frozen=True)
class ModelResult(Result):
    """One decoded inference, see `Result`. ran_on: the delegate that really ran, as `Model.ran_on` tells in full."""

    timing: Timing = field(kw_only=True)
    ran_on: str = field(kw_only=True)


class Model:
    """Call it with a frame: uint8 BGR or gray image as `cv2.imread` gives it, an array of the sample's shape, or a
    dictionary of them for a model with several inputs.

    `ran_on`: what really runs; `variant`: of the bundle (the first shape bucket); `failures`: delegates of the order
    that could not be used, and why; `name`, `version`, `contract`: the bundle's.
    Threads may share it: their calls take turns, for there is one interpreter. For inferences side by side open a model
    per thread (an invoke lets other Python threads run).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        variant: str,
        failures: tuple[DelegateFailure, ...],
        manifest: Manifest,
        contract: Contract,
    ) -> None:
        self._pipeline: Pipeline | None = pipeline
        self._lock = threading.Lock()
        self.ran_on: RanOn = pipeline.session.ran_on
        self.variant = variant
        self.failures = failures
        self.name, self.version = manifest.name, manifest.version
        self.contract = contract

    def __call__(self, frame: Any) -> ModelResult:
        """Raises DataError for a frame that does not fit the contract, DelegateError when the delegate fails,
        UsageError once the model is closed."""
        clock = time.perf_counter_ns
        with self._lock:
            steps = self._opened()
            if steps.ran:
                steps.ran.clear()  # nobody counts here
            t0 = clock()
            try:
                steps.set_input(steps.prepare(frame))
            except (AttributeError, TypeError):
                check_is_array(frame)
                raise
            t1 = clock()
            steps.invoke()
            t2 = clock()
            result = steps.decode(steps.collect())
            t3 = clock()
        timing = Timing((t1 - t0) * 1e-6, (t2 - t1) * 1e-6, (t3 - t2) * 1e-6)
        return ModelResult(**vars(result), timing=timing, ran_on=self.ran_on.ran)

    def batch(self, frames: Iterable[Any]) -> list[ModelResult]:
        """Each frame (or row of an array) as if called alone, in order. Raises as a call does, and says which frame."""
        results = []
        if not isinstance(frames, Iterable) or isinstance(frames, (str, Mapping)):
            raise UsageError(f"batch takes a list of frames, got a {type(frames).__name__}")
        for i, frame in enumerate(frames):
            try:
                results.append(self(frame))
            except DataError as error:
                raise DataError(f"frame {i}: {error.message}", hint=error.hint) from error
        return results

    def stream(
        self,
        source: str,
        *,
        count: int | None = None,
        loop: bool = False,
        on_bad_frame: Callable[[DataError], None] | None = None,
        on_event: Callable[[str, str], object] | None = None,
    ) -> Iterator[StreamItem]:
        """The frames of a source by its URL, as `edgeloop-agent run --source` takes it, with their results.

        count: frames to take; loop: start over at the end. on_bad_frame: called for a frame that cannot be decoded or
        does not fit, which is then passed over; without it the error is raised. on_event: called with kind and detail
        of what happens to a live source ("source_lost", "source_back", "frame_size"); without it that is a
        RuntimeWarning. The source is closed when the iterator is. Raises UsageError, DataError, DeviceError (the source
        is lost).
        """
        from edgeloop_agent.sources import open_source, parse_source
        from edgeloop_agent.streaming import results_of, warn_of

        if not isinstance(source, str):
            raise UsageError(f"a source is a text, got {source!r}", hint="for example 'folder:frames/' or 'camera:0'")
        count = None if count is None else as_count(count, "count", least=0)
        opened = open_source(parse_source(source), self._opened().wanted, loop=loop)
        return results_of(self, opened, count, on_bad_frame, on_event or warn_of)

    def run(self, source: str, callback: Callable[[StreamItem], object], **options: Any) -> int:
        """`callback` for every frame of `stream(source, **options)`, until it returns False; the number of results."""
        done = 0
        for item in self.stream(source, **options):
            done += 1
            if callback(item) is False:
                break
        return done

    def close(self) -> None:
        """Free interpreter and delegate, once a call that runs is done. Again is no error."""
        with self._lock:
            if self._pipeline is not None:
                self._pipeline.close()
            self._pipeline = None

    def _opened(self) -> Pipeline:
        if self._pipeline is None:
            raise UsageError("the model is closed", hint="use it inside `with edgeloop_agent.open(...) as model:`")
        return self._pipeline

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def check_is_array(frame: object) -> None:
    """Raises DataError for what is neither an array nor a dictionary of them."""
    if isinstance(frame, dict) and not frame:
        raise DataError("a frame must be an array, got an empty dictionary")
    for one in frame.values() if isinstance(frame, dict) else (frame,):
        if not hasattr(one, "dtype"):
            what = "None" if one is None else f"a {type(one).__name__}"
            hint = (
                "cv2.imread gives None for a file that it cannot read"
                if one is None
                else "cv2.imread(PATH) reads a picture, numpy.asarray(LIST) makes an array of numbers"
            )
            raise DataError(f"a frame must be an array, got {what}", hint=hint)


def open_model(
    bundle: str | Path,
    *,
    delegates: Sequence[str],
    variant: str | None,
    threads: int,
    gallery: str | Path | None,
    trust: Sequence[str | Path],
    allow_unsigned: bool,
    exit_head: str | None = None,
) -> Model:
    """See `edgeloop_agent.open`."""
    where = as_path(bundle, "bundle", "'ic.bundle'")
    threads = as_count(threads, "threads", least=1)
    names = as_texts(delegates, "delegates", "['edgetpu', 'xnnpack']")
    keys = as_paths(trust, "trust", "['owner.pub']")
    vectors = None if gallery is None else as_path(gallery, "gallery", "'known.npz'")
    store = TrustStore.from_paths(keys) if keys else TrustStore.default()
    opened = Bundle.open(where, trust=store, allow_unsigned=allow_unsigned)
    check_runtime(opened.manifest, runtime_info())
    manifest, golden = opened.manifest, opened.golden()
    contract = manifest.contract if vectors is None else with_gallery(manifest.contract, vectors)
    several = manifest.buckets() if variant is None else ()
    exits = None if exit_head is None else parse_exit_head(as_text(exit_head, "exit_head", "'early:0.8'"))
    if exits is not None:
        exits = with_threshold(exits, opened.report())
    failures: list[DelegateFailure] = []
    for delegate in names or manifest.fallback_order(variant) or FALLBACK_ORDER:
        chosen = manifest.variant_for(delegate, variant)

        def open_file(model: Path | bytes, delegate: str = delegate) -> Session:
            return open_session(model, delegate=delegate, threads=threads)

        def open_one(one: Variant, open_file: Callable[[Path | bytes], Session] = open_file) -> Pipeline:
            model = opened.model(one.name)
            session = open_file(model) if exits is None else open_joined(model, exits, open_file)
            self_test(session, contract, golden, one.name)
            pipeline = build_pipeline(session, contract)
            return pipeline if exits is None else with_exit(pipeline, contract, exits, one.name)

        try:
            pipeline = Buckets(several, contract, open_one).pipeline if several else open_one(chosen)
        except DelegateError as error:
            failures.append(DelegateFailure(delegate, error.message, error.hint or ""))
            continue
        return Model(pipeline, chosen.name, tuple(failures), manifest, contract)
    if not failures:
        raise UsageError("no delegate was named", hint="for example xnnpack or cpu")
    raise DelegateError("; ".join(f.reason for f in failures), hint=failures[-1].fix or None)
