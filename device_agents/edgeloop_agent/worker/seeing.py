"""What a decoder needs of the frame beside the outputs: where the picture lay in the input, or the input itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeloop.contract import PLACED_KINDS, Contract, InputSpec
from edgeloop.errors import DataError

if TYPE_CHECKING:
    from edgeloop.geometry import Placement
    from edgeloop.postprocess import Result
    from edgeloop.postprocess.decoding import Decoder, Seen
    from edgeloop.runtime import Session

Prepare = Callable[[Any], Any]
Decode = Callable[[list[Any]], "Result"]


def decoding(contract: Contract, session: Session, prepare: Prepare) -> tuple[Prepare, Decode]:
    """(prepare, decode) of a pipeline: `decode` speaks of the frame that `prepare` was last called with.

    Kinds that need nothing of the frame get `prepare` back as it is, and the bare decoder.
    """
    from edgeloop.postprocess import Seen, compile_output, needs_inputs

    decoder = _numbers_only(compile_output(contract.output, session.outputs), contract, session)
    picture = next((spec for spec in contract.inputs if spec.kind == "image"), None)
    if contract.output.kind in PLACED_KINDS and picture is not None:
        view = _View(picture, len(contract.inputs) > 1, prepare)
        return view.prepare, lambda raw: decoder(raw, Seen(view.placement))
    if needs_inputs(contract.output):
        kept = _Inputs(session, prepare)
        return kept.prepare, lambda raw: decoder(raw, Seen(inputs=kept.real_values()))
    return prepare, decoder


def _numbers_only(decoder: Decoder, contract: Contract, session: Session) -> Decoder:
    """The decoder, which raises DataError for outputs with NaN: of such numbers any answer would be made up. Integers
    have none, and of a raw output they are the user's own matter."""
    real = [i for i, output in enumerate(session.outputs) if output.dtype.kind == "f"]
    if not real or contract.output.kind == "raw":
        return decoder
    import numpy as np

    from edgeloop.postprocess.decoding import NOTHING_SEEN

    def decode(raw: Sequence[Any], seen: Seen = NOTHING_SEEN) -> Result:
        for i in real:
            if np.isnan(raw[i]).any():
                raise DataError(f"output {session.outputs[i].name} of the model is not a number (NaN)")
        return decoder(raw, seen)

    return decode


class _View:
    """Remembers how large the last picture was, and so where it lay."""

    def __init__(self, spec: InputSpec, is_named: bool, prepare: Prepare) -> None:
        self._spec, self._is_named, self._prepare = spec, is_named, prepare
        self._size = (0, 0)
        self._known: tuple[tuple[int, int], Placement] | None = None

    def prepare(self, frame: Any) -> Any:
        array = self._prepare(frame)  # refuses what is no picture
        picture = frame[self._spec.name] if self._is_named or isinstance(frame, Mapping) else frame
        self._size = picture.shape[:2]
        return array

    @property
    def placement(self) -> Placement:
        from edgeloop.geometry import placement

        if self._known is None or self._known[0] != self._size:
            assert self._spec.size is not None  # an image has a size
            self._known = (self._size, placement(*self._size, *self._spec.size, self._spec.resize))
        return self._known[1]


class _Inputs:
    """Keeps what went into the model, which the preprocessor does not touch before the next frame."""

    def __init__(self, session: Session, prepare: Prepare) -> None:
        self._infos, self._prepare = session.inputs, prepare
        self._arrays: Any = ()

    def prepare(self, frame: Any) -> Any:
        self._arrays = self._prepare(frame)
        return self._arrays

    def real_values(self) -> list[Any]:
        from edgeloop.affine import dequantize

        arrays = self._arrays if isinstance(self._arrays, tuple) else (self._arrays,)
        return [dequantize(array, info.affine) for array, info in zip(arrays, self._infos, strict=True)]
