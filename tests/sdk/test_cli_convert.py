"""`edgeloop convert` and `edgeloop evaluate` as a user types them: results, exit codes, one line per error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.cli.main import main
from edgeloop_converters.demo.digits import load_split

KEYS = {"bundle", "name", "version", "target", "variants", "gate", "repairs", "seconds"}
VARIANT_KEYS = {"name", "file", "bytes", "scheme", "metrics", "profile", "gate"}


def write_folder(folder: Path, start: int, count: int) -> Path:
    """Held-out digits as class folders of PNGs."""
    import cv2

    split = load_split()
    for i in range(start, start + count):
        path = folder / str(split.held_out_labels[i]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), split.held_out_images[i])
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with calib/, test/ and a contract c.toml."""
    root = tmp_path_factory.mktemp("digits")
    write_folder(root / "calib", 0, 150)
    write_folder(root / "test", 150, 150)
    (root / "labels.txt").write_text("\n".join("0123456789"))
    (root / "c.toml").write_text(
        '[input]\nkind = "image"\nsize = [8, 8]\ncolor = "gray"\nstd = 255.0\n'
        '[output]\nkind = "classification"\nlabels = "labels.txt"\n'
    )
    return root


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def common(digits: Path, digits_tflite: Path) -> list[str]:
    return [
        "convert", str(digits_tflite), "--data", str(digits / "calib"), "--eval", str(digits / "test"), "--contract",
        str(digits / "c.toml"), "--effort", "fast",
    ]  # fmt: skip


