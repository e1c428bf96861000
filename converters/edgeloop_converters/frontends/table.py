"""The ways in, and how a file shows by its content which one it takes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import RefusedError, UsageError
from edgeloop.paths import missing_hint

SUPPORTED = (
    "supported: Keras 3 .keras, Keras 2 .h5, SavedModel folder, float .tflite, PyTorch module:function and .pt2, ONNX"
)


TENSORFLOW = ("tensorflow", "keras")
TORCH = ("litert_torch", "torch")


@dataclass(frozen=True)
class Frontend:
    """One way in. matches: whether a path is of this form, from its first bytes.

    module: what does it, in a child process, beside this one; "" where no native library is needed. libraries: what
    that imports, seconds of it. is_code: the source is no file but code of the user's own. tflite_engine:
    TFLiteConverter can quantize it (`--engine tflite`).
    """

    name: str
    title: str
    matches: Callable[[Path], bool]
    module: str = ""
    libraries: tuple[str, ...] = ()
    is_code: bool = False
    tflite_engine: bool = False

    @property
    def native(self) -> bool:
        return bool(self.module)


_TORCH_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt"}
_OWN_SUFFIXES = {".tflite", ".h5", ".hdf5", ".keras", ".pt", ".pth", ".pt2", ".onnx"}


def _head(path: Path, count: int = 16) -> bytes:
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _zip_names(path: Path) -> set[str]:
    if not _head(path).startswith(b"PK\x03\x04"):
        return set()
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()


def _is_h5(path: Path) -> bool:
    return _head(path).startswith(b"\x89HDF\r\n\x1a\n")


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def _is_torch_export(path: Path) -> bool:
    names = {name.partition("/")[2] for name in _zip_names(path)}
    return "archive_format" in names or "serialized_exported_program.json" in _zip_names(path)


def _is_torch_checkpoint(path: Path) -> bool:
    """What torch.save writes: a zip with data.pkl, or (before PyTorch 1.6) a bare pickle; TorchScript too."""
    if any(name.partition("/")[2] in ("data.pkl", "constants.pkl") for name in _zip_names(path)):
        return True
    return _head(path).startswith(b"\x80") and path.suffix.lower() in _TORCH_SUFFIXES


def _is_onnx(path: Path) -> bool:
    """Protobuf has no magic number: the first field, the IR version, and the suffix must do."""
    return path.suffix.lower() == ".onnx" and _head(path).startswith(b"\x08")


def is_code_source(path: Path) -> bool:
    """`package.module:function`: a model that code of the user's own makes."""
    text = str(path)
    module, colon, function = text.partition(":")
    words = [*module.split("."), function]
    is_name = bool(colon) and all(word.isidentifier() for word in words)
    return is_name and not path.exists() and not Path(module).is_file()


FRONTENDS: dict[str, Frontend] = {
    f.name: f
    for f in (
        Frontend("tflite", ".tflite", lambda p: _head(p)[4:8] == b"TFL3"),
        Frontend("h5", "Keras 2 .h5", _is_h5, "native", TENSORFLOW, tflite_engine=True),
        Frontend(
            "keras",
            "Keras 3 .keras",
            lambda p: "config.json" in _zip_names(p),
            "native",
            TENSORFLOW,
            tflite_engine=True,
        ),
        Frontend("saved_model", "SavedModel folder", _is_saved_model, "native", TENSORFLOW, tflite_engine=True),
        Frontend("torch_export", "torch.export .pt2", _is_torch_export, "torch_models", TORCH),
        Frontend("torch_checkpoint", "PyTorch checkpoint", _is_torch_checkpoint, "torch_models", TORCH),
        Frontend("torch_function", "PyTorch module:function", is_code_source, "torch_models", TORCH, is_code=True),
        Frontend("onnx", "ONNX", _is_onnx, "onnx_models", TORCH),
    )
}


def detect(path: Path) -> str:
    """The name of the frontend for `path`, by content.

    Raises UsageError for what is no model that can be read, RefusedError for a file that is called like one but is
    damaged.
    """
    for name, frontend in FRONTENDS.items():
        if frontend.matches(path):
            return name
    if path.is_dir():
        raise UsageError(f"{path}: a folder without saved_model.pb is not a model", hint=SUPPORTED)
    if not path.is_file():
        file, colon, function = str(path).rpartition(":")
        if colon and file.endswith(".py") and Path(file).is_file():
            module = ".".join(Path(file).with_suffix("").parts)
            raise UsageError(f"{path}: a module is named, not its file", hint=f"edgeloop convert {module}:{function}")
        raise UsageError(f"{path}: no such model", hint=missing_hint(path) or SUPPORTED)
    suffix = path.suffix.lower()
    if "manifest.json" in _zip_names(path):
        raise UsageError(
            f"{path}: a bundle, which holds the finished model",
            hint="give the model it was made from; `edgeloop evaluate` and `check-data` take bundles",
        )
    if suffix == ".py":
        raise UsageError(
            f"{path}: code, not a model", hint=f"name the function in it that makes the model: {path.stem}:FUNCTION"
        )
    if suffix in _OWN_SUFFIXES:
        raise RefusedError(f"{path}: not a {suffix} file inside: damaged, or cut short", hint=SUPPORTED)
    raise UsageError(f"{path}: not a model that can be read", hint=SUPPORTED)
