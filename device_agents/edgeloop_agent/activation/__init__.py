"""Responsive activation: what a frame deserves and the board can bear."""
