"""Where a file cannot be written is found out before the work for it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop.bundle.files import (
    BUNDLE,
    EXPORT,
    PUBLIC_KEY,
    TFLITE,
    check_can_write,
    check_can_write_into,
    check_may_replace,
)
from edgeloop.cli.main import main
from edgeloop.errors import UsageError

NO_FOLDER = Path("/proc/edgeloop/out")
"""Not even root makes a file there."""


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_can_write(tmp_path / "new/folder/x.bundle", "output")
    check_can_write_into(tmp_path, "report")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").write_text("kept")
    check_can_write(tmp_path / "there", "output")
    assert (tmp_path / "there").read_text() == "kept"


@pytest.mark.parametrize("path", [NO_FOLDER / "x", Path("/dev/null"), Path("/proc"), Path(__file__) / "x"])
def test_a_place_that_cannot_is_one_line(path: Path) -> None:
    with pytest.raises(UsageError, match=r"^output") as caught:
        check_can_write(path, "output")
    assert caught.value.hint


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "MODEL", "--data", "no-data", "-o", "/proc/x.bundle"],
        ["convert", "MODEL", "--data", "no-data", "-o", "/proc"],
        ["convert", "MODEL", "--data", "no-data", "--report", str(NO_FOLDER)],
        ["evaluate", "MODEL", "--data", "no-data", "--report", str(NO_FOLDER)],
        ["bundle", "create", "MODEL", "--contract", "no-contract", "-o", str(NO_FOLDER / "x.bundle")],
    ],
    ids=lambda arguments: " ".join(arguments[:2] + arguments[-2:-1]),
)
def test_a_verb_says_so_before_it_opens_anything(
    arguments: list[str], digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(digits_tflite) if a == "MODEL" else a for a in arguments]) == 2
    said = capsys.readouterr().err
    assert "/proc" in said
    assert "no-" not in said


@pytest.mark.parametrize(
    ("kind", "own", "foreign"),
    [
        (BUNDLE, b"PK\x03\x04" + bytes(26) + b"manifest.json", b"PK\x03\x04" + bytes(26) + b"x.npy"),
        (TFLITE, b"\x1c\0\0\0TFL3", b"PK\x03\x04"),
        (PUBLIC_KEY, b"edgeloop-ed25519 AAAA ann@desk\n", b"-----BEGIN PRIVATE KEY-----\n"),
        (EXPORT, b"device,boot,seq\n", b"SQLite format 3\0"),
    ],
)
def test_only_a_file_of_its_own_kind_is_written_over(kind: str, own: bytes, foreign: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out"
    check_may_replace(path, kind)
    for content in (b"", own):
        path.write_bytes(content)
        check_may_replace(path, kind)
    path.write_bytes(foreign)
    with pytest.raises(UsageError, match="would be lost"):
        check_may_replace(path, kind)


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "MODEL", "--data", "no-data", "-o", "MODEL"],
        ["bundle", "create", "MODEL", "--contract", "no-contract", "-o", "MODEL"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_model_named_as_the_output_is_kept(
    arguments: list[str], digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The suffix was changed and the name was not: the only copy of a trained model must survive that."""
    model = tmp_path / "model.tflite"
    model.write_bytes(digits_tflite.read_bytes())
    assert main([str(model) if a == "MODEL" else a for a in arguments]) == 2
    assert "model.tflite is a .tflite model: it would be lost" in capsys.readouterr().err
    assert model.read_bytes() == digits_tflite.read_bytes()
