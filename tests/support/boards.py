"""Made-up /proc and /sys trees of boards, as their kernels write them."""

from __future__ import annotations

from pathlib import Path


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _pi(model: str, compatible: tuple[str, ...], flags: str, **more: str) -> dict[str, str]:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in compatible),
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": f"{flags}\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "proc/loadavg": "0.52 0.48 0.40 1/123 4567\n",
        "proc/meminfo": "MemTotal:        3884364 kB\nMemAvailable:    3204120 kB\n",
        **more,
    }


TREES: dict[str, dict[str, str]] = {
    "rpi-zero2w": _pi(
        "Raspberry Pi Zero 2 W Rev 1.0", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), "0"
    ),
    "rpi3": _pi("Raspberry Pi 3 Model B Plus Rev 1.3", ("raspberrypi,3-model-b-plus", "brcm,bcm2837"), "80008"),
    "rpi4": _pi("Raspberry Pi 4 Model B Rev 1.5", ("raspberrypi,4-model-b", "brcm,bcm2711"), "50005"),
    "rpi5": _pi("Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), "0"),
    "coral-dev-board": {
        # In a container: no device tree, but the SoC bus.
        "sys/devices/soc0/machine": "Freescale i.MX8MQ Phanbell\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "61000\n",
        "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
        "sys/class/thermal/cooling_device0/cur_state": "1\n",
        "sys/class/thermal/cooling_device1/type": "gpio-fan\n",
        "sys/class/thermal/cooling_device1/cur_state": "1\n",
        "sys/class/apex/apex_0/temp": "57300\n",
        "dev/apex_0": "",
        "etc/os-release": "ID=debian\n",
    },
    "generic": {"proc/cpuinfo": "model name : A PC\n"},
}  # fmt: skip


def coral_stick(port: str = "2-1", speed: str = "5000") -> dict[str, str]:
    folder = f"sys/bus/usb/devices/{port}"
    return {
        f"{folder}/idVendor": "18d1", f"{folder}/idProduct": "9302", f"{folder}/speed": speed,
        f"{folder}/busnum": "2", f"{folder}/devnum": "3",
    }  # fmt: skip
