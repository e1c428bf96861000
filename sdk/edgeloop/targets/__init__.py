"""Targets: the boards edgeloop knows. One table, one file per family; users add theirs as TOML."""

from edgeloop.targets.spec import Accelerator, Target
from edgeloop.targets.table import TARGETS, load_target

__all__ = ["TARGETS", "Accelerator", "Target", "load_target"]
