"""The verbs that look at an agent or its board: help, one JSON object, one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeloop_agent.verbs import VERBS
from support.agents import make_bundle, run_cli


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = run_cli(verb, "--help")
    assert done.returncode == 0
    assert "example" in done.stdout
    assert f"edgeloop-agent {verb}" in done.stdout


def test_bench_on_the_device_has_the_keys_of_the_host(tmp_path: Path) -> None:
    done = run_cli("bench", make_bundle(tmp_path / "digits.bundle"), "-n", "20", "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    wanted = {"device", "delegate", "threads", "n", "p50_ms", "p95_ms", "p99_ms", "throughput_per_s", "throttled"}
    assert wanted | {"load_ms", "rss_bytes", "cpu_percent"} <= set(body)
    assert (body["delegate"], body["n"]) == ("xnnpack", 20)


def test_bench_says_what_a_delegate_lacks_and_measures_the_rest(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    done = run_cli("bench", bundle, "-n", "20", "--delegate", "edgetpu", "--delegate", "cpu")
    assert (done.returncode, "libedgetpu" in done.stderr, "ran on" in done.stdout) == (3, True, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "gone.bundle"),
        ("autotune",),
        ("logs", "-n", "0"),
        ("service", "--user", "a b"),
        ("status", "--config", "x"),
    ],
)
def test_wrong_use_is_one_line_with_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("edgeloop-agent: ")
    assert "Traceback" not in done.stderr
    told = run_cli(*arguments, "--json")
    assert json.loads(told.stdout)["error"]["exit_code"] == 2


def test_doctor_knows_the_board() -> None:
    findings = json.loads(run_cli("doctor", "--json").stdout)["findings"]
    assert [f["check"] for f in findings if f["check"] == "board"][:1] == ["board"]
