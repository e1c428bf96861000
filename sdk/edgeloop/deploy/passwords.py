"""Password hashes as a Linux system stores them."""

from __future__ import annotations

import shutil
import subprocess

from edgeloop.errors import UsageError


def password_hash(password: str) -> str:
    """SHA-512 crypt(3), by openssl: Python has no crypt module from 3.13 on. Raises UsageError where it is missing."""
    if any(ord(c) < 32 for c in password):
        raise UsageError("a password has no control characters in it")
    openssl = shutil.which("openssl")
    if openssl is None:
        raise UsageError("openssl is not installed here", hint="sudo apt install openssl; or use --ssh-key")
    done = subprocess.run(
        [openssl, "passwd", "-6", "-stdin"], input=password.encode(), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise UsageError(f"openssl: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()
