"""`edgeloop.convert` can do what the verb can: every flag has its argument, or another place that is named here."""

from __future__ import annotations

import argparse
import inspect

import edgeloop
from edgeloop.cli import convert as verb
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.goals import Goals

ELSEWHERE = {
    "output": "result.bundle.save(path)",
    "no_sign": "result.bundle.save(sign=False)",
    "keep_failed": "result.bundle.save(keep_failed=True)",
    "report": "result.write_report(folder)",
    "save_recipe": "result.save_recipe(path)",
    "recipe": "edgeloop_converters.pipeline.convert(load_recipe(path))",
    "install_engine": "edgeloop_converters.frontends.onnx2tf_env.install(progress)",
}
CALLED = {
    "eval": "evaluate", "eval_samples": "evaluation_samples", "no_cache": "cache", "no_repair": "repair",
    **dict.fromkeys(("bits", "clusters", "codebook", "budget"), "scheme_options"),
    **dict.fromkeys(("input_kind", "output_kind", "labels", "size", "color", "mean", "std", "resize"), "hints"),
    **dict.fromkeys(("max_drop", "min_agreement", "p95_ms", "max_bytes"), "goals"),
}  # fmt: skip


def test_every_flag_has_its_argument() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    verb.add_arguments(parser)
    flags = {action.dest for action in parser._actions}
    arguments = set(inspect.signature(edgeloop.convert).parameters)
    missing = {flag for flag in flags - set(ELSEWHERE) if CALLED.get(flag, flag) not in arguments}
    assert not missing
    assert set(ELSEWHERE) <= flags and set(CALLED) <= flags, "no place is named for a flag that is gone"
    assert {"max_drop", "min_agreement", "p95_ms", "max_bytes"} == set(Goals.__dataclass_fields__)
    named = {"input_kind": "kind", "output_kind": "output"}
    hints = {named.get(flag, flag) for flag, place in CALLED.items() if place == "hints"}
    assert hints == set(ContractFlags.__dataclass_fields__)
