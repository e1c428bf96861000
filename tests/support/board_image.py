"""An SD-card image as Raspberry Pi OS (Bookworm, Lite) has it, made of Debian's arm64 packages without root.

FAT boot partition with cmdline.txt, config.txt, the kernel and an initramfs; ext4 root with systemd, Python, sshd, sudo
and what Raspberry Pi OS does at its first boot: the user of userconf.txt, sshd where there is a file `ssh`, host keys.
No maintainer script runs: what they would leave behind is written here.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from support.debian_packages import cache_folder, fetch, unpack

BOOT_MIB, ROOT_MIB = 96, 640
KERNEL, INITRAMFS = "kernel8.img", "initramfs8"
_MIB = 1 << 20
_KERNEL_PACKAGES = ("linux-image-cloud-arm64", "busybox-static")
_PACKAGES = (
    "systemd-sysv", "udev", "bash", "dash", "coreutils", "util-linux", "mount", "kmod", "libc-bin",
    "base-passwd",
    "base-files", "login", "passwd", "iproute2", "procps", "sed", "grep", "findutils", "python3", "libstdc++6",
    "openssh-server", "sudo",
)  # fmt: skip
_LEFT_OUT = re.compile(
    r"(linux-image|linux-base|initramfs-tools|klibc|libklibc|busybox|perl|libperl|usrmerge|lib.*-perl)"
)
_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "autofs4", "vfat", "nls_ascii", "nls_cp437")
_TOOLS = ("fakeroot", "sfdisk", "mke2fs", "mkfs.vfat", "mcopy")
_FOLDERS = "/usr/sbin:/sbin:/usr/bin:/bin"

_CMDLINE = "console=serial0,115200 console=tty1 root=/dev/mmcblk0p2 rootfstype=ext4 fsck.repair=yes rootwait quiet\n"
_CONFIG = "# For more options see /boot/firmware/overlays/README\ndtparam=audio=on\n[all]\n"

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t devtmpfs d /dev
for module in {modules}; do /bin/busybox insmod /modules/$module || echo "module $module failed"; done
for word in $(/bin/busybox cat /proc/cmdline); do case $word in root=*) root=${{word#root=}};; esac; done
while [ ! -b $root ]; do /bin/busybox usleep 20000; done
/bin/busybox mount -t ext4 $root /root || exec /bin/busybox sh
/bin/busybox umount /proc
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""

# As userconf-pi, sshswitch and regenerate_ssh_host_keys of Raspberry Pi OS do it.
_FIRST_BOOT = """#!/bin/sh
set -eux
boot=/boot/firmware
if [ -f $boot/userconf.txt ]; then
    IFS=: read -r user password < $boot/userconf.txt
    usermod -l "$user" -d "/home/$user" -m pi
    groupmod -n "$user" pi
    echo "$user:$password" | chpasswd -e
    sed -i "s/^pi /$user /" /etc/sudoers.d/010_pi-nopasswd
    rm $boot/userconf.txt
fi
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
if [ -f $boot/ssh ]; then
    systemctl enable ssh
    systemctl start --no-block ssh
    rm $boot/ssh
