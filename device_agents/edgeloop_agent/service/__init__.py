"""The agent as a service: its state on the disk, systemd, what `status` and `logs` show."""
