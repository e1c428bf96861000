"""Early exit: a model with an exit head stops there where that is sure of its answer.

The model is cut in two behind the head when it is opened: the second half runs only where the head's confidence is
below the threshold, on what the first has computed already. Self-tests run both halves, so what is tested is what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigError
from edgeloop.postprocess.confidence import confidence
from edgeloop_agent.activation.second_step import SecondStep

if TYPE_CHECKING:
    from edgeloop.contract import Contract
    from edgeloop.postprocess import Result
    from edgeloop.runtime import Session
    from edgeloop.runtime.joined import JoinedSession
    from edgeloop_agent.activation.settings import ExitSettings
    from edgeloop_agent.worker.pipeline import Pipeline


class EarlyExit:
    """The steps of a Pipeline whose second half may be left out; all of the model is in `invoke`. For one thread."""

    def __init__(self, whole: Pipeline, contract: Contract, exits: ExitSettings, name: str) -> None:
        """whole: of both halves, on a JoinedSession; name: the variant's. Raises ConfigError: head and contract do not
        fit."""
        from edgeloop.postprocess import compile_output
        from edgeloop.runtime.joined import JoinedSession

        joined = whole.session
        assert isinstance(joined, JoinedSession)
        if contract.output.kind != "classification" or contract.output.index == joined.exit:
            raise ConfigError(
                f"exit head '{exits.output}': the contract's output must be another one, and a classification",
                hint="only answers with a confidence can stop early",
            )
        head, answer = joined.first.outputs[0], joined.outputs[contract.output.index]
        if head.shape != answer.shape:
            raise ConfigError(
                f"exit head '{exits.output}' has the shape {list(head.shape)} and the answer {list(answer.shape)}",
                hint="both must score the same classes",
            )
        self._whole, self._joined = whole, joined
        assert exits.threshold is not None  # see `proposals.with_threshold`
        self._threshold = exits.threshold
        self._decode_exit = compile_output(replace(contract.output, index=0, name=""), (head,))
        self._names = f"{name}@{exits.output}", name
        self._result: Result | None = None
        self._second = SecondStep(exits.expected_share)
        self.ran: list[str] = []
        """What answered every inference, until somebody takes them off."""

    @property
    def pipeline(self) -> Pipeline:
        return replace(
            self._whole, invoke=self._invoke, collect=list, decode=self._decode, ran=self.ran, second=self._second
        )

    def _invoke(self) -> None:
        joined = self._joined
        joined.invoke_first()
        result = self._decode_exit([joined.exit_output()])
        is_sure = (confidence(result) or 0.0) >= self._threshold
        self._second.saw(not is_sure)
        if not is_sure:
            joined.invoke_second()
            result = self._whole.decode([joined.output(i) for i in range(len(joined.outputs))])
        self._result = replace(result, variant=self._names[0 if is_sure else 1])

    def _decode(self, _raw: list[Any]) -> Result:
        result = self._result
        assert result is not None
        self.ran.append(result.variant)
        return result


def with_exit(whole: Pipeline, contract: Contract, exits: ExitSettings, name: str) -> Pipeline:
    """See EarlyExit."""
    return EarlyExit(whole, contract, exits, name).pipeline


def open_joined(model: Path | bytes, exits: ExitSettings, open_one: Callable[[bytes], Session]) -> JoinedSession:
    """Raises UsageError where the model has no such head, and whatever `open_one` does."""
    from edgeloop.graph import Graph
    from edgeloop.graph.parts import halves
    from edgeloop.runtime.joined import open_halves

    return open_halves(halves(Graph.read(model), exits.output), open_one)
