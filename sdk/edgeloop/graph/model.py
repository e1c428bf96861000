"""Graph: a .tflite model as values that can be read, changed and written."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import appended, naming
from edgeloop.graph.kinds import numeric_kind
from edgeloop.graph.values import Op, Signature, Subgraph, Tensor
from edgeloop.paths import missing_hint


@dataclass
class Graph:
    """A whole model. `subgraphs[0]` is the one that runs; others are bodies of control flow or further signatures.

    Change it in place. `write` puts down exactly what is here: what nothing refers to (buffers, operator codes) is not
    written.
    """

    subgraphs: list[Subgraph]
    signatures: list[Signature] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    description: str = ""
    version: int = 3
    repeated_metadata: list[tuple[str, bytes]] = field(default_factory=list)
    """Entries whose name was in `metadata` already."""
    metadata_buffers: list[bytes] = field(default_factory=list)
    """The schema's older, nameless metadata."""
    external_buffer_groups: list[str] = field(default_factory=list)
    external_buffers: list[object] = field(default_factory=list)
    appended: bytes = b""
    """What lay behind the flatbuffer: the zip archive of TFLite Metadata."""
    not_carried: tuple[str, ...] = ()
    """Fields of a newer schema than the installed LiteRT's: such a graph can be looked at, but not written."""

    @classmethod
    def read(cls, source: Path | str | bytes) -> Graph:
        """From a file or from bytes. Raises UsageError (no such file) or RefusedError (not a sound .tflite model)."""
        from edgeloop.graph.reading import read_bytes

        if isinstance(source, (bytes, bytearray, memoryview)):
            return read_bytes(bytes(source))
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot read model {source}: {error.strerror or error}", hint=missing_hint(source)
            ) from error
        try:
            return read_bytes(data)
        except RefusedError as error:
            raise RefusedError(f"{source}: {error.message}", hint=error.hint) from error

    def write(self) -> bytes:
        """As .tflite bytes. Raises UsageError where the values contradict each other."""
        from edgeloop.graph.writing import write_bytes

        return write_bytes(self)

    def save(self, path: Path | str) -> None:
        """Write to a file, which is replaced only when all is written."""
        target = Path(path)
        data = self.write()
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UsageError(f"cannot write model {path}: {error.strerror or error}") from error

    @property
    def main(self) -> Subgraph:
        return self.subgraphs[0]

    @property
    def inputs(self) -> list[Tensor]:
        return [self.main.tensors[index] for index in self.main.inputs]

    @property
    def outputs(self) -> list[Tensor]:
        return [self.main.tensors[index] for index in self.main.outputs]

    def tensor_by_name(self, name: str) -> Tensor:
        """A tensor of the main subgraph. KeyError where there is none."""
        return self.main.tensor_by_name(name)

    def producers(self) -> dict[int, int]:
        """Of the main subgraph: tensor index -> op index."""
        return self.main.producers()

    def consumers(self) -> dict[int, list[int]]:
        """Of the main subgraph: tensor index -> op indices."""
        return self.main.consumers()

    def constant(self, op: Op, position: int) -> Tensor | None:
        """Input `position` of an op of the main subgraph where that is a constant, else None."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            return None
        tensor = self.main.tensors[op.inputs[position]]
        return tensor if tensor.is_constant else None

    def copy(self) -> Graph:
        """A graph of its own to change. Constants are shared until one is replaced: they are values, not places."""
        shared = {id(t.data): t.data for s in self.subgraphs for t in s.tensors if t.data is not None}
        return copy.deepcopy(self, dict(shared))

    def numeric_kind(self) -> str:
        """ "float", "hybrid", "float16", "int8", "uint8", "int16", "mixed", "compiled" or "other": see `kinds`."""
        return numeric_kind(self.subgraphs)

    def content_hash(self) -> str:
        """sha256 (hex) of `write()`: equal for files that differ only in how their bytes were laid out."""
        return hashlib.sha256(self.write()).hexdigest()

    def ensure_signature(self) -> Signature:
        """The signature of the main subgraph; one called `serving_default` is added where it has none."""
        for signature in self.signatures:
            if signature.subgraph == 0:
                return signature
        signature = naming.default_signature(self.main, {s.key for s in self.signatures})
        self.signatures.append(signature)
        return signature

    def ensure_unique_names(self) -> int:
        """Give tensors with an empty or repeated name one of their own, per subgraph. Returns how many were renamed."""
        return sum(naming.make_unique(subgraph) for subgraph in self.subgraphs)

    def fix_shapes(self) -> int:
        """Declare shapes that may vary (a free batch) fixed at what `shape` says. Returns how many tensors changed.

        A tensor with a dimension that is not known at all (-1 in `shape`) stays as it is.
        """
        varying = [
            tensor
            for subgraph in self.subgraphs
            for tensor in subgraph.tensors
            if not tensor.is_static and min(tensor.shape, default=1) >= 0
        ]
        for tensor in varying:
            tensor.shape_signature = None
        return len(varying)

    def associated_files(self) -> dict[str, bytes]:
        """Files in the archive of TFLite Metadata (labels), each at most 16 MiB; empty where there is none."""
        return appended.files(self.appended)
