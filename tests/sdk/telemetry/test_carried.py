"""A stick between device and collector: pulled, full, read-only, damaged, replayed; harmless, and said plainly."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.cli.main import main
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.telemetry.collector.carried_import import CarriedImport, Imported
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.delivery.carried_files import device_folder, read_whole, write_whole
from edgeloop.telemetry.delivery.carrying import CarryingCourier
from edgeloop.telemetry.delivery.courier import DeliveryOutcome
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.transports import NotAcknowledgedError, open_transport
from edgeloop.telemetry.transports.file import FileTransport
from edgeloop.telemetry.wire.codec import Ack, encode_ack, encode_batch, encode_report
from support.reports import BOOT, OTHER_BOOT, small_body, typical_report
from support.securing import prepare_store


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'telemetry.db'}")
    yield opened
    opened.close()


class Device:
    """A spool and its way to the stick."""

    def __init__(self, folder: Path, stick: Path, name: str = "pi-1", boot: str = BOOT) -> None:
        self.spool = Spool(folder / f"{boot}.db")
        self.name, self.boot, self._stick = name, boot, stick
        self.restart()

    def restart(self) -> None:
        self.way = FileTransport(self._stick, self.name)
        self.courier = CarryingCourier(self.spool, self.way)

    def put(self, *seqs: int) -> None:
        for seq in seqs:
            self.spool.put(small_body(seq, boot=self.boot), self.boot, seq)

    def deliver(self) -> DeliveryOutcome:
        return self.courier.deliver()


@pytest.fixture
def device(tmp_path: Path, stick: Path) -> Iterator[Device]:
    made = Device(tmp_path, stick)
    yield made
    made.spool.close()


def files(stick: Path, suffix: str = ".batch") -> list[Path]:
    return sorted(stick.rglob(f"*{suffix}"))


def take_in(stick: Path, store: Store, *, keep: bool = False) -> Imported:
    return CarriedImport(Ingest(store).handle, keep=keep).run(stick)


def stored(store: Store) -> list[int]:
    return sorted(row.report.seq for row in store.reports())


# -- names and files


@given(st.text(min_size=1, max_size=120))
def test_a_folders_name_is_one_that_every_file_system_takes(device: str) -> None:
    name = device_folder(device)
    assert name.isascii() and 0 < len(name) < 120
    assert not set(name) & set('/\\:*?"<>|\0') and name[0] != "." and name[-1] != "."


def test_names_of_devices_stay_apart() -> None:
    names = ["pi-1", "..", ".", "a/b", "a%2Fb", "~", "x" * 120, "x" * 119 + "y", "ü" * 120, "ü" * 119 + "y"]
    assert len({device_folder(name) for name in names}) == len(names)


def test_a_file_that_is_damaged_cut_short_or_of_another_kind_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "00000001.batch"
    write_whole(path, 7, encode_batch([small_body(1)]))
    assert read_whole(path) == (7, encode_batch([small_body(1)]))
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 0x40]) + whole[i + 1 :] for i in range(0, len(whole), 5)]
    for data in (b"", whole[:-9], whole[5:], whole + whole, b"\0" * 4096, *flipped):
        path.write_bytes(data)
        with pytest.raises(DataError):
            read_whole(path)
    path.write_bytes(whole)
    with pytest.raises(DataError):
        read_whole(path.rename(path.with_suffix(".ack")))


def test_links_pipes_and_what_is_too_large_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "1.batch").symlink_to(tmp_path / "secret")
    (tmp_path / "2.batch").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "3.batch")
    (tmp_path / "4.batch").mkdir()
    with (tmp_path / "5.batch").open("wb") as file:
        file.truncate(1 << 32)
    for number in range(1, 6):
        with pytest.raises(DataError):
            read_whole(tmp_path / f"{number}.batch")


# -- there and back


def test_reports_go_once_stay_until_the_answer_comes_back_and_leave_then(
    device: Device, stick: Path, store: Store
) -> None:
    device.put(1, 2, 3)
    first = device.deliver()
    assert (first.error, first.left, first.carried, first.done) == (None, 3, 3, True)
    before = [(path, path.stat().st_mtime_ns) for path in files(stick)]
    for _ in range(3):
        assert device.deliver().batches == 0  # nothing is written again
    device.restart()
    assert device.deliver().batches == 0  # nor by a new process
    assert [(path, path.stat().st_mtime_ns) for path in files(stick)] == before
    assert device.spool.stats().reports == 3
    done = take_in(stick, store)
    assert (done.files, done.accepted, done.folders, done.failed) == (1, 3, 1, ())
    assert files(stick) == []
    back = device.deliver()
    assert (back.accepted, back.left, back.done) == (3, 0, True)
    assert files(stick, "") == [stick / "pi-1"]  # no file is left behind
    assert stored(store) == [1, 2, 3]


def test_a_file_grows_until_it_is_large_and_each_report_lies_there_once(
    device: Device, stick: Path, store: Store
) -> None:
    seqs = list(range(1, 91))
    for seq in seqs:
        device.spool.put(encode_report(typical_report(seq)), BOOT, seq)
        assert device.deliver().batches == 1
    sizes = [path.stat().st_size for path in files(stick)]
    assert 2 <= len(sizes) <= 4 and max(sizes) < 20_000
    device.restart()
    assert device.deliver().batches == 0
    assert take_in(stick, store).accepted == 90
    assert device.deliver().accepted == 90


def test_reports_of_several_devices_are_answered_to_each(
    tmp_path: Path, stick: Path, device: Device, store: Store
) -> None:
    other = Device(tmp_path, stick, "../pi 2", OTHER_BOOT)
    for each in (device, other):
        each.put(1, 2)
        each.deliver()
    assert take_in(stick, store).folders == 2
    assert device.deliver().accepted == other.deliver().accepted == 2
    assert len(stored(store)) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["stick"]
    other.spool.close()


def test_replayed_files_and_answers_change_nothing(device: Device, stick: Path, store: Store) -> None:
    device.put(1, 2)
    device.deliver()
    (batch,) = files(stick)
    old = batch.read_bytes()
    take_in(stick, store)
    (answer,) = files(stick, ".ack")
    old_answer = answer.read_bytes()
    assert device.deliver().accepted == 2
    batch.write_bytes(old)
    answer.write_bytes(old_answer)
    device.put(3)
    assert device.deliver().error is None
    assert device.deliver().left == 1
    batch.write_bytes(old)
    take_in(stick, store)
    take_in(stick, store)
    assert device.deliver().done and device.spool.stats().reports == 0
    assert stored(store) == [1, 2, 3]


def test_a_kept_batch_is_removed_when_its_answer_is_back(device: Device, stick: Path, store: Store) -> None:
    device.put(1)
    device.deliver()
    take_in(stick, store, keep=True)
    assert len(files(stick)) == 1
    assert device.deliver().accepted == 1
    assert files(stick) == []


def test_another_stick_gets_everything_anew(tmp_path: Path, device: Device, stick: Path, store: Store) -> None:
    device.put(1, 2)
    device.deliver()
    stick.rename(tmp_path / "lost")
    assert "is not there (is the stick in and mounted?" in str(device.deliver().error)
    stick.mkdir()
    device.put(3)
    assert device.deliver().carried == 3
    take_in(stick, store)
    assert device.deliver().left == 0
    take_in(tmp_path / "lost", store)
    assert stored(store) == [1, 2, 3]


def test_without_the_folder_nothing_is_made_and_nothing_is_marked_as_sent(device: Device, stick: Path) -> None:
    stick.rmdir()
    device.put(1)
    outcome = device.deliver()
    assert isinstance(outcome.error, NotAcknowledgedError)
    assert (outcome.left, device.courier.delay_s > 0, device.spool.stats().never_sent) == (1, True, 1)
    assert not stick.exists()


def test_a_stick_pulled_while_it_is_written_loses_nothing(
    device: Device, stick: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, left = os.fsync, [5]

    def pulled(descriptor: int) -> None:
        left[0] -= 1
        if left[0] % 2:
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    seqs = list(range(1, 13))
    monkeypatch.setattr("os.fsync", pulled)
    said = set()
    for seq in seqs:
        device.put(seq)
        error = device.deliver().error
        said.add(str(error) if error else "")
        assert files(stick, ".part") == []
    monkeypatch.undo()
    assert any("cannot be read or written (was the stick pulled" in line for line in said)
    assert device.deliver().done
    take_in(stick, store)
    assert device.deliver().left == 0
    assert stored(store) == seqs


def test_what_a_power_cut_left_unfinished_or_damaged_is_removed_and_written_again(
    device: Device, stick: Path, store: Store
) -> None:
    device.put(1, 2)
    device.deliver()
    (batch,) = files(stick)
    batch.write_bytes(batch.read_bytes()[:-20])
    (batch.parent / "00000009.batch.part").write_bytes(b"half")
    (batch.parent / "0000000a.batch").mkdir()
    assert any("is damaged" in line for line in take_in(stick, store).failed)
    device.restart()
    assert device.deliver().batches == 1
    assert not batch.exists() and files(stick, ".part") == []
    assert take_in(stick, store).accepted == 2
    assert device.deliver().left == 0


def test_a_full_share_of_the_stick_is_told_and_the_reports_stay(device: Device, stick: Path) -> None:
    device.way = FileTransport(stick, "pi-1", max_bytes=1000)
    device.courier = CarryingCourier(device.spool, device.way)
    device.put(*range(1, 40))
    assert "as much as it may (carry it to the collector" in str(device.deliver().error)
    assert device.spool.stats().reports == 39


def test_a_link_in_place_of_the_devices_folder_is_not_followed(tmp_path: Path, device: Device, stick: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "1.batch").write_text("x")
    (stick / "pi-1").symlink_to(target)
    device.put(1)
    assert "is a link" in str(device.deliver().error)
    assert [path.name for path in target.iterdir()] == ["1.batch"]


def test_an_answer_is_removed_only_when_the_spool_has_settled_it(
    device: Device, stick: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.put(1)
    device.deliver()
    take_in(stick, store)

    def fails(_ack: Ack) -> None:
        raise DeviceError("spool: the disk is full")

    monkeypatch.setattr(device.spool, "settle", fails)
    assert "disk is full" in str(device.deliver().error)
    monkeypatch.undo()
    assert len(files(stick, ".ack")) == 1
    assert device.deliver().accepted == 1


_STICK = """
import errno, subprocess, sys
from pathlib import Path
from edgeloop.telemetry.delivery.carrying import CarryingCourier
from edgeloop.telemetry.wire.codec import encode_report
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports.file import FileTransport
from support.reports import BOOT, typical_report
here = Path(sys.argv[1])
mount, root = here / "mnt", here / "mnt" / "edgeloop"
root.mkdir()
spool = Spool(here / "spool.db")
courier = CarryingCourier(spool, FileTransport(root, "pi-kitchen-3"))
def put(first, last):
    for seq in range(first, last): spool.put(encode_report(typical_report(seq)), BOOT, seq)
