"""One model ready to run: preprocessing, session and decoding together, for the worker and `edgeloop_agent.open`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.contract import Contract
from edgeloop.errors import ConfigError, DelegateError
from edgeloop_agent.sources import Wanted

if TYPE_CHECKING:
    from edgeloop.bundle import Golden
    from edgeloop.postprocess import Result
    from edgeloop.runtime import Session

FALLBACK_ORDER = ("xnnpack", "cpu")
"""For a variant whose bundle names no delegates."""


@dataclass(frozen=True)
class Pipeline:
    """The steps of one inference, in the order they are called.

    prepare(frame) -> [1, ...] array in the model's dtype (DataError for a frame that fails its checks);
    set_input(array); invoke(); collect() -> raw output arrays; decode(raw) -> Result.
    """

    session: Session
    prepare: Callable[[Any], Any]
    set_input: Callable[[Any], None]
    invoke: Callable[[], None]
    collect: Callable[[], list[Any]]
    decode: Callable[[list[Any]], Result]
    wanted: Wanted


def build_pipeline(session: Session, contract: Contract) -> Pipeline:
    """Raises ConfigError where contract and model do not fit together."""
    import numpy as np

    from edgeloop.postprocess import compile_output
    from edgeloop.preprocess import compile_input

    if len(session.inputs) != 1 or len(contract.inputs) != 1:
        raise ConfigError(
            f"the model has {len(session.inputs)} inputs and the contract {len(contract.inputs)}",
            hint="the agent feeds models with one input",
        )
    tensor, spec = session.inputs[0], contract.inputs[0]
    lowest, highest = 0.0, 1.0
    if tensor.affine.is_quantized:
        info = np.iinfo(tensor.dtype)
        lowest, highest = (tensor.affine.scale * (code - tensor.affine.zero_point) for code in (info.min, info.max))
    elif tensor.dtype.kind in "iu":
        highest = lowest
    session_set, output = session.set_input, session.output
    count = len(session.outputs)
    return Pipeline(
        session=session,
        prepare=compile_input(spec, tensor),
        set_input=lambda array: session_set(0, array),
        invoke=session.invoke,
        collect=(lambda: [output(0)]) if count == 1 else (lambda: [output(i) for i in range(count)]),
        decode=compile_output(contract.output, session.outputs),
        wanted=Wanted(spec, tuple(tensor.shape), tensor.dtype, lowest, highest),
    )


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
