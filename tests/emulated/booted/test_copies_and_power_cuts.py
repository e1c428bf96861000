"""Two copies of a card are two devices. The power of one goes at random points of an update: a verified version runs at
every next start."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeloop.deploy.card import STATE
from support.booted_fleet import Fleet, fleet_of
from support.booted_site import MODEL, Site, Workshop, golden, update_words
from support.cut_cards import version_that_starts
from support.emulated_board import BOOT_PATIENCE_S

pytestmark = [pytest.mark.emulated, pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.starts_first]

KILLS = int(os.environ.get("EDGELOOP_POWER_CUTS", "2"))
"""Times that qemu is killed and the card boots again."""


@pytest.fixture(scope="module")
def fleet(shop: Workshop) -> Iterator[Fleet]:
    with fleet_of(shop, devices=2) as found:
        yield found


@pytest.fixture(scope="module")
def pair(shop: Workshop, fleet: Fleet) -> Iterator[tuple[Site, ...]]:
    """Booted from copies of one card, which never booted itself."""
    with fleet.copies(shop.card(*fleet.card_words), "b", "c") as sites:
        yield sites


@pytest.fixture
def chance(record_property: Callable[[str, object], None]) -> random.Random:
    seed = random.SystemRandom().randrange(1 << 32)
    record_property("seed", seed)
    print(f"seed {seed}")  # shown when it fails
    return random.Random(seed)


def test_copies_of_a_card_report_under_names_and_keys_of_their_own(pair: tuple[Site, ...]) -> None:
    secrets = ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", f"{STATE}/identity/client.pem")
    reports = [site.wait_for_report(version=1) for site in pair]
    assert all(re.fullmatch(r"raspberrypi-[0-9a-f]{8}", report.device) for report in reports)
    assert len({report.device for report in reports}) == len({report.boot for report in reports}) == 2
    known = [{site.run(f"sudo sha256sum {secret}") for secret in secrets} for site in pair]
    assert len(known[0] | known[1]) == 2 * len(secrets)


def test_each_of_them_enrolled_by_itself_with_the_token_of_the_card(pair: tuple[Site, ...], fleet: Fleet) -> None:
    registry = fleet.devices()
    assert registry.keys() == {site.device for site in pair}
    assert {(d["kind"], d["status"], d["group"]) for d in registry.values()} == {("certificate", "enrolled", "copies")}
    assert len({device["credential"] for device in registry.values()}) == 2
    for site in pair:
        files = site.run(f"sudo find {STATE}/identity -type f -printf '%f %m %u\n'").split("\n")
        assert sorted(filter(None, files)) == [
            f"{name} 600 edgeloop" for name in ("ca.pem", "client.pem", "identity.json")
        ]


def test_whenever_the_power_goes_a_verified_version_runs(
    pair: tuple[Site, ...],
    shop: Workshop,
    chance: random.Random,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    site, other = pair
    other.board.power_off()

    # One whole update, during which the card is copied again and again: each copy is a card whose power went.
    keys = tuple((shop.home / "config/keys").glob("*.pub"))
    began_s = time.monotonic()
    _start_update(site, shop.bundle(2, golden=golden()))
    seen: list[int] = []
    is_over, whole_s = False, 0.0
    while not is_over:
        time.sleep(chance.uniform(0.1, 2.0))
        is_over = any("version 2" in event.detail for event in site.events("committed"))
        card = site.board.copy_card(tmp_path / "cut.img")
        seen.append(version_that_starts(card, MODEL, keys, tmp_path / "cut"))
        shutil.rmtree(tmp_path / "cut")
        card.unlink()
        whole_s = time.monotonic() - began_s
        assert whole_s < BOOT_PATIENCE_S, (site.events(), site.agent("versions"))
    assert set(seen) <= {1, 2} and seen == sorted(seen) and seen[-1] == 2, seen
    record_property("cards_read", len(seen))

    # And for real.
    version = 2
    for number in range(KILLS):
        boots = {report.boot for report in site.reports()}
        _start_update(site, shop.bundle(3 + number, golden=golden()))
        time.sleep(chance.uniform(0.0, whole_s))
        site.board.power_off()
        site.board.power_on()
        site.board.wait_until(lambda known=boots: _runs_since(site, known), "a report after the power came back")
        running = site.reports()[-1].version
        assert running in (version, 3 + number)
        site.wait_for_ssh()
        site.board.wait_until(lambda: len(set(site.standing())) == 1, "a version that is committed")
        version = site.standing()[0]
        assert version in (running, 2, 3 + number)


def _start_update(site: Site, bundle: Path) -> None:
    """Goes on by itself."""
    site.put(bundle, f"/srv/{bundle.name}")
    site.run(f"sync; sudo systemd-run --quiet --uid=edgeloop {site.agent_command(*update_words(bundle))}")


def _runs_since(site: Site, boots: set[str]) -> bool:
    return any(r.boot not in boots and r.counters.get("inferences", 0) > 0 for r in site.reports())
