"""Loading a SavedModel inside the child: choose a signature, fix its batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.native import Loaded, Stages, fixed_spec, import_tensorflow
from edgeloop_converters.frontends.saved_model_scan import check_ops

_DEFAULT = "serving_default"


def load_saved_model(
    source: Path,
    signature: str | None,
    *,
    batch: int,
    shape: GivenShape,
    trust_code: bool,
    stages: Stages,
) -> Loaded:
    """Raises RefusedError (ops that run code), UsageError (which signature?, free dimensions)."""
    tf = import_tensorflow("reading SavedModels", stages)
    if not trust_code:
        check_ops(source)
    stages.done("scan")
    try:
        loaded = tf.saved_model.load(str(source))
    except (OSError, ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise UsageError(f"{source}: TensorFlow cannot load it: {str(error).strip().splitlines()[0][:300]}") from error
    name = choose_signature(list(loaded.signatures), signature, source)
    function = loaded.signatures[name]
    _, keywords = function.structured_input_signature
    names = sorted(keywords)  # TensorFlow's own order of a signature's inputs
    specs = [fixed_spec(tf, n, _dims(keywords[n]), keywords[n].dtype, batch, shape) for n in names]
    shape.check_used(names)

    def call(*arrays: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = function(**dict(zip(names, arrays, strict=True)))
        return outputs

    others = sorted(set(loaded.signatures) - {name})
    notes = (f"signature '{name}' is converted, not {', '.join(others)}",) if others and signature is None else ()
    return Loaded(call, specs, {"tensorflow": tf.__version__}, notes, loaded)


def choose_signature(available: Sequence[str], wanted: str | None, source: Path) -> str:
    """The signature to convert. Raises UsageError listing what there is."""
    have = ", ".join(sorted(available))
    if wanted is not None:
        if wanted not in available:
            raise UsageError(f"{source}: no signature '{wanted}'", hint=f"it has: {have or 'none'}")
        return wanted
    if _DEFAULT in available:
        return _DEFAULT
    if len(available) == 1:
        return available[0]
    if not available:
        raise UsageError(f"{source}: the SavedModel has no signature", hint="save it with model.export(folder)")
    raise UsageError(f"{source}: which signature?", hint=f"--signature, one of: {have}")


def _dims(spec: Any) -> list[int | None] | None:
    return None if spec.shape.rank is None else list(spec.shape.as_list())
