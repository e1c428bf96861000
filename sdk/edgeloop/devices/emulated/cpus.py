"""The CPUs that can be emulated, by qemu's names, and what their kernel would say of them."""

from __future__ import annotations

from dataclasses import dataclass

from edgeloop.errors import UsageError

SCHEME = "emulated:"
_BASE = "fp asimd evtstrm crc32 cpuid"


@dataclass(frozen=True)
class Cpu:
    """part: of the Main ID Register, by which kernels tuned for one core are chosen. features: as in /proc/cpuinfo."""

    name: str
    part: str
    features: str
    boards: str

    def cpuinfo(self, cores: int = 4) -> str:
        """LiteRT 2.3 crashes on an x86 one; without the part, XNNPACK takes kernels for no core in particular."""
        text = (
            f"Features\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {self.part}\nCPU revision\t: 3\n"
        )
        return "".join(f"processor\t: {n}\nBogoMIPS\t: 108.00\n{text}\n" for n in range(cores))


CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "0xd03", _BASE, "Raspberry Pi 3, Zero 2 W"),
        Cpu("cortex-a72", "0xd08", _BASE, "Raspberry Pi 4"),
        Cpu("cortex-a76", "0xd0b", f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", "Raspberry Pi 5"),
    )
}
"""All by Arm (implementer 0x41): identification as in the cores' Technical Reference Manuals, MIDR_EL1."""


def cpu_of(url: str) -> Cpu:
    """The CPU of `emulated:NAME`. Raises UsageError."""
    name = url.removeprefix(SCHEME)
    if name not in CPUS:
        known = ", ".join(f"{SCHEME}{cpu.name} ({cpu.boards})" for cpu in CPUS.values())
        raise UsageError(f"no CPU {name!r} can be emulated", hint=f"one of: {known}")
    return CPUS[name]
