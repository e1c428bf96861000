"""A cascade: a light variant answers, and a heavy one where the light one is not sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.postprocess.confidence import confidence
from edgeloop_agent.activation.second_step import SecondStep

if TYPE_CHECKING:
    from edgeloop.postprocess import Result
    from edgeloop_agent.worker.pipeline import Pipeline

FIRST_SHARE = 0.3
"""Of frames that need the heavy variant, until it is known."""


class Cascade:
    """Two pipelines as one. All of it that is the models' happens in `invoke`, so the stage's latency is honest.

    threshold: a confidence (see `edgeloop.postprocess.confidence`) from which the light one's answer stands.
    """

    def __init__(
        self, light: Pipeline, heavy: Pipeline, names: tuple[str, str], threshold: float, escalated: Callable[[], None]
    ) -> None:
        """escalated: called for every frame that needs the heavy one."""
        self._light, self._heavy = light, heavy
        self._names = names
        self._threshold = threshold
        self._escalated = escalated
        self._frame: Any = None
        self._result: Result | None = None
        self._second = SecondStep(FIRST_SHARE)

    @property
    def pipeline(self) -> Pipeline:
        """As one pipeline; `session` is the heavy one's."""
        return replace(
            self._heavy, prepare=self._prepare, set_input=self._light.set_input, invoke=self._invoke,
            collect=list, decode=self._decode, second=self._second,
        )  # fmt: skip

    def _prepare(self, frame: Any) -> Any:
        self._frame = frame
        return self._light.prepare(frame)

    def _invoke(self) -> None:
        self._light.invoke()
        result = self._light.decode(self._light.collect())
        sure = confidence(result)
        is_sure = sure is None or sure >= self._threshold
        self._second.saw(not is_sure)
        if not is_sure:
            self._escalated()
            heavy = self._heavy
            heavy.set_input(heavy.prepare(self._frame))
            heavy.invoke()
            result = heavy.decode(heavy.collect())
        self._result = replace(result, variant=self._names[0 if is_sure else 1])
        self._frame = None

    def _decode(self, _raw: list[Any]) -> Result:
        assert self._result is not None
        return self._result
