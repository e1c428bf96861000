"""Loading a SavedModel inside the child: choose a signature, fix its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import Loaded, Stages, fixed_spec, import_tensorflow
from edgeloop_converters.frontends.saved_model_scan import check_ops
from edgeloop_converters.frontends.signatures import choose_signature, said


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
    keys = [key for key in loaded.signatures if not key.startswith("__")]  # __saved_model_init_op and the like
    name = choose_signature(keys, signature, source)
    function = loaded.signatures[name]
    _, keywords = function.structured_input_signature
    names = sorted(keywords)  # TensorFlow's own order of a signature's inputs
    specs = [fixed_spec(tf, n, _dims(keywords[n]), keywords[n].dtype, batch, shape) for n in names]
    shape.check_used(names)

    def call(*arrays: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = function(**dict(zip(names, arrays, strict=True)))
        return outputs

    return Loaded(call, specs, {"tensorflow": tf.__version__}, said(name, keys, signature), loaded)


def _dims(spec: Any) -> list[int | None] | None:
    return None if spec.shape.rank is None else list(spec.shape.as_list())
