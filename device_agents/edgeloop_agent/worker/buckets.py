"""One model in several shapes: each sample runs on the smallest that holds it. Interpreters open when first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.contract import Contract
from edgeloop.errors import DataError
from edgeloop_agent.worker.pipeline import Pipeline

if TYPE_CHECKING:
    from edgeloop.bundle import Variant
    from edgeloop.postprocess import Result


class Buckets:
    """The steps of a Pipeline over several variants. For one thread, in the order of the steps.

    open_one: a variant's pipeline, tested; raises DelegateError. The first variant is opened at once.
    """

    def __init__(
        self, variants: Sequence[Variant], contract: Contract, open_one: Callable[[Variant], Pipeline]
    ) -> None:
        self._variants = variants
        self._specs = contract.inputs
        self._shapes = [variant.input_shapes for variant in variants]
        self._open_one = open_one
        self._open: dict[int, Pipeline] = {0: open_one(variants[0])}
        self._at = 0
        self._now = self._open[0]
        self.ran: list[str] = []
        """The variant of every inference, until somebody takes them off."""

    @property
    def pipeline(self) -> Pipeline:
        """As one pipeline; `session` is the first variant's."""
        first = self._open[0]
        return replace(
            first, prepare=self._prepare, set_input=self._set_input, invoke=self._invoke, collect=self._collect,
            decode=self._decode, close=self._close, ran=self.ran,
        )  # fmt: skip

    def _prepare(self, frame: Any) -> Any:
        from edgeloop.padding import smallest_holding

        at = smallest_holding(self._specs, frame, self._shapes)
        if at is None:
            raise DataError(
                f"the sample is larger than the largest shape of this bundle: {self._largest()}",
                hint="convert with a larger --shape, or give shorter samples",
            )
        if at not in self._open:
            self._open[at] = self._open_one(self._variants[at])
        self._at, self._now = at, self._open[at]
        return self._now.prepare(frame)

    def _set_input(self, array: Any) -> None:
        self._now.set_input(array)

    def _invoke(self) -> None:
        self._now.invoke()

    def _collect(self) -> list[Any]:
        return self._now.collect()

    def _decode(self, raw: list[Any]) -> Result:
        name = self._variants[self._at].name
        self.ran.append(name)
        return replace(self._now.decode(raw), variant=name)

    def _close(self) -> None:
        for pipeline in self._open.values():
            pipeline.close()

    def _largest(self) -> str:
        shapes = max(self._shapes, key=lambda group: sum(sum(shape) for shape in group))
        return ", ".join("x".join(map(str, shape)) for shape in shapes)
