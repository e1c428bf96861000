"""Every verb of `edgeloop`: help with an example, one-line errors, --json, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgeloop.cli.main import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "edgeloop " + verb in capsys.readouterr().out


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


def test_a_word_that_is_no_verb_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["convret"])
    assert stopped.value.code == 2


def test_an_error_is_one_line_with_a_next_step_and_an_object_with_json(capsys):
    assert main(["targets", "rpi99", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["exit_code"] == 2
    assert printed.err.splitlines() == [
        "edgeloop: target 'rpi99' is not known",
        "  -> see `edgeloop targets`, or give the path of a target TOML",
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
