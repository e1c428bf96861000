"""Every verb of `edgeloop`: help with an example, one-line errors, --json, exit codes."""

from __future__ import annotations

import argparse
import configparser
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop.cli.main import VERBS, build_parser, main
from edgeloop.devices import connect
from edgeloop.errors import _MODULES_OF_EXTRA, MissingExtraError, UsageError
from edgeloop.mains import ArgumentParser, as_edgeloop_error
from support.tiny_models import tiny_cnn


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "edgeloop " + verb in capsys.readouterr().out


def pages(parser):
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from pages(sub)


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    too_long = [line for page in pages(build_parser(verb)) for line in page.splitlines() if len(line) > 80]
    assert too_long == []


def test_a_long_example_goes_on_where_a_shell_lets_it_and_prose_is_filled(monkeypatch):
    monkeypatch.setenv("COLUMNS", "42")
    epilog = "example:\n  tool go --flag value --other-flag value x   what it is for\n\nOne\ntwo three."
    shown = ArgumentParser(prog="tool", epilog=epilog).format_help().partition("example:\n")[2]
    assert shown == ("  tool go --flag value \\\n      --other-flag value x\n      what it is for\n\nOne two three.\n")


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "help_command"),
    [
        (["convret"], "edgeloop --help"),
        ([], "edgeloop --help"),
        (
            ["convert", "--bogus"],
            "usage: edgeloop convert [MODEL] [flags]; edgeloop convert --help lists the flags",
        ),
        (["convert", "--seed", "x"], "edgeloop convert --help"),
        (["bundle", "crate"], "edgeloop bundle --help"),
    ],
)
def test_wrong_use_is_one_line_and_an_object_with_json(capsys, arguments, help_command):
    assert main([*arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["hint"] == help_command
    assert len(printed.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message", "usage"),
    [
        (
            ["convert", "m.h5", "--max-dorp", "1pt"],
            "unknown flag --max-dorp: did you mean --max-drop?",
            "convert [MODEL]",
        ),
        (["convert", "m.h5", "--taget=rpi4"], "unknown flag --taget: did you mean --target?", "convert [MODEL]"),
        (
            ["evaluate", "m.h5", "--dta", "x"],
            "unknown flag --dta: did you mean --data?",
            "evaluate BUNDLE|MODEL --data DATA",
        ),
        (
            ["bundle", "verify", "a.bundle", "--trsut", "k"],
            "unknown flag --trsut: did you mean --trust?",
            "bundle verify",
        ),
        (["collect", "--port", "8766"], "unknown flag --port", "edgeloop collect --help"),
        (["targets", "a", "b"], "unexpected argument b", "edgeloop targets [TARGET]"),
        (["evaluate", "m.h5"], "the following arguments are required: --data", "edgeloop evaluate --help"),
    ],
)
def test_a_misspelt_flag_names_the_nearest_and_the_verbs_usage(capsys, arguments, message, usage):
    assert main([*arguments, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == message
    assert usage in error["hint"]


@pytest.mark.parametrize(
    ("asked", "near"), [("rpi", "rpi4"), ("coral", "coral-usb"), ("RPI4", "rpi4"), ("generic", "generic-")]
)
def test_an_unknown_target_names_those_near(capsys, asked, near):
    assert main(["targets", asked]) == 2
    assert near in capsys.readouterr().err.splitlines()[1]


def run(*arguments, stdout=subprocess.PIPE, **options):
    command = [sys.executable, "-m", "edgeloop.cli", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, **options)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_behind_stdout_is_one_line(flags):
    with Path("/dev/full").open("w") as full:
        done = run("targets", *flags, stdout=full)
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_names_that_are_no_text_leave_valid_json():
    for locale in ("C", "C.UTF-8"):
        done = run("analyze", b"/nowhere/\xff.tflite", "--json", env={**os.environ, "LC_ALL": locale})
        assert done.returncode == 2
        assert "/nowhere/" in json.loads(done.stdout.decode())["error"]["message"]


@pytest.mark.parametrize(("words", "near"), [(["convrt", "m.h5"], "convert"), (["bundle", "verfy", "x"], "verify")])
def test_a_misspelt_verb_names_the_nearest(capsys, words, near):
    assert main(words) == 2
    assert f"did you mean {near}?" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--recipe", "--contract"])
def test_a_file_that_is_not_there_is_named_once(capsys, tmp_path, flag):
    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_cnn())
    np.savez(tmp_path / "d.npz", x=np.zeros((40, 8, 8, 3), np.float32))
    assert main(["convert", str(model), "--data", str(tmp_path / "d.npz"), flag, "nowhere.toml"]) == 2
    err = capsys.readouterr().err
    assert "nowhere.toml: No such file or directory" in err
    assert err.count("nowhere.toml") == 1 and "Errno" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_verb_as_ctrl_c_does(number):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "edgeloop.cli", "monitor", "--once", "--url", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            connection.close()
    assert (process.returncode, said) == (130, "edgeloop: interrupted\n")


def test_a_defect_is_one_line_that_says_how_to_see_more(capsys, monkeypatch):
    def broken(*_):
        raise KeyError("nobody thought of this")

    monkeypatch.setattr("edgeloop.cli.targets.run", broken)
    assert main(["targets", "--json"]) == 3
    printed = capsys.readouterr()
    assert "a defect in edgeloop: KeyError" in json.loads(printed.out)["error"]["message"]
    assert "EDGELOOP_DEBUG=1" in printed.err
    for value in ("1", "0", ""):
        monkeypatch.setenv("EDGELOOP_DEBUG", value)
        main(["targets"])
        assert ("Traceback" in capsys.readouterr().err) == (value == "1")


def test_an_error_is_one_line_with_a_next_step_and_an_object_with_json(capsys):
    assert main(["targets", "rpi99", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["exit_code"] == 2
    assert printed.err.splitlines() == [
        "edgeloop: target 'rpi99' is not known",
        "  -> did you mean rpi5 or rpi4 or rpi3? see `edgeloop targets`, or give the path of a target TOML",
    ]


def test_json_is_the_only_thing_on_stdout(capsys):
    assert main(["targets", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["targets"]) == 9


def test_the_command_line_starts_without_numpy_or_any_framework():
    code = (
        "import sys\nfrom edgeloop.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'tensorflow', 'torch', 'sklearn', 'sqlalchemy', 'starlette', 'rich', 'cv2'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("resnet.h5", b"\x89HDF\r\n\x1a\n" + bytes(32), "resnet.h5 is a Keras model (HDF5)"),
        ("resnet.keras", b"PK\x03\x04" + bytes(64), "resnet.keras is a Keras model (.keras)"),
        ("m.onnx", b"\x08\x07" + bytes(64), "m.onnx is an ONNX model (.onnx)"),
        ("kws.npz", b"PK\x03\x04" + bytes(64), "kws.npz is a file of samples (.npz)"),
    ],
)
def test_the_wrong_kind_of_file_is_said(capsys, tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    for arguments in (
        ["bench", str(path)],
        ["bundle", "inspect", str(path)],
        ["run", "local:", str(path), "--source", "synthetic:"],
    ):
        assert main([*arguments, "--json"]) == 2
        assert says in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_tflite_where_a_bundle_is_wanted_is_said(capsys, digits_tflite):
    for arguments in (["bundle", "verify", digits_tflite], ["run", "local:", digits_tflite, "--source", "synthetic:"]):
        assert main([*map(str, arguments), "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert "is a .tflite model, not a bundle" in error["message"]
        assert "edgeloop bundle create" in error["hint"]


def test_a_config_where_a_bundle_is_wanted_and_the_reverse_are_said(capsys, tmp_path):
    config, noise = tmp_path / "agent.toml", tmp_path / "ic.bundle"
    config.write_text("trial = 5")
    noise.write_bytes(b"\xff\xfe")
    assert main(["bundle", "verify", str(config), "--json"]) == 2
    assert "edgeloop bundle config FILE" in json.loads(capsys.readouterr().out)["error"]["hint"]
    assert main(["bundle", "config", str(noise), "--json"]) == 2
    assert "is no text, so no config" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_bench_of_a_folder_is_said(capsys, tmp_path):
    assert main(["bench", str(tmp_path)]) == 2
    assert "is a directory; bench takes a .tflite or a .bundle" in capsys.readouterr().err


def test_every_package_that_an_extra_brings_is_named_with_it_where_it_is_missing():
    """A verb may need more than its own extra: `run local:` starts a collector."""
    extras = configparser.ConfigParser(interpolation=None)
    extras.read(Path(__file__).parents[2] / "setup.cfg")
    assert set(_MODULES_OF_EXTRA) <= set(extras["options.extras_require"])
    found = as_edgeloop_error(ModuleNotFoundError("No module named 'sqlalchemy.orm'", name="sqlalchemy.orm"))
    assert isinstance(found, MissingExtraError)
    assert found.extra == "collector"
    assert "defect" in as_edgeloop_error(ModuleNotFoundError("No module named 'edgeloop.x'", name="edgeloop.x")).message


@pytest.mark.parametrize(
    ("url", "meant"),
    [("local", "local:"), ("pi@board.local", "ssh://pi@board.local"), ("serial:///dev/x", "local: or ssh://user@host")],
)
def test_a_device_that_is_nearly_right_is_told_how_to_write_it(url, meant):
    with pytest.raises(UsageError, match="no way to reach that") as caught:
        connect(url)
    assert caught.value.hint == meant


@pytest.mark.parametrize(
    "words", [["bundle", "inspect"], ["run", "local:"], ["bench"], ["evaluate"], ["analyze"], ["convert"]]
)
def test_a_file_that_is_not_there_is_told_what_is(capsys, tmp_path, words):
    (tmp_path / "my_model.bundle").write_bytes(b"")
    np.savez(tmp_path / "d.npz", x=np.zeros((40, 8, 8, 3), np.float32))
    data = ["--data", str(tmp_path / "d.npz")] if words[0] in ("evaluate", "convert") else []
    data += ["--source", "synthetic:"] if words[0] == "run" else []
    assert main([*words, str(tmp_path / "mymodel.bundle"), *data]) == 2
    assert f"did you mean {tmp_path}/my_model.bundle?" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "models/m.bundle"), *data]) == 2
    assert f"there is no folder {tmp_path}/models" in capsys.readouterr().err


def test_a_bundle_or_code_where_a_model_is_wanted_is_told(capsys, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.bundle", "w") as file:
        file.writestr("manifest.json", "{}")
    (tmp_path / "net.py").write_text("")
    np.savez(tmp_path / "d.npz", x=np.zeros((40, 8, 8, 3), np.float32))
    for name, says in (("a.bundle", "give the model it was made from"), ("net.py", "net:FUNCTION")):
        assert main(["convert", str(tmp_path / name), "--data", str(tmp_path / "d.npz")]) == 2
        assert says in capsys.readouterr().err
