"""What a model costs, and which ops a board's delegates are predicted to take: `analyze(graph, target)`."""

from edgeloop.analysis.placement import DelegatePlan
from edgeloop.analysis.report import Analysis, OpInfo, analyze

__all__ = ["Analysis", "DelegatePlan", "OpInfo", "analyze"]
