"""How the child imports: without what libraries take along, and honest about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgeloop_converters.headstart import HeadStart

TAKES_ALONG = """
try:
    import sklearn
except ImportError:
    sklearn = None
"""


def _run(code: str, modules: Path) -> str:
    code = f"import sys; sys.path.insert(0, {str(modules)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_keras_does_not_take_scikit_learn_along_but_user_code_may_import_it_later(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text(TAKES_ALONG)
    (tmp_path / "sklearn.py").write_text("VALUE = 1")
    code = (
        "from edgeloop_converters.frontends.imports import importing\n"
        "importing(('keras',)).result()\n"
        "import gc, keras\n"
        "import sklearn\n"
        "print(keras.sklearn, sklearn.VALUE, gc.isenabled())"
    )
    assert _run(code, tmp_path) == "None 1 True"


def test_what_was_imported_before_stays(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text(TAKES_ALONG)
    (tmp_path / "sklearn.py").write_text("VALUE = 1")
    code = (
        "import sklearn\n"
        "from edgeloop_converters.frontends.imports import importing\n"
        "importing(('keras',)).result()\n"
        "import keras\n"
        "print(keras.sklearn is sklearn)"
    )
    assert _run(code, tmp_path) == "True"


def test_a_missing_library_is_an_import_error_where_it_is_waited_for(tmp_path: Path) -> None:
    code = (
        "from edgeloop_converters.frontends.imports import importing\n"
        "wait = importing(('no_such_library',))\n"
        "try:\n    wait.result()\n"
        "except ImportError as error:\n    print(error.name)"
    )
    assert _run(code, tmp_path) == "no_such_library"


def test_no_process_is_started_for_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with HeadStart(str(tmp_path / "notes.txt"), packs=False) as ahead:
        assert ahead.native() is None


def test_a_native_process_that_nobody_took_ends_with_its_files(tmp_path: Path) -> None:
    model = tmp_path / "m.h5"
    model.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    ahead = HeadStart(str(model), packs=False)
    child = ahead._native
    assert child is not None
    assert child.folder.is_dir()
    ahead.close()
    ahead.close()
    assert child._process.returncode is not None
    assert not child.folder.exists()
