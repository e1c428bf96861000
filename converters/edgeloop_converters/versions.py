"""Versions of the packages whose work ends up in a bundle."""

from __future__ import annotations

from importlib import metadata

_PACKAGES = ("ai-edge-litert", "ai-edge-quantizer", "numpy", "opencv-python-headless", "scikit-learn")


def package_versions() -> dict[str, str]:
    """name -> version of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
