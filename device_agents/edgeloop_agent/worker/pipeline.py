"""One model ready to run: preprocessing, session and decoding together, for the worker and `edgeloop_agent.open`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeloop.contract import Contract, InputSpec
from edgeloop.errors import DelegateError
from edgeloop_agent.sources import Wanted

if TYPE_CHECKING:
    from edgeloop.bundle import Golden
    from edgeloop.postprocess import Result
    from edgeloop.runtime import Session, TensorInfo
    from edgeloop_agent.activation.second_step import SecondStep

FALLBACK_ORDER = ("xnnpack", "cpu")
"""For a variant whose bundle names no delegates."""


@dataclass(frozen=True)
class Pipeline:
    """The steps of one inference, in the order they are called.

    prepare(frame) -> what the model takes, an array [1, ...] in its dtype, or one for each of several inputs (DataError
    for a frame that fails its checks); set_input(that); invoke(); collect() -> raw output arrays; decode(raw) ->
    Result. ran: where variants take turns, which one each inference ran on, until somebody takes them off. second: how
    often an inference needs a second step, None where there is none.
    """

    session: Session
    prepare: Callable[[Any], Any]
    set_input: Callable[[Any], None]
    invoke: Callable[[], None]
    collect: Callable[[], list[Any]]
    decode: Callable[[list[Any]], Result]
    wanted: Wanted
    close: Callable[[], None]
    ran: list[str] | None = None
    second: SecondStep | None = None


def build_pipeline(session: Session, contract: Contract) -> Pipeline:
    """Raises ConfigError where contract and model do not fit together."""
    from edgeloop.preprocess import compile_input, compile_inputs
    from edgeloop_agent.worker.seeing import decoding

    prepare: Callable[[Any], Any] = compile_inputs(contract.inputs, session.inputs)
    wanted = [_wanted(spec, tensor) for spec, tensor in zip(contract.inputs, session.inputs, strict=True)]
    session_set, output = session.set_input, session.output

    def set_one(array: Any) -> None:
        session_set(0, array)

    def set_all(arrays: Any) -> None:
        for i, array in enumerate(arrays):
            session_set(i, array)

    if len(wanted) == 1:  # no tuple to make and take apart for every frame
        prepare = compile_input(contract.inputs[0], session.inputs[0])
    count = len(session.outputs)
    prepare, decode = decoding(contract, session, prepare)
    return Pipeline(
        session=session,
        prepare=prepare,
        set_input=set_one if len(wanted) == 1 else set_all,
        invoke=session.invoke,
        collect=(lambda: [output(0)]) if count == 1 else (lambda: [output(i) for i in range(count)]),
        decode=decode,
        wanted=replace(wanted[0], others=tuple(wanted[1:])),
        close=session.close,
    )


def _wanted(spec: InputSpec, tensor: TensorInfo) -> Wanted:
    import numpy as np

    lowest, highest = 0.0, 1.0
    if tensor.affine.is_quantized:
        info = np.iinfo(tensor.dtype)
        lowest, highest = (tensor.affine.scale * (code - tensor.affine.zero_point) for code in (info.min, info.max))
    elif tensor.dtype.kind in "iu":
        highest = lowest
    return Wanted(spec, tuple(tensor.shape), tensor.dtype, lowest, highest)


def self_test(session: Session, contract: Contract, golden: Golden | None, variant: str) -> dict[str, Any] | None:
    """Run the golden samples: {"n", "worst_steps"}, None where the bundle has none. Raises DelegateError."""
    if golden is None:
        return None
    from edgeloop.bundle.golden import check_golden

    check = check_golden(session, contract, golden, variant)
    if not check.passed:
        raise DelegateError(
            f"{session.ran_on.ran} failed its golden self-test: {check.reason}",
            hint="this runtime or delegate computes something else than the one the bundle was made with",
        )
    return {"n": check.n, "worst_steps": float(check.worst_steps)}