fi
"""
_FIRST_BOOT_UNIT = """[Unit]
Description=User and sshd, as the boot partition asks for
RequiresMountsFor=/boot/firmware
ConditionPathExists=|/boot/firmware/userconf.txt
ConditionPathExists=|/boot/firmware/ssh
[Service]
Type=oneshot
StandardError=journal+console
ExecStart=/usr/lib/raspberrypi-first-boot
[Install]
WantedBy=multi-user.target
"""

_FILES = {
    "etc/hostname": "raspberrypi\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n",
    "etc/machine-id": "",
    "etc/fstab": "LABEL=rootfs / ext4 defaults,noatime 0 1\n"
    "LABEL=bootfs /boot/firmware vfat defaults,x-systemd.device-timeout=600 0 2\n",  # a slow board
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/systemd/network/20-dhcp.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
    # What the device tree of a Pi says: which of the ports is serial0.
    "etc/udev/rules.d/99-serial.rules": 'KERNEL=="ttyS0", SYMLINK+="serial0"\n',
    "etc/pam.d/common-auth": "auth required pam_unix.so nullok\n",
    "etc/pam.d/common-account": "account required pam_unix.so\n",
    "etc/pam.d/common-password": "password required pam_unix.so obscure yescrypt\n",
    "etc/pam.d/common-session": "session required pam_unix.so\n",
    "etc/pam.d/common-session-noninteractive": "session required pam_unix.so\n",
    "etc/sudoers.d/010_pi-nopasswd": "pi ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nPasswordAuthentication no\n"
    "Subsystem sftp /usr/lib/openssh/sftp-server\n",
    "usr/lib/raspberrypi-first-boot": _FIRST_BOOT,
    "etc/systemd/system/raspberrypi-first-boot.service": _FIRST_BOOT_UNIT,
}
_ENABLED = ("systemd-networkd.service", "raspberrypi-first-boot.service")
_MASKED = (
    "man-db.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "dpkg-db-backup.timer", "fstrim.timer", "systemd-networkd-wait-online.service",
    "proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "systemd-logind.service",
    "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
)  # fmt: skip


def board_image() -> Path:
    """The image, built once into the user's cache (75 MB of packages); nothing in it is edgeloop's. Skips and says what
    is missing."""
    for name in _TOOLS:
        if shutil.which(name, path=_FOLDERS) is None:
            pytest.skip(f"{name} is missing: apt-get install fakeroot fdisk e2fsprogs dosfstools mtools")
    base = cache_folder()
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    image = base / f"board-{recipe}.img"
    with (base / "board.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.is_file():
            for old in (*base.glob("board-*.img"), *base.glob("board-*.partial")):
                old.unlink()
            scratch = base / "board-build"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                _build(fetch("arm64", (*_PACKAGES, *_KERNEL_PACKAGES), base / "board-apt"), scratch)
                _assemble(scratch, image.with_suffix(".partial"))
                image.with_suffix(".partial").rename(image)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return image


def _build(debs: list[Path], scratch: Path) -> None:
    """scratch/root, scratch/boot."""
    root, boot, kernel = scratch / "root", scratch / "boot", scratch / "kernel"
    for folder in (boot, kernel, *(root / "usr" / name for name in ("bin", "sbin", "lib"))):
        folder.mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    unpack([deb for deb in debs if not _LEFT_OUT.match(deb.name)], root)
    unpack([deb for deb in debs if deb.name.startswith(("linux-image-6", "busybox"))], kernel)
    _furnish(root)
    shutil.copyfile(next((kernel / "boot").glob("vmlinuz-*")), boot / KERNEL)
    (boot / INITRAMFS).write_bytes(gzip.compress(_initramfs(kernel), 1))
    (boot / "cmdline.txt").write_text(_CMDLINE)
    (boot / "config.txt").write_text(_CONFIG)


def _furnish(root: Path) -> None:
    """What maintainer scripts and an installer would have done."""
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "home/pi", "boot/firmware", "var/log", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "usr/lib/raspberrypi-first-boot").chmod(0o755)
    (root / "etc/sudoers.d/010_pi-nopasswd").chmod(0o440)
    defaults = root / "usr/share/base-passwd"
    users = (defaults / "passwd.master").read_text() + "pi:x:1000:1000::/home/pi:/bin/bash\n"
    users += "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nmessagebus:x:102:102::/nonexistent:/usr/sbin/nologin\n"
    users = re.sub(r"^(\w[^:]*):\*:", r"\1:x:", users, flags=re.MULTILINE)
    (root / "etc/passwd").write_text(users)
    (root / "etc/group").write_text(
        (defaults / "group.master").read_text() + "pi:x:1000:\nmessagebus:x:102:\nsystemd-journal:x:103:\n"
    )
    names = [line.partition(":")[0] for line in users.splitlines()]
    (root / "etc/shadow").write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    (root / "etc/shadow").chmod(0o600)
    system = root / "etc/systemd/system"
    (system / "multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    for unit in _ENABLED:
        (system / "multi-user.target.wants" / unit).symlink_to(f"/lib/systemd/system/{unit}")
    for unit in _MASKED:
        (system / unit).symlink_to("/dev/null")
    shutil.rmtree(root / "etc/init.d")
    for folder in ("doc", "man", "locale", "info", "lintian", "bash-completion", "zsh"):
        shutil.rmtree(root / "usr/share" / folder, ignore_errors=True)


def _initramfs(kernel: Path) -> bytes:
    """busybox and the modules without which there is no disk, as a cpio archive ("newc", Linux:
    Documentation/driver-api/early-userspace/buffer-format.rst)."""
    modules = _with_dependencies(kernel / "lib/modules", _MODULES)
    init = _INIT.format(modules=" ".join(path.name for path in modules))
    folders = [(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "proc", "dev", "root", "modules")]
    files = [
        ("bin/busybox", stat.S_IFREG | 0o755, (kernel / "bin/busybox").read_bytes()),
        ("init", stat.S_IFREG | 0o755, init.encode()),
        *((f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()) for path in modules),
    ]
    console = _cpio_entry("dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))
    entries = [_cpio_entry(*entry, number=number) for number, entry in enumerate([*folders, *files], 2)]
    return b"".join([*entries[:5], console, *entries[5:], _cpio_entry("TRAILER!!!", 0, b"")])


def _with_dependencies(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Each after what it depends on, by the modules' own `depends=`."""
    there = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = there[name.replace("-", "_")]
        if path in order:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends[1].decode().split(",") if depends and depends[1] else ():
            add(other)
        order.append(path)

    for name in names:
        add(name)
    return order


def _cpio_entry(name: str, mode: int, data: bytes, *, device: tuple[int, int] = (0, 0), number: int = 1) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _assemble(scratch: Path, image: Path) -> None:
    """MBR, FAT and ext4. fakeroot: everything belongs to root in the image."""
    root_at = 1 + BOOT_MIB
    with image.open("wb") as file:
        file.truncate((root_at + ROOT_MIB) * _MIB)
    rows = f"label: dos\nstart=1MiB,size={BOOT_MIB}MiB,type=c\nstart={root_at}MiB,type=83\n"
    _run(["sfdisk", "-q", str(image)], given=rows)
    fat = scratch / "boot.fat"
    with fat.open("wb") as file:
        file.truncate(BOOT_MIB * _MIB)
    _run(["mkfs.vfat", "-F", "32", "-n", "bootfs", str(fat)])
    _run(["mcopy", "-i", str(fat), *(str(path) for path in sorted((scratch / "boot").iterdir())), "::"])
    with image.open("r+b") as file, fat.open("rb") as content:
        file.seek(_MIB)
        shutil.copyfileobj(content, file)
    options = ["-q", "-t", "ext4", "-L", "rootfs", "-d", str(scratch / "root"), "-E", f"offset={root_at * _MIB}"]
    _run(["fakeroot", "--", "mke2fs", *options, str(image), f"{ROOT_MIB}M"])


def _run(command: list[str], given: str = "") -> None:
    import os

    path = f"{os.environ.get('PATH', '')}:{_FOLDERS}"
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    assert done.returncode == 0, (command, done.stderr)
