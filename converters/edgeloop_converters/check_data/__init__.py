"""Is my data right? Findings about samples, classes, copies, ranges and the contract, each with what to do about it.

check_data(Recipe("model.tflite", data="calib/", evaluation="test/")).findings
"""

from __future__ import annotations

from edgeloop_converters.check_data.finding import NOTE, SEVERE, WARNING, Finding

__all__ = ["NOTE", "SEVERE", "WARNING", "Finding"]
