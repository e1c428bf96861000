"""Which interpreter is taken. Packages are real folders on a child's path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeloop.runtime import probe_delegate
from edgeloop.runtime.child import child_command
from edgeloop.runtime.interpreter import RuntimeInfo, import_trouble, numpy_clash

SDK = Path(__file__).resolve().parents[3] / "sdk"


def _package(folder: Path, root: str, distribution: str, version: str, body: str) -> None:
    (folder / root).mkdir()
    (folder / root / "__init__.py").write_text("")
    (folder / root / "interpreter.py").write_text(body)
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


def _ask(folder: Path, numpy_version: str = "") -> str:
    """What `runtime_info()` gives in a child that sees only `folder` and edgeloop: no site-packages (-S)."""
    if numpy_version:
        info = folder / f"numpy-{numpy_version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {numpy_version}\n")
    code = (
        "from edgeloop.runtime.interpreter import load_backend\nfrom edgeloop.errors import EdgeloopError\n"
        "try: i = load_backend().info; print(i, i.family)\n"
        "except EdgeloopError as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(SDK)))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_without_any_interpreter_the_command_to_type_is_named(tmp_path: Path) -> None:
    answer = _ask(tmp_path)
    assert answer.startswith("MissingExtraError")
    assert "pip install 'edgeloop[agent]'" in answer


def test_litert_comes_before_tflite_runtime(tmp_path: Path) -> None:
    _package(tmp_path, "tflite_runtime", "tflite-runtime", "2.14.0", "")
    assert _ask(tmp_path, "1.26.4") == "tflite-runtime 2.14.0 tflite-runtime"
    _package(tmp_path, "ai_edge_litert", "ai-edge-litert", "2.3.0", "")
    assert _ask(tmp_path) == "ai-edge-litert 2.3.0 litert"


def test_an_interpreter_that_does_not_import_gives_way_to_the_next(tmp_path: Path) -> None:
    _package(tmp_path, "ai_edge_litert", "ai-edge-litert", "2.3.0", "raise ImportError('broken')")
    assert "ai-edge-litert 2.3.0 is installed but does not import: broken" in _ask(tmp_path)
    _package(tmp_path, "tflite_runtime", "tflite-runtime", "2.14.0", "")
    assert _ask(tmp_path, "1.26.4").startswith("tflite-runtime 2.14.0")


def test_tflite_runtime_with_numpy_2_is_named_before_it_dies(tmp_path: Path) -> None:
    _package(tmp_path, "tflite_runtime", "tflite-runtime", "2.14.0", "raise SystemError('initialization failed')")
    answer = _ask(tmp_path, "2.1.0")
    assert answer.startswith("UsageError tflite-runtime 2.14.0 was built for numpy 1 and dies with numpy 2.1.0")
    assert "pip install 'numpy<2'" in answer


def test_import_noise_is_kept_from_the_user(tmp_path: Path) -> None:
    _package(tmp_path, "ai_edge_litert", "ai-edge-litert", "2.3.0", "import os; os.write(2, b'W0000 noise\\n')")
    assert _ask(tmp_path) == "ai-edge-litert 2.3.0 litert"


@pytest.mark.parametrize(
    ("numpy_version", "clashes"), [("1.26.4", False), ("2.0.0", True), ("2.4.6", True), ("0", False)]
)
def test_only_the_old_runtime_minds_numpy_2(numpy_version: str, clashes: bool) -> None:
    assert bool(numpy_clash(RuntimeInfo("tflite-runtime", "2.14.0", "tflite-runtime"), numpy_version)) is clashes
    assert not numpy_clash(RuntimeInfo("ai-edge-litert", "2.3.0", "litert"), numpy_version)


def test_a_c_library_that_is_too_old_is_said_as_such() -> None:
    text = "/lib/aarch64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /x/libLiteRt.so)"
    what, fix = import_trouble(RuntimeInfo("ai-edge-litert", "2.3.0", "litert"), text)
    assert what == "ai-edge-litert 2.3.0 needs GLIBC_2.34, which this system lacks"
    assert "2.1.0" in fix


def test_naming_delegates_costs_no_numpy() -> None:
    code = (
        "import sys, edgeloop.runtime.delegates, edgeloop.runtime.probe, edgeloop.probes\n"
        "from edgeloop.runtime import parse_delegate, probe_delegate\n"
        "print([m for m in ('numpy', 'ai_edge_litert', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_child_sees_the_packages_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device edgeloop is in a folder that only the launcher knows; the child is `python -I` all the same."""
    (tmp_path / "only_here.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    command = child_command("import only_here; print(only_here.answer, sys.argv[1:])", "a", "b c")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42 ['a', 'b c']\n"


def test_what_lies_in_the_present_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert probe_delegate("cpu").ok


def test_another_python_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELOOP_PYTHON", f"env SEEN=yes {sys.executable}")
    command = child_command("import os; print(os.environ['SEEN'])")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "yes\n"
