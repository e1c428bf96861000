"""What a bundle needs of the runtime that is to run it."""

from __future__ import annotations

from edgeloop.bundle.manifest import Manifest
from edgeloop.errors import UsageError
from edgeloop.runtime import RuntimeInfo
from edgeloop.version import version_tuple


def check_runtime(manifest: Manifest, here: RuntimeInfo) -> None:
    """Raises UsageError where `here` is of no family that the bundle was made for, or older than it says.

    A bundle that says nothing runs anywhere; a version that is no number is not compared.
    """
    bundle = f"bundle {manifest.name} version {manifest.version}"
    if not manifest.runtime:
        return
    wanted = manifest.runtime.get(here.family)
    if wanted is None:
        families = " or ".join(f"{family} {version}" for family, version in manifest.runtime.items())
        raise UsageError(
            f"{bundle} needs the runtime {families}, here is {here}",
            hint="convert the model again for a target with this runtime",
        )
    found, least = version_tuple(here.version), version_tuple(wanted)
    if found and least and found < least:
        raise UsageError(
            f"{bundle} needs {here.package} {wanted} or newer, here is {here.version}",
            hint=f"pip install '{here.package}>={wanted}'",
        )
