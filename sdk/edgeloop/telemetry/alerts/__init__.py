"""Alerts: rules over the fleet's rows, judged with hysteresis, remembered in the store, told once by webhook."""
