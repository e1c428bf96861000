"""Getting reports to a collector at least once: what is sent, when, by which way."""
