"""Variants for a device to step among: narrower models, and heads at which the whole one stops."""
