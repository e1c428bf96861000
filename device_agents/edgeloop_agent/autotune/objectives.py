"""What autotune may look for. A module of its own: the supervisor reads it, and nothing else of the measuring."""

OBJECTIVES = ("latency", "throughput", "memory")
