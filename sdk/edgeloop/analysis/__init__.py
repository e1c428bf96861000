"""What a model costs, and which ops a board's delegates take: `analyze(graph, target)`."""

from edgeloop.analysis.placement import Confirmation, DelegatePlan
from edgeloop.analysis.preflight import Preflight
from edgeloop.analysis.report import Analysis, OpInfo, analyze
from edgeloop.analysis.rewrites import Rewrite

__all__ = ["Analysis", "Confirmation", "DelegatePlan", "OpInfo", "Preflight", "Rewrite", "analyze"]
