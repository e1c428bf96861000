"""Who may do what with a collector: its private CA, devices' credentials, users, limits, and the log of it all."""
