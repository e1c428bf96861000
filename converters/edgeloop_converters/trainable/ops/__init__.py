"""How each op is computed, by family: functions (tf, Call) -> tensor, or several."""
