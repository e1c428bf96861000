"""Probes on made-up /proc and /sys trees, and on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeloop import probes
from edgeloop.boards import detect_board


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PI4 = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "proc/loadavg": "0.52 0.48 0.40 1/123 4567\n",
    "proc/meminfo": "MemTotal:        3884364 kB\nMemFree:  100 kB\nMemAvailable:    3204120 kB\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
    "proc/42/status": "Name:\tpython3\nVmRSS:\t   56320 kB\n",
    "proc/42/smaps_rollup": "Rss: 56320 kB\nPss:               25000 kB\nPss_Anon: 1 kB\n",
    "proc/42/stat": "42 (a (strange) name) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 100 1 1\n",
}


def test_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    root = _write(tmp_path, PI4)
    gauges = detect_board(root=root).gauges(pids=(42,), root=root)
    assert gauges == probes.Gauges(48.312, 0x50005, 1500.0, "ondemand", 0.52, 3204120 * 1024, 56320 * 1024)
    assert gauges.numbers()["throttle_flags"] == 0x50005
    assert probes.frequency_limit_mhz(root=root) == 1800.0
    assert probes.pss_bytes(42, root=root) == 25000 * 1024
    assert probes.board_name(root=root) == "Raspberry Pi 4 Model B Rev 1.5"
    assert probes.cpu_seconds(42, root=root) == 300 / os.sysconf("SC_CLK_TCK")


def test_a_board_that_tells_nothing_gives_none(tmp_path: Path) -> None:
    gauges = probes.read_gauges(root=tmp_path)
    assert gauges == probes.Gauges(None, None, None, None, None, None, None)
    assert gauges.numbers() == {}
    assert probes.pss_bytes(root=tmp_path) is None
    assert probes.cpu_seconds(root=tmp_path) is None
    assert probes.board_name(root=tmp_path) == os.uname().machine


@pytest.mark.parametrize("name", sorted(PI4))
@pytest.mark.parametrize("garbage", ["", "\n", "x", "-", "9" * 40, "Pss:\nVmRSS: kB\nMemAvailable: x kB"])
def test_garbage_in_any_file_is_not_an_error(tmp_path: Path, name: str, garbage: str) -> None:
    root = _write(tmp_path, {**PI4, name: garbage})
    probes.read_gauges(pids=(42,), root=root)
    for probe in (probes.pss_bytes, probes.cpu_seconds):
        probe(42, root=root)
    probes.board_name(root=root)


def test_throttling_is_told_in_words() -> None:
    assert probes.describe_throttling(0) == ((), ())
    assert probes.describe_throttling(0x50005) == (("under-voltage", "throttled"), ("under-voltage", "throttled"))
    assert probes.describe_throttling(0x80000) == ((), ("soft temperature limit",))
    assert probes.is_throttled(None) is None
    assert probes.is_throttled(0x50000) is False
    assert probes.is_throttled(0x4) is True


def test_the_cpus_own_zone_wins_over_a_hotter_one(tmp_path: Path) -> None:
    zones = {
        "sys/class/thermal/thermal_zone0/type": "pch",
        "sys/class/thermal/thermal_zone0/temp": "70000",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": "41000",
        "sys/class/thermal/thermal_zone2/type": "odd",
        "sys/class/thermal/thermal_zone2/temp": "-274000",
    }
    assert probes.temperature_c(root=_write(tmp_path, zones)) == 41.0
    (tmp_path / "sys/class/thermal/thermal_zone1/type").write_text("other")
    assert probes.temperature_c(root=tmp_path) == 70.0


def test_this_machine_knows_its_memory_and_this_process() -> None:
    assert (probes.memory_available_bytes() or 0) > 1 << 20
    assert (probes.memory_total_bytes() or 0) >= (probes.memory_available_bytes() or 0)
    assert (probes.rss_bytes() or 0) > 1 << 20
    assert (probes.cpu_seconds(os.getpid()) or 0) > 0
    assert probes.board_name()


def test_a_process_is_asleep_where_none_of_its_threads_computes(tmp_path: Path) -> None:
    for number, state in ((7, "S"), (8, "S"), (9, "S")):
        folder = tmp_path / f"proc/7/task/{number}"
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{number} (a ) name) {state} 1 7 7 0")
    assert probes.is_asleep(7, root=tmp_path)
    for state in "RDT":
        (folder / "stat").write_text(f"9 (python) {state} 1 7 7 0")
        assert not probes.is_asleep(7, root=tmp_path)
    assert not probes.is_asleep(99, root=tmp_path)
