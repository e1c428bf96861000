"""Addresses as they may be shown: in a title, an error, a log."""

from __future__ import annotations

import re

_OF_USER = re.compile(r"(?<=://)([^/?#@:]*):[^@]*@")  # SQLAlchemy takes any character in a password
_OPTION = re.compile(r"(?i)([?&][^=&]*(?:password|passfile|secret|token|key)[^=&]*=)[^&#]*")


def without_secrets(url: str) -> str:
    """`url` with *** for a password, before the host or among the options."""
    return _OPTION.sub(r"\1***", _OF_USER.sub(r"\1:***@", url))


def only_host(url: str) -> str:
    """`https://host:port/...`: of addresses whose path is a secret, as those of webhooks often are."""
    scheme, separator, rest = without_secrets(url).partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}{separator}{host}" + ("/..." if len(rest.rpartition("@")[2]) > len(host) + 1 else "")
