"""The fleet as it is now, kept in memory from what comes in: a row per device and model, and minutes per model."""
