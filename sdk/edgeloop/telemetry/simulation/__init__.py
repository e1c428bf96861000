"""Devices that are not there, by the code of those that are."""
