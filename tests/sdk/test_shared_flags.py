"""Flags that several verbs have are the same flag everywhere."""

from __future__ import annotations

import argparse

import pytest

from edgeloop.cli import check_data, compare, convert, evaluate
from edgeloop.cli._shared_flags import FLAGS, check_at_least_one
from edgeloop.errors import UsageError


def test_a_shared_flag_says_the_same_in_every_verb() -> None:
    for verb in (check_data, compare, convert, evaluate):
        parser = argparse.ArgumentParser()
        verb.add_arguments(parser)
        shared = {action.option_strings[0]: action for action in parser._actions if action.option_strings}
        for name in FLAGS.keys() & shared.keys():
            assert shared[name].help == FLAGS[name]["help"], f"{verb.__name__} has a {name} of its own"


def test_a_number_below_one_is_wrong_use() -> None:
    check_at_least_one(argparse.Namespace(eval_samples=1, threads=None), "--eval-samples", "--threads")
    with pytest.raises(UsageError, match="--eval-samples must be at least 1, got 0"):
        check_at_least_one(argparse.Namespace(eval_samples=0), "--eval-samples")
