"""Checks of Keras files before Keras opens them: bounded reads, no bombs, no links out, no code in the config."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgeloop.errors import RefusedError, UsageError
from edgeloop_converters.frontends.config_scan import check_config
from edgeloop_converters.frontends.zip_member import seekable

AGAIN = "get the file again: it was cut short or changed on its way"
_MAX_CONFIG_BYTES = 64 << 20
_ALWAYS_FINE_BYTES = 64 << 20
_MAX_RATIO = 100
_MAX_MEMBERS = 4096
_MAX_H5_OBJECTS = 200_000


def scan_keras_zip(path: Path, *, trust_code: bool = False) -> dict[str, Any]:
    """Check a Keras 3 `.keras` file; return its metadata.json. Raises RefusedError, UsageError."""
    what = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = check_members(archive, what)
            if "config.json" not in names:
                raise UsageError(f"{what}: a zip without config.json is not a .keras model")
            config = _json(_read(archive, "config.json", what), f"{what}: config.json")
            metadata = (
                _json(_read(archive, "metadata.json", what), f"{what}: metadata.json")
                if "metadata.json" in names
                else {}
            )
            if not trust_code:
                check_config(config, what)
            for name in names:
                if name.endswith(".h5"):
                    with seekable(archive, path, name) as stream:
                        _check_h5(stream, f"{what}: {name}")
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise RefusedError(f"{what}: a damaged .keras file ({error})", hint=AGAIN) from error
    return metadata if isinstance(metadata, dict) else {}


def scan_h5(path: Path, *, trust_code: bool = False) -> None:
    """Check a Keras `.h5` file. Raises RefusedError, UsageError."""
    import h5py

    what = str(path)
    with path.open("rb") as stream:
        _check_h5(stream, what)
    with h5py.File(path, "r") as file:
        raw = file.attrs.get("model_config")
    if raw is None:
        raise UsageError(f"{what}: holds weights but no model", hint="save the whole model: model.save('model.keras')")
    text = raw if isinstance(raw, (str, bytes)) else bytes(raw)
    if len(text) > _MAX_CONFIG_BYTES:
        raise RefusedError(f"{what}: a model config of {len(text)} bytes")
    config = _json(text, f"{what}: model_config")
    if not trust_code:
        check_config(config, what)


def check_members(archive: zipfile.ZipFile, what: str) -> set[str]:
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise RefusedError(f"{what}: {len(infos)} members, more than {_MAX_MEMBERS}")
    names: set[str] = set()
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in info.filename or ":" in path.parts[0:1]:
            raise RefusedError(f"{what}: member '{info.filename}' points outside the file")
        if info.filename in names:
            raise RefusedError(f"{what}: two members are called '{info.filename}'")
        if info.flag_bits & 1 or (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise RefusedError(f"{what}: member '{info.filename}' is encrypted or a link")
        if info.file_size > max(_ALWAYS_FINE_BYTES, _MAX_RATIO * info.compress_size):
            raise RefusedError(
                f"{what}: member '{info.filename}' would unpack {info.compress_size} bytes to {info.file_size}"
            )
        names.add(info.filename)
    return names


def _read(archive: zipfile.ZipFile, name: str, what: str) -> bytes:
    with archive.open(name) as stream:
        data = stream.read(_MAX_CONFIG_BYTES + 1)
    if len(data) > _MAX_CONFIG_BYTES:
        raise RefusedError(f"{what}: {name} is larger than {_MAX_CONFIG_BYTES >> 20} MiB")
    return data


def _json(text: str | bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{what}: not JSON, or nested too deep") from error


def _check_h5(stream: IO[bytes], what: str) -> None:
    """Walk all objects without reading data: no links to other files, no dataset far larger than what is stored."""
    import h5py

    try:
        with h5py.File(stream, "r") as file:
            seen = 0
            groups = [file]
            visited: set[Any] = set()
            while groups:
                group = groups.pop()
                for name in group:
                    seen += 1
                    if seen > _MAX_H5_OBJECTS:
                        raise RefusedError(f"{what}: more than {_MAX_H5_OBJECTS} objects")
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise RefusedError(f"{what}: '{name}' is a link to somewhere else")
                    item = group[name]
                    if isinstance(item, h5py.Dataset):
                        _check_dataset(item, what)
                    elif isinstance(item, h5py.Group) and item.id not in visited:
                        visited.add(item.id)
                        groups.append(item)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise RefusedError(f"{what}: a damaged HDF5 file ({str(error).splitlines()[0]})", hint=AGAIN) from error


def _check_dataset(dataset: Any, what: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise RefusedError(f"{what}: '{dataset.name}' keeps its data in another file")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > max(_ALWAYS_FINE_BYTES, _MAX_RATIO * stored):
        raise RefusedError(f"{what}: '{dataset.name}' would unpack {stored} bytes to {dataset.nbytes}")
