"""What a file is that was given where something else was wanted, by its first bytes and its name."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 16

_BY_SUFFIX = {
    ".keras": "a Keras model",
    ".h5": "a Keras model",
    ".hdf5": "a Keras model",
    ".onnx": "an ONNX model",
    ".pt2": "a PyTorch model",
    ".pt": "a PyTorch model",
    ".pth": "a PyTorch model",
    ".npz": "a file of samples",
    ".toml": "a TOML file",
    ".pub": "a public key",
}


def file_kind(path: Path, head: bytes) -> str:
    """ "a .tflite model", "a Keras model (.h5)", ...; empty where it cannot be told. head: the first HEAD_BYTES."""
    if head[4:8] == b"TFL3":
        return "a .tflite model"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "a Keras model (HDF5)"
    suffix = path.suffix.lower()
    return f"{_BY_SUFFIX[suffix]} ({suffix})" if suffix in _BY_SUFFIX else ""


def next_step(kind: str) -> str | None:
    """How a file of this kind becomes one that devices take."""
    if kind.startswith("a TOML file"):
        return "an agent's config: edgeloop bundle config FILE makes a package of it"
    if not kind.partition(" (")[0].endswith("model"):
        return None
    finished = ", or if it is finished: edgeloop bundle create MODEL --contract FILE" if ".tflite" in kind else ""
    return f"make a bundle of it: edgeloop convert MODEL --data DIR{finished}"
