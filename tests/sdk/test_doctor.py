"""Doctor on made-up machines (root, architecture and packages handed in) and on this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.doctor import CHECKS, DEVICE, FAIL, HOST, OK, WARN, Finding, System, as_dict, as_text, examine, exit_code
from edgeloop.doctor.hardware import check_clock
from edgeloop.errors import UsageError

NOW_S = 1_800_000_000.0


def _machine(root: Path, files: dict[str, str], **facts: object) -> System:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    given: dict[str, object] = {
        "machine": "aarch64", "pointer_bits": 64, "python": (3, 11, 2), "libc": ("glibc", "2.36"),
        "versions": {"numpy": "2.1.0", "ai-edge-litert": "2.3.0", "opencv-python-headless": "4.10", "pyserial": "3.5"},
        **facts,
    }  # fmt: skip
    return System(root=root, **given)  # type: ignore[arg-type]


def _of(check: str, system: System) -> list[Finding]:
    return list(CHECKS[check].look(system))


def _coral(where: str, ids: tuple[str, str], speed: str) -> dict[str, str]:
    return {
        f"sys/bus/usb/devices/{where}/idVendor": ids[0], f"sys/bus/usb/devices/{where}/idProduct": ids[1],
        f"sys/bus/usb/devices/{where}/speed": speed, f"sys/bus/usb/devices/{where}/busnum": "2",
        f"sys/bus/usb/devices/{where}/devnum": "3",
    }  # fmt: skip


def test_this_machine_is_fit_for_the_suite() -> None:
    for role in (HOST, DEVICE):
        findings = examine(role)
        assert exit_code(findings) == 0, as_text(findings)
        assert {f.check for f in findings} >= {"python", "glibc", "runtime", "numpy", "cpu", "edgetpu", "serial"}


def test_every_failure_and_warning_has_a_fix(tmp_path: Path) -> None:
    """A machine with everything wrong."""
    system = _machine(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nFeatures : fp\n",
            "proc/meminfo": "MemTotal: 400000 kB\nMemAvailable: 20000 kB\n",
            "proc/cmdline": "console=ttyAMA0,115200 root=/dev/mmcblk0p2",
            "dev/ttyAMA0": "", "dev/ttyUSB0": "",
            "sys/class/thermal/thermal_zone0/temp": "85000",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "f000f",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
            "var/lib/dpkg/status": "Package: libedgetpu1-std\nVersion: 16.0\n",
            "usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "",
            **_coral("2-1", ("18d1", "9302"), "480"),
        },
        machine="armv7l", pointer_bits=32, python=(3, 12, 1), libc=("", ""), versions={"tflite-runtime": "2.14.0"},
    )  # fmt: skip
    findings = examine(HOST, system)
    assert {f.check for f in findings if f.status != OK} >= {
        "python", "glibc", "numpy", "opencv", "cpu", "memory", "throttling", "edgetpu", "serial",
    }  # fmt: skip
    assert all(f.fix for f in findings if f.status != OK)
    assert exit_code(findings) == 1
    assert "FAIL" in as_text(findings)


@pytest.mark.parametrize(
    ("facts", "status", "says"),
    [
        ({}, OK, "64-bit on aarch64"),
        ({"python": (3, 9, 2)}, FAIL, "too old"),
        ({"pointer_bits": 32}, WARN, "only tflite-runtime"),
        ({"pointer_bits": 32, "python": (3, 13, 0)}, FAIL, "stops at 3.11"),
    ],
)
def test_python_is_judged_with_its_word_size(facts: dict[str, object], status: str, says: str, tmp_path: Path) -> None:
    """A 32-bit system on a 64-bit kernel says aarch64, yet only 32-bit wheels fit."""
    [finding] = _of("python", _machine(tmp_path, {}, **facts))
    assert (finding.status, says in finding.what) == (status, True)


@pytest.mark.parametrize(
    ("machine", "glibc", "litert", "status"),
    [
        ("aarch64", "2.31", "2.3.0", FAIL),
        ("aarch64", "2.31", "2.1.0", OK),
        ("aarch64", "2.34", "2.3.0", OK),
        ("aarch64", "2.31", None, FAIL),
        ("x86_64", "2.31", "2.3.0", OK),
    ],
)
def test_an_old_c_library_is_found_before_the_import_fails(
    machine: str, glibc: str, litert: str | None, status: str, tmp_path: Path
) -> None:
    versions = {"ai-edge-litert": litert} if litert else {}
    system = _machine(tmp_path, {}, machine=machine, libc=("glibc", glibc), versions=versions)
    assert [f.status for f in _of("glibc", system)] == [status]


@pytest.mark.parametrize(
    ("versions", "status"),
    [
        ({"numpy": "2.1.0", "ai-edge-litert": "2.3.0"}, OK),
        ({"numpy": "2.1.0", "tflite-runtime": "2.14.0"}, FAIL),
        ({"numpy": "1.26.4", "tflite-runtime": "2.14.0"}, OK),
        ({"numpy": "2.1.0", "tflite-runtime": "2.14.0", "ai-edge-litert": "2.3.0"}, OK),
        ({"numpy": "2.1.0", "ai-edge-litert": "2.3.0", "picamera2": "0.3"}, WARN),
        ({}, FAIL),
    ],
)
def test_numpy_must_fit_what_uses_it(versions: dict[str, str], status: str, tmp_path: Path) -> None:
    assert [f.status for f in _of("numpy", _machine(tmp_path, {}, versions=versions))] == [status]


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "status", "says"),
    [
        ("aarch64", "Features : fp asimd evtstrm", OK, "no dot product"),
        ("aarch64", "Features : fp asimd asimddp", OK, "int8 dot product"),
        ("armv7l", "Features : half thumb vfp", WARN, "no vector"),
        ("armv7l", "Features : half neon", OK, "NEON"),
        ("aarch64", "flags : fpu sse avx2", WARN, "x86"),
        ("x86_64", "flags : fpu sse avx2 avx512_vnni", OK, "VNNI"),
        ("x86_64", "flags : fpu sse", WARN, ""),
        ("aarch64", "", OK, "unknown"),
    ],
)
def test_the_cpu_is_judged_by_its_features(machine: str, cpuinfo: str, status: str, says: str, tmp_path: Path) -> None:
    [finding] = _of("cpu", _machine(tmp_path, {"proc/cpuinfo": cpuinfo}, machine=machine))
    assert finding.status == status
    assert says in finding.what


@pytest.mark.parametrize("ids", [("1a6e", "089a"), ("18d1", "9302")])
def test_a_coral_stick_is_found_under_both_its_names(ids: tuple[str, str], tmp_path: Path) -> None:
    findings = _of("edgetpu", _machine(tmp_path, _coral("2-1", ids, "5000")))
    assert findings[0].status == OK
    assert "5000 Mbit/s" in findings[0].what
    assert findings[1].status == FAIL  # the stick is there, its library is not
    assert "libedgetpu" in findings[1].what


def test_a_coral_stick_on_usb_2_is_slower(tmp_path: Path) -> None:
    assert _of("edgetpu", _machine(tmp_path, _coral("1-1", ("18d1", "9302"), "480")))[0].status == WARN


def test_another_usb_device_is_no_coral(tmp_path: Path) -> None:
    [finding] = _of("edgetpu", _machine(tmp_path, _coral("1-1", ("1d6b", "0002"), "480")))
    assert (finding.status, "no Coral" in finding.what) == (OK, True)


def test_a_coral_card_without_its_driver_fails(tmp_path: Path) -> None:
    card = {
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
        "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
    }
    assert _of("edgetpu", _machine(tmp_path, card))[0].status == FAIL
    assert _of("edgetpu", _machine(tmp_path, {**card, "dev/apex_0": ""}))[0].status == OK


@pytest.mark.parametrize(("version", "warns"), [("16.0", True), ("14.1-1", True), ("16.0TF2.17.1-1", False)])
def test_googles_own_edgetpu_library_is_known_to_crash(version: str, warns: bool, tmp_path: Path) -> None:
    files = {
        "usr/lib/aarch64-linux-gnu/libedgetpu.so.1.0": "",
        "var/lib/dpkg/status": f"Package: zlib\nVersion: 1\n\nPackage: libedgetpu1-max\nVersion: {version}\n",
    }
    findings = _of("edgetpu", _machine(tmp_path, files))
    assert (
        any(f.status == WARN and "is Google's own build" in f.what and "feranick" in f.fix for f in findings) is warns
    )


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (b"COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted", "(compiled by 6.3.0 20170516) is Google's own build"),
        (b"COMPILER=5.4.0 20160609,DATE=redacted,TIME=redacted,CL_NUMBER=291256449", "is Google's own build"),
        (b"COMPILER=14.2.0,DATE=Feb 22 2026,TIME=09:51:57", "libedgetpu, compiled by 14.2.0 on Feb 22 2026"),
        (b"nothing of the kind", "libedgetpu.so.1.0 is installed"),
    ],
)
def test_who_built_libedgetpu_is_read_from_the_file(label: bytes, says: str, tmp_path: Path) -> None:
    system = _machine(tmp_path, {"usr/lib/aarch64-linux-gnu/libedgetpu.so.1.0": ""})
    (tmp_path / "usr/lib/aarch64-linux-gnu/libedgetpu.so.1.0").write_bytes(
        b"\x7fELF" + bytes(5000) + label + bytes(5000)
    )
    assert any(says in f.what for f in _of("edgetpu", system))


def test_a_serial_port_is_named_once_and_a_console_is_no_port(tmp_path: Path) -> None:
    system = _machine(tmp_path, {"dev/ttyUSB0": "", "dev/ttyAMA0": "", "proc/cmdline": "console=ttyAMA0,115200"})
    (tmp_path / "dev/serial0").symlink_to("ttyAMA0")
    findings = _of("serial", system)
    assert [(f.status, Path(f.what.split()[0]).name) for f in findings] == [(OK, "ttyUSB0"), (WARN, "ttyAMA0")]
    assert "console" in findings[1].what


def test_a_port_without_pyserial_is_told(tmp_path: Path) -> None:
    findings = _of("serial", _machine(tmp_path, {"dev/ttyACM0": ""}, versions={}))
    assert [f.status for f in findings] == [OK, WARN]


def test_a_port_that_may_not_be_opened_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = _machine(tmp_path, {"dev/ttyUSB0": ""})
    monkeypatch.setattr(System, "may_read_and_write", lambda _self, _path: False)  # the suite may run as root
    [finding] = _of("serial", system)
    assert finding.status == WARN
    assert "dialout" in finding.fix


@pytest.mark.parametrize(
    ("flags", "statuses", "says"),
    [
        ("0", [OK], "never"),
        ("1", [WARN], "now: under-voltage"),
        ("50000", [WARN, WARN], "since boot: under-voltage"),
        ("10001", [WARN], "now: under-voltage"),
    ],
)
def test_throttling_is_told_now_and_since_boot(flags: str, statuses: list[str], says: str, tmp_path: Path) -> None:
    system = _machine(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": flags})
    findings = _of("throttling", system)
    assert [f.status for f in findings] == statuses
    assert says in findings[0].what


def test_the_clock_is_judged_by_what_sets_it(tmp_path: Path) -> None:
    pi = _machine(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    assert [f.status for f in check_clock(pi, now_s=0.0)] == [FAIL]
    assert [f.status for f in check_clock(pi, now_s=NOW_S)] == [WARN]
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert [f.status for f in check_clock(pi, now_s=NOW_S)] == [WARN]
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert [f.status for f in check_clock(pi, now_s=NOW_S)] == [OK]


def test_room_on_a_disk_that_cannot_be_written_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop.paths.state_dir", lambda: Path("/proc/edgeloop"))  # not even root writes there
    state, cache = _of("disk", System())
    assert (state.status, cache.status) == (FAIL, OK)
    assert "cannot be written" in state.what


def test_a_check_that_breaks_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop.doctor.board.usb_sticks", lambda **_: 1 / 0)
    system = _machine(tmp_path, {})
    findings = examine(DEVICE, system)
    assert any(f.check == "edgetpu" and "could not be checked" in f.what for f in findings)
    assert findings[-1].check == "clock"


def test_extras_are_a_matter_of_the_host(tmp_path: Path) -> None:
    system = _machine(tmp_path, {}, versions={"numpy": "2.1.0", "starlette": "0.40"})
    host = [f for f in examine(HOST, system) if f.check == "extras"]
    assert all(f.status == OK and f.fix.startswith("pip install") for f in host if "not installed" in f.what)
    fixes = {f.what.split(":")[0]: f.fix for f in host if "not installed" in f.what}
    assert fixes["PyTorch models"].endswith("edgeloop[torch]', or in a checkout: scripts/setup --torch")
    assert fixes["ONNX files"].endswith("scripts/setup --torch")
    assert fixes["Keras and SavedModel files"].endswith("scripts/setup")
    [partial] = [f for f in host if f.status == WARN]
    assert "starlette without uvicorn, sqlalchemy" in partial.what
    assert not [f for f in examine(DEVICE, system) if f.check == "extras"]


def test_a_wanted_delegate_is_tried(tmp_path: Path) -> None:
    findings = examine(DEVICE, _machine(tmp_path, {}), delegates=["cpu", "edgetpu"])
    assert [(f.check, f.status) for f in findings[-2:]] == [("delegate", OK), ("delegate", FAIL)]
    with pytest.raises(UsageError):
        examine(DEVICE, _machine(tmp_path, {}), delegates=["warp"])


def test_the_verb_prints_one_object_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["healthy"] is True
    assert data["ok"] + data["warn"] + data["fail"] == len(data["findings"])
    assert set(data["findings"][0]) == {"check", "status", "what", "fix"}
    assert err == ""
    assert main(["doctor", "--delegate", "edgetpu"]) == 1
    assert "libedgetpu" in capsys.readouterr().out


def test_no_findings_are_healthy() -> None:
    assert as_dict(())["healthy"] is True
