"""What goes to a device's door, whatever the way there: a bundle, a version of the agent, or a config. The file itself
says which; the door decides about each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bundle import Bundle, TrustStore
from edgeloop.bundle.package import Package, is_package
from edgeloop.deploy.card import digest_of
from edgeloop.errors import RefusedError

if TYPE_CHECKING:
    from edgeloop.bundle import PublicKey

BUNDLE = "bundle"


@dataclass(frozen=True)
class Cargo:
    """A file that was verified here. kind: "bundle", "agent" or "config". digest: what tells two with one number apart,
    as the device's versions bear it. target: of a bundle, else "". bytes: of the file; unpacked_bytes: on the device,
    beside it. signed_by: fingerprint, "" without a signature that is trusted here."""

    path: Path
    kind: str
    name: str
    version: int
    digest: str
    target: str
    bytes: int
    unpacked_bytes: int
    signed_by: str
    content: Bundle | Package = field(repr=False)

    @property
    def is_bundle(self) -> bool:
        return self.kind == BUNDLE

    @property
    def folder_name(self) -> str:
        """What its versions are called on the device."""
        return self.name if self.is_bundle else self.kind

    @property
    def shown(self) -> str:
        """For people: "ic version 8", "agent edgeloop-agent version 5"."""
        return " ".join([*([] if self.is_bundle else [self.kind]), self.name, f"version {self.version}"])

    def may_go_back(self, device: str) -> bool:
        """Whether a signed exception lets it follow a higher version there. Raises RefusedError."""
        return self.content.exemption(device).holds


def open_cargo(path: Path, *, allow_unsigned: bool = False) -> Cargo:
    """Raises RefusedError for what no key signed that is trusted here, or is damaged, UsageError where there is no
    file."""
    if is_package(path):
        package = Package.open(path, allow_unsigned=allow_unsigned)
        made = package.manifest
        for _ in package.chunks():  # damaged, it is refused here and not there
            pass
        size = made.member.bytes + made.unpacked_bytes
        return _cargo(path, package, made.kind, made.name, made.version, "", size)
    bundle = Bundle.open(path, allow_unsigned=allow_unsigned)
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.members().values())
    return _cargo(path, bundle, BUNDLE, manifest.name, manifest.version, manifest.target, size)


def signed_cargo(path: Path) -> tuple[Cargo, PublicKey]:
    """A file for a device and the key whose signature it has. Raises as `open_cargo`."""
    cargo = open_cargo(path)
    trusted = TrustStore.default().keys.get(cargo.signed_by)
    if trusted is None:
        raise RefusedError(f"{path}: signed by a key that is not trusted here", hint="edgeloop bundle sign FILE")
    return cargo, trusted.key


def _cargo(path: Path, content: Bundle | Package, kind: str, name: str, version: int, target: str, size: int) -> Cargo:
    signed_by, file_bytes = content.signed_by or "", path.stat().st_size
    return Cargo(path, kind, name, version, digest_of(content), target, file_bytes, size, signed_by, content)
