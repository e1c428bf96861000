"""The agent as real processes: what it does when all is well, and when workers crash, hang or are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.agents import CONTRACT, Agents, frames, make_bundle, run_cli
from support.delegate_lib import RESHAPE, build_delegate, external

CLEAN = {"errors": 0, "drops": 0, "restarts": 0, "fallbacks": [], "sink_errors": 0}


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle")


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, x=frames(300))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kinds(summary: dict) -> list[str]:
    return [event["kind"] for event in summary["events"]]


def test_every_sample_of_an_npz_gives_one_line(agents: Agents, bundle: Path, npz: Path, tmp_path: Path) -> None:
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", f"npz:{npz}", "--sink", f"jsonl:{tmp_path}/out.jsonl"
    )
    assert code == 0, said
    assert summary.items() >= {**CLEAN, "frames": 300, "inferences": 300, "end": "end"}.items()
    assert (summary["bundle"], summary["version"], summary["variant"]) == ("digits", 7, "int8")
    assert (summary["delegate_asked"], summary["delegate_ran"], summary["unsigned"]) == ("xnnpack", "xnnpack", False)
    assert summary["delegated_ops"] > 0
    assert set(summary["latency"]) == {"capture", "preprocess", "invoke", "postprocess", "total"}
    assert all(stage["n"] == 300 and stage["p50_ms"] <= stage["p99_ms"] for stage in summary["latency"].values())
    written = lines(tmp_path / "out.jsonl")
    assert [line["source"] for line in written] == [f"x.npz[{i}]" for i in range(300)]
    assert all(len(line["top"]) == 3 and line["latency_ms"] > 0 for line in written)


def test_the_table_says_what_ran_where_on_how_many_threads_and_how_often(bundle: Path, tmp_path: Path) -> None:
    run = ("run", "--bundle", bundle, "--source", "synthetic:", "--device", "pi-1", "--state", tmp_path / "s")
    done = run_cli(*run, "--count", 20)
    assert done.returncode == 0, done.stderr
    first, _, head, *rows = done.stdout.splitlines()
    assert first.startswith("digits 7 (int8) on xnnpack (")
    assert first.endswith(", 1 thread, device pi-1")
    assert head.split()[-5:] == ["n", "threads", "ran", "on", "device"]
    assert {row.split()[0]: row.split()[4:] for row in rows}["invoke"] == ["20", "1", "xnnpack", "pi-1"]
    done = run_cli(*run, "--delegate", external(build_delegate(), device="none"))
    assert done.returncode == 3
    assert done.stdout.startswith("digits 7 (int8) did not start, 1 thread, device pi-1\n")


def test_results_are_those_of_the_model(agents: Agents, bundle: Path, npz: Path, tmp_path: Path) -> None:
    import edgeloop_agent

    agents.run("--bundle", bundle, "--source", f"npz:{npz}", "--sink", f"jsonl:{tmp_path}/out.jsonl", "--count", "20")
    with edgeloop_agent.open(bundle) as model:
        for line, frame in zip(lines(tmp_path / "out.jsonl"), frames(300), strict=False):
            result = model(frame)
            assert line["top"][0]["label"] == result.label
            assert line["top"][0]["score"] == pytest.approx(result.score)


def test_count_loop_and_rate(agents: Agents, bundle: Path, npz: Path) -> None:
    code, summary, _ = agents.run("--bundle", bundle, "--source", f"npz:{npz}", "--loop", "--count", 700)
    assert (code, summary["frames"], summary["end"]) == (0, 700, "count")
    _, summary, _ = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", 11, "--rate", 50)
    assert summary["frames"] == 11
    assert summary["seconds"] >= 0.19  # ten periods of 20 ms: never faster


def test_frames_that_fail_their_checks_are_counted_and_said_once(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), frames(1, i)[0])
    for i in (1, 4):
        (folder / f"{i}.png").write_bytes(b"not a picture")
    whole = cv2.imencode(".jpg", frames(1)[0])[1].tobytes()
    (folder / "2.png").write_bytes(whole[: len(whole) * 9 // 10])  # OpenCV would make up the rest of it
    code, summary, said = agents.run("--bundle", bundle, "--source", f"folder:{folder}")
    assert (code, summary["frames"], summary["inferences"], summary["errors"]) == (0, 6, 3, 3)
    assert kinds(summary) == ["bad_input"]
    assert said.count("1.png") == 1


def test_a_bundle_for_a_newer_runtime_is_one_line_with_the_next_step(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "new.bundle", runtime={"litert": "99.1"})
    code, summary, said = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", 3)
    assert (code, summary["inferences"], summary["restarts"]) == (2, 0, 0)
    assert "bundle digits version 7 needs ai-edge-litert 99.1 or newer, here is " in summary["error"]["message"]
    assert "-> pip install 'ai-edge-litert>=99.1'" in said


def test_a_source_of_which_no_frame_fits_is_wrong_use(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((5, 3), np.float32))
    code, summary, said = agents.run("--bundle", bundle, "--source", f"npz:{tmp_path / 'bad.npz'}")
    assert (code, summary["frames"], summary["inferences"], summary["errors"]) == (2, 5, 0, 5)
    assert summary["end"] == "failed"
    assert summary["error"]["message"].startswith("none of the 5 frames could be used, the first: bad.npz[0]: ")
    assert "\nedgeloop-agent: none of the 5 frames could be used" in said
    assert kinds(summary) == ["bad_input", "failed"]


def test_a_source_that_is_looped_over_misfits_until_its_count_fails_the_same(
    agents: Agents, bundle: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((1, 3), np.float32))
    source = ("--bundle", bundle, "--source", f"npz:{tmp_path / 'bad.npz'}")
    assert agents.run(*source, "--loop", "--count", 7)[0] == 2
    assert agents.run(*source)[1]["error"]["message"].startswith("the only frame could not be used: bad.npz[0]")


def test_a_sink_on_a_full_disk_does_not_stop_inference(agents: Agents, bundle: Path, npz: Path) -> None:
    code, summary, said = agents.run("--bundle", bundle, "--source", f"npz:{npz}", "--sink", "jsonl:/dev/full")
    assert (code, summary["inferences"], summary["sink_errors"]) == (0, 300, 300)
    assert said.count("No space left") == 1


def test_stdout_carries_nothing_but_results(bundle: Path, npz: Path, tmp_path: Path) -> None:
    done = run_cli(
        "run", "--bundle", bundle, "--source", f"npz:{npz}", "--sink", "jsonl:-", "--state", tmp_path / "s",
        "--delegate", external(build_delegate(), claim_op=RESHAPE),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [f"x.npz[{i}]" for i in range(300)]
    assert "p95" in done.stderr


def test_sigterm_ends_it_cleanly_with_everything_written(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", 200, "--sink", f"jsonl:{out}")
    agent.wait_until(lambda: out.exists() and out.stat().st_size, "wrote a result")
    worker = agent.worker_pid
    summary = agent.stop()
    assert agent.process.returncode == 0
    assert summary.items() >= {**CLEAN, "end": "stop"}.items()
    assert summary["frames"] == summary["inferences"] == len(lines(out)) == summary["latency"]["total"]["n"]
    assert not Path(f"/proc/{worker}").exists()


def test_a_killed_worker_is_started_again_where_it_was(agents: Agents, bundle: Path, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    agent = agents.start("--bundle", bundle, "--source", f"npz:{npz}", "--rate", 200, "--sink", f"jsonl:{out}")
    agent.wait_until(lambda: out.exists() and out.stat().st_size, "wrote a result")
    os.kill(agent.worker_pid or 0, signal.SIGKILL)
    summary = agent.summary()
    assert agent.process.returncode == 0, agent.said
    assert (summary["restarts"], summary["fallbacks"], summary["delegate_ran"]) == (1, [], "xnnpack")
    assert set(kinds(summary)) - {"results_lost"} == {"restart"}
    assert "SIGKILL" in summary["events"][-1]["detail"]
    # Every frame was taken once: it gave a result, or was in the dead worker's hands.
    assert summary["frames"] == 300
    assert summary["inferences"] + summary["drops"] == 300
    assert summary["drops"] <= 1
    written = [line["source"] for line in lines(out)]
    assert len(written) == len(set(written)) == summary["inferences"] - summary["sink_errors"]
    assert summary["sink_errors"] <= 20  # 20 ms at 200 a second, and a slow machine
    assert written[-1] == "x.npz[299]"


@pytest.mark.slow
def test_result_lines_that_die_with_a_worker_are_counted(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    """At full speed, and twice: what is written and what is lost are together what was inferred."""
    sinks = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", *[x for s in sinks for x in ("--sink", f"jsonl:{s}")]
    )
    for restarts in (0, 1):
        agent.wait_until_said("runs on", restarts + 1)
        size = sinks[1].stat().st_size
        agent.wait_until(lambda size=size: sinks[1].stat().st_size > size, "wrote results")
        os.kill(agent.worker_pid or 0, signal.SIGKILL)
        agent.wait_until_said("restart:", restarts + 1)
    agent.wait_until_said("runs on", 3)
    summary = agent.stop()
    written = sum(path.read_bytes().count(b"\n") for path in sinks)
    really_lost = 2 * summary["inferences"] - written
    # Killed between the write and its count, lines are there that count as lost (how many, the host's load decides);
    # none is lost that does not count.
    assert 0 <= really_lost <= summary["sink_errors"]
    lost = [event["detail"] for event in summary["events"] if event["kind"] == "results_lost"]
    assert sum(int(detail.split()[0]) for detail in lost) == summary["sink_errors"]


def test_a_delegate_that_was_not_there_is_taken_when_it_comes(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    library = tmp_path / "plugged-in-later.so"
    out = tmp_path / "out.jsonl"
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", "--rate", 200, "--retry-after", 1, "--sink", f"jsonl:{out}",
        "--delegate", f"external:{library}?claim_op={RESHAPE}", "--delegate", "xnnpack",
    )  # fmt: skip
    agent.wait_until_said("runs on xnnpack")
    shutil.copy(build_delegate(), tmp_path / "partial")
    (tmp_path / "partial").rename(library)
    agent.wait_until_said("runs on external")
    size = out.stat().st_size
    agent.wait_until(lambda: out.stat().st_size > size, "wrote results on it")
    summary = agent.stop()
    assert agent.process.returncode == 0
    assert kinds(summary)[:2] == ["quarantine", "fallback"]
    assert kinds(summary)[-1] == "retry"
    assert summary["delegate_ran"] == "external"
    assert summary["frames"] == summary["inferences"] == len(lines(out))


def test_a_worker_that_is_silent_is_ended_by_the_watchdog(agents: Agents, bundle: Path) -> None:
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", 20, "--heartbeat-timeout", 2)
    agent.wait_until_said("runs on xnnpack")
    os.kill(agent.worker_pid or 0, signal.SIGSTOP)
    agent.wait_until_said("no heartbeat for 2 s")
    agent.wait_until_said("runs on cpu")  # a hang is held against the delegate
    assert agent.stop()["end"] == "stop"


def test_without_a_delegate_that_works_it_says_why_and_fails(agents: Agents, bundle: Path) -> None:
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--count", 10,
        "--delegate", external(build_delegate(), device="none"), "--delegate", "external:/no/such/library.so",
    )  # fmt: skip
    assert code == 3
    assert "no delegate left" in summary["error"]["message"]
    assert said.splitlines()[-2].startswith("edgeloop-agent: no delegate left")
    assert "Traceback" not in said
    assert summary["inferences"] == 0


def test_the_worker_dies_with_its_supervisor(agents: Agents, bundle: Path) -> None:
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", 20)
    agent.wait_until_said("runs on")
    worker = agent.worker_pid
    assert int(Path(f"/proc/{worker}/oom_score_adj").read_text()) >= 500, "the kernel takes it before its supervisor"
    agent.process.kill()
    agent.process.wait()
    for _ in range(500):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        signal.sigtimedwait([], 0.01)
    raise AssertionError("the worker outlived its supervisor")


def test_two_agents_never_share_a_state_folder(agents: Agents, bundle: Path) -> None:
    first = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", 20)
    first.wait_until_said("runs on")
    code, summary, said = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", 1)
    assert code == 2
    assert f"another agent (process {first.process.pid}) is using" in said
    assert summary["error"]["exit_code"] == 2
    first.stop()
    code, _, _ = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", 1)
    assert code == 0


def test_a_bundle_it_cannot_trust_is_refused(agents: Agents, tmp_path: Path) -> None:
    unsigned = make_bundle(tmp_path / "unsigned.bundle", signed=False)
    arguments = ("--bundle", unsigned, "--source", "synthetic:", "--count", 3)
    code, summary, said = agents.run(*arguments)
    assert (code, summary["error"]["exit_code"]) == (4, 4)
    assert "Traceback" not in said
    code, summary, said = agents.run(*arguments, "--allow-unsigned")
    assert (code, summary["unsigned"]) == (0, True)
    assert "not signed by a trusted key" in said
    damaged = make_bundle(tmp_path / "damaged.bundle")
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    assert agents.run("--bundle", damaged, "--source", "synthetic:", "--allow-unsigned")[0] == 4


def test_a_contract_that_does_not_fit_the_model_is_one_line(agents: Agents, tmp_path: Path) -> None:
    wrong = CONTRACT.with_labels(("a", "b"))
    bundle = make_bundle(tmp_path / "wrong.bundle", contract=wrong)
    code, summary, said = agents.run("--bundle", bundle, "--source", "synthetic:")
    assert code == 2
    assert "2 labels but the model has 10 outputs" in summary["error"]["message"]
    assert "Traceback" not in said


def test_a_reader_of_stdout_that_goes_away_ends_it(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(bundle), "--source", "synthetic:"]
    process = subprocess.Popen(
        [*command, "--sink", "jsonl:-", "--state", str(tmp_path / "s")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["top"]
    process.stdout.close()
    assert process.wait(60) == 0


def test_the_worker_is_started_by_the_python_that_is_named(agents: Agents, bundle: Path) -> None:
    """As under emulation, where the kernel cannot start `sys.executable` itself."""
    arguments = ("--bundle", bundle, "--source", "synthetic:", "--count", 3)
    code, _, said = agents.run(*arguments, env={"EDGELOOP_PYTHON": f"/usr/bin/env MARK=1 '{sys.executable}' -B"})
    assert code == 0, said
    code, summary, _ = agents.run(*arguments, env={"EDGELOOP_PYTHON": "/no/such/python"})
    assert code == 3
    assert "cannot start a worker with /no/such/python" in summary["error"]["message"]


def test_an_isolated_python_with_a_site_folder_of_its_own_is_enough(bundle: Path, tmp_path: Path) -> None:
    """The device layout: `python3 -I` with one folder added; the worker has to find the same packages."""
    places = [p for p in sys.path if Path(p).is_dir()]
    places += [str(Path(__import__(name).__file__).parent.parent) for name in ("edgeloop", "edgeloop_agent")]
    script = f"import sys; sys.path[:0] = {places!r}; from edgeloop_agent.cli import main; sys.exit(main())"
    home = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, "run", "--bundle", str(bundle), "--source", "synthetic:",
         "--count", "3", "--json", "--state", str(tmp_path / "s")],
        capture_output=True, text=True, env=home, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inferences"] == 3


def test_json_and_results_on_stdout_exclude_each_other(bundle: Path) -> None:
    done = run_cli("run", "--bundle", bundle, "--source", "synthetic:", "--sink", "jsonl:-", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("doctor", "--help"), ("--version",)])
def test_help_and_version_work(arguments: tuple[str, ...]) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 0
    assert "edgeloop-agent" in done.stdout


def test_doctor_speaks_json() -> None:
    done = run_cli("doctor", "--json")
    assert done.returncode in (0, 1)
    assert json.loads(done.stdout)


def test_a_memory_limit_that_is_too_small_to_start_ends_it_with_what_is_needed(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    code, _, said = agents.run("--bundle", bundle, "--source", "synthetic:", "--memory-limit", 1)
    assert code == 3, said
    assert "MiB once its model is open, and memory_limit is 1 MiB\n  -> memory_limit = " in said
