"""Calibration data through the device's own source and geometry."""