def run(*command): subprocess.run(command, check=True)
put(1, 21)
assert courier.deliver().done
(mount / "other").write_bytes(bytes(200_000))     # the stick is nearly full
put(21, 301)
print(courier.deliver().error)
run("mount", "-o", "remount,ro", mount)
print(courier.deliver().error)
store = open_store(f"sqlite:///{here / 'telemetry.db'}")
done = CarriedImport(Ingest(store).handle).run(root)
print(done.accepted >= 20, done.files, "Read-only file system" in done.unanswered[0])
run("mount", "-o", "remount,rw", mount)
(mount / "other").unlink()
assert courier.deliver().done
CarriedImport(Ingest(store).handle).run(root)
print(courier.deliver().left, sum(1 for _ in store.reports()))
put(301, 303)
run("umount", mount)
print(courier.deliver().error, list(mount.iterdir()))
"""


def test_a_real_file_system_that_is_full_read_only_and_not_mounted(tmp_path: Path) -> None:
    mount = tmp_path / "mnt"
    mount.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*command, f"mount -t tmpfs none {mount}"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system in a namespace of its own")
    script = f"mount -t tmpfs -o size=300k none {mount} && exec {sys.executable} - {tmp_path}"
    found = subprocess.run(
        [*command, script], input=_STICK, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    full, read_only, unanswered, after, away = found.stdout.splitlines()
    root = mount / "edgeloop"
    assert full == f"{root} is full (carry it to the collector, or take a larger stick)"
    assert read_only.startswith(f"{root} is read-only (mount it writable")
    assert unanswered == "True 0 True"
    assert after == "0 300"
    assert away.startswith(f"{root} is not there (is the stick in and mounted?") and away.endswith("[]")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file://stick/x", "names no folder"),
        ("file:", "names no folder"),
        ("file:///", "names no folder"),
        ("file:///x?max=0", "no number of MiB"),
        ("file:///x?size=1", "unknown option"),
    ],
)
def test_a_wrong_url_is_told_before_anything_starts(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_transport(url, device="pi-1")
    with pytest.raises(UsageError, match="needs the device's name"):
        open_transport("file:///media/usb")


# -- the collector's side


def test_the_verb_takes_in_answers_and_says_what_it_could_not_read(
    device: Device, stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.put(1, 2)
    device.deliver()
    (stick / "evil\x1b[31m").mkdir()
    (stick / "evil\x1b[31m" / "x.batch").write_bytes(b"nonsense")
    (stick / "link").symlink_to(tmp_path)
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    assert main(["telemetry", "import", str(stick), "--store", url, "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["accepted"], said["files"], said["devices"], said["unanswered"]) == (2, 1, 1, [])
    assert len(said["failed"]) == 1 and "is damaged" in said["failed"][0]
    assert "\x1b" not in err and "not taken in: evil" in err
    assert device.deliver().accepted == 2
    assert main(["telemetry", "import", str(stick / "nowhere"), "--store", url]) == 3
    assert "is the stick mounted?" in capsys.readouterr().err


def test_a_running_collector_takes_in_a_stick_and_one_that_is_away_changes_nothing(
    device: Device, stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeloop.telemetry.collector import start_collector

    device.put(1, 2)
    device.deliver()
    assert main(["telemetry", "import", str(stick), "--to", "http://127.0.0.1:9"]) == 3
    assert len(files(stick)) == 1
    with start_collector(f"sqlite:///{tmp_path / 'running.db'}") as collector:
        assert main(["telemetry", "import", str(stick), "--to", collector.url]) == 0
        assert stored(collector.store) == [1, 2]
    assert "2 reports of 1 device in 1 file taken in and answered" in capsys.readouterr().out
    assert device.deliver().accepted == 2


@pytest.mark.parametrize(("who", "code"), [("root", 0), ("api", 4), ("", 4)])
def test_where_a_login_is_wanted_an_operator_brings_reports_of_all_devices_and_is_noted(
    device: Device, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, code: int
) -> None:
    from edgeloop.telemetry.collector import start_collector

    device.put(1, 2)
    device.deliver()
    url, ca = f"sqlite:///{tmp_path / 'guarded.db'}", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    monkeypatch.setenv("EDGELOOP_TOKEN", prepare_store(url).get(who, ""))
    with start_collector(url, "0.0.0.0:0", doors=Doors(ca.folder)) as collector:
        assert main(["telemetry", "import", str(stick), "--to", f"{collector.url}?ca={ca.ca_path}"]) == code
        noted = Audit(collector.store.database).entries(action="http.post")
        assert [(each.who, each.subject) for each in noted] == [("api script", "/v1/carried")] * (code == 0)
        assert stored(collector.store) == ([] if code else [1, 2])
    assert device.deliver().accepted == (0 if code else 2)


def test_a_collector_that_fails_on_one_report_takes_in_the_others(
    device: Device, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeloop.telemetry.collector import start_collector

    device.put(1, 2, 3)
    device.deliver()
    handle_all = Ingest.handle_all

    def defective(self: Ingest, requests: Sequence[Request]) -> list[Ack | Exception]:
        if any(small_body(2) in request.batch for request in requests):
            raise ZeroDivisionError
        return handle_all(self, requests)

    monkeypatch.setattr(Ingest, "handle_all", defective)
    with start_collector(f"sqlite:///{tmp_path / 'running.db'}") as collector:
        assert main(["telemetry", "import", str(stick), "--to", collector.url]) == 0
        assert stored(collector.store) == [1, 3]


def test_a_stick_that_nobody_fetches_keeps_half_the_spool_and_the_rest_is_folded(
    tmp_path: Path, stick: Path, store: Store
) -> None:
    device = Device(tmp_path, stick)
    device.spool.close()
    device.spool = Spool(tmp_path / "small.db", max_bytes=64 * 1024)
    device.restart()
    made = 1500
    for seq in range(1, made + 1):
        device.put(seq)
        if seq % 20 == 0:
            outcome = device.deliver()
            assert outcome.done and outcome.error is None
    stats = device.spool.stats()
    assert (stats.refused, outcome.held) == (0, stats.never_sent)
    assert stats.folded > 0 and 0 < stats.sent_bytes <= 32 * 1024
    assert outcome.carried + outcome.held == outcome.left == stats.reports
    while take_in(stick, store).files:
        device.deliver()
    assert device.deliver().left == 0
    frames = sum(each.report.counters["frames"] for each in store.reports())
    assert frames == made, "every frame is counted once"
    device.spool.close()


def test_commands_do_not_travel_by_stick(stick: Path) -> None:
    (stick / "pi-1").mkdir()
    path = stick / "pi-1" / "00000001.batch"
    write_whole(path, 1, encode_batch([small_body(1)]))
    ack = Ack(((BOOT, 1, 1),), commands=(b"reboot",))
    CarriedImport(lambda _batch: ack).run(stick)
    assert read_whole(path.with_suffix(".ack"))[1] == encode_ack(Ack(((BOOT, 1, 1),)))
