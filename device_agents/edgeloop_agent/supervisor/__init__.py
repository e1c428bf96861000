"""The supervisor process: keeps workers running. No numpy here."""
