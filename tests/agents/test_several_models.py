"""Several models in one agent: a worker each, one supervisor, telemetry by bundle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import ConfigError, EdgeloopError, UsageError
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.overview import Overview
from edgeloop_agent.config_reading import load_configs
from support.agents import Agents, frames, make_bundle, residual_int8, run_cli
from support.delegate_lib import ADD, build_delegate, external


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def write(folder: Path, shared: str = "", faces: str = "", plates: str = "") -> Path:
    """A config of two models; the second one has an ADD."""
    make_bundle(folder / "faces.bundle", name="faces")
    make_bundle(folder / "plates.bundle", name="plates", model=residual_int8())
    np.savez(folder / "x.npz", x=frames(60))
    path = folder / "agent.toml"
    path.write_text(f"""
{shared}
[model.faces]
bundle = "{folder}/faces.bundle"
source = "npz:{folder}/x.npz"
sink = "jsonl:{folder}/faces.jsonl"
{faces}
[model.plates]
bundle = "{folder}/plates.bundle"
source = "npz:{folder}/x.npz"
sink = "jsonl:{folder}/plates.jsonl"
{plates}
""")
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_runs_on_its_own_delegate_and_reports_under_its_own_bundle(agents: Agents, tmp_path: Path) -> None:
    crashing = external(build_delegate(), claim_op=ADD, crash_invoke=1, after=20)
    with start_collector(f"sqlite:///{tmp_path}/telemetry.db") as collector:
        shared = f'telemetry = "{collector.url}"\ndevice = "pi-1"\nreport_interval = 0.3\nrate = 100\n'
        config = write(tmp_path, shared, plates=f'delegate = ["{crashing}", "cpu"]\ncount = 40')
        code, summary, said = agents.run("--config", config)
        assert code == 0, said
        reports = [each.report for each in collector.store.reports()]
        views = {view.bundle: view for view in Overview(collector.store).devices()}
    faces, plates = summary["models"]["faces"], summary["models"]["plates"]
    assert (faces["inferences"], faces["delegate_ran"], faces["restarts"]) == (60, "xnnpack", 0)
    assert (plates["frames"], plates["drops"], plates["delegate_ran"], plates["restarts"]) == (40, 1, "cpu", 1)
    assert (len(lines(tmp_path / "faces.jsonl")), summary["end"]) == (60, "end")
    assert "plates: fallback: external" in said
    assert "faces: faces 7 (int8) runs on xnnpack" in said
    # One device, one boot, every number once; what is about one bundle says so.
    assert {(r.device, r.boot) for r in reports} == {("pi-1", reports[0].boot)}
    assert sorted(r.seq for r in reports) == list(range(1, summary["reports"]["made"] + 1))
    for name, model in summary["models"].items():
        of_it = [r for r in reports if r.bundle == name]
        assert sum(r.counters["inferences"] for r in of_it) == model["inferences"]
        assert views[name].delegate_ran == model["delegate_ran"]


def test_one_that_fails_leaves_the_other_alone_and_is_the_error_of_the_run(agents: Agents, tmp_path: Path) -> None:
    missing = external(build_delegate(), device="none")
    config = write(tmp_path, "rate = 100", plates=f'delegate = "{missing}"')
    code, summary, said = agents.run("--config", config)
    assert code == 3
    assert summary["end"] == "failed"
    assert "plates: no delegate left" in summary["error"]["message"]
    assert (summary["models"]["faces"]["inferences"], summary["models"]["faces"]["end"]) == (60, "end")
    assert summary["models"]["plates"]["inferences"] == 0
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_a_stop_ends_all(agents: Agents, tmp_path: Path) -> None:
    config = write(tmp_path, "rate = 50\nloop = true")
    agent = agents.start("--config", config)
    agent.wait_until_said("runs on xnnpack", 2)
    os.kill(agent.worker_pid or 0, signal.SIGKILL)
    agent.wait_until_said("runs on xnnpack", 3)
    summary = agent.stop()
    assert agent.process.returncode == 0
    assert sorted(model["restarts"] for model in summary["models"].values()) == [0, 1]
    assert {model["end"] for model in summary["models"].values()} == {"stop"}


def test_the_table_names_each_model(tmp_path: Path) -> None:
    done = run_cli("run", "--config", write(tmp_path), "--state", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[faces]", "[plates]"]


def test_keys_above_the_tables_are_every_models_and_a_tables_own_win(tmp_path: Path) -> None:
    config = write(tmp_path, "rate = 5\nthreads = 2", plates="rate = 7")
    faces, plates = load_configs({"state": tmp_path / "s"}, config)
    assert (faces.model, faces.rate, faces.threads) == ("faces", 5, 2)
    assert (plates.model, plates.rate, plates.threads) == ("plates", 7, 2)
    assert faces.state == plates.state == tmp_path / "s"
    assert faces.folder == tmp_path / "s/models/faces"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = 3", "'model' is no key"),
        ("[model]", "'model' is no key"),
        ("[models.a]\nbundle = 'x'", "unknown table 'models'"),
        ("[[models]]\nbundle = 'x'", "unknown table 'models'"),
        ("[modle.a]\nbundle = 'x'", "unknown table 'modle'"),
        ("[model.a]\nsource = 'synthetic:'", "[model.a] has no 'bundle'"),
        ("[model.a]\nbundel = 'x'", "unknown key 'bundel'"),
        ("[model.a]\nstate = 'x'", "is for all models"),
        ("[model.'a b']\nbundle = 'x'", "is no name"),
        ("[model.a.b]\nbundle = 'x'", "unknown key 'b'"),
        ("bundle='b'\nsource='synthetic:'\nsink='jsonl:o'\n[model.a]\n[model.b]", "two models have the sink jsonl:o"),
        ("\n".join(f"[model.m{i}]" for i in range(17)), "17 models, at most 16"),
    ],
)
def test_what_does_not_hold_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(EdgeloopError) as caught:
        load_configs({}, tmp_path / "a.toml")
    assert isinstance(caught.value, (ConfigError, UsageError))
    assert says in caught.value.message


def test_a_table_that_is_called_nearly_right_is_told_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[models.a]\nbundle = 'x'\n[models.b]\nbundle = 'y'")
    with pytest.raises(ConfigError) as caught:
        load_configs({}, tmp_path / "a.toml")
    assert caught.value.hint == "a table for each model: [model.a], [model.b]"


def test_a_flag_for_all_models_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--source would be for all 2 models"):
        load_configs({"source": "synthetic:"}, write(tmp_path))


@pytest.mark.slow
def test_one_source_feeds_two_models_and_outlives_a_crash_of_the_one_that_reads_it(
    agents: Agents, tmp_path: Path
) -> None:
    crashing = external(build_delegate(), claim_op=ADD, crash_invoke=1, after=20)
    config = write(tmp_path, "rate = 100")
    text = config.read_text().replace(f'source = "npz:{tmp_path}/x.npz"', 'source = "model:plates"', 1)
    config.write_text(text + f'delegate = ["{crashing}", "cpu"]\n')
    code, summary, said = agents.run("--config", config)
    assert code == 0, said
    faces, plates = summary["models"]["faces"], summary["models"]["plates"]
    assert (plates["frames"], plates["drops"], plates["restarts"]) == (60, 1, 1)
    assert (faces["restarts"], faces["end"], faces["delegate_ran"]) == (0, "end", "xnnpack")
    # Frames that came before its worker was ready are not its own, those it was too slow for are drops.
    assert 20 < faces["inferences"] <= 60
    assert faces["frames"] == faces["inferences"] + faces["drops"]
    names = [line["source"] for line in lines(tmp_path / "faces.jsonl")]
    assert names == sorted(set(names), key=names.index)
    assert names[-1] == "x.npz[59]"


def test_frames_of_a_model_that_is_not_there_are_one_line(tmp_path: Path) -> None:
    config = write(tmp_path)
    config.write_text(config.read_text().replace(f"npz:{tmp_path}/x.npz", "model:plates"))
    with pytest.raises(UsageError, match="no model of that name reads a source of its own"):
        load_configs({}, config)
