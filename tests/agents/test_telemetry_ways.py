"""The agent with several ways to its collector: flags and the file, a stick when the line is away, a broker."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from edgeloop.errors import ConfigError
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.delivery.ways import FALLBACK
from edgeloop.telemetry.store import open_store
from edgeloop_agent.config_reading import load_config
from support.agents import Agents, make_bundle
from support.collecting import wait_until
from support.mosquitto import Mosquitto

SPEED = ("--source", "synthetic:", "--rate", "50", "--report-interval", "0.3")


def test_ways_are_a_list_in_the_file_and_a_repeated_flag(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('bundle = "a.bundle"\nsource = "synthetic:"\ntelemetry = ["https://a", "file:///stick"]\n')
    assert load_config({}, file).telemetry == ("https://a", "file:///stick")
    assert load_config({"telemetry": ("mqtt://b",)}, file).telemetry == ("mqtt://b",)
    file.write_text('bundle = "a.bundle"\nsource = "synthetic:"\ntelemetry = "https://a"\n')
    assert load_config({}, file).telemetry == ("https://a",)
    file.write_text('bundle = "a.bundle"\nsource = "synthetic:"\ntelemetry = ["https://a", 5]\n')
    with pytest.raises(ConfigError, match="a string or a list of strings"):
        load_config({}, file)


@pytest.mark.slow
def test_with_the_line_away_reports_go_to_the_stick_and_say_so(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", make_bundle(tmp_path / "digits.bundle"), *SPEED, "--count", "250", "--device", "shelf/3",
            "--telemetry", "http://127.0.0.1:9", "--telemetry", f"file://{stick}",
        )  # fmt: skip
    finally:
        agents.close()
    assert code == 0
    assert said.count("telemetry: http://127.0.0.1:9 is not reachable") == 1
    assert said.count(f"{FALLBACK}: http://127.0.0.1:9 is not reachable") == 1
    with closing(open_store(f"sqlite:///{tmp_path / 'telemetry.db'}")) as store:
        done = CarriedImport(Ingest(store).handle).run(stick)
        reports = [row.report for row in store.reports()]
    assert done.accepted == len(reports) == summary["reports"]["made"]
    assert {report.device for report in reports} == {"shelf/3"}
    (event,) = [event for report in reports for event in report.events if event.kind == FALLBACK]
    assert event.detail.endswith(f"reports go by file://{stick}")


def test_reports_reach_a_collector_through_a_broker(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    agents = Agents(tmp_path)
    with closing(open_store(f"sqlite:///{tmp_path / 'telemetry.db'}")) as store:
        listener = MqttListener(broker.url, Ingest(store))
        listener.start()
        try:
            wait_until(lambda: listener.is_connected, "at the broker")
            code, summary, said = agents.run(
                "--bundle", make_bundle(tmp_path / "digits.bundle"), *SPEED, "--count", "60",
                "--device", "shelf/3", "--telemetry", broker.url,
            )  # fmt: skip
        finally:
            agents.close()
            listener.stop()
            broker.stop()
        assert (code, summary["reports"]["waiting"]) == (0, 0), said
        reports = [row.report for row in store.reports()]
    assert len(reports) == summary["reports"]["made"]
    assert sum(report.counters["inferences"] for report in reports) == 60
