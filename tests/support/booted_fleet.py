"""A collector with TLS at which emulated boards enroll: its private CA, a token that their card brings, one store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.booted_site import Site, Workshop
from support.collecting import collector_process
from support.emulated_board import booted, clone

HOST = "10.0.2.2"
"""This machine's loopback, for a board in qemu's user network."""


@dataclass(frozen=True)
class Fleet:
    """token: for as many devices as there will be."""

    shop: Workshop
    folder: Path
    collector: str
    token: str

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    @property
    def card_words(self) -> tuple[str | Path, ...]:
        """What `flash` is told."""
        url = f"https://{HOST}:{urlsplit(self.collector).port}"
        return "--telemetry", url, "--ca", self.folder / "ca/ca.pem", "--enroll-token", self.token

    def devices(self) -> dict[str, dict[str, Any]]:
        """The registry, by name."""
        listed = self.shop.edgeloop("collect", "device", "list", "--store", self.store)["devices"]
        return {device["device"]: device for device in listed}

    @contextlib.contextmanager
    def copies(self, card: Path, *names: str) -> Iterator[tuple[Site, ...]]:
        """Boards that are on, each with a copy of the card, known by the name that it gave itself. sshd answers."""
        with contextlib.ExitStack() as running:
            boards = [
                running.enter_context(booted(clone(card, self.folder / f"{name}.img"), self.folder / name))
                for name in names
            ]
            sites = [Site(self.shop, board, self.store, self.collector) for board in boards]
            boards[0].wait_until(
                lambda: len({report.device for report in sites[0].reports()}) == len(sites), "a report of each"
            )
            for site in sites:
                site.wait_for_ssh()
            yield tuple(replace(site, device=site.agent("status")["device"]) for site in sites)


@contextlib.contextmanager
def fleet_of(shop: Workshop, devices: int) -> Iterator[Fleet]:
    """With a collector that listens."""
    folder = shop.folder / "fleet"
    folder.mkdir()
    store = f"sqlite:///{folder}/store.db"
    shop.edgeloop("collect", "init", "--host", HOST, "--dir", folder / "ca")
    made = shop.edgeloop("collect", "token", "create", "--uses", str(devices), "--group", "copies", "--store", store)
    with collector_process(store, "--tls", str(folder / "ca")) as collector:
        yield Fleet(shop, folder, collector.url, made["token"])
