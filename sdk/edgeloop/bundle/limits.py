"""The limits a bundle is held to, before anything of it is unpacked or allocated.

They bound what a hostile file can cost a reader. All are far above what a Raspberry Pi could run.
"""

from __future__ import annotations

import re

SCHEMA = 1
FORMAT = "edgeloop-bundle"

MANIFEST = "manifest.json"
SIGNATURES = "signatures.json"
GOLDEN = "golden.npz"
RECIPE = "recipe.toml"
REPORT = "report.json"

MAX_MANIFEST_BYTES = 4 << 20
MAX_SIGNATURES_BYTES = 64 << 10
MAX_GOLDEN_BYTES = 64 << 20
MAX_RECIPE_BYTES = 1 << 20
MAX_REPORT_BYTES = 16 << 20
MAX_MODEL_BYTES = 1 << 30
MAX_TOTAL_BYTES = 2 << 30
MAX_VARIANTS = 32
MAX_MEMBERS = MAX_VARIANTS + 5
MAX_SIGNATURES = 8
MAX_GOLDEN_ARRAYS = 512
MAX_DIMENSIONS = 8
MAX_INPUTS = 64
GOLDEN_VALUES = 32768
"""Of a larger output, golden samples hold this many values, evenly spread. Part of the format."""
MAX_LZMA_DICTIONARY_BYTES = 16 << 20
"""liblzma allocates what the stream asks for; a hostile header can ask for 4 GiB."""
MAX_VERSION = (1 << 53) - 1
"""Survives JSON readers that keep numbers as doubles."""

SIDE_FILES = {GOLDEN: MAX_GOLDEN_BYTES, RECIPE: MAX_RECIPE_BYTES, REPORT: MAX_REPORT_BYTES}
"""What a manifest may list beside models, with its size limit in bytes."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
"""Names of bundles and variants: they become file names on two machines."""
MODEL_FILE_PATTERN = re.compile(rf"models/{NAME_PATTERN.pattern}\.tflite", re.ASCII)
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}", re.ASCII)


def model_file(variant: str) -> str:
    """The member that holds a variant's model."""
    return f"models/{variant}.tflite"
