"""Loading Keras files inside the child: Keras 3 first, tf-keras for config errors of its age, code never."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError, RefusedError, UsageError
from edgeloop_converters.frontends.file_scan import scan_h5, scan_keras_zip
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import Loaded, Stages, fixed_spec, import_tensorflow
from edgeloop_converters.frontends.recurrent import MAX_STEPS, keep_fused, unroll

_TITLES = {"keras": "reading .keras files", "h5": "reading .h5 files"}

# What Keras 3 says of configs that Keras 2 wrote and Keras 2 can read. Anything else is a real error.
_OLD_CONFIG = re.compile(
    r"Unrecognized keyword argument|unexpected keyword argument|could not be deserialized properly"
    r"|(Unknown layer|Could not locate class):? '(TFOpLambda|SlicingOpLambda)'"
    r"|Error when deserializing class|not valid root scope name|Argument `(axis|dtype|shape|data_format)`"
)
_UNSAFE = re.compile(r"unsafe|safe_mode|arbitrary code|[Ll]ambda[` ]|security", re.ASCII)
_UNKNOWN = re.compile(r"(?:Unknown layer|Could not locate (?:class|function)):? '([^']+)'")


def load_keras(
    source: Path,
    form: str,
    *,
    batch: int,
    shape: GivenShape,
    folder: Path,
    trust_code: bool,
    stages: Stages,
    fused: bool = False,
) -> Loaded:
    """Scan the file, then load it. Raises RefusedError (code, damaged file), UsageError (no such layer).

    fused: recurrent layers stay what they are, for TFLite's fused LSTM kernel, which only tf-keras' layers become.
    """
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(_TITLES[form], "keras") from error
    written_by = ""
    if form == "keras":
        written_by = str(scan_keras_zip(source, trust_code=trust_code).get("keras_version", ""))
    else:
        scan_h5(source, trust_code=trust_code)
    stages.done("scan")
    tf = import_tensorflow(_TITLES[form], stages)
    # Keras goes by the suffix; detection went by the content.
    path = _with_suffix(source, ".keras" if form == "keras" else ".h5", folder)
    import keras

    notes: tuple[str, ...] = ()
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    try:
        if fused or written_by.startswith("2."):
            raise _WrittenByKeras2("Keras 2 wrote this .keras file")
        model = keras.models.load_model(path, compile=False, safe_mode=not trust_code)
        inputs, structure, nest = model.inputs, getattr(model, "_inputs_struct", None), tf.nest
    except Exception as error:
        if not isinstance(error, _WrittenByKeras2) and not _is_old_config(str(error)):
            raise _load_error(source, error) from error
        if fused and not (written_by or _h5_version(source)).startswith("2."):
            raise UsageError(
                f"{source}: recurrent layers over more than {MAX_STEPS} steps cannot be quantized from a Keras 3 file",
                hint=f"up to {MAX_STEPS} steps are unrolled; save an LSTM as .h5 with tf-keras; else --scheme float",
            ) from error
        model, versions["tf_keras"] = _load_tf_keras(source, path, error, trust_code)
        inputs, structure, nest = model.inputs, getattr(model, "_nested_inputs", None), tf.nest
        if not fused:
            notes = ("loaded with tf-keras: Keras 3 does not read this Keras 2 config",)
    if not inputs:
        raise UsageError(f"{source}: the model has no inputs yet", hint="call it once, or give it an Input, and save")
    names = _unique([_name_of(t, i) for i, t in enumerate(inputs)])
    specs = [fixed_spec(tf, n, t.shape, t.dtype, batch, shape) for n, t in zip(names, inputs, strict=True)]
    shape.check_used(names)
    notes = (*notes, *(keep_fused(model, source) if fused else unroll(model, specs)))
    output_names = _unique(list(getattr(model, "output_names", [])))

    def call(*arrays: Any) -> dict[str, Any]:
        given = arrays[0] if len(arrays) == 1 and structure is None else list(arrays)
        if structure is not None:
            given = nest.pack_sequence_as(structure, list(arrays))
        flat = nest.flatten(model(given, training=False))
        named = output_names if len(output_names) == len(flat) else [f"output_{i}" for i in range(len(flat))]
        return dict(zip(named, flat, strict=True))

    return Loaded(call, specs, versions, notes, model, tuple(output_names))


def _h5_version(source: Path) -> str:
    """The Keras that wrote an .h5; files that do not say it are Keras 2's."""
    import h5py

    with h5py.File(source, "r") as file:
        said = file.attrs.get("keras_version", "2.")
    return said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)


class _WrittenByKeras2(Exception):
    """Not an error: the way to tf-keras."""


def _load_tf_keras(source: Path, path: Path, first: Exception, trust_code: bool) -> tuple[Any, str]:
    try:
        import tf_keras
    except ImportError as error:
        raise MissingExtraError("reading this Keras 2 file", "keras") from error
    try:
        model = tf_keras.models.load_model(path, compile=False, safe_mode=not trust_code)
        return model, str(tf_keras.__version__)
    except Exception as error:
        own = isinstance(first, _WrittenByKeras2) or _UNKNOWN.search(str(error))
        raise _load_error(source, error if own else first) from error


def _is_old_config(message: str) -> bool:
    return bool(_OLD_CONFIG.search(message)) and not _UNSAFE.search(message.replace("TFOpLambda", ""))


def _load_error(source: Path, error: Exception) -> UsageError | RefusedError:
    message = str(error)
    if _UNSAFE.search(message):
        return RefusedError(f"{source}: Keras refuses it: {_first_line(message)}", hint="--trust-code loads it anyway")
    unknown = _UNKNOWN.search(message)
    if unknown:
        return UsageError(
            f"{source}: '{unknown.group(1)}' is not one of Keras' own layers, and its code is not in the file",
            hint="export the model as a SavedModel: model.export('folder')",
        )
    return UsageError(f"{source}: Keras cannot load it: {_first_line(message)}")


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no further message"


def _with_suffix(source: Path, suffix: str, folder: Path) -> Path:
    absolute = source.absolute()
    if absolute.suffix == suffix:
        return absolute
    linked = folder / f"model{suffix}"
    try:
        linked.symlink_to(absolute)
    except OSError:
        shutil.copyfile(absolute, linked)
    return linked


def _name_of(tensor: Any, i: int) -> str:
    return str(getattr(tensor, "name", None) or f"input_{i}")


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        out.append(f"{name}_{count}" if count else name)
    return out