def run_json(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main([*argv, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "one object on stdout, nothing else"
    return code, json.loads(out)


def expect_error(capsys: pytest.CaptureFixture[str], code: int, says: str, *argv: str) -> None:
    assert main(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    error = [line for line in captured.err.splitlines() if line.startswith("edgeloop:")]
    assert len(error) == 1, captured.err
    assert says in error[0]
    assert "Traceback" not in captured.err


def test_convert_prints_the_keys_that_scripts_rely_on(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run_json(capsys, *common, "--max-drop", "2pt", "-o", "ic.bundle")
    assert code == 0
    assert set(result) >= KEYS
    assert result["bundle"] == "ic.bundle"
    assert (result["name"], result["version"], result["target"]) == ("digits", 1, "rpi4")
    (variant,) = result["variants"]
    assert set(variant) >= VARIANT_KEYS
    assert variant["file"] == "models/int8.tflite"
    assert set(variant["metrics"]) >= {"float", "this", "agreement", "metric"}
    assert 0.9 < variant["metrics"]["this"] <= 1
    assert set(variant["profile"]) >= {"device", "p50_ms", "p95_ms"}
    assert variant["gate"] == result["gate"]
    assert result["gate"] == {"passed": True, "verdict": "met", "reasons": [], "unverified": [], "guesses": False}
    assert sorted(p.name for p in Path().iterdir() if p.is_file()) == ["ic.bundle", "ic.report.html", "ic.report.json"]


def test_convert_ends_with_a_table_and_what_to_type_next(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*common, "--max-drop", "2pt", "--name", "ic"]) == 0
    captured = capsys.readouterr()
    for expected in (
        "accuracy",
        "agreement",
        "not the target, xnnpack, 1 thread, n = ",
        "goals       met",
        "edgeloop run ssh://",
        "ic-1.bundle",
    ):
        assert expected in captured.out
    assert "made your signing key el:" in captured.err


@pytest.mark.slow
def test_a_missed_goal_exits_1_with_a_report_and_without_a_bundle(
    common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = run_json(capsys, *common, "--max-bytes", "1kB", "-o", "ic.bundle")
    assert code == 1
    assert result["bundle"] is None
    assert "more than the goal of 1000" in result["gate"]["reasons"][0]
    assert not Path("ic.bundle").exists()
    assert Path("ic.report.html").is_file()
    code, result = run_json(capsys, *common, "--max-bytes", "1kB", "-o", "ic.bundle", "--keep-failed")
    assert code == 1
    assert Path(result["bundle"]).is_file()


@pytest.mark.slow
def test_a_model_that_guesses_is_warned_of_at_the_verdict(
    common: list[str], digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong scaling given by hand: all pixels become nearly 0."""
    wrong = Path("wrong.toml")
    wrong.write_text((digits / "c.toml").read_text().replace("255.0", "1e9").replace('"labels.txt"', "[]"))
    argv = [str(wrong) if word.endswith("c.toml") else word for word in common]
    assert main([*argv, "--max-drop", "30pt", "--p95-ms", "9", "-o", "g.bundle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("goals"))
    assert lines[at].endswith("met where judged; p95 not judged, but the model does no better than guessing")
    assert "WARNING" in lines[at + 1]
    assert "--std" in lines[at + 1]
    code, result = run_json(capsys, "evaluate", "g.bundle", "--data", str(digits / "test"), "--max-drop", "30pt")
    assert (code, result["gate"]["guesses"]) == (0, True)
    assert "no better than guessing" in result["warnings"][0]
    assert main(["evaluate", "g.bundle", "--data", str(digits / "test")]) == 0
    assert "WARNING: the exported model gets" in capsys.readouterr().out


def test_a_guessed_scaling_is_at_the_verdict(
    digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(digits_tflite), "--data", str(digits / "test"), "--ignore-labels", "--effort", "fast"]
    assert main([*words, "-o", "g.bundle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("goals"))
    assert "WARNING: input scaling is a guess" in lines[at + 1]


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("my data/d.npz", "--source 'npz:my data/d.npz'"),
        ("my data/pictures", "--source 'folder:my data/pictures'"),
        ("samples_of_digits:samples", "--source synthetic:"),
    ],
)
def test_the_next_commands_are_complete(
    data: str, source: str, digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    split = load_split()
    write_folder(Path("my data/pictures"), 0, 100)
    np.savez("my data/d.npz", x=split.held_out_images[:100], y=split.held_out_labels[:100])
    Path("samples_of_digits.py").write_text(
        "import numpy as np\n\ndef samples():\n    d = np.load('my data/d.npz')\n    return d['x'], d['y']\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    contract = ["--contract", str(digits / "c.toml")] if "pictures" in data else ["--std", "255"]
    argv = ["convert", str(digits_tflite), "--data", data, *contract, "--effort", "fast", "--no-sign"]
    assert main([*argv, "-o", "my data/x.bundle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    run, agent = lines[lines.index("next:") + 1 :]
    for line in (run, agent):
        assert f"'my data/x.bundle' {source}" in line
        assert "--allow-unsigned" in line


@pytest.mark.parametrize("cache", [[], ["--no-cache"]])
@pytest.mark.parametrize("with_eval", [True, False])
def test_damaged_pictures_are_all_counted_and_named_in_one_error(
    cache: list[str], with_eval: bool, digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(Path("a"), 0, 60)
    write_folder(Path("b"), 60, 60)
    damaged = [sorted(Path("a").glob("*/*.png"))[5], *sorted(Path("b").glob("*/*.png"))[3:33:10]]
    data = ["--data", "a", "--eval", "b"] if with_eval else ["--data", "b"]
    for path in damaged:
        path.write_bytes(b"not a picture")
    argv = ["convert", str(digits_tflite), *data, "--contract", str(digits / "c.toml"), "--effort", "fast", *cache]
    for _ in range(2):
        assert main(argv) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgeloop:")]
        assert ("4 of 120 samples" if with_eval else "3 of 60 samples") in error
        assert str(damaged[1]) in error
        assert ("; and 1 more" in error) == with_eval
    assert main(["evaluate", str(digits_tflite), "--data", "b", "--contract", str(digits / "c.toml"), *cache]) == 2
    assert "3 of 60 samples cannot be used: image b/" in capsys.readouterr().err


def test_few_samples_say_what_one_weighs(digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", str(digits_tflite), "--data", str(digits / "test"), "--contract", str(digits / "c.toml")]
    assert main([*argv, "--samples", "10"]) == 0
    assert "10 samples: one sample is 10 points" in capsys.readouterr().out
    assert main(argv) == 0
    assert "one sample is" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_does_the_same_and_flags_win_over_it(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from edgeloop.bundle import Bundle

    main([*common, "-o", "a.bundle"])
    capsys.readouterr()
    first = Bundle.open(Path("a.bundle"))
    Path("recipe.toml").write_text(first.recipe())
    where = common[1:6]  # a bundle does not tell in which folders its files were
    code, result = run_json(capsys, "convert", *where, "--recipe", "recipe.toml", "--target", "rpi5", "-o", "b.bundle")
    assert not [warning for warning in result["warnings"] if "another than" in warning]
    assert (code, result["target"], result["version"]) == (0, "rpi5", 2)
    assert Bundle.open(Path("b.bundle")).model() == first.model()


@pytest.mark.slow
def test_no_sign_is_said_and_refused_later(common: list[str], capsys: pytest.CaptureFixture[str], digits: Path) -> None:
    assert main([*common, "--no-sign", "-o", "u.bundle"]) == 0
    assert "NOT signed" in capsys.readouterr().out
    expect_error(capsys, 4, "u.bundle", "evaluate", "u.bundle", "--data", str(digits / "test"))
    assert main(["evaluate", "u.bundle", "--data", str(digits / "test"), "--allow-unsigned"]) == 0


@pytest.mark.slow
def test_evaluate_measures_a_bundle_against_its_float_model(
    common: list[str], digits: Path, digits_tflite: Path, edgeloop_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, converted = run_json(capsys, *common, "-o", "ic.bundle")
    assert code == 0
    test = str(digits / "test")
    code, result = run_json(capsys, "evaluate", "ic.bundle", "--data", test, "--max-drop", "2pt")
    assert code == 0
    (variant,) = result["variants"]
    assert variant["metrics"]["this"] == converted["variants"][0]["metrics"]["this"]
    assert variant["metrics"]["agreement"] == converted["variants"][0]["metrics"]["agreement"]
    assert variant["gate"]["passed"] is True
    assert {"index", "name", "output", "mse", "max_abs", "snr_db"} <= set(variant["per_op"][0])
    assert result["per_op"] == variant["per_op"]

    for cached in (edgeloop_home / "cache" / "float").iterdir():
        cached.unlink()
    code, result = run_json(capsys, "evaluate", "ic.bundle", "--data", test)
    assert result["variants"][0]["metrics"]["agreement"] is None
    assert any("--reference" in note for note in result["notes"])
    code, result = run_json(capsys, "evaluate", "ic.bundle", "--data", test, "--reference", str(digits_tflite))
    assert result["variants"][0]["metrics"]["agreement"] == converted["variants"][0]["metrics"]["agreement"]
    assert main(["evaluate", "ic.bundle", "--data", test, "--min-agreement", "0.9"]) == 1


def test_evaluate_takes_a_model_file_with_a_contract(
    digits: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(digits_tflite), "--data", str(digits / "test"), "--contract", str(digits / "c.toml")]
    code, result = run_json(capsys, *argv, "--report", "out")
    assert code == 0
    assert result["variants"][0]["scheme"] == "float"
    assert result["variants"][0]["metrics"]["this"] > 0.95
    assert Path("out/report.html").is_file()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--max-drop", "1"], "ambiguous"),
        (["--max-drop", "1pt", "--ignore-labels"], "needs labels"),
        (["--min-agreement", "96"], "not a fraction"),
        (["--size", "big"], "--size"),
        (["--mean", "a"], "--mean"),
        (["--labels", "none.txt"], "none.txt"),
        (["--contract", "none.toml"], "none.toml"),
        (["--target", "rpi9"], "rpi9"),
        (["-o", "no/such/folder/x.bundle"], "does not exist"),
        (["-o", "no-such-folder/"], "the folder no-such-folder does not exist"),
        (["--threads", "0"], "--threads"),
        (["--calibration-samples", "0"], "--calibration-samples"),
        (["--name", "../x"], "bundle name"),
        (["--version", "0"], "version"),
        (["--recipe", "none.toml"], "none.toml"),
    ],
)
def test_wrong_flags_are_wrong_use(
    common: list[str], flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_error(capsys, 2, says, *common, *flags)


def test_no_model_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    expect_error(capsys, 2, "which model", "convert", "--data", "x")


def test_max_drop_without_labels_names_the_way_on(
    common: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    split = load_split()
    np.savez(tmp_path / "u.npz", x=split.held_out_images[:40])
    argv = [*common, "--eval", "u.npz", "--max-drop", "1pt"]
    assert main(argv) == 2
    assert "--min-agreement" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (b"", "m.tflite", 4),
        (b"\x1c\x00\x00\x00TFL3" + b"\x00" * 64, "m.tflite", 4),
        (b"not a model", "m.h5", 4),
        (b"hello", "m.txt", 2),
    ],
)
def test_what_is_no_model_is_refused(
    content: bytes, name: str, code: int, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    expect_error(capsys, code, name, "convert", name, "--data", str(digits / "calib"))


def test_a_truncated_model_is_refused(
    digits: Path, digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.tflite").write_bytes(digits_tflite.read_bytes()[:50_000])
    expect_error(capsys, 4, "cut.tflite", "convert", "cut.tflite", "--data", str(digits / "calib"))


def test_bad_data_is_one_line_that_names_it(
    common: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    expect_error(capsys, 2, "empty", *common, "--data", "empty")

    write_folder(tmp_path / "mixed", 0, 20)
    (tmp_path / "mixed" / "loose.png").write_bytes(b"x")
    expect_error(capsys, 2, "loose.png", *common, "--data", "mixed")

    broken = write_folder(tmp_path / "broken", 0, 20)
    victim = next(broken.glob("*/*.png"))
    victim.write_bytes(b"no image")
    expect_error(capsys, 2, victim.name, *common, "--data", "broken")
    expect_error(capsys, 2, victim.name, *common, "--eval", "broken")

    x = np.zeros((20, 8, 8, 1), np.float32)
    x[3, 0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    expect_error(capsys, 2, "NaN", "convert", common[1], "--data", "nan.npz")
    np.savez(tmp_path / "shape.npz", x=np.zeros((20, 5, 7, 2), np.float32))
    expect_error(capsys, 2, "5, 7, 2", "convert", common[1], "--data", "shape.npz")
    np.savez(tmp_path / "labels.npz", x=load_split().held_out_images[:20], y=np.arange(20))
    expect_error(capsys, 2, "class id", *common, "--eval", "labels.npz")


def test_a_tampered_bundle_is_not_evaluated(
    common: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*common, "-o", "t.bundle"])
    capsys.readouterr()
    content = bytearray(Path("t.bundle").read_bytes())
    content[len(content) // 2] ^= 1
    Path("t.bundle").write_bytes(bytes(content))
    expect_error(capsys, 4, "t.bundle", "evaluate", "t.bundle", "--data", str(digits / "test"))
    Path("text.bundle").write_text("hello")
    expect_error(capsys, 4, "text.bundle", "evaluate", "text.bundle", "--data", str(digits / "test"))
