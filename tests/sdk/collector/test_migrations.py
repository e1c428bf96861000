"""A store that an older edgeloop made goes on with everything that was in it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import cbor2
from sqlalchemy import inspect

from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.schema import METADATA
from edgeloop.telemetry.wire.codec import decode_report, encode_report
from support.collecting import make_report, with_event

VERSION_1 = """
CREATE TABLE edgeloop_meta (schema_version INTEGER NOT NULL);
INSERT INTO edgeloop_meta VALUES (1);
CREATE TABLE devices (
    id INTEGER NOT NULL, device TEXT NOT NULL, first_received_s FLOAT NOT NULL, last_received_s FLOAT NOT NULL,
    reports BIGINT NOT NULL, inferences FLOAT NOT NULL, last_report_id BIGINT, PRIMARY KEY (id), UNIQUE (device)
);
CREATE TABLE quarantine (
    id INTEGER NOT NULL, received_s FLOAT NOT NULL, device TEXT NOT NULL, boot TEXT NOT NULL, seq BIGINT NOT NULL,
    reason TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id)
);
CREATE TABLE reports (
    id INTEGER NOT NULL, device_id INTEGER NOT NULL, boot VARCHAR(64) NOT NULL, seq BIGINT NOT NULL,
    received_s FLOAT NOT NULL, time_s FLOAT NOT NULL, uptime_s FLOAT NOT NULL, period_s FLOAT NOT NULL,
    bundle TEXT NOT NULL, version BIGINT NOT NULL, variant TEXT NOT NULL, delegate_asked TEXT NOT NULL,
    delegate_ran TEXT NOT NULL, delegated_ops BIGINT NOT NULL, total_ops BIGINT NOT NULL, runtime TEXT NOT NULL,
    unsigned BOOLEAN NOT NULL, inferences BIGINT NOT NULL, counters TEXT NOT NULL, gauges TEXT NOT NULL, unknown BLOB,
    PRIMARY KEY (id), CONSTRAINT report_key UNIQUE (device_id, boot, seq),
    FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX reports_by_device ON reports (device_id, id);
CREATE TABLE events (
    report_id INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL, time_s FLOAT NOT NULL,
    detail TEXT NOT NULL, PRIMARY KEY (report_id, position), FOREIGN KEY(report_id) REFERENCES reports (id)
) WITHOUT ROWID;
CREATE TABLE latency (
    report_id INTEGER NOT NULL, stage TEXT NOT NULL, histogram BLOB NOT NULL, PRIMARY KEY (report_id, stage),
    FOREIGN KEY(report_id) REFERENCES reports (id)
) WITHOUT ROWID;
"""
"""As version 1 made it."""


def write_version_1(path: Path, reports: list[Report]) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
    devices = sorted({report.device for report in reports})
    for number, device in enumerate(devices, 1):
        mine = [n for n, report in enumerate(reports, 1) if report.device == device]
        done = sum(reports[n - 1].counters.get("inferences", 0) for n in mine)
        connection.execute(
            "INSERT INTO devices VALUES (?, ?, 1.0, 2.0, ?, ?, ?)", (number, device, len(mine), done, mine[-1])
        )
    for number, r in enumerate(reports, 1):
        values = (
            *(number, devices.index(r.device) + 1, r.boot, r.seq, 1000.0 + number, r.time_s, r.uptime_s, r.period_s),
            *(r.bundle, r.version, r.variant, r.delegate_asked, r.delegate_ran, r.delegated_ops, r.total_ops),
            *(r.runtime, r.unsigned, r.counters.get("inferences", 0), json.dumps(dict(r.counters))),
            *(json.dumps(dict(r.gauges)), cbor2.dumps(dict(r.unknown)) if r.unknown else None),
        )
        connection.execute(f"INSERT INTO reports VALUES ({', '.join('?' * len(values))})", values)
        for stage, histogram in r.latency.items():
            connection.execute("INSERT INTO latency VALUES (?, ?, ?)", (number, stage, histogram.to_wire()))
        for position, e in enumerate(r.events):
            connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)", (number, position, e.kind, e.time_s, e.detail)
            )
    connection.execute("INSERT INTO quarantine VALUES (1, 5.0, 'pi-1', '', 0, 'torn', x'00')")
    connection.commit()
    connection.close()


def test_a_store_of_version_1_is_brought_forward_with_all_it_holds(tmp_path: Path) -> None:
    reports = [make_report(n, device=f"pi-{n % 3}") for n in range(1, 1201)]
    reports[4] = with_event(make_report(2000, unsigned=True, unknown={77: ["newer", {1: 2}]}))
    reports[5] = make_report(2001, latency={}, counters={}, gauges={"odd": 0.125, "alert_fallback": 3.0})
    reports = [decode_report(encode_report(report)) for report in reports]
    write_version_1(tmp_path / "old.db", reports)
    store = open_store(f"sqlite:///{tmp_path / 'old.db'}")
    found = list(store.reports())
    assert [each.report for each in found] == reports
    assert [(each.id, each.received_s) for each in found[:2]] == [(1, 1001.0), (2, 1002.0)]
    assert store.counts().reports == 1200
    assert [each.reason for each in store.quarantined()] == ["torn"]
    again = store.insert([reports[7], make_report(5000)])
    assert (again.stored, again.duplicates) == (1, 1)
    assert {each.report.device for each in store.latest()} == {"pi-0", "pi-1", "pi-2"}
    with store.database.reader.connect() as connection:
        assert set(inspect(connection).get_table_names()) == set(METADATA.tables)
    store.close()


def test_what_the_wire_does_not_take_goes_to_the_quarantine(tmp_path: Path) -> None:
    odd = make_report(2, bundle="line\nbreak")
    write_version_1(tmp_path / "old.db", [make_report(1), odd, make_report(3)])
    store = open_store(f"sqlite:///{tmp_path / 'old.db'}")
    assert [each.report.seq for each in store.reports()] == [1, 3]
    assert [(each.device, each.seq) for each in store.quarantined() if "not carried over" in each.reason] == [
        ("pi-1", 2)
    ]
    store.close()
