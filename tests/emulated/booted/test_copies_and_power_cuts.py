"""Two copies of a card are two devices. The power of one goes at random points of an update: a verified version runs at
every next start."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.booted_site import MODEL, NOT_SEEN_YET, Site, Workshop, golden, site_of
from support.cut_cards import version_that_starts
from support.emulated_board import clone

pytestmark = [pytest.mark.emulated, pytest.mark.slow, pytest.mark.timeout(1800), NOT_SEEN_YET]

KILLS = int(os.environ.get("EDGELOOP_POWER_CUTS", "2"))
"""Times that qemu is killed and the card boots again."""


@pytest.fixture(scope="module")
def card(shop: Workshop) -> Path:
    """Never booted: its copies are."""
    return shop.card()


@pytest.fixture(scope="module")
def site(shop: Workshop, card: Path) -> Iterator[Site]:
    with site_of(shop, clone(card, shop.folder / "b.img"), "b") as found:
        yield found


@pytest.fixture
def chance(record_property: Callable[[str, object], None]) -> random.Random:
    seed = random.SystemRandom().randrange(1 << 32)
    record_property("seed", seed)
    print(f"seed {seed}")  # shown when it fails
    return random.Random(seed)


def test_copies_of_a_card_report_under_names_and_keys_of_their_own(site: Site, shop: Workshop, card: Path) -> None:
    secrets = ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub")
    with site_of(shop, clone(card, shop.folder / "c.img"), "c") as second:
        boards = (site, second)
        reports = [board.wait_for_report() for board in boards]
        for board in boards:
            board.wait_for_ssh()
        known = [[board.run(f"cat {secret}") for secret in secrets] for board in boards]
    assert len({report.device for report in reports}) == 2
    assert len({report.boot for report in reports}) == 2
    assert not set(known[0]) & set(known[1])
    assert site.agent("status")["device"] == reports[0].device


def test_whenever_the_power_goes_a_verified_version_runs(
    site: Site,
    shop: Workshop,
    chance: random.Random,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    site.wait_for_report(version=1)
    site.wait_for_ssh()

    # One whole update, during which the card is copied again and again: each copy is a card whose power went.
    keys = tuple((shop.home / "config/keys").glob("*.pub"))
    began_s = time.monotonic()
    _start_update(site, shop.bundle(2, golden=golden()))
    seen: list[int] = []
    while not site.events("committed"):
        time.sleep(chance.uniform(0.1, 2.0))
        card = site.board.copy_card(tmp_path / "cut.img")
        seen.append(version_that_starts(card, MODEL, keys, tmp_path / f"cut-{len(seen)}"))
        card.unlink()
    whole_s = time.monotonic() - began_s
    assert set(seen) == {1, 2} and seen == sorted(seen), seen
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
    site.run(f"sync; sudo systemd-run --quiet --uid=edgeloop {site.agent_command('update', f'/srv/{bundle.name}')}")


def _runs_since(site: Site, boots: set[str]) -> bool:
    return any(r.boot not in boots and r.counters.get("inferences", 0) > 0 for r in site.reports())
