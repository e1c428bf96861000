"""The command in a report, typed again, means the same."""

from __future__ import annotations

import argparse
import shlex

import pytest

from edgeloop.cli import convert, evaluate
from edgeloop.cli._command_line import command_line


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (
            "convert",
            ["my model's.h5", "--data", "a b/$HOME", "--mean=-1,0,1", "--p95-ms", "20", "--no-cache", "-o", "x"],
        ),
        ("convert", ["model:digits", "--max-drop", "0.5pt", "--trust-code", "--size", "96x96", "--seed", "3"]),
        ("convert", ["--recipe", "recipe.toml", "--keep-failed"]),
        ("evaluate", ["ic.bundle", "--data", "test/", "--reference", "`id`;.h5", "--samples", "50"]),
    ],
)
def test_it_parses_to_the_same_arguments(verb: str, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    {"convert": convert, "evaluate": evaluate}[verb].add_arguments(parser)
    given = parser.parse_args(words)
    typed = shlex.split(command_line(verb, given))
    assert typed[:2] == ["edgeloop", verb]
    assert parser.parse_args(typed[2:]) == given


def test_a_flag_that_may_be_repeated_is() -> None:
    args = argparse.Namespace(model=["a", "b c"], shape=["1x2", "3x4"], verb="x", json=True)
    assert command_line("compare", args) == "edgeloop compare a 'b c' --shape 1x2 --shape 3x4"
