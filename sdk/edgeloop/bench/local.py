"""Measure on this machine in a process of its own: a crash is then that one's, and memory is the model's."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeloop.bench.program import CASE_MARK
from edgeloop.bench.values import BenchReport, BenchRequest
from edgeloop.errors import DelegateError, UsageError
from edgeloop.paths import missing_hint
from edgeloop.runtime.child import child_command

Models = Mapping[str, "bytes | Path"]

_SHELL_SIGNAL = 128


def load_models(
    path: Path, variants: Sequence[str] = (), *, allow_unsigned: bool = False
) -> tuple[Models, tuple[str, ...]]:
    """(models by name, the delegates that the first of them wishes for). A file that is no zip is a .tflite.

    Raises UsageError for an absent file or unknown variant, RefusedError for a bundle that cannot be trusted.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip and path.suffix != ".bundle":
            if variants:
                raise UsageError(f"{path} is a model, only bundles have variants")
            return {path.stem: path}, ()
    except OSError as error:
        raise UsageError(f"model {path}: {error.strerror or error}", hint=missing_hint(path)) from error
    from edgeloop.bundle import Bundle

    bundle = Bundle.open(path, allow_unsigned=allow_unsigned)
    known = {variant.name: variant for variant in bundle.manifest.variants}
    names = variants or [bundle.manifest.variants[0].name]
    for name in names:
        if name not in known:
            raise UsageError(f"{path} has no variant {name!r}", hint=f"it has: {', '.join(known)}")
    return {name: bundle.model(name) for name in names}, known[names[0]].delegates


def check_kind(path: Path) -> None:
    """Raises UsageError for a file that is neither a .tflite nor a bundle, naming what it is."""
    from edgeloop.bundle.filekind import HEAD_BYTES, file_kind, next_step

    if path.is_dir():
        what = f"{path} is a directory; bench takes a .tflite or a .bundle"
        raise UsageError(what, hint="edgeloop convert makes a bundle of a SavedModel")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # said where it is loaded
        return
    kind = file_kind(path, head)
    if kind and "tflite" not in kind:
        raise UsageError(f"{path} is {kind}; bench takes a .tflite or a .bundle", hint=next_step(kind))


def bench_here(models: Models, request: BenchRequest, *, note: Callable[[str], None]) -> BenchReport:
    """A delegate that crashes is a DelegateError naming its case. `note` gets what the child says for people."""
    with unpacked(models) as (folder, paths):
        command = child_command(
            "from edgeloop.bench import main; sys.exit(main())", *request.argv(list(map(str, paths)))
        )
        done = subprocess.run(command, capture_output=True, check=False)
    return judged(done.returncode, done.stdout, done.stderr, where="this machine", folder=folder, note=note)


@contextmanager
def unpacked(models: Models) -> Iterator[tuple[str, list[Path]]]:
    """(folder, the models as files in the same order); what is none yet is one in the folder for this long."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as folder:
        paths = []
        for name, model in models.items():
            path = model if isinstance(model, Path) else Path(folder) / f"{name}.tflite"
            if isinstance(model, bytes):
                path.write_bytes(model)
            paths.append(path)
        yield folder, paths


def judged(
    exit_code: int, stdout: bytes, stderr: bytes, *, where: str, folder: str, note: Callable[[str], None]
) -> BenchReport:
    """What a measuring process came to; `folder` is where its models were, which is nobody's matter. Raises
    DelegateError for a crash, DeviceError, and the error that it printed.
    """
    raise_for_crash(exit_code, stderr, where=where)
    for line in stderr.decode("utf-8", "replace").splitlines():
        if not line.startswith(CASE_MARK):
            note(line)
    return BenchReport.from_json(stdout.replace(f"{folder}/".encode(), b""))


def raise_for_crash(exit_code: int, stderr: bytes, *, where: str) -> None:
    """DelegateError naming the case that was measured when the process crashed, if it did."""
    number = _signal_of(exit_code)
    if number:
        said = stderr.decode("utf-8", "replace").splitlines()
        cases = [line.removeprefix(CASE_MARK) for line in said if line.startswith(CASE_MARK)] or ["the model"]
        hint = (
            "was there too little memory?" if number == signal.SIGKILL else "its library does not fit: edgeloop doctor"
        )
        raise DelegateError(f"{cases[-1]} crashed (signal {number}) on {where}", hint=hint)


def _signal_of(exit_code: int) -> int:
    """The signal that ended a process, as Python (-n) or a shell (128 + n) tells it; 0 for none."""
    if exit_code < 0:
        return -exit_code
    return exit_code - _SHELL_SIGNAL if _SHELL_SIGNAL < exit_code < _SHELL_SIGNAL + 65 else 0
