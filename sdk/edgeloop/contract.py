"""Contract: what a model eats and what its outputs mean. Pure values; no I/O but reading the TOML file.

`model value = (pixel - mean) / std`, per channel or for all. The contract travels in the bundle and is enforced on the
device, so that what was evaluated on the host is what runs there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgeloop.contract_files import inlined
from edgeloop.decoding import SETTINGS, ClassificationSettings, EmbeddingSettings, Settings, settings_from
from edgeloop.errors import ConfigError
from edgeloop.tomlfile import read_toml

INPUT_KINDS = ("image", "tensor")
COLORS = ("rgb", "bgr", "gray")
RESIZES = ("stretch", "letterbox", "crop")
OUTPUT_KINDS = tuple(SETTINGS)
PLACED_KINDS = ("detection", "segmentation", "keypoints")
"""Kinds whose results have places in the source picture."""
CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
MAX_OUTPUTS = 1024
FREE = -1
"""In a shape: a size that differs from sample to sample."""


@dataclass(frozen=True)
class InputSpec:
    """One model input.

    kind "image": `size` is (height, width) in pixels and `color` the channel order the model was trained with.
    kind "tensor": `shape` is the shape of one sample, without the batch axis; -1 is a size that differs from sample to
    sample. A sample shorter than the model's input is filled up behind with `pad`, a value as the data have it.
    `mean` and `std` hold one number, or one per channel (the last axis). scaled_decode: JPEG files may be decoded at
    half, a quarter or an eighth of their size where that is enough.
    """

    name: str = ""
    kind: str = "tensor"
    size: tuple[int, int] | None = None
    color: str = "rgb"
    shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: str = "stretch"
    pad: float = 0.0
    scaled_decode: bool = False

    def __post_init__(self) -> None:
        where = f"input {self.name!r}" if self.name else "input"
        _one_of(self.kind, INPUT_KINDS, f"{where}: kind")
        _one_of(self.color, COLORS, f"{where}: color")
        _one_of(self.resize, RESIZES, f"{where}: resize")
        if self.kind == "image" and (self.size is None or len(self.size) != 2 or min(self.size) < 1):
            raise ConfigError(f"{where}: an image needs size = [height, width]")
        if not isinstance(self.scaled_decode, bool) or (self.scaled_decode and self.kind != "image"):
            raise ConfigError(f"{where}: scaled_decode is true or false, and for images")
        if self.shape is not None and any(n < 1 and n != FREE for n in self.shape):
            raise ConfigError(f"{where}: shape {list(self.shape)} must hold sizes from 1", hint="-1: any size")
        if any(s == 0 or s != s for s in self.std):
            raise ConfigError(f"{where}: std must not be 0 or NaN")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if self.kind == "image" and len(values) not in (1, CHANNELS[self.color]):
                raise ConfigError(f"{where}: {key} needs 1 or {CHANNELS[self.color]} numbers, got {len(values)}")

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """Shape of one sample as the model takes it, without the batch axis."""
        if self.kind == "image" and self.size is not None:
            return (*self.size, CHANNELS[self.color])
        return self.shape

    @property
    def decode_size(self) -> tuple[int, int] | None:
        """(height, width) that a decoded picture needs; None: all of it."""
        return self.size if self.scaled_decode else None

    @property
    def has_free_sizes(self) -> bool:
        """Whether samples differ in size."""
        return self.shape is not None and FREE in self.shape


@dataclass(frozen=True)
class OutputSpec:
    """What the model's outputs mean. `labels[i]` names class i.

    index: which output of the model that is, in the model's own order; the others come along as numbers. name: the
    same by its name in the model's signature, from which a conversion finds the index; "": not said. settings: how that
    kind is decoded; None: with the kind's defaults.
    """

    kind: str = "raw"
    labels: tuple[str, ...] = ()
    name: str = ""
    index: int = 0
    settings: Settings | None = None

    def __post_init__(self) -> None:
        _one_of(self.kind, OUTPUT_KINDS, "output: kind")
        if isinstance(self.index, bool) or not isinstance(self.index, int) or not 0 <= self.index < MAX_OUTPUTS:
            raise ConfigError(f"output: index must be a whole number below {MAX_OUTPUTS}, got {self.index!r}")
        given, wanted = self.settings, SETTINGS[self.kind]
        if type(given) is not wanted:  # another kind by a flag, or none said
            object.__setattr__(self, "settings", settings_from(self.kind, given.to_dict() if given else {}))

    @property
    def per_sample(self) -> OutputSpec:
        """What a single sample is judged by: the best class whatever its score; no samples before it, no gallery."""
        if self.kind == "classification":
            return replace(self, settings=ClassificationSettings(top_k=1))
        return replace(self, settings=EmbeddingSettings()) if self.kind == "embedding" else self


@dataclass(frozen=True)
class Contract:
    """All inputs in the model's order, and the output."""

    inputs: tuple[InputSpec, ...]
    output: OutputSpec = field(default_factory=OutputSpec)

    def __post_init__(self) -> None:
        if self.output.kind in PLACED_KINDS and any(each.scaled_decode for each in self.inputs):
            raise ConfigError(
                f"contract: scaled_decode does not go with a {self.output.kind} output: places are in pixels of the "
                "whole picture",
                hint="leave scaled_decode out",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML, JSON or CBOR; `from_dict` takes them back."""
        return {
            "inputs": [_input_to_dict(each) for each in self.inputs],
            "output": _output_to_dict(self.output),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Contract:
        """The inverse of `to_dict`. Raises ConfigError."""
        raw_inputs = data.get("inputs")
        if not isinstance(raw_inputs, Sequence) or isinstance(raw_inputs, str) or not raw_inputs:
            raise ConfigError("contract: 'inputs' must be a list with at least one input")
        output = data.get("output", {})
        if not isinstance(output, Mapping):
            raise ConfigError("contract: 'output' must be a table")
        return Contract(tuple(_input_from(raw) for raw in raw_inputs), _output_from(output))

    def with_labels(self, labels: Sequence[str]) -> Contract:
        return replace(self, output=replace(self.output, labels=tuple(labels)))


def load_contract(path: Path) -> Contract:
    """Read a contract TOML (DESIGN: `[input]` or `[input.NAME]` tables and `[output]`). Raises ConfigError."""
    data = read_toml(path, "contract")
    unknown = set(data) - {"input", "output"}
    if unknown:
        raise ConfigError(f"contract {path}: unknown table [{sorted(unknown)[0]}]", hint="[input] and [output] exist")
    table = data.get("input")
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"contract {path}: an [input] table is missing")
    if all(isinstance(v, dict) for v in table.values()):
        inputs = [{"name": name, **value} for name, value in table.items()]
    else:
        inputs = [table]
    inputs = [_with_kind(each, f"contract {path}") for each in inputs]
    output = data.get("output", {})
    if isinstance(output, dict):
        output = inlined(output, path.parent)
    return Contract.from_dict({"inputs": inputs, "output": output})


def _with_kind(table: dict[str, Any], where: str) -> dict[str, Any]:
    """What `size` means is an image, so a table with it is one: said or not."""
    if "size" not in table:
        return table
    if table.get("kind", "image") != "image":
        raise ConfigError(
            f"{where}: size is an image's, and kind is {table['kind']!r}",
            hint='kind = "image" with size, or kind = "tensor" with shape',
        )
    return {"kind": "image", **table}


def _input_from(raw: Any) -> InputSpec:
    if not isinstance(raw, Mapping):
        raise ConfigError("contract: every input must be a table")
    known = {f.name for f in fields(InputSpec)}
    unknown = set(raw) - known
    if unknown:
        raise ConfigError(
            f"contract: unknown input key '{sorted(unknown)[0]}'", hint=f"known: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = dict(raw)
    try:
        for key in ("mean", "std"):
            if key in values:
                values[key] = _floats(values[key])
        for key in ("size", "shape"):
            if values.get(key) is not None:
                values[key] = tuple(int(x) for x in values[key])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"contract: input '{key}' must be numbers: {error}") from error
    if "pad" in values and (isinstance(values["pad"], bool) or not isinstance(values["pad"], (int, float))):
        raise ConfigError(f"contract: input 'pad' must be a number, got {values['pad']!r}")
    for key in ("name", "kind", "color", "resize"):
        if key in values and not isinstance(values[key], str):
            raise ConfigError(f"contract: input '{key}' must be a string")
    return InputSpec(**values)


def _input_to_dict(spec: InputSpec) -> dict[str, Any]:
    values = {f.name: _plain(getattr(spec, f.name)) for f in fields(spec)}
    if not spec.scaled_decode:
        del values["scaled_decode"]  # agents that do not know it read the contract, too
    return values


_OUTPUT_KEYS = ("kind", "labels", "name", "index")


def _output_from(table: Mapping[str, Any]) -> OutputSpec:
    labels = table.get("labels", ())
    if not isinstance(labels, (list, tuple)) or not all(isinstance(x, str) for x in labels):
        raise ConfigError("contract: output labels must be a list of strings")
    kind = table.get("kind", "raw")
    _one_of(kind, OUTPUT_KINDS, "output: kind")
    settings = settings_from(kind, {key: value for key, value in table.items() if key not in _OUTPUT_KEYS})
    return OutputSpec(kind, tuple(labels), str(table.get("name", "")), table.get("index", 0), settings)


def _output_to_dict(spec: OutputSpec) -> dict[str, Any]:
    assert spec.settings is not None
    return {**{key: _plain(getattr(spec, key)) for key in _OUTPUT_KEYS}, **spec.settings.to_dict()}


def _floats(value: Any) -> tuple[float, ...]:
    if isinstance(value, (int, float)):
        return (float(value),)
    return tuple(float(x) for x in value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _one_of(value: str, allowed: Sequence[str], what: str) -> None:
    if value not in allowed:
        raise ConfigError(f"{what} {value!r} is not known", hint=f"one of: {', '.join(allowed)}")
