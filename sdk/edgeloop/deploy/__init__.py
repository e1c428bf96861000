"""Bringing agent and models onto devices for good: into an SD card's image, over a connection, from a repository."""
