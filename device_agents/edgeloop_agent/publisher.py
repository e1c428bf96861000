from __future__ import annotations


class Publisher: ...


def open_publisher(*a): ...
