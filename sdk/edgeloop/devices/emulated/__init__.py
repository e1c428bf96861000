"""An Arm CPU without a board: Debian's arm64 Python under qemu-user, with a plugin that counts instructions."""
